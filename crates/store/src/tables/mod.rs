//! Tables beside `logs` and `runs`: data sets of others, as files or Delta tables, by the names that the settings give
//! them. Owns their names, and finding out what is in each when a query names it; refuses to write, and to let one that
//! cannot be read keep others from being read.

mod delta;
mod files;
mod format;
mod json;
mod name;
mod partitions;
mod place;
mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as PlanResult};

use crate::error::{Carried, QueryError};
use crate::lake::{LakeError, LakeNetwork};

pub use format::TableFormat;
pub use name::check_table_name;

pub(crate) use store::TableStores;

use files::{Found, Listed};
use place::Place;

/// A table as the settings name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name in SQL.
    pub name: String,
    /// A file or a directory, `s3://…` or `abfss://…`.
    pub location: String,
    /// What its files are, where that is not to be found out.
    pub format: Option<TableFormat>,
}

/// One of them, with what is known of it.
#[derive(Debug)]
struct Table {
    spec: TableSpec,
    place: Mutex<Option<Place>>,
    found: Mutex<Option<Arc<Found>>>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Tables {
    tables: BTreeMap<String, Table>,
    network: LakeNetwork,
    /// Are there no `logs` and `runs` beside them?
    alone: bool,
}

/// Why a table cannot be read.
#[derive(Debug, thiserror::Error)]
enum TableError {
    /// It is not there, or its storage is away: another try may succeed.
    #[error("{0}")]
    Away(String),
    /// It is none that can be read.
    #[error("{0}")]
    Unfit(String),
}

impl From<LakeError> for TableError {
    fn from(error: LakeError) -> Self {
        match error {
            LakeError::Unsupported(_) | LakeError::Location(_) => TableError::Unfit(error.to_string()),
            other => {
                let cause = std::error::Error::source(&other).map(|cause| format!(": {cause}")).unwrap_or_default();
                TableError::Away(format!("{other}{cause}"))
            }
        }
    }
}

impl From<object_store::Error> for TableError {
    fn from(error: object_store::Error) -> Self {
        TableError::Away(error.to_string())
    }
}

impl Tables {
    /// Tables by these names; what is behind them is looked at when a query names them.
    ///
    /// # Errors
    /// A name that cannot be one, or is there twice.
    pub fn new(specs: Vec<TableSpec>, network: LakeNetwork) -> Result<Self, String> {
        let mut tables = BTreeMap::new();
        for spec in specs {
            check_table_name(&spec.name).map_err(|why| format!("{}: {why}", spec.name))?;
            let name = spec.name.clone();
            let table = Table { spec, place: Mutex::default(), found: Mutex::default() };
            if tables.insert(name.clone(), table).is_some() {
                return Err(format!("{name}: there are two tables of that name"));
            }
        }
        Ok(Self { tables, network, alone: false })
    }

    /// The same without `logs` and `runs`.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(crate) fn are_alone(&self) -> bool {
        self.alone
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// Finds what a table holds now.
    pub(crate) async fn open(&self, name: &str, session: &dyn Session) -> PlanResult<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.tables.get(name) else { return Ok(None) };
        let opened = self.look(table, session).await;
        let found = opened.map_err(|error| {
            let query = match error {
                TableError::Away(why) => QueryError::Unread(format!("read table {name}: {why}")),
                TableError::Unfit(why) => QueryError::Invalid(format!("plan query: read table {name}: {why}")),
            };
            DataFusionError::External(Box::new(Carried(query)))
        })?;
        Ok(Some(found))
    }

    async fn look(&self, table: &Table, session: &dyn Session) -> Result<Arc<Found>, TableError> {
        let place = self.place(table).await?;
        let known = table.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let listed = Listed::of(&table.spec, &place, known.as_deref()).await?;
        let found = match known.filter(|known| known.is_of(&listed)) {
            Some(known) => known,
            None => Arc::new(Found::read(&table.spec, &place, listed, session).await?),
        };
        *table.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&found));
        Ok(found)
    }

    async fn place(&self, table: &Table) -> Result<Place, TableError> {
        let known = table.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What is a file today may be a directory tomorrow; a bucket stays one.
        if let Some(known) = known.filter(|known| !known.is_local) {
            return Ok(known);
        }
        let place = Place::find(&table.spec.location, &self.network).await?;
        *table.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
        Ok(place)
    }

    /// The storage of a table that was looked at.
    fn storage(&self, name: &str) -> Option<Arc<dyn object_store::ObjectStore>> {
        let place = self.tables.get(name)?.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        place.map(|place| place.store)
    }
}

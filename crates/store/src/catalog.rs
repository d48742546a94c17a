//! Which tables a query finds under which names. Owns that a table which cannot be read costs only the query that names
//! it, and that the engine's settings are no table.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, InformationSchemaProvider};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::Result;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, TableType, col, lit};

use crate::tables::Tables;

/// Where tables live, for those who look at `information_schema`.
pub(crate) const CATALOG: &str = "runstone";
pub(crate) const SCHEMA: &str = "public";
/// The engine's settings.
pub(crate) const SETTINGS: &str = "df_settings";

/// Tables of ours, by name.
pub(crate) type Own = Vec<(&'static str, Arc<dyn TableProvider>)>;

/// The catalogs of a query.
pub(crate) fn catalogs(
    own: &Own,
    tables: &Arc<Tables>,
    session: &SessionState,
) -> Result<Arc<dyn CatalogProviderList>> {
    let public = |strict| {
        let (own, tables, session) = (Own::clone(own), Arc::clone(tables), session.clone());
        Arc::new(Public { own, tables, session, strict })
    };
    let described = list(public(false))?.0;
    let (catalogs, catalog) = list(public(true))?;
    let information = Information { inner: InformationSchemaProvider::new(described) };
    catalog.register_schema(INFORMATION_SCHEMA, Arc::new(information))?;
    Ok(catalogs)
}

type Catalogs = (Arc<dyn CatalogProviderList>, Arc<MemoryCatalogProvider>);

fn list(schema: Arc<dyn SchemaProvider>) -> Result<Catalogs> {
    let catalog = Arc::new(MemoryCatalogProvider::new());
    catalog.register_schema(SCHEMA, schema)?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::clone(&catalog) as Arc<dyn CatalogProvider>);
    Ok((Arc::new(catalogs), catalog))
}

/// Our tables, and those of the settings.
struct Public {
    own: Own,
    tables: Arc<Tables>,
    /// What schemas are read with.
    session: SessionState,
    /// Is a table that cannot be read an error, or not there?
    strict: bool,
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Public").field("strict", &self.strict).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        let own = self.own.iter().map(|(name, _)| *name);
        own.chain(self.tables.names()).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some((_, table)) = self.own.iter().find(|(own, _)| *own == name) {
            return Ok(Some(Arc::clone(table)));
        }
        match self.tables.open(name, &self.session).await {
            Err(_) if !self.strict => Ok(None),
            opened => opened,
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.own.iter().any(|(own, _)| *own == name) || self.tables.has(name)
    }
}

/// `information_schema` without the engine's settings.
#[derive(Debug)]
struct Information {
    inner: InformationSchemaProvider,
}

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.inner.table_names();
        names.retain(|name| name != SETTINGS);
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name.eq_ignore_ascii_case(SETTINGS) {
            return Ok(None);
        }
        let table = self.inner.table(name).await?;
        let Some(tables) = table.clone().filter(|_| name.eq_ignore_ascii_case("tables")) else { return Ok(table) };
        let listed = LogicalPlanBuilder::scan(name, provider_as_source(tables), None)?
            .filter(col("table_name").not_eq(lit(SETTINGS)))?
            .build()?;
        Ok(Some(Arc::new(ViewTable::new(listed, None))))
    }

    fn table_exist(&self, name: &str) -> bool {
        !name.eq_ignore_ascii_case(SETTINGS) && self.inner.table_exist(name)
    }
}

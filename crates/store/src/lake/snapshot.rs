//! The table at one version. Owns what is known of it, and carrying that forward commit by commit; refuses to write.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStore;
use runstone_record::RecordId;

use super::actions::{self, Action, Add, MetaData, Protocol};
use super::file::LakeFile;
use super::kernel::{Base, Keeping};
use super::{LakeError, support};

/// The table at one version.
#[derive(Debug, Clone)]
pub struct LakeSnapshot {
    /// The version.
    pub version: u64,
    /// Its data files, in no order that matters.
    pub files: Arc<Vec<Arc<LakeFile>>>,
    pub(super) table: Arc<Table>,
    /// What `txn` entries after `base` say.
    txns: Arc<BTreeMap<String, i64>>,
    base: Arc<Base>,
    /// The paths, as their entries have them, of files whose entry this server would have written differently.
    raw_paths: Arc<HashMap<String, String>>,
}

/// What the table is, apart from its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) protocol: Protocol,
    pub(crate) metadata: MetaData,
}

/// What a commit does to a snapshot.
#[derive(Debug)]
pub(crate) enum Step {
    /// The snapshot after it.
    Next(LakeSnapshot),
    /// It changes the protocol or the metadata: the table is to be read whole again.
    Reload,
}

impl LakeSnapshot {
    /// Reads the newest version whole.
    pub(crate) async fn load(store: Arc<dyn ObjectStore>) -> Result<LakeSnapshot, LakeError> {
        let base = Base::load(store).await?;
        let reader = base.reader().await?;
        let table = Table { protocol: reader.protocol()?, metadata: reader.metadata()? };
        // Before its files: an unknown feature may say that they mean something else.
        support::check_read(&table.protocol, &table.metadata)?;
        let mut files = Vec::new();
        let mut raw_paths = HashMap::new();
        let mut adds = reader.adds();
        while let Some(batch) = adds.try_next().await? {
            for add in batch {
                let file = actions::file(&add)?;
                note_raw_path(&mut raw_paths, &file, add.path);
                files.push(Arc::new(file));
            }
        }
        drop(adds);
        Ok(LakeSnapshot {
            version: base.version(),
            files: Arc::new(files),
            table: Arc::new(table),
            txns: Arc::default(),
            base: Arc::new(base),
            raw_paths: Arc::new(raw_paths),
        })
    }

    /// The snapshot after the next commit.
    pub(crate) fn apply(&self, actions: &[Action]) -> Result<Step, LakeError> {
        if actions.iter().any(|action| action.protocol.is_some() || action.meta_data.is_some()) {
            return Ok(Step::Reload);
        }
        let mut next = self.clone();
        next.version += 1;
        let removed: HashSet<String> = actions
            .iter()
            .filter_map(|action| action.remove.as_ref())
            .map(|remove| actions::decode_path(&remove.path))
            .collect::<Result<_, _>>()?;
        let adds: Vec<&Add> = actions.iter().filter_map(|action| action.add.as_ref()).collect();
        if !removed.is_empty() || !adds.is_empty() {
            let mut replaced = removed;
            let mut raw_paths = HashMap::new();
            let mut files = Vec::with_capacity(adds.len());
            for add in adds {
                let file = actions::file(add)?;
                note_raw_path(&mut raw_paths, &file, add.path.clone());
                // A second `add` of a path takes the place of the first.
                replaced.insert(file.path.clone());
                files.push(Arc::new(file));
            }
            let kept = self.files.iter().filter(|file| !replaced.contains(&file.path)).cloned();
            next.files = Arc::new(kept.chain(files).collect());
            if !raw_paths.is_empty() || self.raw_paths.keys().any(|path| replaced.contains(path)) {
                let kept = self.raw_paths.iter().filter(|(path, _)| !replaced.contains(*path));
                raw_paths.extend(kept.map(|(path, raw)| (path.clone(), raw.clone())));
                next.raw_paths = Arc::new(raw_paths);
            }
        }
        let txns: Vec<_> = actions.iter().filter_map(|action| action.txn.as_ref()).collect();
        if !txns.is_empty() {
            let txns = txns.into_iter().map(|txn| (txn.app_id.clone(), txn.version));
            Arc::make_mut(&mut next.txns).extend(txns);
        }
        Ok(Step::Next(next))
    }

    /// The path of a file as its entry has it.
    pub(crate) fn raw_path(&self, file: &LakeFile) -> String {
        self.raw_paths.get(&file.path).cloned().unwrap_or_else(|| actions::encode_path(&file.path))
    }

    /// The version of an application's newest `txn`.
    pub(crate) async fn txn(&self, app_id: &str) -> Result<Option<i64>, LakeError> {
        match self.txns.get(app_id) {
            Some(version) => Ok(Some(*version)),
            None => self.base.txn(app_id).await,
        }
    }

    /// What `txn` entries say that came after the table was read whole.
    pub(crate) fn new_txns(&self) -> &BTreeMap<String, i64> {
        &self.txns
    }

    /// The same version, its older `txn` entries answered from a newer base.
    pub(crate) fn based_on(&self, base: Base) -> LakeSnapshot {
        LakeSnapshot { base: Arc::new(base), ..self.clone() }
    }

    /// What the table says about keeping its log.
    pub(crate) fn keeping(&self) -> Keeping {
        self.base.keeping()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Rows of all files that say how many they have.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().filter_map(|file| file.stats.rows).sum()
    }

    /// Each journal of which the table may have records, and how far they go: by the files' statistics, and by the journal's
    /// `txn` where another writer put records of several journals into one file.
    ///
    /// # Errors
    /// The storage fails.
    pub async fn journals(&self) -> Result<BTreeMap<String, u64>, LakeError> {
        let mut journals = self.through();
        let mixed: Vec<_> = self.files.iter().filter(|file| file.journal().is_none()).collect();
        if mixed.is_empty() {
            return Ok(journals);
        }
        let older = self.base.all_txns().await?;
        let older = older.iter().filter(|(app_id, _)| !self.txns.contains_key(*app_id));
        for (app_id, version) in self.txns.iter().chain(older) {
            // Others keep their own progress in the table.
            let Some(through) = u64::try_from(*version).ok().filter(|_| is_journal(app_id)) else { continue };
            if mixed.iter().any(|file| file.may_be_of(app_id)) {
                let known = journals.entry(app_id.clone()).or_default();
                *known = through.max(*known);
            }
        }
        Ok(journals)
    }

    /// The greatest position of each journal, by the files' statistics.
    pub(crate) fn through(&self) -> BTreeMap<String, u64> {
        let mut through = BTreeMap::new();
        for file in self.files.iter() {
            if let (Some(journal), Some((_, last))) = (file.journal(), file.positions()) {
                match through.get_mut(journal) {
                    Some(known) => *known = last.max(*known),
                    None => {
                        through.insert(journal.to_owned(), last);
                    }
                }
            }
        }
        through
    }
}

/// `{journal}/{epoch}`.
fn is_journal(app_id: &str) -> bool {
    let parts = app_id.split_once('/');
    parts.is_some_and(|(journal, epoch)| RecordId::parse(journal).is_ok() && epoch.parse::<u64>().is_ok())
}

fn note_raw_path(raw_paths: &mut HashMap<String, String>, file: &LakeFile, raw: String) {
    if actions::encode_path(&file.path) != raw {
        raw_paths.insert(file.path.clone(), raw);
    }
}

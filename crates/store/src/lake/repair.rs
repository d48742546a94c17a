//! What a crash leaves in a log so that nobody can read the table, and the way out. Owns finding it and moving it aside;
//! refuses to touch what can be read, and any
//! commit that a good one follows.
//!
//! This server's own files cannot be torn: they get their names after they are synced. Those of other writers on a local
//! directory can, for a name may survive a power cut that the bytes do not.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::file::metadata::{FooterTail, ParquetMetaDataReader};

use super::log::{self, Checkpoint, DIRECTORY, Hint, Log};
use super::place::Place;
use super::veil::Veil;
use super::{LakeError, LakeSnapshot, actions, verify};

/// A log as far as it can be read.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Files that stand in the way, and why.
    damage: Vec<(Path, String)>,
    /// The version of the newest good checkpoint.
    pub(crate) checkpoint: Option<u64>,
    /// The newest version; None: there is no table.
    newest: Option<u64>,
    log: Log,
}

/// How closely checkpoints are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Their footers.
    Footer,
    /// Every byte.
    Whole,
}

/// Loads the table past what is damaged; for a writer, moves that aside first. None: there is no table.
pub(crate) async fn load(place: &Place, write: bool) -> Result<Option<(LakeSnapshot, Survey)>, LakeError> {
    let mut survey = Survey::take(place, Care::Footer).await?;
    if survey.newest.is_none() {
        // Version 0 is torn: whoever began the table did not come far.
        if write {
            survey.move_aside(place).await?;
        }
        return Ok(None);
    }
    let first = survey.load(place, write).await;
    let snapshot = match first {
        Ok(snapshot) => snapshot,
        // Damage inside a file shows when it is read; storage over the network keeps files whole.
        Err(error @ (LakeError::Damaged(_) | LakeError::Storage { .. }))
            if place.local.is_some() && survey.checkpoint.is_some() =>
        {
            let before = survey.damage.len();
            survey = Survey::take(place, Care::Whole).await?;
            if survey.damage.len() == before {
                return Err(error);
            }
            survey.load(place, write).await?
        }
        Err(error) => return Err(error),
    };
    if write && let Some(local) = &place.local {
        // What we commit stands on it: it must not be the first to go in a power cut.
        let recent = survey.log.commits.range(survey.checkpoint.unwrap_or(0)..).map(|(_, commit)| commit);
        let checkpoints =
            survey.log.checkpoints.iter().filter(|checkpoint| Some(checkpoint.version) == survey.checkpoint);
        let files = recent.chain(checkpoints.flat_map(|checkpoint| &checkpoint.files));
        let paths = files.map(|file| file.location.clone()).chain([log::hint_path()]).collect();
        local.sync_all(paths).await.map_err(|error| log::failed("sync the lake's log", error))?;
    }
    Ok(Some((snapshot, survey)))
}

impl Survey {
    async fn take(place: &Place, care: Care) -> Result<Survey, LakeError> {
        let store = place.store.as_ref();
        let mut survey = Survey::default();
        let hint = match log::read_hint(store).await? {
            None => None,
            Some(Ok(hint)) => Some(hint),
            Some(Err(error)) => {
                survey.damage.push((log::hint_path(), format!("parse it: {error}")));
                None
            }
        };
        survey.log = Log::list(store, hint.map(|hint| hint.version)).await?;
        survey.find_checkpoint(place, hint, care).await?;
        if survey.checkpoint.is_none() && hint.is_some() {
            // The hint leads nowhere: look at all of the log.
            survey.damage.retain(|(path, _)| *path != log::hint_path());
            survey.damage.push((log::hint_path(), "it names a checkpoint that is missing or damaged".to_owned()));
            survey.log = Log::list(store, None).await?;
            survey.find_checkpoint(place, None, care).await?;
        }
        survey.find_torn_commits(place).await?;
        survey.check_gaps()?;
        Ok(survey)
    }

    /// Goes from the newest checkpoint down to one that can be read.
    async fn find_checkpoint(&mut self, place: &Place, hint: Option<Hint>, care: Care) -> Result<(), LakeError> {
        self.checkpoint = None;
        for checkpoint in self.log.checkpoints.iter().rev() {
            // Those of one version stand for each other, and readers choose.
            if self.checkpoint.is_some_and(|good| good > checkpoint.version) {
                break;
            }
            let damage = match care {
                // Objects of storage over the network are whole or not there.
                Care::Footer if place.local.is_none() => Ok(()),
                Care::Footer => footer(place.store.as_ref(), checkpoint).await?,
                Care::Whole => verify::read(place.store.as_ref(), checkpoint).await?.map(|_| ()),
            };
            match damage {
                Ok(()) => self.checkpoint = Some(checkpoint.version),
                Err(error) => {
                    let files = checkpoint.files.iter().map(|file| (file.location.clone(), error.clone()));
                    self.damage.extend(files.collect::<Vec<_>>());
                }
            }
        }
        // A hint to an older checkpoint than the newest does no harm; one to a version that has none does.
        let hinted = hint.is_none_or(|hint| self.is_good(hint));
        if !hinted && self.checkpoint.is_some() {
            self.damage.push((log::hint_path(), "it names a checkpoint that is missing or damaged".to_owned()));
        }
        self.damage.sort_unstable();
        self.damage.dedup_by(|one, other| one.0 == other.0);
        Ok(())
    }

    fn is_good(&self, hint: Hint) -> bool {
        let damaged: HashSet<&Path> = self.damage.iter().map(|(path, _)| path).collect();
        let parts = hint.parts.unwrap_or(1) as usize;
        self.log.checkpoints.iter().any(|checkpoint| {
            checkpoint.version == hint.version
                && checkpoint.files.len() == parts
                && !checkpoint.files.iter().any(|file| damaged.contains(&file.location))
        })
    }

    /// Only what lies at the end may be torn: whoever wrote after it had read it.
    async fn find_torn_commits(&mut self, place: &Place) -> Result<(), LakeError> {
        while let Some((&version, commit)) = self.log.commits.last_key_value()
            && place.local.is_some()
            && Some(version) > self.checkpoint
        {
            let path = commit.location.clone();
            let Err(error) = actions::decode(&read(place.store.as_ref(), &path).await?) else {
                break;
            };
            self.damage.push((path, error));
            self.log.commits.remove(&version);
        }
        let newest = self.log.commits.last_key_value().map(|(version, _)| *version);
        self.newest = newest.max(self.checkpoint);
        Ok(())
    }

    /// Between the checkpoint and the newest commit none may be missing or empty.
    fn check_gaps(&self) -> Result<(), LakeError> {
        let first = self.checkpoint.map_or(0, |version| version + 1);
        for (next, (&version, commit)) in (first..).zip(self.log.commits.range(first..)) {
            // The kernel takes it for a commit that does nothing.
            if commit.size == 0 {
                return Err(LakeError::Damaged(format!("version {version} of its log is empty")));
            }
            if version != next {
                return Err(LakeError::Damaged(format!(
                    "version {next} is missing from its log, which goes on to {version}{}",
                    if self.damage.is_empty() { "" } else { "; the checkpoints after it are damaged" }
                )));
            }
        }
        Ok(())
    }

    async fn load(&self, place: &Place, write: bool) -> Result<LakeSnapshot, LakeError> {
        if self.damage.is_empty() {
            return LakeSnapshot::load(Arc::clone(&place.store)).await;
        }
        let hidden = self.damage.iter().map(|(path, _)| path.clone()).collect();
        let snapshot = LakeSnapshot::load(Arc::new(Veil::hiding(Arc::clone(&place.store), hidden))).await?;
        if !write {
            return Ok(snapshot);
        }
        // Only now: what is left is known to be a table.
        self.move_aside(place).await?;
        LakeSnapshot::load(Arc::clone(&place.store)).await
    }

    async fn move_aside(&self, place: &Place) -> Result<(), LakeError> {
        for (path, why) in &self.damage {
            move_aside(place.store.as_ref(), path, why).await?;
        }
        Ok(())
    }
}

/// Readers of logs look for names that begin with a version, or end in `.json` or `.parquet`.
fn aside(path: &Path) -> Path {
    let name = path.filename().unwrap_or_default();
    Path::from_iter([DIRECTORY.to_owned(), format!("_damaged.{}.moved", name.trim_start_matches('_'))])
}

async fn move_aside(store: &dyn ObjectStore, path: &Path, why: &str) -> Result<(), LakeError> {
    let to = aside(path);
    match store.rename(path, &to).await {
        Ok(()) => tracing::warn!(%path, %to, %why, "moved a damaged file of the lake's log aside"),
        // Another server did the same.
        Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(log::failed(&format!("move {path} aside"), error)),
    }
    Ok(())
}

async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Bytes, LakeError> {
    let failed = |error| log::failed(&format!("read {path}"), error);
    store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)
}

/// Bytes at the end of a Parquet file: the length of its metadata, and its magic.
const FOOTER_BYTES: u64 = 8;

/// Do the files of a checkpoint end as they should?
async fn footer(store: &dyn ObjectStore, checkpoint: &Checkpoint) -> Result<Result<(), String>, LakeError> {
    for file in &checkpoint.files {
        if file.location.as_ref().ends_with(".json") {
            continue;
        }
        let range = |start: u64| {
            let path = &file.location;
            async move {
                store
                    .get_range(path, start..file.size)
                    .await
                    .map_err(|error| log::failed(&format!("read {path}"), error))
            }
        };
        let Some(start) = file.size.checked_sub(FOOTER_BYTES) else {
            return Ok(Err(format!("it has {} bytes", file.size)));
        };
        let tail: [u8; 8] = match range(start).await?.as_ref().try_into() {
            Ok(tail) => tail,
            Err(_) => return Ok(Err("its end is missing".to_owned())),
        };
        let length = match FooterTail::try_new(&tail) {
            Ok(footer) => footer.metadata_length() as u64,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(start) = start.checked_sub(length) else {
            return Ok(Err(format!("its metadata has {length} bytes, and the file {}", file.size)));
        };
        let metadata = range(start).await?;
        let length = usize::try_from(length).unwrap_or(0).min(metadata.len());
        if let Err(error) = ParquetMetaDataReader::decode_metadata(&metadata[..length]) {
            return Ok(Err(error.to_string()));
        }
    }
    Ok(Ok(()))
}

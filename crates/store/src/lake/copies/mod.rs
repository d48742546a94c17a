//! Records that the lake has already: repeated deliveries that came after the server forgot their ids. Owns finding them
//! before a flush writes them, and what is said of those that differ; refuses to look at ids that the server minted, and
//! where the server is known to have looked itself.
//!
//! A file is opened only if its bounds allow one of the ids, and a row group is read only if its filter does. Version 7
//! ids, which begin with a time, need neither nearly always. Random ids may be anywhere: for those the search keeps to a
//! budget, newest files first; but wherever a record's own time allows that it is there, it is looked for in any case,
//! since a repeated delivery has the time of the first.
//!
//! A file that is in the table and cannot be read holds nothing up: what it has is not found, which is said.

mod compare;
mod filters;
mod suspects;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use runstone_record::{RecordId, limits};

use self::compare::{Known, compare, matches};
use self::filters::{FileFilters, FilterCache};
use self::suspects::{Place, Suspects};
use super::source::{Opened, Source, blocking, id_bounds};
use super::{Lake, LakeError, LakeFile};
use crate::chunk::Chunk;

/// A record that is not written to the lake, for its id stands for another there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The journal that took it, and its place there: a letter that is written twice is the same letter.
    pub journal: String,
    /// Its place there.
    pub position: u64,
    /// Where the record is that has the id.
    pub first_journal: String,
    /// Its place there.
    pub first_position: u64,
    /// Why it is not in the lake, for people.
    pub reason: &'static str,
    /// The record, as JSON.
    pub record: String,
}

/// Keeps records that the lake does not take.
pub trait DeadLetters: Send + Sync {
    /// Keeps them durably; the lake goes on without them.
    ///
    /// # Errors
    /// They could not be kept: nothing may go on.
    fn keep(&self, letters: &[DeadLetter]) -> std::io::Result<()>;
}

/// How a flush looks for records that the lake has already.
#[derive(Clone)]
pub struct CopyOptions {
    /// The position from which on the server knows all ids of its journal, and has looked there already.
    pub known_from: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Where records go whose id stands for another.
    pub letters: Arc<dyn DeadLetters>,
    /// Bytes of filters that are kept in memory.
    pub filter_bytes_max: usize,
    /// Told by each flush of how many files it would have to look into that are missing or damaged.
    pub unread: Arc<dyn Fn(u64) + Send + Sync>,
}

impl std::fmt::Debug for CopyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions").field("filter_bytes_max", &self.filter_bytes_max).finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Positions of records that are not to be written, in order.
    pub(crate) dropped: Vec<u64>,
    /// Those of them that are not the same as the first.
    pub(crate) letters: Vec<DeadLetter>,
    /// Files in which an id might be and that were not looked into.
    pub(crate) unseen_files: usize,
    /// Files in which an id might be and that are missing or damaged.
    pub(crate) unread_files: u64,
}

/// Looks for records in the lake, one flush after the other.
#[derive(Debug)]
pub(crate) struct CopySearch {
    options: CopyOptions,
    filters: FilterCache,
    /// Files of the table that cannot be opened, and are not tried again until the lake is opened anew.
    lost: HashSet<String>,
    /// Files of which that was said, and those of which a part cannot be read.
    told: HashSet<String>,
}

/// What a search may still do for ids that may be anywhere.
#[derive(Debug)]
struct Budget {
    probes: u64,
    groups: usize,
    /// Files that are opened for their filters.
    files: usize,
}

impl Budget {
    /// May a file be looked into? `opens`: its filters are not in memory.
    fn allows(&self, opens: bool) -> bool {
        self.probes > 0 && self.groups > 0 && (self.files > 0 || !opens)
    }
}

impl CopySearch {
    pub(crate) fn new(options: CopyOptions) -> Self {
        let filters = FilterCache::new(options.filter_bytes_max);
        Self { options, filters, lost: HashSet::new(), told: HashSet::new() }
    }

    /// Finds the records of `chunks` that the lake has, and has those kept that differ.
    pub(crate) async fn run(&mut self, lake: &Lake, chunks: &[Arc<Chunk>]) -> Result<Found, LakeError> {
        let Some(suspects) = Suspects::collect(chunks) else { return Ok(Found::default()) };
        let suspects = Arc::new(suspects);
        let mut tries = 0;
        let found = loop {
            match self.search(lake, &suspects).await {
                // A file left the table and was deleted since the snapshot was made.
                Err(LakeError::Conflict(why)) if tries < TRIES_MAX => {
                    tries += 1;
                    tracing::debug!(why, "looked again for records that the lake has");
                }
                found => break found?,
            }
        };
        if found.unseen_files > 0 {
            let (files, ids) = (found.unseen_files, suspects.len());
            tracing::warn!(files, ids, "did not look into every file for random ids that clients minted");
        }
        if found.unread_files > 0 {
            (self.options.unread)(found.unread_files);
        }
        if !found.letters.is_empty() {
            let (keeper, letters) = (Arc::clone(&self.options.letters), found.letters.clone());
            let kept = blocking(move || Ok(keeper.keep(&letters))).await?;
            kept.map_err(|error| LakeError::Storage { action: "keep dead letters".to_owned(), source: error.into() })?;
        }
        Ok(found)
    }

    async fn search(&mut self, lake: &Lake, suspects: &Arc<Suspects>) -> Result<Found, LakeError> {
        let snapshot = lake.refresh().await?;
        let known_from = (self.options.known_from)();
        let is_known = |file: &LakeFile| {
            let own = file.journal() == Some(&suspects.journal);
            own && file.positions().is_some_and(|(first, _)| first >= known_from)
        };
        let mut files: Vec<&Arc<LakeFile>> = snapshot
            .files
            .iter()
            .filter(|file| !is_known(file) && !suspects.within(file_ids(file)).is_empty())
            .collect();
        files.sort_unstable_by_key(|file| std::cmp::Reverse(file.modified_ms));
        self.filters.begin(&snapshot.files);
        let mut known: HashMap<RecordId, Vec<Known>> = HashMap::new();
        let mut budget = Budget {
            probes: limits::LAKE_COPY_PROBES_MAX,
            groups: limits::LAKE_COPY_GROUPS_MAX,
            files: limits::LAKE_COPY_FILES_MAX,
        };
        let (mut unseen_files, mut unread_files) = (0, 0);
        for file in files {
            if self.lost.contains(&file.path) {
                unread_files += 1;
                continue;
            }
            let in_time = suspects.has_times(file.times().unwrap_or((i64::MIN, i64::MAX)));
            if !in_time {
                let opens = !self.filters.has(file);
                if !budget.allows(opens) {
                    unseen_files += 1;
                    continue;
                }
                budget.files -= usize::from(opens);
            }
            match self.look_into(lake, file, suspects, &mut budget, &mut known).await {
                Ok(seen_whole) => unseen_files += usize::from(!seen_whole),
                Err(error) if is_of_file(&error) => {
                    self.miss(lake, file, error).await?;
                    unread_files += 1;
                }
                Err(error) => return Err(error),
            }
        }
        let suspects = Arc::clone(suspects);
        let (dropped, letters) = blocking(move || compare(&suspects, known)).await?;
        Ok(Found { dropped, letters, unseen_files, unread_files })
    }

    /// A file could not be read. Goes on without it where it is in the table all the same: it will not be better next time.
    async fn miss(&mut self, lake: &Lake, file: &LakeFile, error: LakeError) -> Result<(), LakeError> {
        let snapshot = lake.refresh().await?;
        if !snapshot.files.iter().any(|live| live.path == file.path) {
            return Err(LakeError::Conflict(format!("{} left the table", file.path)));
        }
        if self.told.insert(file.path.clone()) {
            let path = &file.path;
            tracing::warn!(path, %error, "cannot look for repeated records in a file of the lake: it is missing or damaged");
        }
        Ok(())
    }

    /// Collects what a file has of the suspects. Was the budget enough?
    async fn look_into(
        &mut self,
        lake: &Lake,
        file: &Arc<LakeFile>,
        suspects: &Arc<Suspects>,
        budget: &mut Budget,
        known: &mut HashMap<RecordId, Vec<Known>>,
    ) -> Result<bool, LakeError> {
        let (filters, opened) = match self.filters.of(lake, file).await {
            Ok(found) => found,
            Err(error) => {
                if is_of_file(&error) {
                    self.lost.insert(file.path.clone());
                }
                return Err(error);
            }
        };
        let probes: u64 = filters.groups.iter().map(|group| suspects.within(group.ids).len() as u64).sum();
        let all = budget.probes >= probes;
        budget.probes = budget.probes.saturating_sub(probes);
        let (asked, with) = (Arc::clone(suspects), Arc::clone(&filters));
        let mut found = blocking(move || Ok(probe(&asked, &with, all))).await?;
        let mut seen_whole = all;
        // Groups in which a record may be by its time come in any case.
        found.retain(|found| {
            let affordable = found.in_time || budget.groups > 0;
            if !found.in_time {
                budget.groups = budget.groups.saturating_sub(1);
            }
            seen_whole &= affordable;
            affordable
        });
        if found.is_empty() {
            return Ok(seen_whole);
        }
        let source = match opened {
            Some(source) => source,
            None => match Source::open(&lake.store(), file).await? {
                Opened::Source(source) => source,
                Opened::Foreign(_) => return Ok(false),
            },
        };
        let reads = found.into_iter().map(|group| matches(source.clone(), group.group, group.wanted));
        let mut reads = futures::stream::iter(reads).buffered(READS_AT_ONCE);
        let mut damage = None;
        while let Some(read) = reads.next().await {
            match read {
                Ok(rows) => rows.into_iter().for_each(|row| known.entry(row.id).or_default().push(row)),
                // The other row groups may be whole.
                Err(error) if is_of_file(&error) => damage = Some(error),
                Err(error) => return Err(error),
            }
        }
        damage.map_or(Ok(seen_whole), Err)
    }
}

/// Is it the file's own fault, and not the storage's? Damaged bytes may make a decoder panic.
fn is_of_file(error: &LakeError) -> bool {
    matches!(error, LakeError::Conflict(_) | LakeError::Damaged(_) | LakeError::Internal(_))
}

/// How often a search begins anew because files left the table.
const TRIES_MAX: u32 = 5;
/// Row groups that are read at a time.
const READS_AT_ONCE: usize = 2;

/// The bounds of a file's ids, as its entry in the log has them.
fn file_ids(file: &LakeFile) -> Option<(RecordId, RecordId)> {
    use super::Bound;
    let stats = file.stats.column(runstone_record::Column::Id)?;
    match (&stats.least, &stats.greatest) {
        (Some(Bound::Text(least)), Some(Bound::Text(greatest))) => {
            Some((RecordId::parse(least).ok()?, RecordId::parse(greatest).ok()?))
        }
        _ => None,
    }
}

/// A row group that may have some of the suspects.
#[derive(Debug)]
struct Candidate {
    group: usize,
    wanted: Vec<RecordId>,
    /// May one of them be there by its time, too?
    in_time: bool,
}

/// Asks the filters of a file: for all ids, or for those alone that may be there by their time.
fn probe(suspects: &Suspects, filters: &FileFilters, all: bool) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (group, filter) in filters.groups.iter().enumerate() {
        let range = suspects.within(filter.ids);
        if range.is_empty() || (!all && !suspects.has_times(filter.times)) {
            continue;
        }
        let mut candidate = Candidate { group, wanted: Vec::new(), in_time: false };
        for place in range {
            let Place { id, timestamp, .. } = suspects.place(place);
            let in_time = (filter.times.0..=filter.times.1).contains(&timestamp);
            let may = filter.bloom.as_ref().is_none_or(|bloom| bloom.check(suspects.text(place)));
            if may && (all || in_time) && candidate.wanted.last() != Some(&id) {
                candidate.in_time |= in_time;
                candidate.wanted.push(id);
            }
        }
        if !candidate.wanted.is_empty() {
            found.push(candidate);
        }
    }
    found
}

/// The bounds of the ids in a row group.
pub(super) fn group_ids(group: &parquet::file::metadata::RowGroupMetaData) -> Option<(RecordId, RecordId)> {
    let (least, greatest) = id_bounds(group)?;
    Some((RecordId::parse(&least).ok()?, RecordId::parse(&greatest).ok()?))
}

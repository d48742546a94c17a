//! The filters of files in memory. Owns which are kept: as many as fit of those that a search comes to first. Which were asked
//! last would be the wrong ones: a search that walks over more than fits would find none of them the next time.

use std::collections::HashMap;
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use runstone_record::{Column, RecordId};

use super::group_ids;
use crate::lake::source::{Opened, Source, int_bounds};
use crate::lake::{Lake, LakeError, LakeFile};

/// What is known of a row group's ids without reading them.
#[derive(Debug)]
pub(super) struct GroupFilter {
    /// None: not known.
    pub(super) ids: Option<(RecordId, RecordId)>,
    pub(super) times: (i64, i64),
    /// None: there is none, or what there is cannot be read.
    pub(super) bloom: Option<Sbbf>,
}

/// The row groups of a file.
#[derive(Debug)]
pub(super) struct FileFilters {
    pub(super) groups: Vec<GroupFilter>,
}

impl FileFilters {
    fn bytes(&self) -> usize {
        let bloom = |group: &GroupFilter| group.bloom.as_ref().map_or(0, |bloom| bloom.num_blocks() * BLOCK_BYTES);
        size_of::<Kept>() + self.groups.iter().map(|group| size_of::<GroupFilter>() + bloom(group)).sum::<usize>()
    }
}

/// Bytes of a block of a filter.
const BLOCK_BYTES: usize = 32;

#[derive(Debug)]
struct Kept {
    filters: Arc<FileFilters>,
    /// When it was last asked for.
    asked: u64,
}

/// Filters by their file's path.
#[derive(Debug)]
pub(super) struct FilterCache {
    kept: HashMap<String, Kept>,
    bytes: usize,
    bytes_max: usize,
    asked: u64,
    /// What was asked last before this search, and before the last one.
    searches: (u64, u64),
}

impl FilterCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { kept: HashMap::new(), bytes: 0, bytes_max, asked: 0, searches: (0, 0) }
    }

    /// A search begins. Forgets files that left the table.
    pub(super) fn begin(&mut self, files: &[Arc<LakeFile>]) {
        self.searches = (self.asked, self.searches.0);
        let live: std::collections::HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        self.kept.retain(|path, kept| {
            let keep = live.contains(path.as_str());
            if !keep {
                self.bytes -= kept.filters.bytes();
            }
            keep
        });
    }

    /// Are the filters of a file in memory?
    pub(super) fn has(&self, file: &LakeFile) -> bool {
        self.kept.contains_key(&file.path)
    }

    /// The filters of a file, and the file where it had to be opened for them.
    pub(super) async fn of(
        &mut self,
        lake: &Lake,
        file: &LakeFile,
    ) -> Result<(Arc<FileFilters>, Option<Source>), LakeError> {
        self.asked += 1;
        if let Some(kept) = self.kept.get_mut(&file.path) {
            kept.asked = self.asked;
            return Ok((Arc::clone(&kept.filters), None));
        }
        let Opened::Source(source) = Source::open(&lake.store(), file).await? else {
            // Another writer's: what it has cannot be read as records.
            let none = Arc::new(FileFilters { groups: Vec::new() });
            self.keep(&file.path, Arc::clone(&none));
            return Ok((none, None));
        };
        let blooms = source.blooms(Column::Id).await?;
        let groups = source.metadata().row_groups().iter().zip(blooms);
        let groups = groups.map(|(group, bloom)| {
            let (ids, times) = (group_ids(group), int_bounds(group, Column::Timestamp));
            GroupFilter { ids, times, bloom }
        });
        let filters = Arc::new(FileFilters { groups: groups.collect() });
        self.keep(&file.path, Arc::clone(&filters));
        Ok((filters, Some(source)))
    }

    /// Keeps filters, if need be in the place of others: first of those that the last search did not ask for, then of those
    /// that it came to last. What this search has asked for stays: it will be asked for again, and before what comes now.
    fn keep(&mut self, path: &str, filters: Arc<FileFilters>) {
        let bytes = filters.bytes();
        if bytes > self.bytes_max {
            return;
        }
        let (now, before) = self.searches;
        while self.bytes + bytes > self.bytes_max {
            let others = self.kept.iter().filter(|(_, kept)| kept.asked <= now);
            let least = others.min_by_key(|(_, kept)| (kept.asked > before, std::cmp::Reverse(kept.asked)));
            let Some(gone) = least.map(|(path, _)| path.clone()).and_then(|path| self.kept.remove(&path)) else {
                return;
            };
            self.bytes -= gone.filters.bytes();
        }
        self.bytes += bytes;
        self.kept.insert(path.to_owned(), Kept { filters, asked: self.asked });
    }
}

//! The filters of files in memory. Owns which are kept: of those that were asked last, as many as fit.

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
        self.groups.iter().map(|group| size_of::<GroupFilter>() + bloom(group)).sum()
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
}

impl FilterCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { kept: HashMap::new(), bytes: 0, bytes_max, asked: 0 }
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
            return Ok((Arc::new(FileFilters { groups: Vec::new() }), None));
        };
        let mut groups = Vec::new();
        for number in 0..source.metadata().num_row_groups() {
            let group = source.group(number);
            let (ids, times) = (group_ids(group), int_bounds(group, Column::Timestamp));
            let bloom = match source.bloom(number, Column::Id).await {
                Err(LakeError::Damaged(_)) => None,
                bloom => bloom?,
            };
            groups.push(GroupFilter { ids, times, bloom });
        }
        let filters = Arc::new(FileFilters { groups });
        self.keep(&file.path, Arc::clone(&filters));
        Ok((filters, Some(source)))
    }

    fn keep(&mut self, path: &str, filters: Arc<FileFilters>) {
        let bytes = filters.bytes();
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.asked).map(|(path, _)| path.clone());
            let Some(gone) = oldest.and_then(|path| self.kept.remove(&path)) else { break };
            self.bytes -= gone.filters.bytes();
        }
        self.bytes += bytes;
        self.kept.insert(path.to_owned(), Kept { filters, asked: self.asked });
    }

    /// Forgets files that left the table.
    pub(super) fn retain(&mut self, files: &[Arc<LakeFile>]) {
        let live: std::collections::HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        self.kept.retain(|path, kept| {
            let keep = live.contains(path.as_str());
            if !keep {
                self.bytes -= kept.filters.bytes();
            }
            keep
        });
    }
}

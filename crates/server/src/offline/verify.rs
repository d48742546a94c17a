//! The journal against the lake: is every record that the lake's cursor has passed in it, once, and the same? Owns the
//! comparison; the journal's own soundness is `runstone_journal::check`'s.

use std::collections::{BTreeMap, BTreeSet};

use runstone_record::{Batch, Column, ColumnSet, RecordId};
use runstone_store::lake::{LakeError, Positions};
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::{Held, Offline, OfflineError};
use crate::lake::refused;

/// Positions that are compared at a time.
const WINDOW: u64 = 64 << 10;
/// Ids that one question asks for: as many as a statement has room for.
const IDS_AT_ONCE: usize = 500;
/// How often a table whose files a running server replaces meanwhile is looked at again.
const LOOKS_MAX: usize = 5;
/// Ranges that are named one by one.
const NAMED_MAX: usize = 20;

/// What the comparison found.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// Records of the journal that the lake should have.
    pub records: u64,
    /// Records that are the same in both.
    pub same: u64,
    /// Positions whose records differ.
    pub different: Vec<(String, u64)>,
    /// Positions that the lake lacks: journal, first, last.
    pub missing: Vec<(String, u64, u64)>,
    /// Records that the lake has already under another position: a flush leaves such copies out.
    pub copies: u64,
    /// Records that the lake could not take, which are in files of their own.
    pub refused: u64,
    /// Records that are older than `lake.retention_days`.
    pub expired: u64,
}

/// A record that the lake should have.
struct Expected {
    hash: u64,
    arrived: i64,
    id: RecordId,
}

/// What the lake is worth.
#[derive(Debug, Clone, Default)]
pub struct LakeVerdict {
    /// The table's version.
    pub version: u64,
    /// Live files.
    pub files: u64,
    /// Records in them, read one by one.
    pub rows: u64,
    /// Files that cannot be read, or hold something else than the log says.
    pub damaged: Vec<String>,
    /// Against the journal.
    pub compared: Compared,
}

impl LakeVerdict {
    /// Is everything there, and the same?
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.compared.different.is_empty() && self.compared.missing.is_empty()
    }

    /// Each fault in a line.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut lines = self.damaged.clone();
        let different = self.compared.different.iter();
        lines.extend(different.take(NAMED_MAX).map(|(journal, position)| {
            format!("position {position} of journal {journal} is another record in the lake")
        }));
        let missing = self.compared.missing.iter();
        lines.extend(missing.take(NAMED_MAX).map(|(journal, first, last)| {
            format!("positions {first} to {last} of journal {journal} are missing in the lake")
        }));
        let more = self.compared.different.len().saturating_sub(NAMED_MAX)
            + self.compared.missing.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            lines.push(format!("{more} more faults like these"));
        }
        lines
    }
}

impl Offline {
    /// Reads the whole lake, and compares it with what the journal still has. None: there is no lake.
    ///
    /// # Errors
    /// The journal or the lake's log cannot be read. A damaged data file is no error here but a finding.
    pub async fn verify_lake(&self) -> Result<Option<LakeVerdict>, OfflineError> {
        let Some(mut held) = self.lake.clone() else { return Ok(None) };
        for _ in 1..LOOKS_MAX {
            let verdict = self.judge(&held).await?;
            if verdict.is_sound() {
                return Ok(Some(verdict));
            }
            // Files that were replaced since are deleted at some time: only what is in the table now can be at fault.
            let newest = held.lake.refresh().await?;
            if newest.version == held.snapshot.version {
                return Ok(Some(verdict));
            }
            held.snapshot = newest;
        }
        self.judge(&held).await.map(Some)
    }

    async fn judge(&self, held: &Held) -> Result<LakeVerdict, OfflineError> {
        let snapshot = &held.snapshot;
        let files = snapshot.files.len() as u64;
        let mut verdict = LakeVerdict { version: snapshot.version, files, ..LakeVerdict::default() };
        for file in snapshot.files.iter() {
            match held.lake.check_file(file).await {
                Ok(rows) => verdict.rows += rows,
                Err(error @ LakeError::Damaged(_)) => verdict.damaged.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        // A damaged file would end the comparison, and its records are lost whatever the journal has.
        if verdict.damaged.is_empty() {
            match self.compare(held).await {
                Ok(compared) => verdict.compared = compared,
                Err(OfflineError::Lake(error @ LakeError::Damaged(_))) => verdict.damaged.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(verdict)
    }

    async fn compare(&self, held: &Held) -> Result<Compared, OfflineError> {
        let mut compared = Compared::default();
        for epoch in self.lineage.epochs() {
            let through = epoch.last.unwrap_or(u64::MAX).min(held.course.through);
            let mut next = epoch.first.max(self.view.first_available());
            while next <= through {
                let last = (next + WINDOW - 1).min(through);
                let mut expected = self.expected(&epoch.journal, next, last)?;
                compared.records += expected.len() as u64;
                let ask = Positions {
                    journal: epoch.journal.to_string(),
                    after: next - 1,
                    through: last,
                    columns: ColumnSet::of(&Column::ALL),
                    complete: false,
                };
                let mut rows = held.lake.read_positions(&held.snapshot, ask)?;
                while let Some((first, batch)) = rows.next().await? {
                    for row in 0..batch.len() {
                        let position = first + row as u64;
                        match expected.remove(&position) {
                            Some(expected) if expected.hash == content(&batch, row, &epoch.journal, position) => {
                                compared.same += 1;
                            }
                            // Damaged in the journal, and the lake has it: nothing to compare it with.
                            None => {}
                            Some(_) => compared.different.push((epoch.journal.to_string(), position)),
                        }
                    }
                }
                self.sort_missing(held, &epoch.journal, expected, &mut compared).await?;
                next = last + 1;
            }
        }
        Ok(compared)
    }

    /// Which of these should be in the lake, and which left it rightly.
    async fn sort_missing(
        &self,
        held: &Held,
        journal: &str,
        absent: BTreeMap<u64, Expected>,
        compared: &mut Compared,
    ) -> Result<(), OfflineError> {
        let (expired, absent): (BTreeMap<_, _>, BTreeMap<_, _>) =
            absent.into_iter().partition(|(_, record)| record.arrived < self.kept_since);
        compared.expired += expired.len() as u64;
        let ids: Vec<RecordId> = absent.values().map(|record| record.id).collect();
        let copied = self.in_lake(held, &ids).await?;
        let refused = match ids.is_empty() {
            true => BTreeSet::new(),
            false => refused(&self.config.data).map_err(OfflineError::Refused)?,
        };
        for (position, record) in absent {
            if copied.contains(&record.id) {
                compared.copies += 1;
                continue;
            }
            if refused.contains(&(journal.to_owned(), position)) {
                compared.refused += 1;
                continue;
            }
            match compared.missing.last_mut() {
                Some((other, _, last)) if *other == journal && *last + 1 == position => *last = position,
                _ => compared.missing.push((journal.to_owned(), position, position)),
            }
        }
        Ok(())
    }

    /// Which of these ids are in the lake, wherever.
    async fn in_lake(&self, held: &Held, ids: &[RecordId]) -> Result<BTreeSet<RecordId>, OfflineError> {
        let mut found = BTreeSet::new();
        if ids.is_empty() {
            return Ok(found);
        }
        let sql = self.lake_session(held, IDS_AT_ONCE)?;
        for ids in ids.chunks(IDS_AT_ONCE) {
            let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
            let text = format!("SELECT DISTINCT id FROM logs WHERE id IN ({})", list.join(","));
            let answer = sql.query(text.as_str()).await.map_err(OfflineError::Query)?;
            let rows: Vec<Found> = serde_json::from_slice(&answer.rows_json).unwrap_or_default();
            found.extend(rows.iter().filter_map(|row| RecordId::parse(&row.id).ok()));
        }
        Ok(found)
    }

    /// What each position of the journal in a range should be.
    fn expected(&self, journal: &str, first: u64, last: u64) -> Result<BTreeMap<u64, Expected>, OfflineError> {
        let mut hashes = BTreeMap::new();
        self.frames_through(first - 1, last, |_, start, batch| {
            for row in 0..batch.len() {
                let position = start + row as u64;
                if (first..=last).contains(&position) {
                    let hash = content(&batch, row, journal, position);
                    let (arrived, id) = (batch.ingested_at(), batch.ids().get(row));
                    hashes.insert(position, Expected { hash, arrived, id });
                }
            }
        })?;
        Ok(hashes)
    }
}

/// A row of the answer.
#[derive(Deserialize)]
struct Found {
    id: String,
}

/// A hash of everything that a reader of the record sees.
fn content(batch: &Batch, row: usize, journal: &str, position: u64) -> u64 {
    let mut json = Vec::new();
    batch.write_json(row, journal, position, &mut json);
    xxh3_64(&json)
}

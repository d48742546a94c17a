//! The log of a run, entry by entry → what it adds up to. Owns what counts of an entry that the Logger would refuse; what a run
//! is, [`RunFold`] says.

use std::collections::HashSet;

use super::entry::read_stored;
use super::stored::write_as_it_is;
use crate::identifier;
use crate::ids::{IdMint, RecordId};
use crate::parse;
use crate::run::RunFold;
use crate::words::RecordType;

/// What stands for an entry that is none of the Logger's: somebody else put it there, and it counts as a line of the log.
const FOREIGN: &str = "an entry in another form than the Logger's";

/// The fold of one log.
#[derive(Debug)]
pub struct LogFold {
    run_id: String,
    fold: RunFold,
    /// Ids for entries that have none: of two at one time the later one in the log is the later one.
    mint: IdMint,
    seen: HashSet<RecordId>,
}

impl LogFold {
    /// Of a log without entries.
    #[must_use]
    pub fn new(run_id: &str) -> Self {
        // Others may have named it as no run here is named; which run it is does not matter to what it adds up to.
        let run_id = if identifier::check(run_id).is_ok() { run_id } else { "run" };
        Self { run_id: run_id.to_owned(), fold: RunFold::default(), mint: IdMint::new(0, 0), seen: HashSet::new() }
    }

    /// Adds an entry as a store has it, which a repetition may have put there twice. `taken` is its time where it names none, in
    /// microseconds since 1970.
    pub fn add(&mut self, entry: &[u8], taken: i64) {
        let own = read_stored(&self.run_id, entry, taken);
        let (time, id) = match &own {
            Some(own) => (Some(own.timestamp), own.id),
            None => write_as_it_is(entry, &mut Vec::new()),
        };
        if id.is_some_and(|id| !self.seen.insert(id)) {
            return;
        }
        let entry = own.or_else(|| read_stored(&self.run_id, foreign().as_bytes(), time.unwrap_or(taken)));
        if let Some(entry) = entry {
            self.fold.add_entry(&entry.parsed.builder.stamp(&mut self.mint, taken, None));
        }
    }

    /// Adds a record as the API prints it.
    pub fn add_record(&mut self, record: &[u8], position: u64) {
        let Ok(parsed) = parse::taken(record) else { return };
        if parsed.errors.is_empty() {
            self.fold.add(&parsed.builder.stamp(&mut self.mint, 0, None), 0, position);
        }
    }

    /// What they add up to.
    #[must_use]
    pub fn end(self) -> RunFold {
        self.fold
    }
}

fn foreign() -> String {
    serde_json::json!({"type": RecordType::Log.as_str(), "title": FOREIGN, "description": FOREIGN}).to_string()
}

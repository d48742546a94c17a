//! Those who send: what they sent, what they were told, and so what has to be found and what must not be.

use std::collections::BTreeSet;

use runstone_record::ErrorCode;
use runstone_record::parse::{self, Parsed};
use runstone_record::time::format_micros;
use tokio::task::JoinHandle;

use super::dice::Dice;
use crate::intake::{IntakeError, RequestKey, Taken};

/// A request that a client may send again.
#[derive(Debug)]
pub(super) struct Request {
    body: String,
    /// The numbers of its records.
    records: Vec<u64>,
    key: Option<RequestKey>,
    /// Would the same records be known if they came again?
    is_repeatable: bool,
    /// How often the journal had been trimmed when it was sent first: identities go with it.
    trims: u64,
    /// Deliveries that nobody answered yet: who waits too long sends again.
    in_flight: Vec<Delivery>,
    /// May a delivery that failed have left its bytes all the same?
    is_uncertain: bool,
}

/// A request on its way.
type Delivery = JoinHandle<Result<Taken, IntakeError>>;

/// A record as it was sent, and as it has to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The client's own, if it gave one.
    pub(super) id: Option<String>,
    pub(super) run_id: String,
    pub(super) kind: String,
    pub(super) timestamp: String,
    pub(super) title: String,
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub(super) struct Clients {
    requests: Vec<Request>,
    /// By their numbers.
    records: Vec<Record>,
    /// Records that were acknowledged: each is there once.
    pub(super) acknowledged: BTreeSet<u64>,
    /// Records of which it was said that nothing happened: none is there.
    pub(super) refused: BTreeSet<u64>,
    /// The ids that clients gave, and how often the journal had been trimmed then.
    ids: Vec<(String, u64)>,
}

/// Deliveries of one request at once.
const DELIVERIES_MAX: usize = 3;

const TYPES: [&str; 7] = ["start", "status", "success", "error", "end", "activity", "log"];

impl Clients {
    /// The record of a number.
    pub(super) fn sent(&self, number: u64) -> Option<&Record> {
        self.records.get(usize::try_from(number).ok()?)
    }

    /// Makes a request of one to five records.
    pub(super) fn compose(&mut self, dice: &mut Dice, now: i64, trims: u64) -> usize {
        let with_ids = dice.percent(60);
        let with_key = dice.percent(30);
        let mut lines = Vec::new();
        let mut records = Vec::new();
        for _ in 0..=dice.below(5) {
            let (number, steals) = (self.records.len() as u64, dice.percent(4));
            // Now and then somebody else's id, with another payload: of one that is remembered.
            let known: Vec<&String> = self.ids.iter().filter(|(_, at)| *at == trims).map(|(id, _)| id).collect();
            let stolen = dice.pick(&known).filter(|_| steals).map(|id| (*id).clone());
            let own = with_ids.then(|| format!("01980000-0000-7000-8000-{number:012x}"));
            self.ids.extend(own.clone().filter(|_| stolen.is_none()).map(|id| (id, trims)));
            let given = stolen.or(own);
            let id = given.as_ref().map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
            let kind = dice.pick(&TYPES).copied().unwrap_or("log");
            let (run, at) = (dice.below(6), now + i64::try_from(dice.below(4_000_000)).unwrap_or(0) - 2_000_000);
            let timestamp = format_micros(at);
            let padding = "x".repeat(dice.below(400) as usize);
            lines.push(format!(
                r#"{{{id}"run_id":"run-{run}","type":"{kind}","timestamp":"{timestamp}","message":"record {number}","title":"{padding}"}}"#
            ));
            let (run_id, kind) = (format!("run-{run}"), kind.to_owned());
            self.records.push(Record { id: given, run_id, kind, timestamp, title: padding });
            records.push(number);
        }
        let body = lines.join("\n");
        let key = with_key
            .then(|| RequestKey { key: format!("key-{}", self.requests.len()), body_hash: self.records.len() as u64 });
        let is_repeatable = with_ids || with_key;
        let (in_flight, is_uncertain) = (Vec::new(), false);
        self.requests.push(Request { body, records, key, is_repeatable, trims, in_flight, is_uncertain });
        self.requests.len() - 1
    }

    /// A request that may be sent again.
    pub(super) fn repeatable(&self, dice: &mut Dice, trims: u64) -> Option<usize> {
        let may = |request: &Request| {
            request.is_repeatable && request.in_flight.len() < DELIVERIES_MAX && request.trims == trims
        };
        let those: Vec<usize> = (0..self.requests.len()).filter(|n| may(&self.requests[*n])).collect();
        dice.pick(&those).copied()
    }

    pub(super) fn parsed(&self, n: usize) -> (Parsed, Option<RequestKey>) {
        let request = &self.requests[n];
        (parse::ndjson(request.body.as_bytes()).unwrap(), request.key.clone())
    }

    /// It is on its way: whatever was known of it before may change.
    pub(super) fn begin(&mut self, n: usize, task: Delivery) {
        let request = &mut self.requests[n];
        self.refused.retain(|record| !request.records.contains(record));
        request.in_flight.push(task);
    }

    /// Those that are answered.
    pub(super) fn answered(&mut self) -> Vec<(usize, Delivery)> {
        let requests = self.requests.iter_mut().enumerate();
        let done = |(n, request): (usize, &mut Request)| {
            let done: Vec<_> = request.in_flight.extract_if(.., |task| task.is_finished()).collect();
            done.into_iter().map(move |task| (n, task))
        };
        requests.flat_map(done).collect()
    }

    /// What the client was told.
    pub(super) fn note(&mut self, n: usize, answer: &Result<Taken, IntakeError>) {
        let request = &mut self.requests[n];
        // Another delivery may still bring what this one did not.
        let is_last = request.in_flight.is_empty();
        match answer {
            Ok(taken) => {
                let wrong: BTreeSet<u64> = taken.answer.errors.iter().map(|error| error.index).collect();
                for (index, record) in (0_u64..).zip(&request.records) {
                    if !wrong.contains(&index) {
                        self.acknowledged.insert(*record);
                    } else if is_last {
                        self.refused.insert(*record);
                    }
                }
            }
            // By its code alone: a client has nothing else to tell by.
            Err(error)
                if matches!(error.code(), ErrorCode::DiskFull | ErrorCode::JournalFull | ErrorCode::Overloaded) =>
            {
                if is_last && !request.is_uncertain {
                    let unknown = request.records.iter().filter(|record| !self.acknowledged.contains(record));
                    self.refused.extend(unknown);
                }
            }
            Err(_) => request.is_uncertain = true,
        }
    }

    /// The server died: nobody is answered any more.
    pub(super) fn hang_up(&mut self) {
        for request in &mut self.requests {
            request.in_flight.drain(..).for_each(|task| task.abort());
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.requests.iter().map(|request| request.in_flight.len()).sum()
    }
}

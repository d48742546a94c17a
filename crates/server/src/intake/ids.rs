//! The ids that clients minted, and the hash of what each stood for: how a repeated delivery is told from an id that
//! was used twice. Owns the window of remembered ids, bounded in bytes, oldest out first; refuses to remember ids that
//! the server minted itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runstone_record::bits::Bits;
use runstone_record::{Batch, RecordId};
use tokio::sync::watch;

/// What an id costs: its entry in the map at the map's usual load, and its place in the queue.
const ID_BYTES: usize = 96;

/// How the batch that an id came in fared: none yet, durable, or lost.
type Outcome = Option<bool>;

#[derive(Debug, Clone, Copy)]
struct Remembered {
    hash: u64,
    ticket: u64,
    /// Which of its entries in the queue is this one's.
    number: u64,
}

#[derive(Debug, Default)]
struct Window {
    ids: HashMap<RecordId, Remembered>,
    /// Ids by age. One that was forgotten and came again stands here twice; only the later entry counts.
    order: VecDeque<(RecordId, u64)>,
    next_number: u64,
    in_flight: HashMap<u64, watch::Sender<Outcome>>,
    next_ticket: u64,
}

/// The window of remembered ids.
#[derive(Debug)]
pub(crate) struct Ids {
    window: Mutex<Window>,
    ids_max: usize,
}

/// What the window says of a batch.
#[derive(Debug)]
pub(crate) struct Claim {
    /// To be settled with the batch's outcome.
    pub(crate) ticket: u64,
    /// The rows that are new.
    pub(crate) new: Bits,
    /// Rows that are there already: same id, same payload.
    pub(crate) duplicates: usize,
    /// Rows whose id stands for another payload.
    pub(crate) conflicts: Vec<usize>,
    /// Batches in flight that hold some of the duplicates: those count only once these are durable.
    pub(crate) waits: Vec<watch::Receiver<Outcome>>,
}

impl Ids {
    /// A window of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { window: Mutex::default(), ids_max: (bytes_max / ID_BYTES).max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the ids of a batch that is durable: what recovery reads back.
    pub(crate) fn remember(&self, batch: &Batch) {
        let mut window = self.lock();
        for row in 0..batch.len() {
            if let Some(hash) = batch.ids().client_hash(row) {
                self.insert(&mut window, batch.ids().get(row), hash, 0);
            }
        }
    }

    /// Claims the ids of a batch that is about to be written.
    pub(crate) fn claim(&self, batch: &Batch) -> Claim {
        let mut window = self.lock();
        window.next_ticket += 1;
        let ticket = window.next_ticket;
        window.in_flight.insert(ticket, watch::Sender::new(None));
        let mut claim = Claim { ticket, new: Bits::default(), duplicates: 0, conflicts: Vec::new(), waits: Vec::new() };
        let mut waited = Vec::new();
        for row in 0..batch.len() {
            let Some(hash) = batch.ids().client_hash(row) else {
                claim.new.push(true);
                continue;
            };
            let id = batch.ids().get(row);
            let known = window.ids.get(&id).copied();
            claim.new.push(known.is_none());
            match known {
                None => self.insert(&mut window, id, hash, ticket),
                Some(known) if known.hash != hash => claim.conflicts.push(row),
                Some(known) => {
                    claim.duplicates += 1;
                    if known.ticket != ticket && !waited.contains(&known.ticket) {
                        waited.push(known.ticket);
                    }
                }
            }
        }
        claim.waits =
            waited.iter().filter_map(|ticket| window.in_flight.get(ticket)).map(watch::Sender::subscribe).collect();
        claim
    }

    /// Ends a claim. Ids of a batch that was not written are forgotten: the client will send them again.
    pub(crate) fn settle(&self, ticket: u64, batch: &Batch, durable: bool) {
        let mut window = self.lock();
        if !durable {
            for row in 0..batch.len() {
                let id = batch.ids().get(row);
                if window.ids.get(&id).is_some_and(|known| known.ticket == ticket) {
                    window.ids.remove(&id);
                }
            }
        }
        if let Some(outcome) = window.in_flight.remove(&ticket) {
            outcome.send_replace(Some(durable));
        }
    }

    /// Claims that are not settled.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.lock().in_flight.len()
    }

    fn insert(&self, window: &mut Window, id: RecordId, hash: u64, ticket: u64) {
        window.next_number += 1;
        let number = window.next_number;
        window.ids.insert(id, Remembered { hash, ticket, number });
        window.order.push_back((id, number));
        while window.order.len() > self.ids_max {
            if let Some((oldest, number)) = window.order.pop_front()
                && window.ids.get(&oldest).is_some_and(|known| known.number == number)
            {
                window.ids.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runstone_record::{IdMint, parse};

    fn batch(lines: &[(u8, &str)]) -> Batch {
        let line = |(id, message): &(u8, &str)| {
            format!(r#"{{"id":"01980000-0000-7000-8000-0000000000{id:02x}","message":"{message}"}}"#)
        };
        let body = lines.iter().map(line).collect::<Vec<_>>().join("\n");
        parse::ndjson(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, 1), 1, None)
    }

    fn settled(ids: &Ids, batch: &Batch, durable: bool) -> Claim {
        let claim = ids.claim(batch);
        ids.settle(claim.ticket, batch, durable);
        claim
    }

    #[test]
    fn the_first_payload_of_an_id_wins() {
        let ids = Ids::new(1 << 20);
        let first = settled(&ids, &batch(&[(1, "a"), (2, "b"), (1, "a"), (2, "other")]), true);
        assert_eq!((first.new.count(), first.duplicates, first.conflicts), (2, 1, vec![3]));
        let again = settled(&ids, &batch(&[(1, "a"), (2, "x"), (3, "c")]), true);
        assert_eq!((again.new.count(), again.duplicates, again.conflicts), (1, 1, vec![1]));
        assert!(again.waits.is_empty());
    }

    #[test]
    fn what_was_not_written_is_forgotten_and_what_is_in_flight_is_waited_for() {
        let ids = Ids::new(1 << 20);
        let (first, same) = (batch(&[(1, "a")]), batch(&[(1, "a")]));
        let claim = ids.claim(&first);
        let second = ids.claim(&same);
        assert_eq!((second.duplicates, second.waits.len()), (1, 1));
        assert_eq!(*second.waits[0].borrow(), None);
        ids.settle(claim.ticket, &first, false);
        assert_eq!(*second.waits[0].borrow(), Some(false));
        ids.settle(second.ticket, &same, false);
        assert_eq!(settled(&ids, &same, true).new.count(), 1);
    }

    #[test]
    fn the_oldest_ids_leave_when_the_window_is_full() {
        let ids = Ids::new(2 * ID_BYTES);
        settled(&ids, &batch(&[(1, "a"), (2, "b"), (3, "c")]), true);
        let claim = settled(&ids, &batch(&[(3, "c"), (1, "a")]), true);
        assert_eq!((claim.new.count(), claim.duplicates), (1, 1));
    }

    #[test]
    fn recovery_remembers_what_clients_minted() {
        let ids = Ids::new(1 << 20);
        ids.remember(&batch(&[(1, "a")]));
        assert_eq!(settled(&ids, &batch(&[(1, "a"), (1, "b")]), true).conflicts, vec![1]);
    }
}

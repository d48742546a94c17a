//! The ids that clients minted, and the hash of what each stood for: how a repeated delivery is told from an id that
//! was used twice. Owns the window of remembered ids, bounded in bytes, oldest out first, and from which position on it is
//! complete; refuses to remember ids that the server minted itself.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use runstone_record::Batch;
use runstone_record::bits::Bits;
use tokio::sync::watch;

use super::remembered::{ID_BYTES, IDS_MAX, Known, Remembered};

/// Ids that there is space for from the first one on: a map that grows by and by moves everything again and again, and an
/// acknowledgement waits for it. Space that no id has come to is no memory yet.
const SPACE_IDS: usize = 1 << 20;
/// Ids whose positions are remembered as one stretch, at most.
const STRETCH_IDS: u64 = 1_024;

/// How the batch that an id came in fared: none yet, durable, or lost.
type Outcome = Option<bool>;

/// Ids that came one after the other, and where their records are.
#[derive(Debug)]
struct Stretch {
    ticket: u64,
    /// Numbers of the first and the last of them.
    numbers: (u64, u64),
    /// The last position of their records; none while that is not known.
    through: Option<u64>,
}

#[derive(Debug, Default)]
struct Window {
    ids: Remembered,
    /// The last number that left because the window was full.
    forgotten: u64,
    /// Those of the numbers in the window, in order.
    stretches: VecDeque<Stretch>,
    /// From this position on nothing was forgotten, but for what `stretches` say; none before the journal was read.
    known_from: Option<u64>,
    /// No earlier than this: the journal has an id twice, for it was forgotten between the two.
    repeated: u64,
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
        Self { window: Mutex::default(), ids_max: (bytes_max / ID_BYTES).clamp(1, IDS_MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the ids of a batch that is durable, whose first position is `first`: what recovery reads back.
    pub(crate) fn remember(&self, batch: &Batch, first: u64) {
        let mut window = self.lock();
        let before = window.ids.last();
        for row in 0..batch.len() {
            if let Some(hash) = batch.ids().client_hash(row) {
                let id = batch.ids().get(row);
                // The door did not know it when it came again: what it knows now says nothing of what it knew then.
                if window.ids.find(id).is_some() {
                    window.repeated = first + batch.len() as u64;
                }
                window.ids.add(id, hash);
                window.forget_oldest(self.ids_max);
            }
        }
        window.begin_stretch(0, before);
        window.end_stretch(0, first + batch.len() as u64 - 1);
    }

    /// The ids of the journal's records from a position on were remembered, as far as the window is large enough.
    pub(crate) fn recalled(&self, known_from: u64) {
        let mut window = self.lock();
        window.known_from = Some(known_from.max(window.repeated));
    }

    /// The position from which on every id that a client minted is remembered.
    pub(crate) fn known_from(&self) -> u64 {
        self.lock().known_from()
    }

    /// Claims the ids of a batch that is about to be written.
    pub(crate) fn claim(&self, batch: &Batch) -> Claim {
        let window = &mut *self.lock();
        let is_of_client = |row| batch.ids().client_hash(row).is_some();
        if window.ids.capacity().0 == 0 && (0..batch.len()).any(is_of_client) {
            window.ids.reserve(self.ids_max.min(SPACE_IDS) + 1);
        }
        window.next_ticket += 1;
        let ticket = window.next_ticket;
        window.in_flight.insert(ticket, watch::Sender::new(None));
        let mut claim = Claim { ticket, new: Bits::default(), duplicates: 0, conflicts: Vec::new(), waits: Vec::new() };
        let (mut waited, before) = (Vec::new(), window.ids.last());
        for row in 0..batch.len() {
            let Some(hash) = batch.ids().client_hash(row) else {
                claim.new.push(true);
                continue;
            };
            let known = window.ids.find_or_add(batch.ids().get(row), hash);
            claim.new.push(known.is_none());
            match known {
                None => window.forget_oldest(self.ids_max),
                Some(Known { payload, .. }) if payload != hash => claim.conflicts.push(row),
                Some(Known { number, .. }) => {
                    claim.duplicates += 1;
                    // One of this batch has no stretch yet.
                    if let Some(ticket) = window.ticket_of(number).filter(|ticket| !waited.contains(ticket)) {
                        waited.push(ticket);
                    }
                }
            }
        }
        window.begin_stretch(ticket, before);
        claim.waits =
            waited.iter().filter_map(|ticket| window.in_flight.get(ticket)).map(watch::Sender::subscribe).collect();
        claim
    }

    /// Ends a claim; `through` is the last position of its records. Ids of a batch that was not written are forgotten: the
    /// client will send them again.
    pub(crate) fn settle(&self, ticket: u64, batch: &Batch, through: Option<u64>) {
        let mut window = self.lock();
        let durable = through.is_some();
        let numbers = window.numbers_of(ticket);
        window.end_stretch(ticket, through.unwrap_or(0));
        if let Some((first, last)) = numbers.filter(|_| !durable) {
            for row in 0..batch.len() {
                let id = batch.ids().get(row);
                if window.ids.find(id).is_some_and(|known| (first..=last).contains(&known.number)) {
                    window.ids.remove(id);
                }
            }
            window.forget_end();
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
}

impl Window {
    /// Forgets the oldest ids where there are too many.
    fn forget_oldest(&mut self, ids_max: usize) {
        while self.ids.len() > ids_max {
            if let Some(number) = self.ids.pop_oldest() {
                self.forgotten = number;
            }
        }
    }

    /// The claim that a number is of, as long as its stretch is one of its own.
    fn ticket_of(&self, number: u64) -> Option<u64> {
        let at = self.stretches.partition_point(|stretch| stretch.numbers.1 < number);
        self.stretches.get(at).filter(|stretch| stretch.numbers.0 <= number).map(|stretch| stretch.ticket)
    }

    /// The numbers of the ids that were new in a claim.
    fn numbers_of(&self, ticket: u64) -> Option<(u64, u64)> {
        let of_it = |stretch: &&Stretch| stretch.ticket == ticket && stretch.through.is_none();
        self.stretches.iter().rev().find(of_it).map(|stretch| stretch.numbers)
    }

    /// The ids numbered after `before` are those of one claim.
    fn begin_stretch(&mut self, ticket: u64, before: u64) {
        let last = self.ids.last();
        if last > before {
            let numbers = (before + 1, last);
            self.stretches.push_back(Stretch { ticket, numbers, through: None });
        }
    }

    /// Gives back the places of the newest ids that are none any more: claims that fail again and again must not push out
    /// what is there. Their numbers are given again.
    fn forget_end(&mut self) {
        self.ids.forget_end();
        let last = self.ids.last();
        while self.stretches.pop_back_if(|stretch| stretch.numbers.0 > last).is_some() {}
        if let Some(stretch) = self.stretches.back_mut() {
            stretch.numbers.1 = stretch.numbers.1.min(last);
        }
    }

    /// The records of a claim are durable up to this position; those of one that failed are at none.
    fn end_stretch(&mut self, ticket: u64, through: u64) {
        let Some(at) = self.stretches.iter().rposition(|stretch| stretch.ticket == ticket && stretch.through.is_none())
        else {
            return;
        };
        self.stretches[at].through = Some(through);
        // Two that are known are one, so that single records cost no more than batches.
        self.join(at + 1);
        self.join(at);
        self.known_from();
    }

    /// Puts a stretch and the one before it together, where both are known and short.
    fn join(&mut self, at: usize) {
        let Some(before) = at.checked_sub(1) else { return };
        let (Some(one), Some(other)) = (self.stretches.get(before), self.stretches.get(at)) else { return };
        let numbers = (one.numbers.0, other.numbers.1);
        if let (Some(first), Some(second)) = (one.through, other.through)
            && numbers.1 - numbers.0 < STRETCH_IDS
            && numbers.0 > self.forgotten
        {
            self.stretches[at] = Stretch { ticket: 0, numbers, through: Some(first.max(second)) };
            self.stretches.remove(before);
        }
    }

    fn known_from(&mut self) -> u64 {
        let Some(mut known_from) = self.known_from else { return u64::MAX };
        while let Some(stretch) = self.stretches.front()
            && stretch.numbers.0 <= self.forgotten
        {
            // Where its records will be is not known yet.
            let Some(through) = stretch.through else { return u64::MAX };
            known_from = known_from.max(through + 1);
            if stretch.numbers.1 > self.forgotten {
                break;
            }
            self.stretches.pop_front();
        }
        self.known_from = Some(known_from);
        known_from
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
        ids.settle(claim.ticket, batch, durable.then_some(1));
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
        ids.settle(claim.ticket, &first, None);
        assert_eq!(*second.waits[0].borrow(), Some(false));
        ids.settle(second.ticket, &same, None);
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
    fn there_is_space_from_the_first_id_of_a_client_on_and_none_before() {
        let capacity = |ids: &Ids| ids.lock().ids.capacity();
        let lines = |ids: &[Option<u64>]| {
            let line = |id: &Option<u64>| match id {
                Some(id) => format!(r#"{{"id":"01980000-0000-7000-8000-{id:012x}","message":"a"}}"#),
                None => r#"{"message":"a"}"#.to_owned(),
            };
            let body = ids.iter().map(line).collect::<Vec<_>>().join("\n");
            parse::ndjson(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, 1), 1, None)
        };
        // A large window has space for some, a small one for all that it remembers.
        for (bytes_max, space) in [(usize::MAX, SPACE_IDS), (5_000 * ID_BYTES, 5_000)] {
            let ids = Ids::new(bytes_max);
            settled(&ids, &lines(&[None, None]), true);
            assert_eq!(capacity(&ids), (0, 0));
            // The first one need not come first.
            settled(&ids, &lines(&[None, Some(0)]), true);
            let before = capacity(&ids);
            assert!(before.0 >= space && before.1 > space, "{before:?}");
            for last in [1_000, 3_000, 5_000] {
                settled(&ids, &lines(&(0..last).map(Some).collect::<Vec<_>>()), true);
            }
            assert_eq!(capacity(&ids), before, "nothing moved");
        }
    }

    #[test]
    fn recovery_remembers_what_clients_minted() {
        let ids = Ids::new(1 << 20);
        ids.remember(&batch(&[(1, "a")]), 1);
        assert_eq!(settled(&ids, &batch(&[(1, "a"), (1, "b")]), true).conflicts, vec![1]);
    }

    #[test]
    fn from_a_position_on_every_id_is_known() {
        let ids = Ids::new(3 * ID_BYTES);
        ids.remember(&batch(&[(1, "a")]), 7);
        assert_eq!(ids.known_from(), u64::MAX, "the journal is still being read");
        ids.recalled(5);
        assert_eq!(ids.known_from(), 5);
        let (second, third) = (batch(&[(2, "b"), (3, "c")]), batch(&[(4, "d")]));
        let claim = ids.claim(&second);
        assert_eq!(ids.known_from(), 5, "there is room");
        let pushing = ids.claim(&third);
        assert_eq!(ids.known_from(), 8, "the first one had to go");
        ids.settle(pushing.ticket, &third, Some(10));
        ids.settle(claim.ticket, &second, Some(12));
        assert_eq!(ids.known_from(), 8);
        settled(&ids, &batch(&[(2, "b"), (3, "c"), (4, "d")]), true);
        assert_eq!(ids.known_from(), 8, "nothing new came");
        let fourth = batch(&[(5, "e"), (6, "f")]);
        let claim = ids.claim(&fourth);
        ids.settle(claim.ticket, &fourth, Some(14));
        assert_eq!(ids.known_from(), 13);
        // What has gone before it got its place may be anywhere.
        let (fifth, sixth) = (batch(&[(7, "g"), (8, "h")]), batch(&[(9, "i"), (10, "j"), (11, "k")]));
        let (gone, claim) = (ids.claim(&fifth), ids.claim(&sixth));
        ids.settle(claim.ticket, &sixth, Some(17));
        assert_eq!(ids.known_from(), u64::MAX);
        ids.settle(gone.ticket, &fifth, Some(19));
        assert_eq!(ids.known_from(), 20);
    }

    #[test]
    fn stretches_are_few_however_small_the_batches_are() {
        let ids = Ids::new(1 << 20);
        ids.recalled(1);
        for number in 0..5_000_u64 {
            let id = format!("01980000-0000-7000-8000-{number:012x}");
            let body = format!(r#"{{"id":"{id}","message":"a"}}"#);
            let batch = parse::ndjson(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, 1), 1, None);
            let claim = ids.claim(&batch);
            ids.settle(claim.ticket, &batch, Some(number + 1));
        }
        assert!(ids.lock().stretches.len() < 10);
        assert_eq!(ids.known_from(), 1);
    }

    #[test]
    fn an_id_that_the_journal_has_twice_was_forgotten_in_between() {
        let ids = Ids::new(1 << 20);
        ids.remember(&batch(&[(1, "a"), (2, "b")]), 1);
        ids.remember(&batch(&[(3, "c")]), 3);
        ids.remember(&batch(&[(1, "a")]), 4);
        ids.remember(&batch(&[(4, "d")]), 5);
        ids.recalled(1);
        assert_eq!(ids.known_from(), 5);
    }

    #[test]
    fn claims_that_fail_push_nothing_out() {
        let ids = Ids::new(3 * ID_BYTES);
        settled(&ids, &batch(&[(1, "a"), (2, "b")]), true);
        for _ in 0..9 {
            settled(&ids, &batch(&[(3, "c")]), false);
        }
        assert_eq!(settled(&ids, &batch(&[(1, "a"), (2, "b")]), true).duplicates, 2);
    }
}

//! Remembered ids in the order they came, and where in that order each stands. Owns their numbers, which follow each other
//! without a gap; refuses to know what became of them.
//!
//! The table holds numbers only, four bytes each, and the queue the ids: a table of the ids themselves would take three
//! times as much memory, and every look-up would go all over it.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

// Its hash is seeded anew in each process, and is cheaper than the standard library's: every id is hashed at least once.
use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use runstone_record::RecordId;

/// What an id costs: its place in the queue and in the table, and what both have free before they grow.
pub(super) const ID_BYTES: usize = 56;
/// There cannot be more: the table tells them apart by the low half of their numbers.
pub(super) const IDS_MAX: usize = 1 << 31;

/// An id and the hash of what it stands for. Halves of the id: whole it would be aligned to 16 bytes, and waste eight.
#[derive(Debug, Clone, Copy)]
struct Item {
    id: [u64; 2],
    payload: u64,
}

/// An id that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Ids that came later have greater ones.
    pub(super) number: u64,
    /// The hash of what it stands for.
    pub(super) payload: u64,
}

#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// By age. An id that was removed, or came again later, is left behind here until its turn to leave comes.
    queue: VecDeque<Item>,
    /// The number of the oldest.
    first: u64,
    /// The low half of the number of each id that is remembered.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

fn halves(id: RecordId) -> [u64; 2] {
    let id = id.as_u128();
    [(id >> 64) as u64, id as u64]
}

/// The place in the queue of the one with this low half of a number.
fn place(low: u32, first: u64) -> usize {
    low.wrapping_sub(first as u32) as usize
}

impl Remembered {
    /// How many have a place in the queue.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The number of the newest; one less than the next one's.
    pub(super) fn last(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    pub(super) fn find(&self, id: RecordId) -> Option<Known> {
        let id = halves(id);
        let is_it = |low: &u32| self.queue[place(*low, self.first)].id == id;
        let low = self.table.find(self.hasher.hash_one(id), is_it)?;
        Some(self.known(*low))
    }

    fn known(&self, low: u32) -> Known {
        let place = place(low, self.first);
        Known { number: self.first + 1 + place as u64, payload: self.queue[place].payload }
    }

    /// What is known of an id. None: it is the newest now, with the number [`Remembered::last`].
    pub(super) fn find_or_add(&mut self, id: RecordId, payload: u64) -> Option<Known> {
        let Self { queue, first, table, hasher } = self;
        let id = halves(id);
        let is_it = |low: &u32| queue[place(*low, *first)].id == id;
        let hash_of = |low: &u32| hasher.hash_one(queue[place(*low, *first)].id);
        match table.entry(hasher.hash_one(id), is_it, hash_of) {
            Entry::Occupied(known) => {
                let low = *known.get();
                Some(self.known(low))
            }
            Entry::Vacant(free) => {
                free.insert((*first + queue.len() as u64) as u32);
                queue.push_back(Item { id, payload });
                None
            }
        }
    }

    /// Remembers an id as the newest, whether it is known already or not.
    pub(super) fn add(&mut self, id: RecordId, payload: u64) {
        self.remove(id);
        self.find_or_add(id, payload);
    }

    pub(super) fn remove(&mut self, id: RecordId) {
        let Self { queue, first, table, hasher } = self;
        let id = halves(id);
        if let Ok(known) = table.find_entry(hasher.hash_one(id), |low| queue[place(*low, *first)].id == id) {
            known.remove();
        }
    }

    /// Is what stands at a place in the queue remembered? Otherwise its id was removed, or came again.
    fn is_current(&self, at: usize) -> bool {
        let hash = self.hasher.hash_one(self.queue[at].id);
        self.table.find(hash, |low| place(*low, self.first) == at).is_some()
    }

    /// Lets the oldest leave. Its number, where it was remembered until now.
    pub(super) fn pop_oldest(&mut self) -> Option<u64> {
        let Self { queue, first, table, hasher } = self;
        let hash = hasher.hash_one(queue.front()?.id);
        let known = table.find_entry(hash, |low| place(*low, *first) == 0);
        let is_current = known.is_ok();
        if let Ok(known) = known {
            known.remove();
        }
        queue.pop_front();
        *first += 1;
        is_current.then_some(*first)
    }

    /// Gives back the places of the newest that are remembered no longer.
    pub(super) fn forget_end(&mut self) {
        while !self.queue.is_empty() && !self.is_current(self.queue.len() - 1) {
            self.queue.pop_back();
        }
    }

    /// Takes space for so many, once.
    pub(super) fn reserve(&mut self, ids: usize) {
        let Self { queue, first, table, hasher } = self;
        table.reserve(ids, |low| hasher.hash_one(queue[place(*low, *first)].id));
        queue.reserve(ids);
    }

    /// For how many ids table and queue have space.
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.table.capacity(), self.queue.capacity())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Change {
        FindOrAdd(u8),
        Add(u8),
        Remove(u8),
        PopOldest,
        ForgetEnd,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => any::<u8>().prop_map(|id| Change::FindOrAdd(id % 24)),
            1 => any::<u8>().prop_map(|id| Change::Add(id % 24)),
            2 => any::<u8>().prop_map(|id| Change::Remove(id % 24)),
            1 => Just(Change::PopOldest),
            1 => Just(Change::ForgetEnd),
        ]
    }

    /// Ids whose halves are equal in turn.
    fn id(of: u8) -> RecordId {
        RecordId::from_u128(u128::from(of / 4) << 64 | u128::from(of % 4))
    }

    proptest! {
        #[test]
        fn it_remembers_what_a_list_does(
            changes in prop::collection::vec(change(), 0..200), start in prop_oneof![Just(0), Just(u64::from(u32::MAX) - 9)],
        ) {
            let mut remembered = Remembered { first: start, ..Remembered::default() };
            // Numbers, ids, payloads; and is it remembered still?
            let mut list: Vec<(u64, u8, u64, bool)> = Vec::new();
            let (mut last, mut payload) = (start, 0);
            for change in changes {
                payload += 1;
                let at = |list: &[(u64, u8, u64, bool)], of: u8| list.iter().position(|item| item.1 == of && item.3);
                match change {
                    Change::FindOrAdd(of) => {
                        let known = at(&list, of).map(|at| Known { number: list[at].0, payload: list[at].2 });
                        prop_assert_eq!(remembered.find_or_add(id(of), payload), known);
                        if known.is_none() {
                            last += 1;
                            list.push((last, of, payload, true));
                        }
                    }
                    Change::Add(of) => {
                        remembered.add(id(of), payload);
                        if let Some(at) = at(&list, of) { list[at].3 = false }
                        last += 1;
                        list.push((last, of, payload, true));
                    }
                    Change::Remove(of) => {
                        remembered.remove(id(of));
                        if let Some(at) = at(&list, of) { list[at].3 = false }
                    }
                    Change::PopOldest => {
                        let oldest = (!list.is_empty()).then(|| list.remove(0));
                        prop_assert_eq!(remembered.pop_oldest(), oldest.filter(|item| item.3).map(|item| item.0));
                    }
                    Change::ForgetEnd => {
                        remembered.forget_end();
                        while list.pop_if(|item| !item.3).is_some() {
                            last -= 1;
                        }
                    }
                }
                prop_assert_eq!((remembered.len(), remembered.last()), (list.len(), last));
                for of in 0..24 {
                    let known = at(&list, of).map(|at| Known { number: list[at].0, payload: list[at].2 });
                    prop_assert_eq!(remembered.find(id(of)), known);
                }
            }
        }
    }
}

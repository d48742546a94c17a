//! Which records are in the table of runs: each once, whether it came from the journal or from the lake. Owns that
//! bookkeeping; refuses to read either.
//!
//! Records of this directory come from its journal, but for those that were trimmed before the table was made. They, and
//! all that other servers brought to the lake, come from there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lineage::Lineage;

/// What is folded in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// This directory's epochs, oldest first: name and first position. Their positions from `from` on are the journal's.
    epochs: Vec<(String, u64)>,
    /// The first position that came from the journal.
    from: u64,
    /// The last one.
    through: u64,
    /// Of each journal in the lake: what of it stands at or before this position is folded in, or is the journal's.
    lake: BTreeMap<String, u64>,
    /// Of this directory's positions, what the lake left out up to here is in no run.
    settled: u64,
}

impl Place {
    /// Nothing yet: the journal's part begins with what it has.
    pub(crate) fn start(lineage: &Lineage) -> Self {
        let from = lineage.oldest().first;
        let mut place = Self { epochs: Vec::new(), from, through: from - 1, lake: BTreeMap::new(), settled: from - 1 };
        place.follow(lineage);
        place
    }

    /// The last position that came from the journal.
    pub(crate) fn through(&self) -> u64 {
        self.through
    }

    /// The journal's positions up to here are folded in.
    pub(crate) fn advance(&mut self, through: u64) {
        self.through = self.through.max(through);
    }

    /// A journal's positions in the lake up to here are folded in.
    pub(crate) fn advance_lake(&mut self, journal: &str, through: u64) {
        let known = self.lake.entry(journal.to_owned()).or_default();
        *known = through.max(*known);
    }

    /// The last position of this directory at which nothing is left to be taken out of the runs.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// What the lake left out up to here is in no run.
    pub(crate) fn settle(&mut self, through: u64) {
        self.settled = self.settled.max(through);
    }

    /// Is a record folded in, unless it was left out?
    pub(crate) fn has(&self, journal: &str, position: u64) -> bool {
        match self.is_own(journal, position) {
            true => position <= self.through,
            false => self.lake.get(journal).is_some_and(|through| position <= *through),
        }
    }

    /// Does a record come from the journal of this directory?
    pub(crate) fn is_own(&self, journal: &str, position: u64) -> bool {
        self.own(journal).is_some_and(|(first, last)| position >= first && last.is_none_or(|last| position <= last))
    }

    /// Is this the place of a directory with these epochs, whose last position is `durable`?
    pub(crate) fn is_of(&self, lineage: &Lineage, durable: u64) -> bool {
        let oldest = lineage.oldest();
        if self.through > durable {
            return false;
        }
        if self.through < oldest.first {
            // What lies between was trimmed: its epoch must be beyond doubt.
            let newest = self.epochs.last().map(|(name, _)| name.as_str());
            let same_journal = |name: &str| name.split('/').next() == oldest.journal.split('/').next();
            return newest == Some(&*oldest.journal)
                || (self.through + 1 == oldest.first && newest.is_some_and(same_journal));
        }
        let now: Vec<_> = lineage.epochs().iter().map(|epoch| (epoch.journal.to_string(), epoch.first)).collect();
        pieces(&self.epochs, oldest.first, self.through) == pieces(&now, oldest.first, self.through)
    }

    /// Learns of epochs that began since.
    pub(crate) fn follow(&mut self, lineage: &Lineage) {
        for epoch in lineage.epochs() {
            let is_known = self.epochs.iter().any(|(name, _)| **name == *epoch.journal);
            if !is_known && self.epochs.last().is_none_or(|(_, first)| *first <= epoch.first) {
                self.epochs.push((epoch.journal.to_string(), epoch.first));
            }
        }
    }

    /// This directory's positions after the last one that is folded in, up to `through`, by journal: after a position,
    /// through another.
    pub(crate) fn behind(&self, through: u64) -> Vec<(String, u64, u64)> {
        self.parts(self.through, through)
    }

    /// This directory's positions after one, through another, by journal.
    pub(crate) fn parts(&self, after: u64, through: u64) -> Vec<(String, u64, u64)> {
        let first = after + 1;
        let clipped = pieces(&self.epochs, first, through);
        let last = |index: usize| clipped.get(index + 1).map_or(through, |(_, next)| next - 1);
        clipped
            .iter()
            .enumerate()
            .map(|(index, (name, first))| ((*name).to_owned(), first - 1, last(index)))
            .filter(|(_, after, through)| after < through)
            .collect()
    }

    /// What of a journal is to be read from the lake, which has it through `there`: after a position, through another.
    pub(crate) fn owed(&self, journal: &str, there: u64) -> Option<(u64, u64)> {
        let done = self.lake.get(journal).copied().unwrap_or(0);
        let owed = match self.own(journal) {
            // What was trimmed before the table was made.
            Some((first, _)) if done + 1 < first => (done, there.min(first - 1)),
            Some((_, None)) => return None,
            // A twin's, that went on under the same name.
            Some((_, Some(last))) => (done.max(last), there),
            None => (done, there),
        };
        (owed.0 < owed.1).then_some(owed)
    }

    /// The positions of a journal that come from the journal itself: the first, and the last where others may follow.
    fn own(&self, journal: &str) -> Option<(u64, Option<u64>)> {
        let index = self.epochs.iter().position(|(name, _)| name == journal)?;
        let last = self.epochs.get(index + 1).map(|(_, next)| next - 1);
        let first = self.epochs[index].1.max(self.from);
        last.is_none_or(|last| first <= last).then_some((first, last))
    }
}

/// The parts of `epochs` between two positions.
fn pieces(epochs: &[(String, u64)], first: u64, last: u64) -> Vec<(&str, u64)> {
    let mut pieces = Vec::new();
    for (index, (name, begin)) in epochs.iter().enumerate() {
        let end = epochs.get(index + 1).map_or(u64::MAX, |(_, next)| next - 1);
        if *begin <= last && end >= first {
            pieces.push((name.as_str(), first.max(*begin)));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01980000-0000-7000-8000-000000000001";

    fn lineage(epochs: &[(u64, u64)]) -> Lineage {
        Lineage::made(UUID.parse().unwrap(), epochs)
    }

    fn place(epochs: &[(u64, u64)], through: u64) -> Place {
        let mut place = Place::start(&lineage(epochs));
        place.advance(through);
        place
    }

    fn name(epoch: u64) -> String {
        format!("{UUID}/{epoch}")
    }

    #[test]
    fn a_place_is_of_the_directory_that_it_was_kept_in_and_of_its_copies() {
        let kept = place(&[(1, 1)], 70);
        assert!(kept.is_of(&lineage(&[(1, 1)]), 70));
        assert!(kept.is_of(&lineage(&[(1, 50)]), 100), "trimmed since");
        assert!(kept.is_of(&lineage(&[(1, 90)]), 100), "trimmed further than it went");
        assert!(kept.is_of(&lineage(&[(1, 1), (2, 71)]), 80), "a copy");
        assert!(kept.is_of(&lineage(&[(2, 71)]), 80), "a copy, trimmed");
        assert!(!kept.is_of(&lineage(&[(1, 1)]), 69), "ahead of its journal");
        assert!(!kept.is_of(&lineage(&[(1, 1), (2, 51)]), 80), "positions count under another name now");
        assert!(!kept.is_of(&lineage(&[(2, 90)]), 100), "whose 71 to 89 are is not known");
        let other = Lineage::made(uuid::Uuid::from_u128(5), &[(1, 1)]);
        assert!(!kept.is_of(&other, 80));
    }

    #[test]
    fn what_was_trimmed_before_it_was_read_stands_under_its_own_names() {
        let kept = place(&[(1, 1), (2, 71), (4, 90)], 60);
        assert_eq!(kept.behind(60), []);
        assert_eq!(kept.behind(65), [(name(1), 60, 65)]);
        assert_eq!(kept.behind(100), [(name(1), 60, 70), (name(2), 70, 89), (name(4), 89, 100)]);
    }

    #[test]
    fn what_the_journal_has_is_not_owed_by_the_lake() {
        let kept = place(&[(1, 1)], 70);
        assert_eq!(kept.owed(&name(1), 60), None);
        assert_eq!(kept.owed("other/1", 60), Some((0, 60)));
        let trimmed = place(&[(1, 41)], 70);
        assert_eq!(trimmed.owed(&name(1), 30), Some((0, 30)));
        assert_eq!(trimmed.owed(&name(1), 90), Some((0, 40)));
    }

    #[test]
    fn what_a_twin_wrote_under_a_closed_epoch_is_owed() {
        let mut copy = place(&[(1, 41), (2, 101)], 120);
        assert_eq!(copy.owed(&name(1), 150), Some((0, 40)));
        copy.advance_lake(&name(1), 40);
        assert_eq!(copy.owed(&name(1), 100), None);
        assert_eq!(copy.owed(&name(1), 150), Some((100, 150)));
        copy.advance_lake(&name(1), 150);
        assert_eq!((copy.owed(&name(1), 150), copy.owed(&name(1), 151)), (None, Some((150, 151))));
        // Another copy may have begun the same epoch earlier.
        assert_eq!(copy.owed(&name(2), 150), Some((0, 100)));
        copy.advance_lake(&name(2), 100);
        assert_eq!(copy.owed(&name(2), 150), None);
        // And when it is copied again, its epoch is closed too.
        copy.follow(&lineage(&[(1, 41), (2, 101), (3, 131)]));
        assert_eq!((copy.owed(&name(2), 150), copy.owed(&name(3), 150)), (Some((130, 150)), Some((0, 130))));
    }

    #[test]
    fn each_position_is_owed_once_however_it_comes() {
        let mut kept = place(&[(1, 41)], 70);
        for there in [10, 10, 35, 60, 200] {
            while let Some((after, through)) = kept.owed(&name(1), there) {
                assert_eq!(kept.lake.get(&name(1)).copied().unwrap_or(0), after);
                kept.advance_lake(&name(1), through.min(after + 7));
            }
        }
        assert_eq!(kept.lake[&name(1)], 40);
    }
}

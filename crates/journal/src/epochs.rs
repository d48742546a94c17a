//! Which epoch each position counts under. Segments say it in their headers; where an epoch was made to begin inside
//! what was written already, the identity file says so. Reads no file.

/// Positions that count under one epoch: from `first` to the one before the next range's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochRange {
    /// The epoch.
    pub epoch: u64,
    /// Its first position that is still in the journal; one more than the last where it has none yet.
    pub first: u64,
}

/// Positions from `first` on count under `epoch` or a later one, whatever the headers of their segments say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Begin {
    /// 0 where there is no such entry.
    pub(crate) epoch: u64,
    pub(crate) first: u64,
}

/// How many the identity file has room for.
pub(crate) const BEGINS_MAX: usize = 8;

/// What a segment says about its epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stated {
    /// Its first position.
    pub(crate) first: u64,
    /// None where its header is lost.
    pub(crate) epoch: Option<u64>,
}

/// The epochs of `segments`, oldest first, those without positions left out but for the last. `current` is the
/// identity's.
///
/// A segment whose header is lost is taken for one of the epoch after it: should that be wrong, records turn up twice
/// where a destination had them; the other way round it would never get them.
pub(crate) fn ranges(segments: &[Stated], begins: &[Begin], current: u64) -> Vec<EpochRange> {
    let mut later = current;
    let mut edges: Vec<EpochRange> = Vec::with_capacity(segments.len() + begins.len());
    for segment in segments.iter().rev() {
        later = segment.epoch.unwrap_or(later).min(later);
        edges.push(EpochRange { epoch: later, first: segment.first });
    }
    edges.reverse();
    let Some(oldest) = edges.first().copied() else { return Vec::new() };
    for begin in begins.iter().filter(|begin| begin.epoch > 0) {
        edges.push(EpochRange { epoch: begin.epoch, first: begin.first.max(oldest.first) });
    }
    // Later epochs win at one position, so that each edge is as high as all before it.
    edges.sort_by_key(|edge| (edge.first, edge.epoch));
    let mut ranges: Vec<EpochRange> = Vec::new();
    for edge in edges {
        match ranges.last_mut() {
            Some(last) if edge.epoch <= last.epoch => {}
            Some(last) if edge.first == last.first => last.epoch = edge.epoch,
            _ => ranges.push(edge),
        }
    }
    ranges
}

/// The epoch of a position; of one before the first range, that range's.
pub(crate) fn epoch_at(ranges: &[EpochRange], position: u64) -> Option<u64> {
    let after = ranges.partition_point(|range| range.first <= position);
    ranges.get(after.saturating_sub(1)).map(|range| range.epoch)
}

/// What is left of `ranges` from `first_available` on.
pub(crate) fn available(ranges: &[EpochRange], first_available: u64) -> Vec<EpochRange> {
    let before = ranges.partition_point(|range| range.first <= first_available).saturating_sub(1);
    let mut left = ranges[before.min(ranges.len())..].to_vec();
    if let Some(oldest) = left.first_mut() {
        oldest.first = oldest.first.max(first_available);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(segments: &[(u64, Option<u64>)]) -> Vec<Stated> {
        segments.iter().map(|(first, epoch)| Stated { first: *first, epoch: *epoch }).collect()
    }

    fn of(segments: &[(u64, Option<u64>)], begins: &[(u64, u64)], current: u64) -> Vec<(u64, u64)> {
        let begins: Vec<Begin> = begins.iter().map(|(epoch, first)| Begin { epoch: *epoch, first: *first }).collect();
        ranges(&stated(segments), &begins, current).iter().map(|range| (range.epoch, range.first)).collect()
    }

    #[test]
    fn segments_of_one_epoch_are_one_range() {
        assert_eq!(
            of(&[(1, Some(1)), (50, Some(1)), (80, Some(2)), (90, Some(4))], &[], 4),
            [(1, 1), (2, 80), (4, 90)]
        );
        assert_eq!(of(&[], &[], 1), []);
    }

    #[test]
    fn a_segment_without_a_header_belongs_to_the_epoch_after_it() {
        assert_eq!(of(&[(1, None), (50, Some(1)), (80, None), (90, Some(2))], &[], 2), [(1, 1), (2, 80)]);
        assert_eq!(of(&[(1, Some(1)), (50, None)], &[], 3), [(1, 1), (3, 50)]);
    }

    #[test]
    fn an_epoch_that_was_made_to_begin_covers_what_was_written_under_earlier_ones() {
        let segments = [(1, Some(1)), (40, Some(1)), (80, Some(2)), (90, Some(3))];
        assert_eq!(of(&segments, &[(3, 51)], 3), [(1, 1), (3, 51)]);
        assert_eq!(of(&segments, &[(3, 80)], 3), [(1, 1), (3, 80)]);
        assert_eq!(of(&[(60, Some(1)), (90, Some(2))], &[(2, 51)], 2), [(2, 60)], "its beginning was trimmed");
        let twice = [(1, Some(1)), (90, Some(2)), (120, Some(3))];
        assert_eq!(of(&twice, &[(2, 51), (3, 100)], 3), [(1, 1), (2, 51), (3, 100)]);
    }

    #[test]
    fn a_position_has_the_epoch_of_its_range() {
        let ranges = [EpochRange { epoch: 1, first: 10 }, EpochRange { epoch: 3, first: 50 }];
        let at = |position| epoch_at(&ranges, position);
        assert_eq!([at(1), at(10), at(49), at(50), at(1_000)], [Some(1), Some(1), Some(1), Some(3), Some(3)]);
        assert_eq!(available(&ranges, 20), [EpochRange { epoch: 1, first: 20 }, ranges[1]]);
        assert_eq!(available(&ranges, 50), [ranges[1]]);
        assert_eq!(available(&ranges, 60), [EpochRange { epoch: 3, first: 60 }]);
    }
}

//! How the row groups of files that are merged become row groups again. Owns which of them go together, from their bounds
//! alone, so that the new ones lie one after the other in time and are neither too small nor too large; refuses to read
//! rows.

use runstone_record::limits;

/// A row group of a file that is merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Group {
    /// The file, and the group in it.
    pub(crate) file: usize,
    pub(crate) group: usize,
    pub(crate) rows: u64,
    /// What its rows take in memory, roughly.
    pub(crate) bytes: u64,
    /// The least and the greatest timestamp.
    pub(crate) times: (i64, i64),
    /// Was it written with care, as this version would write it?
    pub(crate) done: bool,
}

/// How large a new row group becomes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Size {
    pub(crate) const FULL: Size = Size { rows: limits::LAKE_GROUP_ROWS as u64, bytes: limits::LAKE_GROUP_BYTES as u64 };

    /// How many groups so many rows and bytes make: at most a quarter more in one than it should have.
    pub(crate) fn groups(self, rows: u64, bytes: u64) -> u64 {
        let fill = (rows * 4).div_ceil(self.rows * 5).max((bytes * 4).div_ceil(self.bytes * 5));
        if fill <= 1 { 1 } else { rows.div_ceil(self.rows).max(bytes.div_ceil(self.bytes)).min(rows) }
    }

    fn fill(self, rows: u64, bytes: u64) -> f64 {
        (rows as f64 / self.rows as f64).max(bytes as f64 / self.bytes as f64)
    }
}

/// The next part of a merge; parts lie one after the other in time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// This group, byte for byte.
    Copy(Group),
    /// The rows of these groups, as [`Size::groups`] of their sums.
    Rewrite(Vec<Group>),
}

/// Groups whose times overlap: they cannot be told apart without reading them.
#[derive(Debug)]
struct Cluster {
    groups: Vec<Group>,
    until: i64,
}

impl Cluster {
    fn copy(&self, size: Size) -> Option<Group> {
        match self.groups[..] {
            [group] if group.done && size.fill(group.rows, group.bytes) >= 0.5 => Some(group),
            _ => None,
        }
    }
}

pub(crate) fn sums(groups: &[Group]) -> (u64, u64) {
    groups.iter().fold((0, 0), |(rows, bytes), group| (rows + group.rows, bytes + group.bytes))
}

/// The parts that these groups become.
pub(crate) fn plan(groups: Vec<Group>, size: Size) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut waiting: Vec<Cluster> = Vec::new();
    for cluster in clusters(groups) {
        match cluster.copy(size) {
            Some(group) => {
                share(std::mem::take(&mut waiting), size, &mut parts);
                parts.push(Part::Copy(group));
            }
            None => waiting.push(cluster),
        }
    }
    share(waiting, size, &mut parts);
    parts
}

fn clusters(mut groups: Vec<Group>) -> Vec<Cluster> {
    // Where times are equal, the order of the files is that of positions.
    groups.sort_by_key(|group| group.times);
    let mut clusters: Vec<Cluster> = Vec::new();
    for group in groups {
        match clusters.last_mut() {
            // Equal times may meet at a seam.
            Some(last) if group.times.0 < last.until => {
                last.until = last.until.max(group.times.1);
                last.groups.push(group);
            }
            _ => clusters.push(Cluster { until: group.times.1, groups: vec![group] }),
        }
    }
    clusters
}

/// Cuts neighbours into parts that are about one row group each, between clusters.
fn share(clusters: Vec<Cluster>, size: Size, parts: &mut Vec<Part>) {
    let first = parts.len();
    let (mut part, mut held) = (Vec::new(), 0.0);
    for cluster in clusters {
        let (rows, bytes) = sums(&cluster.groups);
        let fill = size.fill(rows, bytes);
        if held >= 0.5 && held + fill > 1.0 {
            parts.push(Part::Rewrite(std::mem::take(&mut part)));
            held = 0.0;
        }
        part.extend(cluster.groups);
        held += fill;
    }
    // A small rest makes the part before it a little larger, or two that are even.
    match parts[first..].last_mut() {
        Some(Part::Rewrite(before)) if held < 0.5 => before.extend(part),
        _ if part.is_empty() => {}
        _ => parts.push(Part::Rewrite(part)),
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_wrap, reason = "small numbers of a test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: Size = Size { rows: 1_000, bytes: 1_000_000 };

    fn group(file: usize, group: usize, rows: u64, times: (i64, i64), done: bool) -> Group {
        Group { file, group, rows, bytes: rows * 100, times, done }
    }

    fn names(parts: &[Part]) -> Vec<Vec<(usize, usize)>> {
        let name = |group: &Group| (group.file, group.group);
        parts
            .iter()
            .map(|part| match part {
                Part::Copy(group) => vec![name(group)],
                Part::Rewrite(groups) => groups.iter().map(name).collect(),
            })
            .collect()
    }

    #[test]
    fn small_groups_go_together_in_the_order_of_time() {
        let groups = (0..25).rev().map(|file| {
            let at = file as i64 * 10;
            group(file, 0, 100, (at, at + 10), false)
        });
        let parts = plan(groups.collect(), SIZE);
        let expected: Vec<Vec<_>> = vec![(0..10).collect(), (10..20).collect(), (20..25).collect()];
        let found: Vec<Vec<_>> =
            names(&parts).into_iter().map(|part| part.into_iter().map(|(file, _)| file).collect()).collect();
        assert_eq!(found, expected);
        // A rest too small to stand alone joins the part before it.
        let groups = (0..13).map(|file| group(file, 0, 100, (file as i64, file as i64), false)).collect();
        assert_eq!(plan(groups, SIZE).len(), 1);
    }

    #[test]
    fn a_done_group_that_stands_alone_is_copied() {
        let groups = vec![
            group(0, 0, 900, (0, 10), true),
            group(0, 1, 900, (10, 20), true),
            group(1, 0, 900, (19, 30), true),
            group(2, 0, 900, (30, 40), false),
            group(3, 0, 200, (40, 50), true),
            group(4, 0, 900, (50, 60), true),
        ];
        let parts = plan(groups, SIZE);
        let copied: Vec<bool> = parts.iter().map(|part| matches!(part, Part::Copy(_))).collect();
        assert_eq!(names(&parts), [vec![(0, 0)], vec![(0, 1), (1, 0)], vec![(2, 0), (3, 0)], vec![(4, 0)]]);
        assert_eq!(copied, [true, false, false, true]);
    }

    #[test]
    fn a_part_is_one_group_or_several_even_ones() {
        assert_eq!(SIZE.groups(1, 1), 1);
        assert_eq!(SIZE.groups(1_250, 1), 1);
        assert_eq!(SIZE.groups(1_251, 1), 2);
        assert_eq!(SIZE.groups(2_001, 1), 3);
        assert_eq!(SIZE.groups(10, 5_000_000), 5);
        assert_eq!(SIZE.groups(2, 5_000_000), 2);
    }

    proptest! {
        #[test]
        fn every_group_has_one_place_and_parts_do_not_overlap(
            spans in prop::collection::vec((0..8_usize, 1..1_200_u64, 0..500_i64, 0..60_i64, any::<bool>()), 0..60),
        ) {
            let groups: Vec<Group> = spans
                .iter()
                .enumerate()
                .map(|(place, (file, rows, from, length, done))| group(*file, place, *rows, (*from, from + length), *done))
                .collect();
            let parts = plan(groups.clone(), SIZE);
            let mut places: Vec<usize> = names(&parts).into_iter().flatten().map(|(_, place)| place).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..groups.len()).collect::<Vec<_>>());
            let mut latest = i64::MIN;
            for part in &parts {
                let members = match part {
                    Part::Copy(group) => {
                        prop_assert!(group.done && group.rows >= 500);
                        std::slice::from_ref(group)
                    }
                    Part::Rewrite(groups) => groups,
                };
                prop_assert!(!members.is_empty());
                let least = members.iter().map(|group| group.times.0).min().unwrap();
                prop_assert!(least >= latest, "{least} < {latest}");
                latest = members.iter().map(|group| group.times.1).max().unwrap();
            }
        }
    }
}

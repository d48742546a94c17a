//! What a table's records say of the time at which it was opened. Owns finding it; refuses to say whether a clock is right.
//!
//! Times of arrival are asked, and not those of the files: compaction stamps its own time on files, and it is the clock of
//! this process that is in question.

use runstone_record::limits::LAKE_CLOCK_PAUSE_MS;

use super::{LakeFile, LakeSnapshot};

/// When records arrived, before this process brought any; in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last of them.
    pub(crate) newest_ms: i64,
    /// The last long pause between them, where there was one.
    pub(crate) pause: Option<Pause>,
}

/// Nothing arrived for long: the server was off, or its clock jumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    /// When it began.
    pub(crate) from_ms: i64,
    /// When it ended.
    pub(crate) to_ms: i64,
}

impl Found {
    /// None: the table has no file.
    pub(crate) fn of(snapshot: &LakeSnapshot) -> Option<Found> {
        Found::in_times(snapshot.files.iter().map(|file| times(file)).collect())
    }

    fn in_times(mut times: Vec<(i64, i64)>) -> Option<Found> {
        times.sort_unstable_by_key(|(_, last)| std::cmp::Reverse(*last));
        let &(mut since, newest_ms) = times.first()?;
        for (first, last) in times {
            if last.saturating_add(LAKE_CLOCK_PAUSE_MS) < since {
                return Some(Found { newest_ms, pause: Some(Pause { from_ms: last, to_ms: since }) });
            }
            since = since.min(first);
        }
        Some(Found { newest_ms, pause: None })
    }
}

/// When the first and the last record of a file arrived; where it does not say, when it was added.
fn times(file: &LakeFile) -> (i64, i64) {
    let arrivals = file.arrivals().map(|(first, last)| (first.div_euclid(1_000), last.div_euclid(1_000)));
    arrivals.unwrap_or((file.modified_ms, file.modified_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pause_is_found() {
        let found = |times: &[(i64, i64)]| Found::in_times(times.to_vec());
        let day = 86_400_000;
        assert_eq!(LAKE_CLOCK_PAUSE_MS, 2 * day);
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[(1, 5), (3, 4)]), Some(Found { newest_ms: 5, pause: None }));
        // A file that holds much bridges what lies between others.
        assert_eq!(found(&[(0, 1), (0, 5 * day), (7 * day, 7 * day)]).unwrap().pause, None);
        let pause = |from_ms, to_ms| Some(Pause { from_ms, to_ms });
        assert_eq!(found(&[(0, 1), (2 * day + 2, 3 * day)]).unwrap().pause, pause(1, 2 * day + 2));
        let times = [(90 * day, 91 * day), (0, 1), (92 * day, 93 * day), (40 * day, 41 * day)];
        assert_eq!(found(&times), Some(Found { newest_ms: 93 * day, pause: pause(41 * day, 90 * day) }));
    }
}

//! How many connections the process can hold open. Owns the limit of open files; refuses to use the last of them for
//! connections, because the journal and queries open files too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are left to the journal, queries and everything else.
const FILES_RESERVED: u64 = 256;

/// Raises the soft limit of open files as far as `wanted` connections need and the hard limit allows. Returns how many
/// connections there may be: at most `wanted`.
pub(super) fn make_room_for(wanted: usize) -> usize {
    let needed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(FILES_RESERVED);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|soft| soft < needed) {
        let raised = limit.maximum.map_or(needed, |hard| hard.min(needed));
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
            tracing::warn!(%error, "raise the limit of open files");
        }
    }
    let allowed = getrlimit(Resource::Nofile).current.map_or(wanted, |files| connections_within(files, wanted));
    if allowed < wanted {
        tracing::warn!(wanted, allowed, "lower http.connections_max: too few open files are allowed (ulimit -n)");
    }
    allowed
}

fn connections_within(files: u64, wanted: usize) -> usize {
    // With very few files something must still be served.
    let spare = files.saturating_sub(FILES_RESERVED).max(files / 4).max(1);
    usize::try_from(spare).unwrap_or(usize::MAX).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_for_others() {
        assert_eq!(connections_within(1_024, 1_024), 768);
        assert_eq!(connections_within(4_096, 1_024), 1_024);
        assert_eq!(connections_within(64, 1_024), 16);
        assert_eq!(connections_within(0, 1_024), 1);
    }
}

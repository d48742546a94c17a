//! What a data file's name says of its maker. Nothing is believed of a name but how eagerly upkeep treats the file, and whether
//! its lists are counted as ours are: what belongs to the table, the log alone says.

use runstone_record::RecordId;

/// The end of a compacted file's name.
pub(crate) const COMPACTED: &str = "-compacted";

/// Who made a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// A flush: encoded fast, often small.
    Flush,
    /// A compaction that was thorough: nothing is won by doing it again.
    Compaction,
    /// Another writer of the table.
    Other,
}

/// The maker of a file, by its path in the table.
pub(crate) fn maker(path: &str) -> Maker {
    id(path).map_or(Maker::Other, |(_, made)| made)
}

/// Does a file's name look like ours and like nobody else's? Other writers name files by UUIDs too, but by random ones.
pub(crate) fn is_ours(path: &str) -> bool {
    id(path).is_some_and(|(id, _)| (id.as_u128() >> 76) & 0xF == 7)
}

fn id(path: &str) -> Option<(RecordId, Maker)> {
    let stem = path.rsplit('/').next()?.strip_suffix(".parquet")?;
    let (id, made) = match stem.strip_suffix(COMPACTED) {
        Some(id) => (id, Maker::Compaction),
        None => (stem, Maker::Flush),
    };
    Some((RecordId::parse(id).ok()?, made))
}

/// May this be a data file of the table? Names that start with `_` or `.`, in any directory, belong to the table's log or to
/// others.
pub(crate) fn is_data(path: &str) -> bool {
    path.ends_with(".parquet") && !path.split('/').any(|part| part.starts_with(['_', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_flushes_compactions_and_others() {
        let id = "01980000-0000-7000-8000-00000000000f";
        assert_eq!(maker(&format!("date=2026-11-20/{id}.parquet")), Maker::Flush);
        assert_eq!(maker(&format!("date=2026-11-20/{id}-compacted.parquet")), Maker::Compaction);
        assert_eq!(maker("date=2026-11-20/part-00001-4e5c-c000.snappy.parquet"), Maker::Other);
        assert_eq!(maker(&format!("date=2026-11-20/{id}.csv")), Maker::Other);
        assert_eq!(maker(".parquet"), Maker::Other);
        assert!(is_ours(&format!("date=2026-11-20/{id}.parquet")) && is_ours(&format!("{id}-compacted.parquet")));
        let random = "4cf64b3e-0f89-44ac-beb7-cb77d98490c5";
        assert!(!is_ours(&format!("date=2026-11-20/{random}.parquet")) && !is_ours("part-0.parquet"));
    }

    #[test]
    fn what_starts_with_an_underscore_is_no_data() {
        assert!(is_data("date=2026-11-20/a.parquet"));
        assert!(is_data("a_b.parquet"));
        for path in [
            "_delta_log/00000000000000000010.checkpoint.parquet",
            "_change_data/cdc-1.parquet",
            "date=2026-11-20/_a.parquet",
            "date=2026-11-20/.a.parquet",
            ".hidden/a.parquet",
            "date=2026-11-20/deletion_vector_1.bin",
            "README.md",
        ] {
            assert!(!is_data(path), "{path}");
        }
    }
}

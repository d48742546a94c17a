//! Commits, one writer and several.

use super::world::{JOURNAL, flush, options, paths, ranges, versions, write};
use crate::lake::{Lake, LakeError};

#[tokio::test]
async fn a_new_table_is_created_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(&dir.path().join("deep/lake"))).await.unwrap();
    assert_eq!(lake.snapshot().version, 0);
    assert_eq!(lake.cursor(&lake.snapshot(), JOURNAL).await.unwrap(), None);
    flush(&lake, JOURNAL, None, 9).await;
    let snapshot = flush(&lake, JOURNAL, Some(9), 11).await;
    assert_eq!((snapshot.version, snapshot.rows()), (2, 12));
    assert_eq!(lake.cursor(&snapshot, JOURNAL).await.unwrap(), Some(11));
    for again in [
        Lake::open(options(&dir.path().join("deep/lake"))).await.unwrap(),
        Lake::open_read_only(options(&dir.path().join("deep/lake"))).await.unwrap(),
    ] {
        let found = again.snapshot();
        assert_eq!(found.version, 2);
        assert_eq!(paths(&found), paths(&snapshot));
        assert_eq!(ranges(&found, JOURNAL), [(0, 9), (10, 11)]);
        assert_eq!(found.through(), [(JOURNAL.to_owned(), 11)].into());
        assert_eq!(again.cursor(&found, JOURNAL).await.unwrap(), Some(11));
    }
}

#[tokio::test]
async fn a_journal_moves_only_from_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Lake::open(options(dir.path())).await.unwrap(), Lake::open(options(dir.path())).await.unwrap());
    flush(&one, JOURNAL, None, 9).await;
    // The second has not seen it.
    let refused = two.commit(write(JOURNAL, None, 9, Vec::new())).await.unwrap_err();
    assert!(matches!(&refused, LakeError::Conflict(text) if text.contains("through 9, not nothing")), "{refused}");
    assert_eq!(versions(dir.path()), [0, 1]);
    flush(&two, JOURNAL, Some(9), 10).await;
    assert_eq!(versions(dir.path()), [0, 1, 2]);
}

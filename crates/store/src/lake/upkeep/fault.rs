//! Which files made a merge fail. Owns telling those that cannot be read from the others; refuses to decide what becomes of
//! them, and to repair any.

use crate::lake::source::{Opened, Reading, Source};
use crate::lake::{Lake, LakeError};

use super::plan::Merge;

/// The files of a merge that cannot be read, all of which are in the table: path and reason. `whole`: all that is in them is
/// looked at, and not only whether they are there.
pub(crate) async fn find(lake: &Lake, merge: &Merge, whole: bool) -> Result<Vec<(String, String)>, LakeError> {
    let mut faulty = Vec::new();
    for file in &merge.files {
        let why = match Source::open(&lake.store(), file).await {
            Ok(Opened::Source(source)) if whole => read_all(&source).await.err(),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        match why {
            None => {}
            Some(LakeError::Conflict(_)) => {
                faulty.push((file.path.clone(), "it is in the table, and it is missing".to_owned()));
            }
            Some(LakeError::Damaged(why) | LakeError::Internal(why)) => faulty.push((file.path.clone(), why)),
            Some(error) => return Err(error),
        }
    }
    Ok(faulty)
}

async fn read_all(source: &Source) -> Result<(), LakeError> {
    for group in 0..source.metadata().num_row_groups() {
        // With its filters, which are not among its rows.
        source.stored(group).await?;
        let reading = Reading { group, columns: None, rows: None };
        let read = source.read(reading, |batches| {
            for batch in batches {
                batch?;
            }
            Ok(())
        });
        read.await?;
    }
    Ok(())
}

//! How far a sink has come with the positions of this directory: one cursor an epoch, in the target itself. Owns the walk
//! over the epochs; refuses to read records.

use runstone_sinks::{Sink, SinkError};

use crate::lineage::{Epoch, Lineage};

/// Where a sink goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Course {
    /// The epoch, by its place in the lineage.
    pub(crate) epoch: usize,
    /// Its cursor in the target.
    pub(crate) cursor: u64,
    /// This directory's positions up to here are in the target; of the oldest epoch, those that the journal has.
    pub(crate) through: u64,
}

/// Why a sink cannot go on from where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the target has positions through {cursor} of journal {journal}, of which this directory has only those through \
     {durable}: it is an older copy of what wrote them, or has a twin. Nothing is lost, records wait in the journal. Stop the \
     server and start it once with `runstone serve --new-epoch-from N`, where N is the first position that is another's"
)]
pub(crate) struct Ahead {
    /// As it stands in the target.
    pub(crate) journal: String,
    /// The last one there.
    pub(crate) cursor: u64,
    /// The last one here.
    pub(crate) durable: u64,
}

/// Why it is not known where to go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CourseError {
    #[error(transparent)]
    Ahead(#[from] Ahead),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// Walks the epochs, oldest first, to the one that is not in the target as a whole.
pub(crate) async fn find(sink: &mut dyn Sink, lineage: &Lineage, durable: u64) -> Result<Course, CourseError> {
    let mut course = Course { epoch: 0, cursor: 0, through: 0 };
    for (index, epoch) in lineage.epochs().iter().enumerate() {
        let cursor = sink.cursor(&epoch.journal).await?;
        course = of_epoch(index, epoch, cursor, durable)?;
        if epoch.last.is_none_or(|last| course.through < last) {
            break;
        }
    }
    Ok(course)
}

fn of_epoch(index: usize, epoch: &Epoch, cursor: u64, durable: u64) -> Result<Course, Ahead> {
    // What is beyond a sealed epoch's end is another's: the directory was copied or restored, and that one went on.
    if epoch.last.is_none() && cursor > durable {
        return Err(Ahead { journal: epoch.journal.to_string(), cursor, durable });
    }
    let reached = cursor.min(epoch.last.unwrap_or(durable));
    Ok(Course { epoch: index, cursor, through: reached.max(epoch.first - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use async_trait::async_trait;
    use runstone_sinks::{Delivered, Delivery};
    use uuid::Uuid;

    const UUID: Uuid = Uuid::from_u128(7);

    struct Cursors(BTreeMap<String, u64>);

    #[async_trait]
    impl Sink for Cursors {
        fn name(&self) -> &'static str {
            "cursors"
        }

        async fn cursor(&mut self, source: &str) -> Result<u64, SinkError> {
            Ok(self.0.get(source).copied().unwrap_or(0))
        }

        async fn deliver(&mut self, _delivery: Delivery<'_>) -> Result<Delivered, SinkError> {
            Err(SinkError::misconfigured("it only has cursors"))
        }
    }

    async fn found(cursors: &[(u64, u64)], durable: u64) -> Result<Course, CourseError> {
        let lineage = Lineage::made(UUID, &[(2, 11), (3, 21), (5, 31)]);
        let cursors = cursors.iter().map(|(epoch, cursor)| (format!("{UUID}/{epoch}"), *cursor));
        find(&mut Cursors(cursors.collect()), &lineage, durable).await
    }

    #[tokio::test]
    async fn it_goes_on_in_the_first_epoch_that_is_not_there_as_a_whole() {
        for (cursors, expected) in [
            (&[][..], (0, 0, 10)),
            (&[(2, 4)], (0, 4, 10)),
            (&[(2, 15)], (0, 15, 15)),
            (&[(2, 20)], (1, 0, 20)),
            (&[(2, 20), (3, 30)], (2, 0, 30)),
            (&[(2, 20), (3, 30), (5, 40)], (2, 40, 40)),
            // The directory was copied, and the original went on.
            (&[(2, 25)], (1, 0, 20)),
            (&[(2, 25), (3, 90)], (2, 0, 30)),
            // A later epoch does not speak for an earlier one.
            (&[(2, 12), (5, 40)], (0, 12, 12)),
        ] {
            let Course { epoch, cursor, through } = found(cursors, 40).await.unwrap();
            assert_eq!((epoch, cursor, through), expected, "{cursors:?}");
        }
    }

    #[tokio::test]
    async fn a_cursor_ahead_of_its_journal_is_an_error_that_names_both() {
        let CourseError::Ahead(ahead) = found(&[(2, 20), (3, 30), (5, 41)], 40).await.unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(ahead, Ahead { journal: format!("{UUID}/5"), cursor: 41, durable: 40 });
    }
}

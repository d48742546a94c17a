//! An answer without a server, as it is made. Owns that what makes it lives as long as it is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use runstone_store::{Export, Format, QueryError, Question, Sql};

use super::OfflineError;

/// A statement's answer in a format, piece by piece. An error ends it, and what came before is then no whole answer.
#[derive(Debug)]
pub struct OfflineStream {
    export: Export,
    /// Its threads make the answer.
    _sql: Sql,
}

impl OfflineStream {
    pub(super) async fn begin(sql: Sql, question: Question, format: Format) -> Result<Self, QueryError> {
        Ok(Self { export: sql.stream(question, format).await?, _sql: sql })
    }
}

impl Stream for OfflineStream {
    type Item = Result<Bytes, OfflineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.export.poll_next_unpin(context).map_err(OfflineError::Query)
    }
}

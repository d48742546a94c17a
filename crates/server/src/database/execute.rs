//! One statement of a caller. Owns the order of things: what is refused before PostgreSQL sees it, what there, and how the answer
//! is read.

use async_trait::async_trait;
use runstone_record::limits::GATEWAY_PARSE_STACK_BYTES;
use tokio::sync::oneshot;
use tokio_postgres::Transaction;

use super::guard::{self, Checked, Form};
use super::rows::{self, Bounds, Excess, Rows};
use super::{Access, Database, DatabaseError, Done, Work, functions};

/// What came of a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Executed {
    /// The rows, if it gives any.
    pub(crate) rows: Rows,
    /// How many rows there are; of a statement that gives none, how many it changed.
    pub(crate) row_count: u64,
}

impl Database {
    /// Runs one statement.
    pub(crate) async fn execute(&self, statement: &str, access: Access) -> Result<Executed, DatabaseError> {
        let checked = read(statement.to_owned(), access).await?;
        self.run(access, Execute { checked, access, bounds: self.bounds() }).await
    }
}

/// Reads a statement on a thread of its own: the parser's calls within each other may need more stack than threads have that
/// serve requests, and an overflow would end the process.
async fn read(statement: String, access: Access) -> Result<Checked, DatabaseError> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("read-statement".to_owned()).stack_size(GATEWAY_PARSE_STACK_BYTES);
    let started = thread.spawn(move || {
        // Nobody waits for it once the caller has gone.
        let _ = answer.send(guard::check(&statement, access));
    });
    started.map_err(|error| DatabaseError::Away(error.into()))?;
    answered.await.map_err(|error| DatabaseError::Failed(format!("read the statement: {error}")))?
}

struct Execute {
    checked: Checked,
    access: Access,
    bounds: Bounds,
}

#[async_trait]
impl Work for Execute {
    type Output = Executed;

    async fn run(&mut self, transaction: &Transaction<'_>) -> Result<Done<Executed>, DatabaseError> {
        functions::check(transaction, &self.checked, self.access).await?;
        let rows = match &self.checked.form {
            Form::Rows(source) => {
                let excess = if self.access == Access::ReadWrite { Excess::Drain } else { Excess::Stop };
                rows::read(transaction, source, self.bounds, excess).await?
            }
            Form::Plan(text) => rows::read_plan(transaction, text, self.bounds).await?,
            Form::Change(text) => {
                let statement = transaction.prepare(text).await?;
                rows::without_parameters(&statement)?;
                let row_count = transaction.execute(&statement, &[]).await?;
                return Ok(Done::all(Executed { row_count, rows: Rows::default() }));
            }
        };
        if rows.truncated && rows.count == 0 {
            return Err(DatabaseError::TooLarge(self.bounds.bytes));
        }
        let is_abandoned = rows.is_abandoned;
        Ok(Done { output: Executed { row_count: rows.count, rows }, is_abandoned })
    }
}

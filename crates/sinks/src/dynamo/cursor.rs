//! How far the table has a journal's records: an item for each source, beside the logs. Owns its key and that it only moves
//! from where the caller believes it to be.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use super::item::{self, Item};
use super::{Dynamo, DynamoError, Remedy};

/// What came of moving a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// It is where it was to be.
    Now,
    /// It was not where the caller believed it to be, and stays here.
    Found(u64),
}

/// The key of a source's cursor: no run's id has a `#`.
fn key(source: &str) -> String {
    format!("#cursor {source}")
}

fn position(item: &Item) -> u64 {
    item::number(item, item::POSITION).unwrap_or(0)
}

impl Dynamo {
    /// The last position of a source (`uuid/epoch`) up to which the table has all of its records; 0 where there is none.
    pub(super) async fn find_cursor(&self, source: &str) -> Result<u64, DynamoError> {
        if self.client.config().region().is_none() {
            let (table, reason) = (self.options.table.clone(), "no region is set".to_owned());
            return Err(DynamoError::Request {
                operation: "read cursor",
                table,
                reason,
                remedy: Remedy::People("set a region"),
            });
        }
        let found = self.item(&item::key(&key(source), 1), &[]).await?;
        Ok(found.as_ref().map_or(0, position))
    }

    /// Moves a source's cursor, once [`Dynamo::append_entries`] has been answered for every run up to there. Runs remember
    /// their own positions: where this is not reached, what is delivered again is there once all the same.
    pub(super) async fn move_cursor(&self, source: &str, after: u64, through: u64) -> Result<Moved, DynamoError> {
        let number = |number: u64| AttributeValue::N(number.to_string());
        let condition = match after {
            0 => "attribute_not_exists(#position) OR #position = :after",
            _ => "#position = :after",
        };
        let sent = self
            .client
            .update_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(key(source)))
            .update_expression("SET #position = :through")
            .condition_expression(condition)
            .expression_attribute_names("#position", item::POSITION)
            .expression_attribute_values(":after", number(after))
            .expression_attribute_values(":through", number(through))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let error = match sent {
            Ok(_) => return Ok(Moved::Now),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                let found = failed.item().map_or(0, position);
                // Where the answer to an attempt was lost, the next one finds what that did.
                Ok(if found == through { Moved::Now } else { Moved::Found(found) })
            }
            _ => Err(DynamoError::request("move cursor", &self.options.table, &error)),
        }
    }
}

//! Which runs have a log in the table. Owns walking through it; refuses to read a log.

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{self, PART};
use super::{Dynamo, DynamoError};
use crate::SinkError;

impl Dynamo {
    /// The runs of the next items of the table, behind the item `after`, and the item behind which there are more. At most
    /// `limit` items are looked at, not all of which begin a log. A table has no order that means anything to people.
    ///
    /// # Errors
    /// Says what the caller is to do.
    pub async fn run_ids(&self, after: Option<&str>, limit: usize) -> Result<(Vec<String>, Option<String>), SinkError> {
        self.scan(after, limit).await.map_err(DynamoError::tell)
    }

    async fn scan(&self, after: Option<&str>, limit: usize) -> Result<(Vec<String>, Option<String>), DynamoError> {
        let key = &self.options.key;
        let scan = self
            .client
            .scan()
            .table_name(&self.options.table)
            .set_exclusive_start_key(after.map(|after| [(key.clone(), AttributeValue::S(after.to_owned()))].into()))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .projection_expression("#key")
            .filter_expression("attribute_exists(#logs)")
            .expression_attribute_names("#key", key)
            .expression_attribute_names("#logs", item::LOGS);
        let answer = scan.send().await;
        let answer = answer.map_err(|error| DynamoError::request("find logs", &self.options.table, &error))?;
        let mut ids: Vec<String> =
            answer.items().iter().filter_map(|item| item::text(item, key).map(str::to_owned)).collect();
        // The log of a run that goes on in another item begins in the run's own.
        ids.retain(|id| !id.contains(PART));
        let next = answer.last_evaluated_key().and_then(|last| item::text(last, key).map(str::to_owned));
        Ok((ids, next))
    }
}

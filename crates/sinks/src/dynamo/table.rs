//! The table itself. Owns making it on request; refuses to change one that is there, but for its time to live.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
    TimeToLiveSpecification,
};
use runstone_record::limits::DYNAMO_TABLE_TIMEOUT_MS;

use super::{Dynamo, DynamoError, Remedy};

/// What is tried where the attribute is another one's already.
pub(super) const SET_TTL: &str = "set time to live";

impl Dynamo {
    /// Makes the table where there is none, billed by request, and waits until it can be used. Says whether it was made.
    /// Where a time to live is set, DynamoDB is told the attribute.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn create_table(&self) -> Result<bool, DynamoError> {
        let made = self.create().await?;
        self.wait_until_active().await?;
        if let Some(ttl) = &self.options.ttl {
            self.enable_ttl(&ttl.attribute).await?;
        }
        Ok(made)
    }

    fn failed<E, R>(&self, operation: &'static str, error: &SdkError<E, R>) -> DynamoError
    where
        E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        DynamoError::request(operation, &self.options.table, error)
    }

    async fn create(&self) -> Result<bool, DynamoError> {
        let key = &self.options.key;
        // The builders ask for what they must have; all of it is given.
        let incomplete = |error: aws_sdk_dynamodb::error::BuildError| DynamoError::Request {
            operation: "create table",
            table: self.options.table.clone(),
            reason: error.to_string(),
            remedy: Remedy::Nothing,
        };
        let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
        let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash);
        let sent = self
            .client
            .create_table()
            .table_name(&self.options.table)
            .attribute_definitions(attribute.build().map_err(incomplete)?)
            .key_schema(schema.build().map_err(incomplete)?)
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(CreateTableError::is_resource_in_use_exception) => {
                Ok(false)
            }
            Err(error) => Err(self.failed("create table", &error)),
        }
    }

    async fn wait_until_active(&self) -> Result<(), DynamoError> {
        let (limit, pause) = DYNAMO_TABLE_TIMEOUT_MS;
        let active = async {
            loop {
                let answer = self.client.describe_table().table_name(&self.options.table).send().await;
                let table = answer.map_err(|error| self.failed("describe table", &error))?.table;
                if table.and_then(|table| table.table_status) == Some(TableStatus::Active) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        };
        let late = DynamoError::Request {
            operation: "create table",
            table: self.options.table.clone(),
            reason: format!("it is not active after {limit} ms"),
            remedy: Remedy::Time,
        };
        tokio::time::timeout(Duration::from_millis(limit), active).await.unwrap_or(Err(late))
    }

    async fn enable_ttl(&self, attribute: &str) -> Result<(), DynamoError> {
        let answer = self.client.describe_time_to_live().table_name(&self.options.table).send().await;
        let described = answer.map_err(|error| self.failed("describe time to live", &error))?;
        let known = described.time_to_live_description.and_then(|ttl| ttl.attribute_name);
        if known.as_deref() == Some(attribute) {
            return Ok(());
        }
        let incomplete = |error: aws_sdk_dynamodb::error::BuildError| DynamoError::Request {
            operation: SET_TTL,
            table: self.options.table.clone(),
            reason: error.to_string(),
            remedy: Remedy::Nothing,
        };
        let specification = TimeToLiveSpecification::builder().enabled(true).attribute_name(attribute).build();
        let request = self.client.update_time_to_live().table_name(&self.options.table);
        let sent = request.time_to_live_specification(specification.map_err(incomplete)?).send().await;
        sent.map(drop).map_err(|error| self.failed(SET_TTL, &error))
    }
}

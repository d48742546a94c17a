//! Dead letters: an item for each, and one that says which there are. Owns both; refuses to decide what becomes one.
//!
//! A letter is written before it is listed, and taken off the list after it is deleted: what is listed and not there is
//! passed over. No time to live ends them.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use runstone_record::limits::{DYNAMO_ITEM_BYTES_LIMIT, DYNAMO_LETTERS_MAX, PAGE_ROWS_MAX, RECORD_BYTES_MAX};
use runstone_record::{Column, RecordId};

use super::append::is_full;
use super::item::{self, Item};
use super::{Dynamo, DynamoError, NAME, deliver, entry};
use crate::{DeadLetter, DeadLetters, Redelivered, SinkError};

/// A letter has room for any record.
const _: () = assert!(RECORD_BYTES_MAX < DYNAMO_ITEM_BYTES_LIMIT);

/// The key of the list: for each source, the numbers of its letters' positions. No run's id has a `#`.
const LIST: &str = "#letters";

pub(super) const SOURCE: &str = "source";
pub(super) const ID: &str = "record_id";
pub(super) const REASON: &str = "reason";
/// The record, as JSON of the API, compressed.
pub(super) const GZIP: &str = "gzip";

fn key(source: &str, position: u64) -> String {
    format!("#letter {source} {position}")
}

#[async_trait]
impl DeadLetters for Dynamo {
    fn sink(&self) -> &'static str {
        NAME
    }

    async fn dead_letters(&self, after: Option<(&str, u64)>, limit: usize) -> Result<Vec<DeadLetter>, SinkError> {
        self.page(after.unwrap_or(("", 0)), limit.min(PAGE_ROWS_MAX)).await.map_err(DynamoError::tell)
    }

    async fn remove_dead_letters(&self, source: &str, positions: &[u64]) -> Result<u64, SinkError> {
        self.remove(source, positions).await.map_err(DynamoError::tell)
    }

    /// The record's place in its log was passed: it comes behind what the log has.
    async fn redeliver(&self, letter: &DeadLetter, now: i64) -> Result<Redelivered, SinkError> {
        let kept = self.item(&key(&letter.source, letter.position), &[item::POSITION]).await;
        if kept.map_err(DynamoError::tell)?.is_none() {
            return Ok(Redelivered::Gone);
        }
        let frame = match letter.frame() {
            Ok(frame) => frame,
            Err(error) => return Ok(Redelivered::Refused { reason: error.to_string() }),
        };
        // Without a run it has no log, as in a delivery.
        if let Some(run_id) = frame.batch.text(Column::RunId, 0) {
            let json = deliver::entry(&letter.source, (&frame.batch, 0, letter.position));
            match self.append_unless_there(run_id, &json, letter.id, now).await {
                Ok(()) => {}
                Err(error) if deliver::is_refusal(&error) => {
                    return Ok(Redelivered::Refused { reason: error.to_string() });
                }
                Err(error) => return Err(error.tell()),
            }
        }
        self.remove(&letter.source, &[letter.position]).await.map_err(DynamoError::tell)?;
        Ok(Redelivered::Taken)
    }
}

impl Dynamo {
    /// Appends an entry whose id the log has not. That of an earlier time may be older than the ids that items keep.
    async fn append_unless_there(&self, run_id: &str, json: &str, id: RecordId, now: i64) -> Result<(), DynamoError> {
        let look = self.in_time(self.look(run_id)).await?;
        if !look.ids.contains(&id) {
            self.remember(run_id, look.part);
            self.append(run_id, json, id, now).await?;
        }
        Ok(())
    }

    /// Keeps a letter. It is there once, however often.
    pub(super) async fn keep(&self, letter: &DeadLetter) -> Result<(), DynamoError> {
        let packed = entry::compress(&letter.record)?;
        let sent = self
            .client
            .update_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(key(&letter.source, letter.position)))
            .update_expression(
                "SET #source = :source, #position = :position, #id = :id, #reason = :reason, #gzip = :gzip",
            )
            .expression_attribute_names("#source", SOURCE)
            .expression_attribute_names("#position", item::POSITION)
            .expression_attribute_names("#id", ID)
            .expression_attribute_names("#reason", REASON)
            .expression_attribute_names("#gzip", GZIP)
            .expression_attribute_values(":source", AttributeValue::S(letter.source.clone()))
            .expression_attribute_values(":position", AttributeValue::N(letter.position.to_string()))
            .expression_attribute_values(":id", AttributeValue::S(letter.id.to_string()))
            .expression_attribute_values(":reason", AttributeValue::S(letter.reason.clone()))
            .expression_attribute_values(":gzip", AttributeValue::B(Blob::new(packed)))
            .send()
            .await;
        sent.map_err(|error| DynamoError::request("keep dead letter", &self.options.table, &error))?;
        self.list(&letter.source, letter.position).await
    }

    async fn list(&self, source: &str, position: u64) -> Result<(), DynamoError> {
        let number = position.to_string();
        let sent = self
            .client
            .update_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(LIST.to_owned()))
            .update_expression("ADD #source :positions")
            .condition_expression(
                "attribute_not_exists(#source) OR size(#source) < :max OR contains(#source, :position)",
            )
            .expression_attribute_names("#source", source)
            .expression_attribute_values(":positions", AttributeValue::Ns(vec![number.clone()]))
            .expression_attribute_values(":position", AttributeValue::N(number))
            .expression_attribute_values(":max", AttributeValue::N(DYNAMO_LETTERS_MAX.to_string()))
            .send()
            .await;
        let Err(error) = sent else { return Ok(()) };
        match error.as_service_error() {
            Some(refusal) if is_full(refusal) || is_at_most(refusal) => Err(DynamoError::LettersFull {
                table: self.options.table.clone(),
                journal: source.to_owned(),
                max: DYNAMO_LETTERS_MAX,
            }),
            _ => Err(DynamoError::request("list dead letter", &self.options.table, &error)),
        }
    }

    async fn page(&self, after: (&str, u64), limit: usize) -> Result<Vec<DeadLetter>, DynamoError> {
        let list = self.item(LIST, &[]).await?.unwrap_or_default();
        let listed: BTreeSet<(&str, u64)> = list
            .iter()
            .filter_map(|(source, positions)| Some((source.as_str(), positions.as_ns().ok()?)))
            .flat_map(|(source, positions)| {
                positions.iter().filter_map(move |position| Some((source, position.parse().ok()?)))
            })
            .filter(|place| *place > after)
            .collect();
        let mut letters = Vec::new();
        for (source, position) in listed {
            if letters.len() == limit {
                break;
            }
            if let Some(found) = self.item(&key(source, position), &[]).await? {
                letters.push(letter(&found, source, position)?);
            }
        }
        Ok(letters)
    }

    async fn remove(&self, source: &str, positions: &[u64]) -> Result<u64, DynamoError> {
        let mut removed = 0;
        for position in positions {
            let sent = self
                .client
                .delete_item()
                .table_name(&self.options.table)
                .key(&self.options.key, AttributeValue::S(key(source, *position)))
                .return_values(ReturnValue::AllOld)
                .send()
                .await;
            let gone = sent.map_err(|error| DynamoError::request("remove dead letter", &self.options.table, &error))?;
            removed += u64::from(gone.attributes.is_some_and(|item| !item.is_empty()));
            let sent = self
                .client
                .update_item()
                .table_name(&self.options.table)
                .key(&self.options.key, AttributeValue::S(LIST.to_owned()))
                .update_expression("DELETE #source :positions")
                .expression_attribute_names("#source", source)
                .expression_attribute_values(":positions", AttributeValue::Ns(vec![position.to_string()]))
                .send()
                .await;
            sent.map_err(|error| DynamoError::request("remove dead letter", &self.options.table, &error))?;
        }
        Ok(removed)
    }
}

fn is_at_most(error: &UpdateItemError) -> bool {
    matches!(error, UpdateItemError::ConditionalCheckFailedException(_))
}

fn letter(found: &Item, source: &str, position: u64) -> Result<DeadLetter, DynamoError> {
    let failed = |error: std::io::Error| DynamoError::Unpack { run_id: key(source, position), source: error };
    let text = |name: &str| item::text(found, name).unwrap_or_default();
    let id = RecordId::parse(text(ID)).map_err(|error| failed(std::io::Error::other(error)))?;
    let packed = found.get(GZIP).and_then(|packed| packed.as_b().ok()).map_or(&[][..], |packed| packed.as_ref());
    let record = entry::decompress(packed).map_err(failed)?;
    Ok(DeadLetter { source: source.to_owned(), position, id, reason: text(REASON).to_owned(), record })
}

//! Reads the log of a run, from as many items as it has. Owns their order; refuses to filter.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::AttributeValue;
use runstone_record::RecordId;

use super::item::{self, Item};
use super::{Dynamo, DynamoError, entry};
use crate::SinkError;

/// The log of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLog {
    /// The entries in the order in which they were appended, each a JSON object.
    pub entries: Vec<String>,
    /// When the first was appended, RFC 3339; none in items that others made so.
    pub created_at: Option<String>,
    /// When the last was.
    pub updated_at: Option<String>,
}

/// A part of the log of a run: what one item has. Its entries, each a JSON object, come in the order in which they were
/// appended, and are unpacked as they are asked for: packed they may be a thousandth of what they are.
#[derive(Debug)]
pub struct LogPart {
    /// When the item was made, RFC 3339; none where others made it so.
    pub created_at: Option<String>,
    /// When the last entry was appended to it.
    pub updated_at: Option<String>,
    /// No other part follows.
    pub is_last: bool,
    run_id: String,
    stored: std::vec::IntoIter<AttributeValue>,
}

impl LogPart {
    fn load_next(&mut self) -> Option<Result<String, DynamoError>> {
        self.stored.next().map(|stored| entry::load(&stored, &self.run_id))
    }
}

impl Iterator for LogPart {
    type Item = Result<String, SinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.load_next().map(|loaded| loaded.map_err(DynamoError::tell))
    }
}

/// What a log has, to those who bring it entries that others may have brought.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The ids of its entries.
    pub(super) ids: HashSet<RecordId>,
    /// The last item that it has, and how many entries are there.
    pub(super) part: u32,
    pub(super) count: usize,
}

impl Dynamo {
    /// The log of a run with everything that was appended before the call; none where there is no such run.
    ///
    /// # Errors
    /// DynamoDB's, and what is stored and cannot be read.
    pub async fn read(&self, run_id: &str) -> Result<Option<RunLog>, DynamoError> {
        let mut log = RunLog { entries: Vec::new(), created_at: None, updated_at: None };
        let mut part = 1;
        while let Some(mut found) = self.read_part(run_id, part).await? {
            while let Some(entry) = found.load_next() {
                log.entries.push(entry?);
            }
            log.created_at = log.created_at.or(found.created_at);
            log.updated_at = found.updated_at.or(log.updated_at);
            if found.is_last {
                return Ok(Some(log));
            }
            part += 1;
        }
        // A part was closed and the next not yet written.
        Ok((part > 1).then_some(log))
    }

    /// A part of the log of a run, the first being number 1; none where there is no such part, or not yet.
    ///
    /// # Errors
    /// Says what the caller is to do.
    pub async fn log_part(&self, run_id: &str, part: u32) -> Result<Option<LogPart>, SinkError> {
        self.read_part(run_id, part).await.map_err(DynamoError::tell)
    }

    async fn read_part(&self, run_id: &str, part: u32) -> Result<Option<LogPart>, DynamoError> {
        let Some(mut found) = self.item(&item::key(run_id, part), &[]).await? else { return Ok(None) };
        let time = |name: &str| item::text(&found, name).map(str::to_owned);
        Ok(Some(LogPart {
            created_at: time(item::CREATED),
            updated_at: time(item::UPDATED),
            is_last: !item::is_continued(&found),
            run_id: run_id.to_owned(),
            stored: item::take_logs(&mut found).into_iter(),
        }))
    }

    /// The entry that the log has under an id.
    ///
    /// # Errors
    /// DynamoDB's, and what is stored and cannot be read.
    pub async fn find(&self, run_id: &str, id: RecordId) -> Result<Option<String>, DynamoError> {
        let mut part = 1;
        while let Some(found) = self.item(&item::key(run_id, part), &[]).await? {
            if let Some(stored) = item::logs(&found).iter().find(|stored| entry::id(stored) == Some(id)) {
                return entry::load(stored, run_id).map(Some);
            }
            if !item::is_continued(&found) {
                break;
            }
            part += 1;
        }
        Ok(None)
    }

    /// Looks at all items of a log, for those who may not bring it an entry that it has.
    pub(super) async fn look(&self, run_id: &str) -> Result<Look, DynamoError> {
        let (mut look, mut part) = (Look { part: 1, ..Look::default() }, 1);
        while let Some(found) = self.item(&item::key(run_id, part), &[]).await? {
            let logs = item::logs(&found);
            look.ids.extend(logs.iter().filter_map(entry::id));
            (look.part, look.count) = (part, logs.len());
            if !item::is_continued(&found) {
                break;
            }
            part += 1;
        }
        Ok(look)
    }

    /// An item, or these attributes of it where some are named.
    pub(super) async fn item(&self, key: &str, attributes: &[&str]) -> Result<Option<Item>, DynamoError> {
        let mut get = self
            .client
            .get_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(key.to_owned()))
            .consistent_read(true);
        if !attributes.is_empty() {
            let short: Vec<String> = (0..attributes.len()).map(|number| format!("#a{number}")).collect();
            get = get.projection_expression(short.join(", "));
            for (short, attribute) in short.into_iter().zip(attributes) {
                get = get.expression_attribute_names(short, *attribute);
            }
        }
        let answer = get.send().await;
        answer.map(|answer| answer.item).map_err(|error| DynamoError::request("read log", &self.options.table, &error))
    }
}

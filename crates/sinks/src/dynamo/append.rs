//! Appends that happen once. Owns the update, its condition, and what a failed condition means; refuses to look before it
//! writes: the condition looks.
//!
//! An append is known by an id (the Logger function), of which an item keeps the last ones, or by its positions in a journal
//! (the relay), of which an item keeps the highest. Where the answer to an update was lost, the update's repetition fails its
//! condition, and the item that comes with that failure shows why.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use runstone_record::RecordId;
use runstone_record::limits::{DYNAMO_APPEND_TIMEOUT_MS, DYNAMO_IDS_KEPT, DYNAMO_REWORDINGS_MAX};
use runstone_record::time::format_millis;

use super::item::{self, Item};
use super::value::Sized;
use super::{Dynamo, DynamoError, entry};

/// What came of an append that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It was done now.
    Now,
    /// It was there: an earlier call had done it, or an attempt of this one whose answer was lost.
    Before,
}

/// An entry that a journal has.
#[derive(Debug, Clone, Copy)]
pub struct PositionedEntry<'a> {
    /// Its position there.
    pub position: u64,
    /// The entry: a JSON object.
    pub json: &'a str,
}

/// By what an append is known.
enum Mark<'a> {
    Id(AttributeValue),
    Position { source: &'a str, after: u64, through: u64 },
}

/// One update that is to be made.
struct Step<'a> {
    run_id: &'a str,
    entries: &'a [Sized],
    mark: Mark<'a>,
    now: i64,
}

/// What a step came to.
enum Outcome {
    Done,
    /// The condition failed; the item as it was.
    Changed(Item),
    /// DynamoDB finds the item too large, whatever our own count says.
    Full,
}

impl Step<'_> {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.bytes + 1).sum()
    }
}

impl Dynamo {
    /// Appends an entry, a JSON object, to the log of a run, once under this id as long as the item knows it: see
    /// [`DYNAMO_IDS_KEPT`]. The time, in microseconds since 1970, is the item's.
    ///
    /// # Errors
    /// [`DynamoError::retryable`] says whether the same may succeed later.
    pub async fn append(&self, run_id: &str, json: &str, id: RecordId, now: i64) -> Result<Appended, DynamoError> {
        let stored = [entry::store(json, self.options.entry_bytes_max)?];
        let step = Step { run_id, entries: &stored, mark: Mark::Id(item::id(id)), now };
        self.in_time(self.append_step(step)).await.map(|appended| appended.1)
    }

    /// Appends a run's entries of a journal (`source`, such as `uuid/epoch`): those with positions behind `after`, up to and
    /// with `through`, in their order, each once. `after` is where the caller's cursor stands: what the run's items have
    /// beyond it is left out.
    ///
    /// # Errors
    /// [`DynamoError::retryable`] says whether the same may succeed later; what was appended before the error stays known.
    pub async fn append_entries(
        &self,
        run_id: &str,
        source: &str,
        entries: &[PositionedEntry<'_>],
        (after, through): (u64, u64),
        now: i64,
    ) -> Result<Appended, DynamoError> {
        let stored = entries.iter().map(|entry| entry::store(entry.json, self.options.entry_bytes_max));
        let stored = stored.collect::<Result<Vec<_>, _>>()?;
        self.in_time(self.append_all(run_id, source, entries, &stored, (after, through), now)).await
    }

    /// Would DynamoDB take this entry? Where not, nothing that is tried again helps.
    ///
    /// # Errors
    /// [`DynamoError::Json`] and [`DynamoError::TooLarge`].
    pub fn check(&self, json: &str) -> Result<(), DynamoError> {
        entry::store(json, self.options.entry_bytes_max).map(drop)
    }

    async fn in_time<T>(&self, append: impl Future<Output = Result<T, DynamoError>>) -> Result<T, DynamoError> {
        let limit = Duration::from_millis(DYNAMO_APPEND_TIMEOUT_MS);
        tokio::time::timeout(limit, append).await.unwrap_or_else(|_| {
            Err(DynamoError::Timeout { table: self.options.table.clone(), ms: DYNAMO_APPEND_TIMEOUT_MS })
        })
    }

    async fn append_all(
        &self,
        run_id: &str,
        source: &str,
        entries: &[PositionedEntry<'_>],
        stored: &[Sized],
        (mut after, through): (u64, u64),
        now: i64,
    ) -> Result<Appended, DynamoError> {
        let (mut start, mut appended) = (0, Appended::Before);
        let mut room = self.options.item_bytes_max;
        loop {
            start += entries[start..].iter().take_while(|entry| entry.position <= after).count();
            if start == entries.len() {
                return Ok(appended);
            }
            let count = fitting(&stored[start..], room);
            let end = start + count;
            let last = if end == entries.len() { through } else { entries[end - 1].position };
            let mark = Mark::Position { source, after, through: last };
            let step = Step { run_id, entries: &stored[start..end], mark, now };
            match self.append_step(step).await? {
                (Next::Beyond(position), _) => after = position,
                (Next::Room(bytes), _) => room = bytes,
                (Next::Nothing, done) => {
                    if done == Appended::Now {
                        appended = Appended::Now;
                    }
                    (after, room) = (last, self.options.item_bytes_max);
                }
            }
        }
    }

    /// Makes one update, in the item in which it finds place.
    async fn append_step(&self, step: Step<'_>) -> Result<(Next, Appended), DynamoError> {
        let mut part = self.part(step.run_id);
        let (mut rotate, mut rewordings) = (false, 0);
        loop {
            let full = match self.update(&step, part, rotate).await? {
                Outcome::Done => {
                    self.remember(step.run_id, part);
                    return Ok((Next::Nothing, Appended::Now));
                }
                Outcome::Full => true,
                Outcome::Changed(item) => match self.judge(&step, &item) {
                    Judgement::Before => return Ok((Next::Nothing, Appended::Before)),
                    Judgement::Next(next) => return Ok((next, Appended::Before)),
                    Judgement::Continued => {
                        (part, rewordings) = (self.open_part(step.run_id, part + 1).await?, 0);
                        continue;
                    }
                    Judgement::Full => true,
                    Judgement::Again => {
                        rotate = item::ids(&item) >= DYNAMO_IDS_KEPT;
                        false
                    }
                },
            };
            if full {
                self.close(step.run_id, part).await?;
                (part, rewordings) = (part + 1, 0);
                continue;
            }
            rewordings += 1;
            if rewordings > DYNAMO_REWORDINGS_MAX {
                let (table, run_id) = (self.options.table.clone(), step.run_id.to_owned());
                return Err(DynamoError::Contended { table, run_id, tries: rewordings });
            }
        }
    }

    /// Why did the condition fail?
    fn judge(&self, step: &Step<'_>, item: &Item) -> Judgement {
        match &step.mark {
            Mark::Id(id) if item::has_id(item, id) => return Judgement::Before,
            Mark::Position { source, after, through } => match item::position(item, source) {
                Some(position) if position >= *through => return Judgement::Before,
                Some(position) if position > *after => return Judgement::Next(Next::Beyond(position)),
                _ => {}
            },
            Mark::Id(_) => {}
        }
        if item::is_continued(item) {
            return Judgement::Continued;
        }
        let left = self.options.item_bytes_max.saturating_sub(item::bytes(item));
        if step.bytes() <= left {
            return Judgement::Again;
        }
        match step.entries {
            [first, _, ..] if first.bytes < left => Judgement::Next(Next::Room(left)),
            _ => Judgement::Full,
        }
    }

    async fn update(&self, step: &Step<'_>, part: u32, rotate: bool) -> Result<Outcome, DynamoError> {
        let wording = self.word(step, rotate);
        let sent = self
            .client
            .update_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(item::key(step.run_id, part)))
            .update_expression(wording.update)
            .condition_expression(wording.condition)
            .set_expression_attribute_names(Some(wording.names))
            .set_expression_attribute_values(Some(wording.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let error = match sent {
            Ok(_) => return Ok(Outcome::Done),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Outcome::Changed(failed.item().cloned().unwrap_or_default()))
            }
            // An item that others began has no count of its bytes.
            Some(refusal) if part_is_full(refusal) => Ok(Outcome::Full),
            _ => Err(DynamoError::request("append to log", &self.options.table, &error)),
        }
    }

    /// The update and its condition. All names stand behind `#`: some are words that DynamoDB keeps for itself.
    fn word(&self, step: &Step<'_>, rotate: bool) -> Wording {
        let list = |items: Vec<AttributeValue>| AttributeValue::L(items);
        let number = |number: u64| AttributeValue::N(number.to_string());
        let mut wording = Wording::default();
        let (mut set, mut conditions) = (
            vec![
                "#logs = list_append(if_not_exists(#logs, :none), :new)".to_owned(),
                "#created = if_not_exists(#created, :now)".to_owned(),
                "#updated = :now".to_owned(),
            ],
            vec!["attribute_not_exists(#continued)".to_owned()],
        );
        let bytes = step.bytes();
        wording.name("#logs", item::LOGS).name("#created", item::CREATED).name("#updated", item::UPDATED);
        wording.name("#bytes", item::BYTES).name("#continued", item::CONTINUED);
        wording.value(":none", list(Vec::new()));
        wording.value(":new", list(step.entries.iter().map(|entry| entry.value.clone()).collect()));
        wording.value(":now", AttributeValue::S(format_millis(step.now)));
        wording.value(":bytes", number(bytes as u64));
        // What is larger than an item should be has one for itself.
        wording.value(":room", number(self.options.item_bytes_max.saturating_sub(bytes) as u64));
        conditions.push("(attribute_not_exists(#bytes) OR #bytes <= :room)".to_owned());
        if let Some(ttl) = &self.options.ttl {
            let seconds = step.now.div_euclid(1_000_000) + i64::from(ttl.days) * 86_400;
            set.push("#ttl = :ttl".to_owned());
            wording.name("#ttl", &ttl.attribute).value(":ttl", AttributeValue::N(seconds.to_string()));
        }
        match &step.mark {
            Mark::Id(id) => {
                wording.name("#ids", item::IDS).name("#before", item::IDS_BEFORE);
                wording.value(":id", id.clone()).value(":ids", list(vec![id.clone()]));
                wording.value(":kept", number(DYNAMO_IDS_KEPT as u64));
                conditions.push("NOT contains(#ids, :id) AND NOT contains(#before, :id)".to_owned());
                if rotate {
                    set.push("#before = #ids, #ids = :ids".to_owned());
                    conditions.push("size(#ids) >= :kept".to_owned());
                } else {
                    set.push("#ids = list_append(if_not_exists(#ids, :none), :ids)".to_owned());
                    conditions.push("(attribute_not_exists(#ids) OR size(#ids) < :kept)".to_owned());
                }
            }
            Mark::Position { source, after, through } => {
                wording.name("#position", &item::position_name(source));
                wording.value(":after", number(*after)).value(":through", number(*through));
                set.push("#position = :through".to_owned());
                conditions.push("(attribute_not_exists(#position) OR #position <= :after)".to_owned());
            }
        }
        wording.update = format!("SET {} ADD #bytes :bytes", set.join(", "));
        wording.condition = conditions.join(" AND ");
        wording
    }

    /// Says in an item that the log goes on in another: from then on nothing is appended to it.
    async fn close(&self, run_id: &str, part: u32) -> Result<(), DynamoError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(item::key(run_id, part)))
            .update_expression("SET #continued = :true")
            .expression_attribute_names("#continued", item::CONTINUED)
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .send()
            .await;
        sent.map(drop).map_err(|error| DynamoError::request("close log's item", &self.options.table, &error))
    }
}

/// How many of the entries go into one update: as many as there is room for, and one in any case.
fn fitting(entries: &[Sized], room: usize) -> usize {
    let mut bytes = 0;
    let count = entries.iter().take_while(|entry| {
        bytes += entry.bytes + 1;
        bytes <= room
    });
    count.count().max(1)
}

fn part_is_full(error: &UpdateItemError) -> bool {
    use aws_sdk_dynamodb::error::ProvideErrorMetadata;
    error.code() == Some("ValidationException") && error.message().is_some_and(|text| text.contains("Item size"))
}

/// With what the caller goes on.
enum Next {
    Nothing,
    /// Entries up to this position are there already.
    Beyond(u64),
    /// Not all of them fit, but so many bytes of them do.
    Room(usize),
}

enum Judgement {
    Before,
    Next(Next),
    Continued,
    Full,
    Again,
}

/// An update's texts, and what its names and values stand for.
#[derive(Default)]
struct Wording {
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Wording {
    fn name(&mut self, short: &str, name: &str) -> &mut Self {
        self.names.insert(short.to_owned(), name.to_owned());
        self
    }

    fn value(&mut self, short: &str, value: AttributeValue) -> &mut Self {
        self.values.insert(short.to_owned(), value);
        self
    }
}

//! Appends that happen once. Owns their order, the item that takes them, and what a failed condition means; refuses to look
//! before it writes: the condition looks.
//!
//! An append is known by an id (the Logger function), of which an item keeps the log's last ones, or by its positions in a journal
//! (the relay), of which an item keeps the highest. Where the answer to an update was lost, the update's repetition fails its
//! condition, and the item that comes with that failure shows why.
//!
//! An item with entries and without a position of the journal was written by others, who may have had the same records: the
//! journal under an earlier epoch, before its directory was copied. Then, and only then, the log's ids are read first.

use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use runstone_record::RecordId;
use runstone_record::limits::{DYNAMO_APPEND_TIMEOUT_MS, DYNAMO_IDS_KEPT, DYNAMO_REWORDINGS_MAX};

use super::item::{self, Item};
use super::place::Place;
use super::word::{Mark, Step, Stored};
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
    /// When the journal took it: microseconds since 1970.
    pub at: i64,
    /// The entry: a JSON object.
    pub json: &'a str,
}

/// What a step came to.
enum Outcome {
    Done,
    /// The condition failed; the item as it was.
    Changed(Item),
    /// DynamoDB finds the item too large, whatever our own count says.
    Full,
}

/// With what the caller of a step goes on.
enum Next {
    Done,
    Before,
    /// Entries up to this position are there already.
    Beyond(u64),
    /// Not all of them fit, but so many bytes of them do.
    Room(usize),
    /// Others have written to this log: it is to be looked at.
    Look,
}

/// Why a condition failed.
enum Judgement {
    Next(Next),
    Continued,
    Full,
    Again,
    NoLog,
}

impl Dynamo {
    /// Appends an entry, a JSON object, to the log of a run, once under this id as long as the log knows it: see
    /// [`DYNAMO_IDS_KEPT`]. The time, in microseconds since 1970, is the item's.
    ///
    /// # Errors
    /// [`DynamoError::retryable`] says whether the same may succeed later.
    pub async fn append(&self, run_id: &str, json: &str, id: RecordId, now: i64) -> Result<Appended, DynamoError> {
        let entry = PositionedEntry { position: 0, at: now, json };
        let stored = [self.stored(&entry)?];
        let step = Step { run_id, entries: &stored, mark: Mark::Id(item::id(id)) };
        self.in_time(async {
            let next = self.append_step(step).await?;
            Ok(if matches!(next, Next::Done) { Appended::Now } else { Appended::Before })
        })
        .await
    }

    /// Appends a run's entries of a journal (`source`, such as `uuid/epoch`): those with positions behind `after`, in their
    /// order, each once. `after` is where the caller's cursor stands, or the position of an entry that went before: what the
    /// run's items have beyond it is left out. So is an entry whose member `id` the log of others has.
    ///
    /// # Errors
    /// [`DynamoError::retryable`] says whether the same may succeed later; what was appended before the error stays known.
    pub async fn append_entries(
        &self,
        run_id: &str,
        source: &str,
        entries: &[PositionedEntry<'_>],
        after: u64,
    ) -> Result<Appended, DynamoError> {
        let stored = entries.iter().map(|entry| self.stored(entry)).collect::<Result<Vec<_>, _>>()?;
        self.in_time(self.append_all(run_id, source, stored, after)).await
    }

    fn stored(&self, entry: &PositionedEntry<'_>) -> Result<Stored, DynamoError> {
        let sized = entry::store(entry.json, self.options.entry_bytes_max)?;
        Ok(Stored { position: entry.position, at: entry.at, sized })
    }

    pub(super) async fn in_time<T>(
        &self,
        append: impl Future<Output = Result<T, DynamoError>>,
    ) -> Result<T, DynamoError> {
        let limit = Duration::from_millis(DYNAMO_APPEND_TIMEOUT_MS);
        tokio::time::timeout(limit, append).await.unwrap_or_else(|_| {
            Err(DynamoError::Timeout { table: self.options.table.clone(), ms: DYNAMO_APPEND_TIMEOUT_MS })
        })
    }

    async fn append_all(
        &self,
        run_id: &str,
        source: &str,
        mut left: Vec<Stored>,
        mut after: u64,
    ) -> Result<Appended, DynamoError> {
        let (mut appended, mut looked, mut looks) = (Appended::Before, None, 0);
        let mut room = self.options.item_bytes_max;
        loop {
            left.retain(|entry| entry.position > after);
            let Some(last) = left.get(fitting(&left, room).saturating_sub(1)) else { return Ok(appended) };
            let (count, through) = (fitting(&left, room), last.position);
            let mark = Mark::Position { source, after, through, looked };
            match self.append_step(Step { run_id, entries: &left[..count], mark }).await? {
                Next::Beyond(position) => after = position,
                Next::Room(bytes) => room = bytes,
                done @ (Next::Done | Next::Before) => {
                    (after, room, looked) = (through, self.options.item_bytes_max, None);
                    if matches!(done, Next::Done) {
                        appended = Appended::Now;
                    }
                }
                Next::Look => {
                    looks += 1;
                    if looks > DYNAMO_REWORDINGS_MAX {
                        return Err(self.contended(run_id, looks));
                    }
                    let look = self.look(run_id).await?;
                    left.retain(|entry| entry::id(&entry.sized.value).is_none_or(|id| !look.ids.contains(&id)));
                    self.remember(run_id, look.part);
                    looked = Some(look.count);
                }
            }
        }
    }

    /// Makes one update, in the item in which it finds place.
    async fn append_step(&self, step: Step<'_>) -> Result<Next, DynamoError> {
        let (mut place, id) = (Place::at(self.part(step.run_id)), step.mark.id());
        let (mut rotate, mut rewordings) = (false, 0);
        loop {
            let is_full = match self.update(&step, &place, rotate).await? {
                Outcome::Done => {
                    self.remember(step.run_id, place.part);
                    return Ok(Next::Done);
                }
                Outcome::Full => true,
                // Somebody deleted the item, or the whole table, and the log begins anew.
                Outcome::Changed(item) if place.was_there && item.is_empty() => {
                    self.forget(step.run_id);
                    (place, rotate) = (Place::at(1), false);
                    false
                }
                Outcome::Changed(item) => match self.judge(&step, &item) {
                    Judgement::Next(next) => return Ok(next),
                    Judgement::NoLog => {
                        let (table, run_id) = (self.options.table.clone(), step.run_id.to_owned());
                        return Err(DynamoError::NoLog { table, run_id });
                    }
                    Judgement::Continued => {
                        let Some(next) = place.behind(&item, id) else { return Ok(Next::Before) };
                        let Some(open) = self.open_place(step.run_id, next, id).await? else { return Ok(Next::Before) };
                        (place, rotate, rewordings) = (open, false, 0);
                        continue;
                    }
                    Judgement::Full => true,
                    Judgement::Again => {
                        rotate = item::ids(&item).len() >= DYNAMO_IDS_KEPT;
                        false
                    }
                },
            };
            if is_full {
                let closed = self.close(step.run_id, place.part).await?;
                let Some(next) = place.behind(&closed, id) else { return Ok(Next::Before) };
                (place, rotate, rewordings) = (next, false, 0);
                continue;
            }
            rewordings += 1;
            if rewordings > DYNAMO_REWORDINGS_MAX {
                return Err(self.contended(step.run_id, rewordings));
            }
        }
    }

    fn contended(&self, run_id: &str, tries: u32) -> DynamoError {
        DynamoError::Contended { table: self.options.table.clone(), run_id: run_id.to_owned(), tries }
    }

    fn judge(&self, step: &Step<'_>, item: &Item) -> Judgement {
        if item::is_no_log(item) {
            return Judgement::NoLog;
        }
        match &step.mark {
            Mark::Id(id) if item::has_id(item, id) => return Judgement::Next(Next::Before),
            Mark::Id(_) => {}
            Mark::Position { source, after, through, looked } => match item::position(item, source) {
                Some(position) if position >= *through => return Judgement::Next(Next::Before),
                Some(position) if position > *after => return Judgement::Next(Next::Beyond(position)),
                Some(_) => {}
                None if item::has_log(item) => {
                    let is_known = looked.is_some_and(|count| count == item::logs(item).len());
                    if !is_known && (looked.is_none() || !item::is_continued(item)) {
                        return Judgement::Next(Next::Look);
                    }
                }
                None => {}
            },
        }
        if item::is_continued(item) {
            return Judgement::Continued;
        }
        let left = self.options.item_bytes_max.saturating_sub(item::bytes(item));
        if step.bytes() <= left {
            return Judgement::Again;
        }
        match step.entries {
            [first, _, ..] if first.sized.bytes < left => Judgement::Next(Next::Room(left)),
            _ => Judgement::Full,
        }
    }

    async fn update(&self, step: &Step<'_>, place: &Place, rotate: bool) -> Result<Outcome, DynamoError> {
        let wording = step.word(&self.options, place, rotate);
        let sent = self
            .client
            .update_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(item::key(step.run_id, place.part)))
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
            Some(refusal) if is_full(refusal) => Ok(Outcome::Full),
            _ => Err(DynamoError::request("append to log", &self.options.table, &error)),
        }
    }
}

/// How many of the entries go into one update: as many as there is room for, and one in any case.
fn fitting(entries: &[Stored], room: usize) -> usize {
    let mut bytes = 0;
    let count = entries.iter().take_while(|entry| {
        bytes += entry.sized.bytes + 1;
        bytes <= room
    });
    count.count().max(1)
}

/// Would the item be larger than DynamoDB takes?
pub(super) fn is_full(error: &UpdateItemError) -> bool {
    error.code() == Some("ValidationException") && error.message().is_some_and(|text| text.contains("Item size"))
}

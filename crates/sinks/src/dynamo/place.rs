//! From one item of a log to the next. Owns closing the full one, finding the one that is open, and what an item that is begun
//! takes over; refuses to append.
//!
//! An append is known by the ids that its item keeps. So that it stays known when the log goes on in another item, whoever
//! begins that takes over the ids of the closed one before it, which change no more.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use runstone_record::limits::DYNAMO_IDS_KEPT;

use super::item::{self, Item};
use super::{Dynamo, DynamoError};

/// The ids that an item takes over where it has none of its own.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) ids: Vec<AttributeValue>,
    pub(super) before: Vec<AttributeValue>,
}

impl Carried {
    fn of(closed: &Item) -> Self {
        let (ids, before) = (item::ids(closed).to_vec(), item::ids_before(closed).to_vec());
        // As an append to the closed item would have had them.
        if ids.len() >= DYNAMO_IDS_KEPT { Self { ids: Vec::new(), before: ids } } else { Self { ids, before } }
    }
}

/// The item in which an append is tried.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) part: u32,
    /// It was seen before. Where it is gone, so may be those before it, and nobody would find what it began.
    pub(super) was_there: bool,
    pub(super) carried: Carried,
}

impl Place {
    /// An item that is there, as far as is known, or the first.
    pub(super) fn at(part: u32) -> Self {
        Self { part, was_there: part > 1, carried: Carried::default() }
    }

    /// The next, where this one was found to be closed; none where it knows the append of this id.
    pub(super) fn behind(&self, closed: &Item, id: Option<&AttributeValue>) -> Option<Self> {
        let is_known = id.is_some_and(|id| item::has_id(closed, id));
        (!is_known).then(|| Self { part: self.part + 1, was_there: false, carried: Carried::of(closed) })
    }
}

impl Dynamo {
    /// The first place, from this one on, that is not known to be closed; none where a closed item on the way knows the append
    /// of this id. To read what an item says about itself costs less than an update that fails.
    pub(super) async fn open_place(
        &self,
        run_id: &str,
        from: Place,
        id: Option<&AttributeValue>,
    ) -> Result<Option<Place>, DynamoError> {
        let mut place = from;
        loop {
            let about = [item::CONTINUED, item::IDS, item::IDS_BEFORE];
            let found = self.item(&item::key(run_id, place.part), &about).await?;
            let Some(closed) = found.filter(item::is_continued) else { return Ok(Some(place)) };
            // A long way may take more than the time of one append: the next one goes on from here.
            self.remember(run_id, place.part);
            let Some(next) = place.behind(&closed, id) else { return Ok(None) };
            place = next;
        }
    }

    /// Says in an item that the log goes on in another: from then on nothing is appended to it. Gives what it has.
    pub(super) async fn close(&self, run_id: &str, part: u32) -> Result<Item, DynamoError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.options.table)
            .key(&self.options.key, AttributeValue::S(item::key(run_id, part)))
            .update_expression("SET #continued = :true")
            .expression_attribute_names("#continued", item::CONTINUED)
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            // Others may have appended since it was found to be full.
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let closed = sent.map_err(|error| DynamoError::request("close log's item", &self.options.table, &error))?;
        Ok(closed.attributes.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use runstone_record::RecordId;

    use super::*;

    fn ids(numbers: std::ops::Range<u128>) -> Vec<AttributeValue> {
        numbers.map(|number| item::id(RecordId::from_u128(number))).collect()
    }

    /// As two who bring the same at once: the other's came in before this one closed the item.
    #[test]
    fn what_came_into_an_item_until_it_was_closed_is_known() {
        let closed: Item = [(item::IDS, ids(16..20)), (item::IDS_BEFORE, ids(0..16))]
            .map(|(name, ids)| (name.to_owned(), AttributeValue::L(ids)))
            .into();
        for known in ids(0..20) {
            assert!(Place::at(3).behind(&closed, Some(&known)).is_none(), "{known:?}");
        }
        let next = Place::at(3).behind(&closed, ids(20..21).first()).unwrap();
        assert_eq!((next.part, next.carried.ids, next.carried.before), (4, ids(16..20), ids(0..16)));
        let full: Item = [(item::IDS.to_owned(), AttributeValue::L(ids(16..32)))].into();
        let next = Place::at(1).behind(&full, None).unwrap();
        assert_eq!((next.carried.ids, next.carried.before), (ids(0..0), ids(16..32)));
    }
}

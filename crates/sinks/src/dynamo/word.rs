//! An append as an update of DynamoDB and its condition. Owns both texts; refuses to send them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use runstone_record::limits::DYNAMO_IDS_KEPT;
use runstone_record::time::format_millis;

use super::place::{Carried, Place};
use super::value::Sized;
use super::{Options, item};

/// An entry as it is stored.
pub(super) struct Stored {
    /// Its position in the journal, where it is from one.
    pub(super) position: u64,
    /// When it came: microseconds since 1970.
    pub(super) at: i64,
    pub(super) sized: Sized,
}

/// By what an append is known.
pub(super) enum Mark<'a> {
    Id(AttributeValue),
    Position {
        source: &'a str,
        after: u64,
        through: u64,
        /// How many entries the item had when the log's ids were read, if they were.
        looked: Option<usize>,
    },
}

impl Mark<'_> {
    /// The id, where it is one.
    pub(super) fn id(&self) -> Option<&AttributeValue> {
        match self {
            Mark::Id(id) => Some(id),
            Mark::Position { .. } => None,
        }
    }
}

/// One update that is to be made.
pub(super) struct Step<'a> {
    pub(super) run_id: &'a str,
    pub(super) entries: &'a [Stored],
    pub(super) mark: Mark<'a>,
}

/// An update's texts, and what its names and values stand for.
#[derive(Default)]
pub(super) struct Wording {
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
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

fn list(items: Vec<AttributeValue>) -> AttributeValue {
    AttributeValue::L(items)
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

impl Step<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.sized.bytes + 1).sum()
    }

    /// The update and its condition. All names stand behind `#`: some are words that DynamoDB keeps for itself.
    /// An item that it begins has the ids that its place carries.
    pub(super) fn word(&self, options: &Options, place: &Place, rotate: bool) -> Wording {
        let mut wording = Wording::default();
        let (mut set, mut conditions) = (
            vec![
                "#logs = list_append(if_not_exists(#logs, :none), :new)".to_owned(),
                "#created = if_not_exists(#created, :first)".to_owned(),
                "#updated = :last".to_owned(),
            ],
            vec!["attribute_not_exists(#continued)".to_owned()],
        );
        let bytes = self.bytes();
        let at = |entry: Option<&Stored>| entry.map_or(0, |entry| entry.at);
        let (first, last) = (at(self.entries.first()), at(self.entries.last()));
        wording.name("#logs", item::LOGS).name("#created", item::CREATED).name("#updated", item::UPDATED);
        wording.name("#bytes", item::BYTES).name("#continued", item::CONTINUED);
        wording.value(":none", list(Vec::new()));
        wording.value(":new", list(self.entries.iter().map(|entry| entry.sized.value.clone()).collect()));
        wording.value(":first", AttributeValue::S(format_millis(first)));
        wording.value(":last", AttributeValue::S(format_millis(last)));
        wording.value(":bytes", number(bytes as u64));
        // What is larger than an item should be has one for itself.
        wording.value(":room", number(options.item_bytes_max.saturating_sub(bytes) as u64));
        conditions.push("(attribute_not_exists(#bytes) OR #bytes <= :room)".to_owned());
        if place.was_there {
            conditions.push("attribute_exists(#created)".to_owned());
        }
        if let Some(ttl) = &options.ttl {
            let seconds = last.div_euclid(1_000_000) + i64::from(ttl.days) * 86_400;
            set.push("#ttl = :ttl".to_owned());
            wording.name("#ttl", &ttl.attribute).value(":ttl", AttributeValue::N(seconds.to_string()));
        }
        self.mark(&place.carried, rotate, &mut wording, &mut set, &mut conditions);
        wording.update = format!("SET {} ADD #bytes :bytes", set.join(", "));
        wording.condition = conditions.join(" AND ");
        wording
    }

    fn mark(
        &self,
        carried: &Carried,
        rotate: bool,
        wording: &mut Wording,
        set: &mut Vec<String>,
        conditions: &mut Vec<String>,
    ) {
        if !carried.before.is_empty() && !rotate {
            wording.name("#before", item::IDS_BEFORE).value(":before", list(carried.before.clone()));
            set.push("#before = if_not_exists(#before, :before)".to_owned());
        }
        match &self.mark {
            Mark::Id(id) => {
                wording.name("#ids", item::IDS).name("#before", item::IDS_BEFORE);
                wording.value(":id", id.clone()).value(":ids", list(vec![id.clone()]));
                wording.value(":kept", number(DYNAMO_IDS_KEPT as u64));
                conditions.push("NOT contains(#ids, :id) AND NOT contains(#before, :id)".to_owned());
                if rotate {
                    set.push("#before = #ids, #ids = :ids".to_owned());
                    conditions.push("size(#ids) >= :kept".to_owned());
                } else {
                    wording.value(":carried", list(carried.ids.clone()));
                    set.push("#ids = list_append(if_not_exists(#ids, :carried), :ids)".to_owned());
                    conditions.push("(attribute_not_exists(#ids) OR size(#ids) < :kept)".to_owned());
                }
            }
            Mark::Position { source, after, through, looked } => {
                if !carried.ids.is_empty() {
                    wording.name("#ids", item::IDS).value(":carried", list(carried.ids.clone()));
                    set.push("#ids = if_not_exists(#ids, :carried)".to_owned());
                }
                wording.name("#position", &item::position_name(source));
                wording.value(":after", number(*after)).value(":through", number(*through));
                set.push("#position = :through".to_owned());
                let mut known = "attribute_not_exists(#logs) OR #position <= :after".to_owned();
                if let Some(count) = looked {
                    wording.value(":count", number(*count as u64));
                    known.push_str(" OR (attribute_not_exists(#position) AND size(#logs) = :count)");
                }
                conditions.push(format!("({known})"));
            }
        }
    }
}

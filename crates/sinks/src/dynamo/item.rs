//! An item: part of the log of a run. Owns the names of its attributes and of the items behind the first, and what an item
//! says about itself; refuses to ask for one.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use runstone_record::RecordId;

/// The entries, oldest first.
pub(super) const LOGS: &str = "logs";
pub(super) const CREATED: &str = "created_at";
pub(super) const UPDATED: &str = "updated_at";
/// Bytes of the entries: how full the item is.
pub(super) const BYTES: &str = "log_bytes";
/// There where the log goes on in another item: nothing is appended here any more.
pub(super) const CONTINUED: &str = "continued";
/// Ids of the last appends, and of those before them: to the log, in whichever item.
pub(super) const IDS: &str = "append_ids";
pub(super) const IDS_BEFORE: &str = "append_ids_before";

/// How far a source's records are in the table, in an item that is no log.
pub(super) const POSITION: &str = "position";
/// Before a journal's name: up to where an item has its run's records of that.
pub(super) const POSITION_OF: &str = "position ";

/// Attributes by name.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Between a run and the number of an item behind the first, and before what is no run: no run's id has one.
pub(super) const PART: char = '#';

/// The key of a part, from 1.
pub(super) fn key(run_id: &str, part: u32) -> String {
    if part == 1 { run_id.to_owned() } else { format!("{run_id}{PART}{part}") }
}

/// The attribute that says up to which position of a journal an item has its run's records.
pub(super) fn position_name(source: &str) -> String {
    format!("{POSITION_OF}{source}")
}

pub(super) fn id(id: RecordId) -> AttributeValue {
    AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(id.as_u128().to_be_bytes()))
}

pub(super) fn number<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(super) fn bytes(item: &Item) -> usize {
    number(item, BYTES).unwrap_or(0)
}

pub(super) fn position(item: &Item, source: &str) -> Option<u64> {
    number(item, &position_name(source))
}

/// Does it have a log, or something under its name?
pub(super) fn has_log(item: &Item) -> bool {
    item.contains_key(LOGS)
}

/// Is what stands there none?
pub(super) fn is_no_log(item: &Item) -> bool {
    item.get(LOGS).is_some_and(|logs| !logs.is_l())
}

pub(super) fn is_continued(item: &Item) -> bool {
    item.contains_key(CONTINUED)
}

fn list<'i>(item: &'i Item, name: &str) -> &'i [AttributeValue] {
    item.get(name).and_then(|list| list.as_l().ok()).map_or(&[], Vec::as_slice)
}

pub(super) fn logs(item: &Item) -> &[AttributeValue] {
    list(item, LOGS)
}

/// The same, taken out of it.
pub(super) fn take_logs(item: &mut Item) -> Vec<AttributeValue> {
    match item.remove(LOGS) {
        Some(AttributeValue::L(logs)) => logs,
        _ => Vec::new(),
    }
}

/// The ids of the last appends.
pub(super) fn ids(item: &Item) -> &[AttributeValue] {
    list(item, IDS)
}

/// Those of the appends before them.
pub(super) fn ids_before(item: &Item) -> &[AttributeValue] {
    list(item, IDS_BEFORE)
}

pub(super) fn has_id(item: &Item, id: &AttributeValue) -> bool {
    ids(item).contains(id) || ids_before(item).contains(id)
}

pub(super) fn text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

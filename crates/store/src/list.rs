//! Lists of strings, kept as JSON text, as Arrow lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListBuilder, StringArray, StringBuilder};

/// One list for each JSON text. Made once for each distinct text, not for each record.
pub(crate) fn parse_lists(texts: &StringArray) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..texts.len() {
        // The parser of records lets nothing else in; a text that is no list shows as an empty one.
        let items: Vec<String> = serde_json::from_str(texts.value(row)).unwrap_or_default();
        for item in items {
            lists.values().append_value(item);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

//! What a data directory and its lake consist of, a line each. Owns the list; refuses to judge: `verify` does.

use std::collections::BTreeMap;
use std::path::Path;

use runstone_store::lake::LakeFile;
use serde::Serialize;

use super::{Offline, OfflineError};

/// One thing that is there.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// `journal`, `segment`, `cursor`, `lake`, `version`, `partition` or `file`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The first position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The last position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// How many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What else is to say.
    pub note: String,
}

impl Item {
    fn new(what: &'static str, name: impl Into<String>) -> Self {
        Self { what, name: name.into(), first: None, last: None, records: None, bytes: None, note: String::new() }
    }

    fn positions(mut self, first: u64, last: u64) -> Self {
        (self.first, self.last) = (Some(first), Some(last));
        self
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl Offline {
    /// Lists it; `files`: every file of the lake too, `versions`: so many of its newest commits.
    ///
    /// # Errors
    /// The lake's log cannot be read.
    pub async fn items(&self, files: bool, versions: u64) -> Result<Vec<Item>, OfflineError> {
        let mut items = self.journal();
        self.cursors(&mut items);
        if let Some(held) = &self.lake {
            let snapshot = &held.snapshot;
            let mut lake = Item::new("lake", held.lake.url().as_str());
            (lake.records, lake.bytes) = (Some(snapshot.rows()), Some(snapshot.bytes()));
            items.push(lake.note(format!("version {}, {} files", snapshot.version, snapshot.files.len())));
            for commit in held.lake.history(snapshot.version, versions).await? {
                let mut item = Item::new("version", commit.version.to_string());
                (item.records, item.bytes) = (Some(commit.rows), Some(commit.bytes));
                let (at, operation) = (commit.timestamp.as_str(), commit.operation.as_str());
                items.push(
                    item.note(format!("{operation} at {at}: {} added, {} removed", commit.added, commit.removed)),
                );
            }
            partitions(&snapshot.files, &mut items);
            if files {
                items.extend(snapshot.files.iter().map(|file| describe(file)));
            }
        }
        Ok(items)
    }

    fn journal(&self) -> Vec<Item> {
        let view = &self.view;
        let (first, last) = (view.first_available(), view.last());
        let mut journal = Item::new("journal", view.id().to_string()).positions(first, last);
        journal.records = Some(last + 1 - first);
        journal.bytes = Some(view.segments().iter().map(|segment| segment.bytes).sum());
        let mut items = vec![journal];
        for segment in view.segments() {
            let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut item = Item::new("segment", name).positions(segment.first, segment.last);
            (item.records, item.bytes) = (Some(segment.last + 1 - segment.first), Some(segment.bytes));
            items.push(item.note(segment.epoch.map_or("header lost".to_owned(), |epoch| format!("epoch {epoch}"))));
        }
        items
    }

    fn cursors(&self, items: &mut Vec<Item>) {
        let last = self.view.last();
        let cursor = |name: &str, through: u64| {
            let mut item = Item::new("cursor", name);
            item.last = Some(through);
            item.note(format!("{} records behind", last.saturating_sub(through)))
        };
        if let Some(held) = &self.lake {
            items.push(cursor("lake", held.course.through));
        }
        match crate::runs::saved_through(&self.config.data.join(Path::new("runs"))) {
            Ok(Some(through)) => items.push(cursor("runs", through)),
            Ok(None) => {}
            Err(error) => items.push(Item::new("cursor", "runs").note(format!("cannot be read: {error}"))),
        }
    }
}

fn partitions(files: &[std::sync::Arc<LakeFile>], items: &mut Vec<Item>) {
    let mut days: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    for file in files {
        let (count, rows, bytes) = days.entry(day(file)).or_default();
        (*count, *rows, *bytes) = (*count + 1, *rows + file.stats.rows.unwrap_or(0), *bytes + file.bytes);
    }
    for (day, (count, rows, bytes)) in days {
        let mut item = Item::new("partition", day);
        (item.records, item.bytes) = (Some(rows), Some(bytes));
        items.push(item.note(format!("{count} files")));
    }
}

/// The day of arrival, as partitions are called.
fn day(file: &LakeFile) -> String {
    let name = file.path.strip_prefix("date=").and_then(|rest| rest.split_once('/'));
    name.map_or_else(|| "none".to_owned(), |(day, _)| day.to_owned())
}

fn describe(file: &LakeFile) -> Item {
    let mut item = Item::new("file", file.path.clone());
    if let Some((first, last)) = file.positions() {
        item = item.positions(first, last);
    }
    (item.records, item.bytes) = (file.stats.rows, Some(file.bytes));
    item.note(file.journal().unwrap_or("several journals").to_owned())
}

//! Columns in the making, a row at a time. Owns padding, undoing a row and interning; refuses to judge values:
//! `parse` does.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::batch::{Batch, Origin};
use crate::bits::Bits;
use crate::columns::{Column, Kind};
use crate::ids::{IdMint, Ids, RecordId};
use crate::values::{Data, Texts, Values};
use crate::words::RecordType;

/// A column in the making.
#[derive(Debug)]
struct ColumnBuilder {
    data: Data,
    valid: Option<Bits>,
    rows: usize,
    interned: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Is the last word one that only the last row has?
    new_word: bool,
}

impl ColumnBuilder {
    fn new(kind: Kind) -> Self {
        let data = match kind {
            Kind::Identifier | Kind::Word | Kind::Label | Kind::List => {
                Data::Words { words: Texts::default(), indices: Vec::new() }
            }
            Kind::Time | Kind::Int | Kind::Date => Data::Ints(Vec::new()),
            Kind::Float => Data::Floats(Vec::new()),
            Kind::Id | Kind::Text | Kind::Hex | Kind::Json => Data::Texts(Texts::default()),
        };
        Self {
            data,
            valid: None,
            rows: 0,
            interned: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            new_word: false,
        }
    }

    /// Rows without a value until there are `rows`.
    fn pad(&mut self, rows: usize) {
        if self.rows >= rows {
            return;
        }
        self.valid.get_or_insert_with(|| Bits::filled(self.rows, true)).extend_to(rows, false);
        match &mut self.data {
            Data::Texts(texts) => texts.extend_to(rows),
            Data::Words { indices, .. } => indices.resize(rows, 0),
            Data::Ints(ints) => ints.resize(rows, 0),
            Data::Floats(floats) => floats.resize(rows, 0.0),
        }
        self.rows = rows;
    }

    fn pushed(&mut self) {
        self.rows += 1;
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    fn push_text(&mut self, text: &str) {
        match &mut self.data {
            Data::Texts(texts) => texts.push(text),
            Data::Words { .. } => {
                let index = self.intern(text);
                if let Data::Words { indices, .. } = &mut self.data {
                    indices.push(index);
                }
            }
            Data::Ints(ints) => ints.push(0),
            Data::Floats(floats) => floats.push(0.0),
        }
        self.pushed();
    }

    fn push_int(&mut self, value: i64) {
        if let Data::Ints(ints) = &mut self.data {
            ints.push(value);
            self.pushed();
        }
    }

    fn push_float(&mut self, value: f64) {
        if let Data::Floats(floats) = &mut self.data {
            floats.push(value);
            self.pushed();
        }
    }

    fn intern(&mut self, text: &str) -> u32 {
        let Data::Words { words, indices } = &mut self.data else {
            return 0;
        };
        self.new_word = false;
        // Neighbours are often alike, and comparing is cheaper than hashing.
        if let Some(last) = indices.last().copied()
            && words.len() > last as usize
            && words.get(last as usize) == text
        {
            return last;
        }
        let hasher = &self.hasher;
        let entry = self.interned.entry(
            hasher.hash_one(text),
            |index| words.get(*index as usize) == text,
            |index| hasher.hash_one(words.get(*index as usize)),
        );
        let index = u32::try_from(words.ends.len()).unwrap_or(u32::MAX);
        let (index, new) = match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => (*entry.get(), false),
            hashbrown::hash_table::Entry::Vacant(entry) => (*entry.insert(index).get(), true),
        };
        if new {
            words.push(text);
            self.new_word = true;
        }
        index
    }

    /// Gives a row that had no value one.
    fn fill_text(&mut self, row: usize, text: &str) {
        let index = self.intern(text);
        if let (Data::Words { indices, .. }, Some(valid)) = (&mut self.data, &mut self.valid) {
            indices[row] = index;
            valid.set(row, true);
        }
    }

    /// Undoes the last row, with the word that only it had: a frame may not have more words than rows.
    fn truncate(&mut self, rows: usize) {
        if self.rows <= rows {
            return;
        }
        if std::mem::take(&mut self.new_word) {
            self.forget_last_word();
        }
        match &mut self.data {
            Data::Texts(texts) => texts.truncate(rows),
            Data::Words { indices, .. } => indices.truncate(rows),
            Data::Ints(ints) => ints.truncate(rows),
            Data::Floats(floats) => floats.truncate(rows),
        }
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
        self.rows = rows;
    }

    fn forget_last_word(&mut self) {
        let Data::Words { words, .. } = &mut self.data else {
            return;
        };
        let last = words.len().saturating_sub(1);
        let hash = self.hasher.hash_one(words.get(last));
        if let Ok(entry) = self.interned.find_entry(hash, |index| *index as usize == last) {
            entry.remove();
            words.truncate(last);
        }
    }

    fn finish(mut self, rows: usize) -> Option<Values> {
        self.pad(rows);
        let valid = self.valid.filter(|bits| bits.count() < rows);
        let empty = valid.as_ref().is_some_and(|bits| bits.count() == 0);
        (!empty).then_some(Values { data: self.data, valid })
    }
}

/// Records in the making, column-major.
#[derive(Debug)]
pub struct BatchBuilder {
    rows: usize,
    columns: Vec<Option<ColumnBuilder>>,
    ids: Vec<Option<(RecordId, u64)>>,
    any_id: bool,
    /// Columns that the open row has a value in, one bit each.
    open: u64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self {
            rows: 0,
            columns: (0..Column::ALL.len()).map(|_| None).collect(),
            ids: Vec::new(),
            any_id: false,
            open: 0,
        }
    }
}

impl BatchBuilder {
    /// Finished rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Has the open row a value in this column?
    #[must_use]
    pub fn has(&self, column: Column) -> bool {
        self.open & (1 << column.index()) != 0
    }

    fn column(&mut self, column: Column) -> &mut ColumnBuilder {
        self.open |= 1 << column.index();
        let rows = self.rows;
        let builder = self.columns[column.index()].get_or_insert_with(|| ColumnBuilder::new(column.kind()));
        builder.pad(rows);
        builder
    }

    /// Sets a text of the open row. Each column is set once a row.
    pub fn set_text(&mut self, column: Column, text: &str) {
        self.column(column).push_text(text);
    }

    /// Sets an integer or time of the open row.
    pub fn set_int(&mut self, column: Column, value: i64) {
        self.column(column).push_int(value);
    }

    /// Sets a float of the open row.
    pub fn set_float(&mut self, column: Column, value: f64) {
        self.column(column).push_float(value);
    }

    /// The open row's columns and values, in the order of the table, for [`crate::identity`].
    pub(crate) fn open_row(&self) -> impl Iterator<Item = (Column, &Data)> {
        Column::ALL
            .into_iter()
            .filter(|column| self.has(*column))
            .filter_map(|column| self.columns[column.index()].as_ref().map(|builder| (column, &builder.data)))
    }

    /// Closes the open row. `id` is the client's, with the hash of the row's payload.
    pub fn end_row(&mut self, id: Option<(RecordId, u64)>) {
        self.any_id |= id.is_some();
        self.ids.push(id);
        self.rows += 1;
        self.open = 0;
    }

    /// Forgets the open row.
    pub fn undo_row(&mut self) {
        let rows = self.rows;
        let open = std::mem::take(&mut self.open);
        for column in Column::ALL {
            if open & (1 << column.index()) != 0
                && let Some(builder) = &mut self.columns[column.index()]
            {
                builder.truncate(rows);
            }
        }
    }

    /// Stamps what the server adds — missing ids and times, the run of an activity that names none, the time of
    /// arrival — and closes the batch.
    #[must_use]
    pub fn stamp(mut self, mint: &mut IdMint, now_us: i64, origin: Option<Origin>) -> Batch {
        let rows = self.rows;
        let ids = self.take_ids(mint);
        self.fill_times(now_us);
        self.fill_runs(&ids);
        let columns =
            self.columns.into_iter().map(|builder| builder.and_then(|builder| builder.finish(rows))).collect();
        Batch { rows, ingested_at: now_us, ids, origin, columns }
    }

    /// Closes a batch of records that were stamped before: their ids, one for each, and their time of arrival.
    #[must_use]
    pub fn restore(self, ids: Vec<RecordId>, ingested_at: i64) -> Batch {
        let rows = self.rows;
        let consecutive = ids.windows(2).all(|pair| pair[1].as_u128() == pair[0].as_u128().wrapping_add(1));
        let ids = match ids.first() {
            Some(first) if consecutive => Ids::Minted { first: *first },
            _ => Ids::Given { hashes: vec![0; ids.len()], client: Bits::filled(ids.len(), false), ids },
        };
        let columns =
            self.columns.into_iter().map(|builder| builder.and_then(|builder| builder.finish(rows))).collect();
        Batch { rows, ingested_at, ids, origin: None, columns }
    }

    fn take_ids(&mut self, mint: &mut IdMint) -> Ids {
        if !self.any_id {
            return Ids::Minted { first: mint.mint() };
        }
        let mut client = Bits::default();
        let (mut ids, mut hashes) = (Vec::with_capacity(self.rows), Vec::with_capacity(self.rows));
        for id in &self.ids {
            client.push(id.is_some());
            let (id, hash) = id.unwrap_or_else(|| (mint.mint(), 0));
            ids.push(id);
            hashes.push(hash);
        }
        Ids::Given { ids, hashes, client }
    }

    fn fill_times(&mut self, now_us: i64) {
        let rows = self.rows;
        let builder = self.columns[Column::Timestamp.index()].get_or_insert_with(|| ColumnBuilder::new(Kind::Time));
        builder.pad(rows);
        if let (Data::Ints(times), Some(valid)) = (&mut builder.data, builder.valid.take()) {
            for (row, time) in times.iter_mut().enumerate() {
                if !valid.get(row) {
                    *time = now_us;
                }
            }
        }
    }

    fn fill_runs(&mut self, ids: &Ids) {
        let rows = self.rows;
        let activity = RecordType::Activity.as_str();
        let Some(Some(types)) = self.columns.get(Column::Type.index()) else {
            return;
        };
        let Data::Words { words, indices } = &types.data else {
            return;
        };
        let Some(activity) = (0..words.len()).find(|word| words.get(*word) == activity) else {
            return;
        };
        let missing: Vec<usize> = {
            let runs = self.columns[Column::RunId.index()].as_ref();
            let has_run =
                |row| runs.is_some_and(|runs| row < runs.rows && runs.valid.as_ref().is_none_or(|bits| bits.get(row)));
            let is_activity = |row: usize| {
                let typed = types.valid.as_ref().is_none_or(|bits| bits.get(row));
                typed && indices.get(row).is_some_and(|index| *index as usize == activity)
            };
            (0..rows).filter(|row| is_activity(*row) && !has_run(*row)).collect()
        };
        if missing.is_empty() {
            return;
        }
        let runs = self.columns[Column::RunId.index()].get_or_insert_with(|| ColumnBuilder::new(Kind::Identifier));
        runs.pad(rows);
        for row in missing {
            runs.fill_text(row, &ids.get(row).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_were_stamped_before_are_not_stamped_again() {
        for ids in [[7, 8, 9], [7, 9, 8]] {
            let mut builder = BatchBuilder::default();
            for row in 0..3 {
                builder.set_text(Column::Type, RecordType::Activity.as_str());
                builder.set_int(Column::Timestamp, 100 + row);
                builder.end_row(None);
            }
            let batch = builder.restore(ids.map(RecordId::from_u128).to_vec(), 5);
            let read = Batch::decode(&batch.encode()).expect("a frame");
            assert_eq!(read, batch);
            assert_eq!([0, 1, 2].map(|row| batch.ids().get(row).as_u128()), ids);
            assert_eq!(matches!(batch.ids(), Ids::Minted { .. }), ids == [7, 8, 9]);
            assert_eq!((batch.len(), batch.ingested_at(), batch.timestamp(2)), (3, 5, 102));
            assert_eq!((batch.text(Column::RunId, 0), batch.ids().client_hash(1)), (None, None));
        }
    }

    #[test]
    fn rows_without_a_type_are_no_activities() {
        let mut builder = BatchBuilder::default();
        for kind in [None, Some(RecordType::Activity), None] {
            builder.set_text(Column::Message, "x");
            if let Some(kind) = kind {
                builder.set_text(Column::Type, kind.as_str());
            }
            builder.end_row(None);
        }
        let batch = builder.stamp(&mut IdMint::new(1, 1), 1, None);
        let id = batch.ids().get(1).to_string();
        let runs: Vec<_> = (0..3).map(|row| batch.text(Column::RunId, row)).collect();
        assert_eq!(runs, [None, Some(id.as_str()), None]);
    }
}

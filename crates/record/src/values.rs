//! The values of one column over the rows of a batch, laid out so that Arrow can take them over without a loop
//! per record. Owns layout and row access; refuses to know which column it is.

use crate::bits::Bits;

/// Texts back to back, with offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Where each text ends in `text`; a row begins where the row before it ends.
    pub(crate) ends: Vec<u32>,
    pub(crate) text: String,
}

impl Texts {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The ends of the texts in [`Texts::bytes`].
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// All texts, back to back.
    #[must_use]
    pub fn bytes(&self) -> &str {
        &self.text
    }

    /// The ends and all texts, to be taken over as they are.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u32>, String) {
        (self.ends, self.text)
    }

    /// One text; empty past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends.get(row - 1).copied().unwrap_or(0) };
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.text.get(start as usize..end as usize).unwrap_or("")
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(end_of(&self.text));
    }

    pub(crate) fn extend_to(&mut self, len: usize) {
        if self.ends.len() < len {
            self.ends.resize(len, end_of(&self.text));
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.ends.len() {
            self.ends.truncate(len);
            self.text.truncate(self.ends.last().map_or(0, |end| *end as usize));
        }
    }
}

/// A batch is made of at most `BODY_DECODED_BYTES_MAX` bytes, far below what 32 bits can name.
fn end_of(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// The values of a column. A row without a value has an empty text, the index 0 or the number 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// One text a row.
    Texts(Texts),
    /// One index a row into texts that differ from each other.
    Words {
        /// The texts.
        words: Texts,
        /// Which one each row has.
        indices: Vec<u32>,
    },
    /// One integer a row; times are microseconds.
    Ints(Vec<i64>),
    /// One float a row.
    Floats(Vec<f64>),
}

/// A column of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    pub(crate) data: Data,
    pub(crate) valid: Option<Bits>,
}

impl Values {
    /// The values, rows without one included.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The values and which rows have one, to be taken over as they are.
    #[must_use]
    pub fn into_parts(self) -> (Data, Option<Bits>) {
        (self.data, self.valid)
    }

    /// Which rows have a value; none where all have.
    #[must_use]
    pub fn validity(&self) -> Option<&Bits> {
        self.valid.as_ref()
    }

    /// Has this row a value?
    #[must_use]
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|bits| bits.get(row))
    }

    /// A row's text; none for numbers.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<&str> {
        if !self.is_valid(row) {
            return None;
        }
        match &self.data {
            Data::Texts(texts) => Some(texts.get(row)),
            Data::Words { words, indices } => indices.get(row).map(|index| words.get(*index as usize)),
            Data::Ints(_) | Data::Floats(_) => None,
        }
    }

    /// A row's integer.
    #[must_use]
    pub fn int(&self, row: usize) -> Option<i64> {
        match &self.data {
            Data::Ints(ints) if self.is_valid(row) => ints.get(row).copied(),
            _ => None,
        }
    }

    /// A row's float.
    #[must_use]
    pub fn float(&self, row: usize) -> Option<f64> {
        match &self.data {
            Data::Floats(floats) if self.is_valid(row) => floats.get(row).copied(),
            _ => None,
        }
    }

    /// These rows only; none where none of them has a value.
    pub(crate) fn pick(&self, rows: &[usize]) -> Option<Self> {
        let mut valid = Bits::default();
        rows.iter().for_each(|row| valid.push(self.is_valid(*row)));
        let present = valid.count();
        let data = match &self.data {
            Data::Texts(texts) => {
                let mut kept = Texts::default();
                rows.iter().for_each(|row| kept.push(texts.get(*row)));
                Data::Texts(kept)
            }
            Data::Words { words, indices } => {
                pick_words(words, rows.iter().map(|row| (indices[*row], self.is_valid(*row))))
            }
            Data::Ints(ints) => Data::Ints(rows.iter().map(|row| ints[*row]).collect()),
            Data::Floats(floats) => Data::Floats(rows.iter().map(|row| floats[*row]).collect()),
        };
        let valid = (present < rows.len()).then_some(valid);
        (present > 0).then_some(Self { data, valid })
    }
}

/// Only the words that some row still has, in the order of their first use.
fn pick_words(words: &Texts, rows: impl Iterator<Item = (u32, bool)>) -> Data {
    let mut kept = Texts::default();
    let mut places: Vec<Option<u32>> = vec![None; words.len()];
    let mut place = |index: u32| {
        *places[index as usize].get_or_insert_with(|| {
            kept.push(words.get(index as usize));
            u32::try_from(kept.len() - 1).unwrap_or(u32::MAX)
        })
    };
    let indices = rows.map(|(index, valid)| if valid { place(index) } else { 0 }).collect();
    Data::Words { words: kept, indices }
}

//! Bytes → batch, or only some of its columns.

use super::{ColumnSet, FLAG_GIVEN_IDS, FLAG_ORIGIN, FLOATS, INTS, TEXTS, VERSION, WITH_VALIDITY, WORDS};
use crate::batch::{Batch, Origin};
use crate::bits::Bits;
use crate::columns::{Column, Kind};
use crate::ids::{Ids, RecordId};
use crate::limits::FRAME_ROWS_MAX;
use crate::values::{Data, Texts, Values};

/// Why a payload is not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a later version of Runstone.
    #[error("read frame of version {0}: this version of runstone reads version {VERSION}, use a newer one")]
    Version(u8),
    /// The bytes end early, or a value in them cannot be.
    #[error("read frame: bad {what} at byte {at}")]
    Damaged {
        /// What was being read.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

impl Batch {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are no batch of a known version.
    pub fn decode(payload: &[u8]) -> Result<Batch, DecodeError> {
        Self::decode_columns(payload, ColumnSet::ALL)
    }

    /// Reads only some columns of a payload; ids and origin come along.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are no batch of a known version.
    pub fn decode_columns(payload: &[u8], wanted: ColumnSet) -> Result<Batch, DecodeError> {
        let mut cursor = Cursor { bytes: payload, at: 0 };
        let version = cursor.u8("version")?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let flags = cursor.u8("flags")?;
        if flags & !(FLAG_GIVEN_IDS | FLAG_ORIGIN) != 0 {
            return Err(cursor.bad("flags"));
        }
        let rows = cursor.len("row count")?;
        if rows == 0 || rows > FRAME_ROWS_MAX {
            return Err(cursor.bad("row count"));
        }
        let ingested_at = i64::from_le_bytes(cursor.array("arrival time")?);
        let ids = cursor.ids(flags & FLAG_GIVEN_IDS != 0, rows)?;
        let origin = if flags & FLAG_ORIGIN == 0 { None } else { Some(cursor.origin()?) };
        let mut columns: Vec<Option<Values>> = vec![None; Column::ALL.len()];
        let mut before = 0;
        for _ in 0..cursor.u8("column count")? {
            let code = cursor.u8("column")?;
            let column = Column::from_code(code)
                .filter(|column| code > before && !column.is_stamped() && *column != Column::Id)
                .ok_or_else(|| cursor.bad("column"))?;
            before = code;
            let encoding = cursor.u8("encoding")?;
            let length = cursor.len("column length")?;
            let start = cursor.at;
            if wanted.has(column) {
                columns[column.index()] = Some(cursor.column(column, encoding, rows)?);
            } else {
                cursor.take(length, "column")?;
            }
            if cursor.at - start != length {
                return Err(cursor.bad("column length"));
            }
        }
        if cursor.at != payload.len() {
            return Err(cursor.bad("end"));
        }
        Ok(Batch { rows, ingested_at, ids, origin, columns })
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn bad(&self, what: &'static str) -> DecodeError {
        DecodeError::Damaged { what, at: self.at }
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or_else(|| self.bad(what))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let bad = self.bad(what);
        self.take(N, what)?.try_into().map_err(|_| bad)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn len(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        Ok(self.u32(what)? as usize)
    }

    fn text(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let len = self.len(what)?;
        let bytes = self.take(len, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.bad(what))
    }

    fn bits(&mut self, rows: usize, what: &'static str) -> Result<Bits, DecodeError> {
        let bytes = self.take(rows.div_ceil(8), what)?;
        Bits::from_bytes(bytes, rows).ok_or_else(|| self.bad(what))
    }

    fn ids(&mut self, given: bool, rows: usize) -> Result<Ids, DecodeError> {
        if !given {
            return Ok(Ids::Minted { first: RecordId::from_u128(u128::from_be_bytes(self.array("first id")?)) });
        }
        let bytes = self.take(rows * 16, "ids")?;
        let (chunks, _) = bytes.as_chunks::<16>();
        let ids = chunks.iter().map(|id| RecordId::from_u128(u128::from_be_bytes(*id))).collect();
        let client = self.bits(rows, "client ids")?;
        let mut hashes = vec![0; rows];
        for (row, hash) in hashes.iter_mut().enumerate() {
            if client.get(row) {
                *hash = u64::from_le_bytes(self.array("hash")?);
            }
        }
        Ok(Ids::Given { ids, hashes, client })
    }

    fn origin(&mut self) -> Result<Origin, DecodeError> {
        Ok(Origin {
            key: self.text("idempotency key")?,
            body_hash: u64::from_le_bytes(self.array("body hash")?),
            duplicates: self.u32("duplicates")?,
            rejected: self.u32("rejected")?,
            errors: self.text("errors")?,
        })
    }

    fn column(&mut self, column: Column, encoding: u8, rows: usize) -> Result<Values, DecodeError> {
        let valid = if encoding & WITH_VALIDITY == 0 { None } else { Some(self.bits(rows, "validity")?) };
        let data = match (encoding & !WITH_VALIDITY, column.kind()) {
            (TEXTS, Kind::Text | Kind::Json | Kind::Hex) => Data::Texts(self.texts(rows)?),
            (WORDS, Kind::Identifier | Kind::Word | Kind::Label | Kind::List) => self.words(rows)?,
            (INTS, Kind::Time | Kind::Int) => self.ints(rows, valid.as_ref())?,
            (FLOATS, Kind::Float) => {
                let (chunks, _) = self.take(rows * 8, "floats")?.as_chunks::<8>();
                Data::Floats(chunks.iter().map(|bits| f64::from_bits(u64::from_le_bytes(*bits))).collect())
            }
            _ => return Err(self.bad("encoding")),
        };
        Ok(Values { data, valid })
    }

    fn texts(&mut self, rows: usize) -> Result<Texts, DecodeError> {
        let mut ends = Vec::with_capacity(rows);
        let mut end = 0_u32;
        let bad = self.bad("text length");
        self.unsigned(rows, |length| {
            end = u32::try_from(length).ok().and_then(|length| end.checked_add(length)).ok_or_else(|| bad.clone())?;
            ends.push(end);
            Ok(())
        })?;
        let bytes = self.take(end as usize, "text")?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| self.bad("text"))?;
        if ends.iter().any(|end| !text.is_char_boundary(*end as usize)) {
            return Err(self.bad("text"));
        }
        Ok(Texts { ends, text })
    }

    fn words(&mut self, rows: usize) -> Result<Data, DecodeError> {
        let count = self.len("word count")?;
        if count > rows || count == 0 {
            return Err(self.bad("word count"));
        }
        let words = self.texts(count)?;
        let mut indices = Vec::with_capacity(rows);
        let bad = self.bad("word index");
        self.unsigned(rows, |index| {
            let index =
                u32::try_from(index).ok().filter(|index| (*index as usize) < count).ok_or_else(|| bad.clone())?;
            indices.push(index);
            Ok(())
        })?;
        Ok(Data::Words { words, indices })
    }

    fn ints(&mut self, rows: usize, valid: Option<&Bits>) -> Result<Data, DecodeError> {
        let least = i64::from_le_bytes(self.array("least")?);
        let mut ints = Vec::with_capacity(rows);
        self.unsigned(rows, |distance| {
            // A row without a value has the number 0 in memory, whatever distance stands for it.
            let absent = valid.is_some_and(|valid| !valid.get(ints.len()));
            ints.push(if absent { 0 } else { least.wrapping_add(distance.cast_signed()) });
            Ok(())
        })?;
        Ok(Data::Ints(ints))
    }

    /// `rows` numbers of one width.
    fn unsigned(
        &mut self,
        rows: usize,
        mut each: impl FnMut(u64) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let width = self.u8("width")?;
        if !matches!(width, 0 | 1 | 2 | 4 | 8) {
            return Err(self.bad("width"));
        }
        let bytes = self.take(rows * usize::from(width), "numbers")?;
        match width {
            0 => (0..rows).try_for_each(|_| each(0)),
            1 => bytes.iter().try_for_each(|byte| each(u64::from(*byte))),
            2 => bytes.as_chunks().0.iter().try_for_each(|number| each(u64::from(u16::from_le_bytes(*number)))),
            4 => bytes.as_chunks().0.iter().try_for_each(|number| each(u64::from(u32::from_le_bytes(*number)))),
            _ => bytes.as_chunks().0.iter().try_for_each(|number| each(u64::from_le_bytes(*number))),
        }
    }
}

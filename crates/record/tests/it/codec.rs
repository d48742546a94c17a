//! Frames come back as they were written, in whole or by column, and no bytes of any kind break the decoder.

use std::collections::HashSet;

use proptest::prelude::*;
use runstone_record::bits::Bits;
use runstone_record::limits::{BODY_DECODED_BYTES_MAX, FRAME_ROWS_MAX};
use runstone_record::values::Data;
use runstone_record::{Batch, Column, ColumnSet, DecodeError, Ids, Kind};

use crate::random::{batch, lines, stored};
use crate::{batch_of, golden, printed_bytes};

/// Everything that a row says.
fn row(batch: &Batch, row: usize) -> Vec<(Column, String)> {
    let value = |column: Column| {
        let text = batch.text(column, row).map(str::to_owned);
        let int = || batch.int(column, row).map(|number| number.to_string());
        let float = || batch.float(column, row).map(|number| number.to_bits().to_string());
        text.or_else(int).or_else(float).map(|value| (column, value))
    };
    let mut values: Vec<_> = Column::ALL.into_iter().filter_map(value).collect();
    values.push((Column::Id, format!("{} {:?}", batch.ids().get(row), batch.ids().client_hash(row))));
    values
}

fn comes_back(batch: &Batch) -> Result<(), TestCaseError> {
    let payload = batch.encode();
    let back = Batch::decode(&payload);
    prop_assert_eq!(back.as_ref(), Ok(batch));
    prop_assert_eq!(back.expect("a batch").encode(), payload);
    Ok(())
}

/// What every batch promises, however it was made.
fn is_sound(batch: &Batch) -> Result<(), TestCaseError> {
    for column in Column::ALL {
        let Some(values) = batch.column(column) else { continue };
        prop_assert!(stored().contains(&column), "{:?}", column);
        let valid = (0..batch.len()).filter(|row| values.is_valid(*row)).count();
        prop_assert!(valid > 0, "{:?} without a value", column);
        prop_assert_eq!(values.validity().is_some(), valid < batch.len());
        if let Data::Words { words, .. } = values.data() {
            let used: HashSet<_> = (0..batch.len()).filter_map(|row| values.text(row)).collect();
            let kept: HashSet<_> = (0..words.len()).map(|word| words.get(word)).collect();
            prop_assert_eq!((&kept, kept.len()), (&used, words.len()));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn records_come_back(body in lines()) {
        let batch = batch_of(&body);
        is_sound(&batch)?;
        comes_back(&batch)?;
    }

    #[test]
    fn any_columns_come_back(batch in batch()) {
        is_sound(&batch)?;
        comes_back(&batch)?;
    }

    #[test]
    fn some_columns_are_those_of_the_whole(batch in batch(), wanted in prop::sample::subsequence(stored(), 0..31)) {
        let some = Batch::decode_columns(&batch.encode(), ColumnSet::of(&wanted)).expect("a batch");
        prop_assert_eq!((some.len(), some.ingested_at()), (batch.len(), batch.ingested_at()));
        prop_assert_eq!((some.ids(), some.origin()), (batch.ids(), batch.origin()));
        for column in Column::ALL {
            let whole = batch.column(column).filter(|_| wanted.contains(&column));
            prop_assert_eq!(some.column(column), whole);
        }
    }

    #[test]
    fn a_filter_keeps_what_it_says(batch in batch(), keep in prop::collection::vec(any::<bool>(), 0..60)) {
        let mut bits = Bits::default();
        keep.iter().for_each(|bit| bits.push(*bit));
        let kept: Vec<usize> = (0..batch.len()).filter(|row| bits.get(*row)).collect();
        let filtered = batch.filter(&bits);
        prop_assert_eq!(filtered.len(), kept.len());
        prop_assert_eq!((filtered.ingested_at(), filtered.origin()), (batch.ingested_at(), batch.origin()));
        for (new, old) in kept.iter().enumerate() {
            prop_assert_eq!(row(&filtered, new), row(&batch, *old));
        }
        if !kept.is_empty() {
            is_sound(&filtered)?;
            comes_back(&filtered)?;
        }
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Batch::decode(&bytes);
        let framed = [&[1, 0, 1, 0, 0, 0][..], &[0; 24], &bytes].concat();
        let _ = Batch::decode(&framed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damage_is_found_or_harmless(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), to in any::<u8>(), more in 0_usize..4) {
        let frames = golden::frames();
        let mut payload = which.get(&frames).1.encode();
        for step in 0..=more {
            let len = payload.len();
            let byte = &mut payload[(at.index(len) + step * 7) % len];
            *byte = to.wrapping_add(u8::try_from(step).expect("few steps"));
        }
        // Whether a damaged payload still reads is the journal's checksum's business; that reading it is safe is ours.
        if let Ok(batch) = Batch::decode(&payload) {
            for at in [0, batch.len() - 1] {
                row(&batch, at);
                printed_bytes(&batch, at);
            }
            prop_assert!(batch.len() <= FRAME_ROWS_MAX);
            prop_assert!(Batch::decode(&batch.encode()).is_ok());
        }
    }
}

#[test]
fn every_cut_is_found() {
    for (name, batch) in golden::frames() {
        let payload = batch.encode();
        for len in 0..payload.len() {
            assert!(Batch::decode(&payload[..len]).is_err(), "{name} cut at {len}");
        }
        let longer = [&payload[..], &[0]].concat();
        assert!(matches!(Batch::decode(&longer), Err(DecodeError::Damaged { what: "end", .. })), "{name}");
    }
}

#[test]
fn another_version_is_named() {
    let mut payload = batch_of(r#"{"message":"m"}"#).encode();
    payload[0] = 2;
    assert_eq!(Batch::decode(&payload), Err(DecodeError::Version(2)));
    assert!(DecodeError::Version(2).to_string().contains("version 2"));
}

/// A header for `rows` minted ids, and one column.
fn payload(rows: u32, column: Column, encoding: u8, values: &[u8]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend(rows.to_le_bytes());
    out.extend([0; 8 + 16]);
    out.extend([1, column.code(), encoding]);
    out.extend(u32::try_from(values.len()).expect("short").to_le_bytes());
    out.extend(values);
    out
}

#[test]
fn no_length_is_believed() {
    let least = [0; 8];
    let ints = [&least[..], &[0]].concat();
    assert!(Batch::decode(&payload(3, Column::Lineno, 3, &ints)).is_ok());
    for rows in [0, u32::try_from(FRAME_ROWS_MAX).expect("small") + 1, u32::MAX] {
        assert!(Batch::decode(&payload(rows, Column::Lineno, 3, &ints)).is_err(), "{rows} rows");
    }
    let texts = |width: u8, lengths: &[u8], text: &[u8]| [&[width], lengths, text].concat();
    assert!(Batch::decode(&payload(2, Column::Message, 1, &texts(1, &[2, 1], b"abc"))).is_ok());
    for (values, why) in [
        (texts(1, &[2, 2], b"abc"), "past the end"),
        (texts(1, &[2, 0], b"abc"), "bytes left"),
        (texts(4, &[0xff; 8], b"abc"), "4 GiB each"),
        (texts(8, &[0xff; 16], b"abc"), "beyond 32 bits"),
        (texts(3, &[2, 0, 0, 1, 0, 0], b"abc"), "no such width"),
        (texts(1, &[1, 1], b"\xc3\xa9"), "a character cut in two"),
        (texts(1, &[1, 1], b"\xff\xfe"), "not UTF-8"),
    ] {
        assert!(Batch::decode(&payload(2, Column::Message, 1, &values)).is_err(), "{why}");
    }
    let words = |count: u32, rest: &[u8]| [&count.to_le_bytes()[..], rest].concat();
    assert!(Batch::decode(&payload(2, Column::Status, 2, &words(1, b"\x01\x01a\x00"))).is_ok());
    for (values, why) in [
        (words(0, b"\x00\x00"), "no word"),
        (words(3, b"\x01\x01\x01\x01abc\x01\x00\x01"), "more words than rows"),
        (words(u32::MAX, b"\x01\x01a\x00"), "4 billion words"),
        (words(1, b"\x01\x01a\x01\x00\x01"), "an index past the words"),
    ] {
        assert!(Batch::decode(&payload(2, Column::Status, 2, &values)).is_err(), "{why}");
    }
}

/// Columns of equal numbers have no bytes for their rows: what they cost in memory is bounded by the count alone.
#[test]
fn few_bytes_become_no_more_memory_than_a_body() {
    let columns = stored();
    let mut payload = payload(u32::try_from(FRAME_ROWS_MAX).expect("small"), Column::Timestamp, 3, &[0; 9]);
    payload[30] = u8::try_from(columns.len()).expect("few");
    for column in &columns[1..] {
        let (encoding, values): (u8, &[u8]) = match column.kind() {
            Kind::Text | Kind::Hex | Kind::Json => (1, &[0]),
            Kind::Identifier | Kind::Word | Kind::Label | Kind::List => (2, &[1, 0, 0, 0, 0, 0]),
            Kind::Float => continue,
            _ => (3, &[0; 9]),
        };
        payload.extend([column.code(), encoding, u8::try_from(values.len()).expect("short"), 0, 0, 0]);
        payload.extend(values);
    }
    payload[30] -= 1;
    let batch = Batch::decode(&payload).expect("a batch");
    let bytes: usize = columns
        .iter()
        .filter_map(|column| batch.column(*column))
        .map(|values| match values.data() {
            Data::Texts(texts) => 4 * texts.len(),
            Data::Words { indices, .. } => 4 * indices.len(),
            Data::Ints(ints) => 8 * ints.len(),
            Data::Floats(floats) => 8 * floats.len(),
        })
        .sum();
    assert!(payload.len() < 500 && bytes < BODY_DECODED_BYTES_MAX, "{} bytes become {bytes}", payload.len());
}

#[test]
fn a_column_has_its_own_encoding() {
    for column in Column::ALL {
        for encoding in 0..=u8::MAX {
            let wanted = match column.kind() {
                _ if !stored().contains(&column) => 0,
                Kind::Text | Kind::Hex | Kind::Json => 1,
                Kind::Identifier | Kind::Word | Kind::Label | Kind::List => 2,
                Kind::Time | Kind::Int => 3,
                Kind::Float => 4,
                Kind::Id | Kind::Date => 0,
            };
            let values: &[u8] = match encoding & 0x7f {
                1 => b"\x01\x00",
                2 => b"\x01\x00\x00\x00\x01\x01a\x00",
                3 => &[0; 9],
                _ => &[0; 8],
            };
            let validity: &[u8] = if encoding & 0x80 == 0 { &[] } else { &[1] };
            let payload = payload(1, column, encoding, &[validity, values].concat());
            let good = encoding & 0x7f == wanted && wanted != 0;
            assert_eq!(Batch::decode(&payload).is_ok(), good, "{column:?} {encoding}");
        }
    }
}

#[test]
fn columns_stand_once_and_in_order() {
    let column = |column: Column| [&[column.code(), 3, 9, 0, 0, 0][..], &[0; 9]].concat();
    let two = |one, other| {
        let mut out = payload(1, one, 3, &[0; 9]);
        out[30] = 2;
        out.extend(column(other));
        Batch::decode(&out)
    };
    assert!(two(Column::Timestamp, Column::Lineno).is_ok());
    assert!(two(Column::Lineno, Column::Timestamp).is_err());
    assert!(two(Column::Lineno, Column::Lineno).is_err());
}

/// Refused and repeated records leave no words behind: a frame names each word that it has, and no other.
#[test]
fn words_of_records_that_are_gone_are_gone() {
    let records: Vec<String> = (0..1_000)
        .map(|run| format!(r#"{{"run_id":"r{run}","lineno":{}}}"#, if run == 500 { "1" } else { "\"x\"" }))
        .collect();
    let parsed = runstone_record::parse::ndjson(records.join("\n").as_bytes()).expect("lines");
    assert_eq!(parsed.places, [500]);
    let one = crate::stamp(parsed);
    assert_eq!(one, batch_of(r#"{"run_id":"r500","lineno":1}"#));
    assert_eq!(Batch::decode(&one.encode()), Ok(one));

    let records: Vec<String> = (0..1_000).map(|run| format!(r#"{{"run_id":"r{run}"}}"#)).collect();
    let all = batch_of(&records.join("\n"));
    let mut keep = Bits::filled(1_000, false);
    keep.set(7, true);
    let one = all.filter(&keep);
    assert_eq!(one.text(Column::RunId, 0), Some("r7"));
    assert_eq!(Batch::decode(&one.encode()), Ok(one));
}

#[test]
fn minted_ids_cost_sixteen_bytes() {
    let record = "{\"message\":\"\",\"timestamp\":\"2025-01-01T00:00:00Z\"}\n";
    let (one, many) = (batch_of(record), batch_of(&record.repeat(1_000)));
    assert!(matches!(many.ids(), Ids::Minted { .. }));
    assert_eq!(one.encode().len(), many.encode().len());
}

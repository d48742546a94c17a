//! What the files of a million records weigh and cost. Run by hand:
//!
//! ```text
//! python3 bench/gen_logs.py --records 1000000 --out /tmp/gen1m
//! GEN=/tmp/gen1m cargo nextest run --release --lib --workspace --run-ignored only -E 'test(lake::tests::bench)' --no-capture
//! ```
#![allow(clippy::disallowed_methods, reason = "run by hand, with its input in the environment")]
#![allow(clippy::print_stdout, reason = "figures for whoever runs it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use runstone_record::parse::ndjson;
use runstone_record::{Batch, IdMint};

use super::world::{JOURNAL, options};
use crate::lake::encode::{EncodeOptions, FileEncoder};
use crate::lake::{Lake, LakeWriter, WriterOptions};

/// Processor seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn frames(from: &Path) -> Vec<Bytes> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    paths.sort();
    let mut now_us = 1_795_180_000_000_000;
    let frames = paths.iter().enumerate().map(|(place, path)| {
        now_us += 5_000 + (place as i64 * 7_919) % 3_000;
        let parsed = ndjson(&std::fs::read(path).unwrap()).unwrap();
        let random = (place as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let mut mint = IdMint::new(u64::try_from(now_us / 1_000).unwrap(), random);
        Bytes::from(parsed.builder.stamp(&mut mint, now_us, None).encode())
    });
    frames.collect()
}

fn metadata(bytes: &Bytes) -> Arc<ParquetMetaData> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap();
    Arc::clone(reader.metadata())
}

fn print_columns(files: &[Bytes]) {
    let mut columns: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let (mut pages, mut blooms, mut groups) = (0, 0, 0);
    for file in files {
        for group in metadata(file).row_groups() {
            groups += 1;
            for chunk in group.columns() {
                let entry = columns.entry(chunk.column_path().string()).or_default();
                entry.0 += chunk.compressed_size();
                entry.1 += i64::from(chunk.bloom_filter_length().unwrap_or(0));
                blooms += i64::from(chunk.bloom_filter_length().unwrap_or(0));
                pages += chunk.compressed_size();
            }
        }
    }
    let total: usize = files.iter().map(Bytes::len).sum();
    let mut columns: Vec<_> = columns.into_iter().collect();
    columns.sort_by_key(|(_, (bytes, _))| -bytes);
    for (name, (bytes, bloom)) in columns.iter().take(18) {
        println!("{name:>16} {bytes:>10} bloom {bloom:>8}");
    }
    let rest: i64 = columns.iter().skip(18).map(|(_, (bytes, _))| bytes).sum();
    println!("{:>16} {rest:>10}", "others");
    println!("{} files, {groups} groups, {total} bytes: pages {pages}, blooms {blooms}", files.len());
    println!("footers and page indices {}", total as i64 - pages - blooms);
}

fn files(lake: &Path) -> Vec<Bytes> {
    let mut files = Vec::new();
    for day in std::fs::read_dir(lake).unwrap().map(|entry| entry.unwrap().path()) {
        if day.file_name().unwrap().to_str().unwrap().starts_with("date=") {
            let paths = std::fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path());
            files.extend(paths.map(|path| Bytes::from(std::fs::read(path).unwrap())));
        }
    }
    files
}

/// As compaction does: texts stay dictionaries.
fn encode_again(file: &Bytes) -> Bytes {
    let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let inferred = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let fields = inferred.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 if field.name() != "id" => field.as_ref().clone().with_data_type(words.clone()),
        _ => field.as_ref().clone(),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut encoder = FileEncoder::new(EncodeOptions { small: true }).unwrap();
    for group in 0..metadata(file).num_row_groups() {
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&schema));
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
        let reader = reader.with_row_groups(vec![group]).with_batch_size(1 << 14).build().unwrap();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        encoder.write_group(&concat_batches(&schema, &batches).unwrap()).unwrap();
    }
    encoder.finish().unwrap().bytes
}

#[tokio::test]
#[ignore = "a measurement: needs a million records and a release build"]
async fn a_million_records() {
    let from = PathBuf::from(std::env::var("GEN").unwrap_or_else(|_| "/tmp/gen1m".to_owned()));
    let frames = frames(&from);
    let place = tempfile::tempdir().unwrap();
    let lake = Lake::open(options(place.path())).await.unwrap();
    let mut writer = LakeWriter::new(lake, WriterOptions::default());
    let flush_bytes: usize = std::env::var("FLUSH_BYTES").map_or(64 << 20, |bytes| bytes.parse().unwrap());

    let started = cpu();
    let (mut first, mut after, mut flushing) = (1_u64, None, 0.0);
    for (place, frame) in frames.iter().enumerate() {
        let batch = Batch::decode(frame).unwrap();
        let rows = batch.len() as u64;
        writer.push(JOURNAL, first, batch).unwrap();
        first += rows;
        if writer.pending().bytes >= flush_bytes || place + 1 == frames.len() {
            let before = cpu();
            after = writer.flush(after).await.unwrap().map(|flushed| flushed.through);
            flushing += cpu() - before;
        }
    }
    println!("{} records; decode and collect {:.2} s, flush {flushing:.2} s", first - 1, cpu() - started - flushing);
    let written = files(place.path());
    print_columns(&written);

    let started = cpu();
    let again: Vec<Bytes> = written.iter().map(encode_again).collect();
    println!("read and encode again {:.2} s", cpu() - started);
    print_columns(&again);
    if let Ok(kept) = std::env::var("KEEP") {
        for (number, file) in again.iter().enumerate() {
            std::fs::write(Path::new(&kept).join(format!("{number}.parquet")), file).unwrap();
        }
    }
}

//! The sink's steady rate beside that of plain binary COPY into the same table, all of its columns and indexes there, in one run.
//!
//! `cargo run --release -p runstone-sinks --features postgres --example postgres_rate -- URL [BATCHES] [ROUNDS]`
//!
//! The tables `runstone_rate_*` are made and emptied. COPY is sent bytes that the server itself printed, so that it costs
//! its client nothing; the sink makes its own from the records, and moves its cursor.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::error::Error;
use std::pin::pin;
use std::time::Instant;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use runstone_record::{IdMint, parse};
use runstone_sinks::postgres::{Options, Postgres};
use runstone_sinks::{Delivery, Frame, Sink};
use tokio_postgres::{Client, NoTls};

/// Records of a batch.
const BATCH: u64 = 5_000;
const SOURCE: &str = "0192f0c1-2d3e-7f40-8a5b-6c7d8e9fa0b1/1";
const LEVELS: [&str; 5] = ["INFO", "INFO", "INFO", "WARNING", "ERROR"];

fn frame(place: u64) -> Result<Frame, Box<dyn Error>> {
    let first = 1 + place * BATCH;
    let record = |position: u64| {
        let (run, part) = (position / 500, position % 7);
        serde_json::json!({
            "source_system": format!("system-{part}"), "stage": "load", "run_id": format!("20260101_{run:06}_abcdef"),
            "type": "info", "level": LEVELS[usize::try_from(position % 5).unwrap_or(0)],
            "timestamp": format!("2026-01-01T{:02}:{:02}:{:02}Z", position / 3_600 % 24, position / 60 % 60, position % 60),
            "logger_name": format!("jobs.part_{part}"), "hostname": format!("worker-{part}"), "process_id": 4_000 + part,
            "message": format!("moved {position} rows of table_{part} in {} ms", position % 911),
            "metadata": {"table": format!("table_{part}"), "rows": position, "ratio": 0.25, "tags": ["nightly", "full"]},
        })
    };
    let records: Vec<serde_json::Value> = (first..first + BATCH).map(record).collect();
    let parsed = parse::json(serde_json::to_string(&records)?.as_bytes())?;
    let mut mint = IdMint::new(1_795_861_234_567 + place, u128::from(first) << 40);
    Ok(Frame { first, batch: parsed.builder.stamp(&mut mint, 1_795_861_234_567_890, None) })
}

/// What the server would be sent for these rows.
async fn printed(client: &Client, columns: &str, first: u64) -> Result<Vec<Bytes>, Box<dyn Error>> {
    let last = first + BATCH - 1;
    let statement = format!(
        "COPY (SELECT {columns} FROM runstone_rate_logs WHERE position BETWEEN {first} AND {last} ORDER BY position) \
         TO STDOUT (FORMAT binary)"
    );
    let mut stream = pin!(client.copy_out(&statement).await?);
    let mut pieces: Vec<u8> = Vec::new();
    while let Some(piece) = stream.next().await {
        pieces.extend_from_slice(&piece?);
    }
    Ok(pieces.chunks(128 << 10).map(Bytes::copy_from_slice).collect())
}

async fn empty(client: &Client) -> Result<(), Box<dyn Error>> {
    client.batch_execute("TRUNCATE runstone_rate_logs, runstone_rate_cursors").await?;
    client
        .batch_execute("CHECKPOINT")
        .await
        .or_else(|error| if error.code().is_some() { Ok(()) } else { Err(error) })?;
    Ok(())
}

async fn plain(client: &mut Client, columns: &str, batches: &[Vec<Bytes>]) -> Result<f64, Box<dyn Error>> {
    let statement = client.prepare(&format!("COPY runstone_rate_logs ({columns}) FROM STDIN (FORMAT binary)")).await?;
    let start = Instant::now();
    for pieces in batches {
        let transaction = client.transaction().await?;
        let mut sink = pin!(transaction.copy_in::<_, Bytes>(&statement).await?);
        for piece in pieces {
            sink.feed(piece.clone()).await?;
        }
        sink.finish().await?;
        transaction.commit().await?;
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn through_the_sink(sink: &mut Postgres, frames: &[Frame]) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    for frame in frames {
        let (after, through) = (frame.first - 1, frame.first + BATCH - 1);
        let delivered =
            sink.deliver(Delivery { source: SOURCE, after, frames: std::slice::from_ref(frame), through }).await?;
        if !delivered.dead_letters.is_empty() {
            return Err(format!("{} dead letters", delivered.dead_letters.len()).into());
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("say the URL of a database")?;
    let batches: u32 = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let rounds: u32 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let connection = tokio::spawn(connection);
    let mut sink = Postgres::new(Options::new(url, "runstone_rate"))?;
    sink.cursor(SOURCE).await?;
    empty(&client).await?;
    let frames = (0..u64::from(batches)).map(frame).collect::<Result<Vec<_>, _>>()?;
    through_the_sink(&mut sink, &frames).await?;
    let columns = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
                   WHERE attrelid = 'runstone_rate_logs'::regclass AND attnum > 0 AND attname NOT IN ('id', 'created_at')";
    let columns: String = client.query_one(columns, &[]).await?.get(0);
    let mut bytes = Vec::new();
    for frame in &frames {
        bytes.push(printed(&client, &columns, frame.first).await?);
    }
    let rows = f64::from(batches) * f64::from(u32::try_from(BATCH)?);
    let (mut of_plain, mut of_sink, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who comes first changes, so that a machine that gets slower or faster favours neither.
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            empty(&client).await?;
            let is_sink = (round + turn) % 2 == 1;
            let seconds = if is_sink {
                through_the_sink(&mut sink, &frames).await?
            } else {
                plain(&mut client, &columns, &bytes).await?
            };
            rates[usize::from(is_sink)] = rows / seconds;
        }
        let [plain_rate, sink_rate] = rates;
        println!("round {}: plain COPY {plain_rate:.0} rows/s, the sink {sink_rate:.0} rows/s", round + 1);
        of_plain.push(plain_rate);
        of_sink.push(sink_rate);
        ratios.push(sink_rate / plain_rate);
    }
    client.batch_execute("DROP TABLE runstone_rate_logs, runstone_rate_cursors, runstone_rate_dead_letters").await?;
    let (plain, sink, ratio) = (median(&mut of_plain), median(&mut of_sink), median(&mut ratios));
    println!("{}", serde_json::json!({"plain": plain, "sink": sink, "ratio": ratio}));
    drop(client);
    connection.await??;
    Ok(())
}

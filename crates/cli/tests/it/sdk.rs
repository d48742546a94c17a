//! The Rust client against the real server: what its methods promise.

use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use runstone_sdk::{
    Batch, Client, ClientError, Format, LogsFilter, Marks, Order, Query, Record, Row, RunsFilter, rows,
};
use serde::Deserialize;

use crate::harness::Server;

const HUGE: &str = "123456789012345678901234567890";

fn client(server: &Server) -> Client {
    Client::builder(server.url()).deadline(Duration::from_secs(30)).build().unwrap()
}

async fn send(client: &Client, run: &str, numbers: std::ops::Range<u32>) {
    let record = |number: u32| {
        let text = format!(
            r#"{{"run_id": "{run}", "stage": "load", "message": "{number}", "row_count": {number}, "metadata": {{"huge": {HUGE}}}}}"#
        );
        Record::from_json(&text).unwrap()
    };
    let records: Vec<_> = numbers.map(record).collect();
    let report = client.send(&Batch::of(&records).unwrap()).await.unwrap();
    assert_eq!(report.accepted, records.len() as u64);
}

fn numbers(records: &[Row]) -> Vec<i64> {
    records.iter().map(|record| record.integer("row_count").unwrap()).collect()
}

#[tokio::test]
async fn what_is_sent_is_read_page_by_page_record_by_record_and_run_by_run() {
    let server = Server::start();
    let client = client(&server);
    assert_eq!(client.health().await.unwrap().status, "healthy");
    send(&client, "a", 0..250).await;
    send(&client, "b", 250..300).await;
    let filter = LogsFilter::new().run_id("a").order(Order::Oldest).limit(100);
    let page = client.logs(&filter).await.unwrap();
    assert_eq!((page.records.len(), page.next.is_some()), (100, true));
    assert!(page.records[0].get("metadata").unwrap().get().contains(HUGE), "{}", page.records[0]);
    let pages: Vec<_> = client.log_pages(&filter).try_collect().await.unwrap();
    assert_eq!(pages.iter().map(|page| page.records.len()).collect::<Vec<_>>(), [100, 100, 50]);
    let mut all: Vec<_> = client.log_records(&LogsFilter::new().limit(7)).try_collect().await.unwrap();
    all.sort_by_key(|record| record.integer("position"));
    assert_eq!(numbers(&all), (0..300).collect::<Vec<_>>());

    let run = client.run("a").await.unwrap().unwrap();
    assert_eq!((run.state.as_str(), run.records), ("running", 250));
    assert!(client.run("c").await.unwrap().is_none());
    assert!(client.run_logs("c", &LogsFilter::new()).await.unwrap().is_none());
    let of_run = client.run_logs("b", &LogsFilter::new().limit(3)).await.unwrap().unwrap();
    assert_eq!(numbers(&of_run.records), [250, 251, 252]);
    let stream = client.run_log_bytes("b", &LogsFilter::new(), Format::Ndjson).await.unwrap().unwrap();
    let streamed: Vec<Row> = rows(stream, ClientError::Row).try_collect().await.unwrap();
    assert_eq!(numbers(&streamed), (250..300).collect::<Vec<_>>());
    let newest = LogsFilter::new().order(Order::Newest).limit(2);
    let stream = client.run_log_bytes("b", &newest, Format::Csv).await.unwrap().unwrap();
    let csv = stream.try_fold(Vec::new(), async |csv, piece| Ok([csv, piece.to_vec()].concat())).await.unwrap();
    assert_eq!(String::from_utf8(csv).unwrap().matches("\r\n").count(), 3);
    assert!(client.run_log_bytes("c", &LogsFilter::new(), Format::Csv).await.unwrap().is_none());
    let runs: Vec<_> = client.run_records(&RunsFilter::new().state("running").limit(1)).try_collect().await.unwrap();
    let mut ids: Vec<_> = runs.into_iter().map(|run| run.run_id).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b"]);

    let ready = client.ready().await.unwrap();
    assert!(ready.takes_records() && ready.durable_position == 300, "{ready:?}");
}

#[tokio::test]
async fn a_query_is_read_as_types_and_a_mistake_says_what_it_is() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Count {
        stage: String,
        records: u64,
    }
    let server = Server::start();
    let client = client(&server);
    send(&client, "a", 0..10).await;
    let answer = client.query("SELECT stage, count(*) AS records FROM logs GROUP BY stage").await.unwrap();
    assert_eq!(answer.rows_as::<Count>().unwrap(), [Count { stage: "load".to_owned(), records: 10 }]);
    assert_eq!(answer.columns[1].name, "records");
    let one = Query::new("SELECT message FROM logs WHERE row_count = $n AND stage = $stage");
    let one = client.query(one.param("n", 7).param("stage", "load")).await.unwrap();
    assert_eq!(one.rows.iter().map(|row| row.text("message").unwrap()).collect::<Vec<_>>(), ["7"]);
    let error = client.query("SELECT nothing FROM logs").await.unwrap_err();
    let ClientError::Refused { status: 400, code, retryable: false, .. } = &error else { panic!("{error:?}") };
    assert_eq!(code, "invalid_query");
    let error = client.logs(&LogsFilter::new().with("stages", "x")).await.unwrap_err();
    assert!(error.code() == Some("invalid_parameter") && error.to_string().contains("is stage meant?"), "{error}");
    let late = client.query(Query::new("SELECT count(*) FROM logs a, logs b").timeout(Duration::ZERO)).await;
    assert!(matches!(late, Err(ClientError::Lost { .. })), "{late:?}");
    send(&client, "b", 10..500).await;
    let slow =
        "SELECT count(*) FROM logs a, logs b, logs c, logs d WHERE a.message || b.message < c.message || d.message";
    let late = client.query(Query::new(slow).timeout_ms(50)).await.unwrap_err();
    assert_eq!(late.code(), Some("query_timeout"), "{late}");
    let late = client.query_stream(Query::new(slow).timeout_ms(50)).await.err().unwrap();
    assert_eq!(late.code(), Some("query_timeout"), "{late}");
    let longer = client.query(Query::new("SELECT 1").timeout_ms(3_600_000)).await.unwrap_err();
    assert!(longer.to_string().contains("query.timeout_ms"), "{longer}");
}

#[tokio::test]
async fn a_tail_begins_where_it_is_told_and_goes_on_where_another_stopped() {
    let server = Server::start();
    let client = client(&server);
    send(&client, "a", 0..1_500).await;
    let tail = |from: Marks| client.tail(&LogsFilter::new()).from(from).interval(Duration::from_millis(20)).stream();
    // From the beginning, over more than a page; and on from the middle of it.
    let first: Vec<_> = tail(Marks::default()).take(1_200).try_collect().await.unwrap();
    let mut marks = Marks::default();
    first.iter().for_each(|record| marks.pass(record));
    let rest: Vec<_> = tail(marks).take(300).try_collect().await.unwrap();
    assert_eq!(numbers(&[first, rest].concat()), (0..1_500).collect::<Vec<_>>());
    // From now on.
    let now = client.marks().await.unwrap();
    let mut coming = tail(now.clone());
    send(&client, "b", 1_500..1_503).await;
    let arrived: Vec<_> = coming.by_ref().take(3).try_collect().await.unwrap();
    assert_eq!(numbers(&arrived), [1_500, 1_501, 1_502]);
    assert!(!now.cover(&arrived[0]));
    // As the pages have them.
    let page = client.logs(&LogsFilter::new().run_id("b").order(Order::Oldest)).await.unwrap();
    assert_eq!(page.records, arrived);
    let filter = LogsFilter::new().with("message", "x");
    let refused = client.tail(&filter).stream().try_next().await;
    assert!(matches!(refused, Err(ClientError::Filter { .. })), "{refused:?}");
}

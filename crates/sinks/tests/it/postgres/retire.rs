//! Old rows go, a part at a time.

use runstone_sinks::contract::{SOURCE, expected, feed, frames, stored};
use runstone_sinks::{Sink, SinkError};

use super::Tables;

#[tokio::test]
async fn rows_older_than_so_many_days_go_and_no_others() {
    let tables = Tables::new();
    let ask = |sql: &str| tables.cluster.ask(sql);
    let mut sink = tables.open();
    let frames = frames(&tables, 2, 10);
    feed(&mut sink, SOURCE, &frames).await;
    let now: i64 = ask("SELECT (extract(epoch FROM now()) * 1000000)::bigint").parse().unwrap();
    // Theirs, of a thousand days; the newest of them are not old enough.
    ask("INSERT INTO test_logs (timestamp, level, logger_name, process_id, thread_id, hostname, message) \
         SELECT now() - n * interval '2 hours', 'INFO', 'l', n, 1, 'h', 'm' FROM generate_series(1, 12000) n");
    ask("UPDATE test_logs SET timestamp = now() WHERE record_id IS NOT NULL");
    let mut other = tables.cluster.session();
    other.say("BEGIN; SELECT * FROM test_logs WHERE process_id = 11000 FOR UPDATE;");
    // Twelve rows a day, of thirty days.
    assert_eq!(sink.retain(30, now).await.unwrap(), 12_000 - 360 - 1);
    assert_eq!(ask("SELECT count(*), max(process_id) FROM test_logs WHERE record_id IS NULL"), "361|11000");
    drop(other);
    // The server ends the session when it notices.
    while ask("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") != "0" {}
    assert_eq!(sink.retain(30, now).await.unwrap(), 1);
    assert_eq!(sink.retain(30, now).await.unwrap(), 0);
    assert_eq!(ask("SELECT count(*) FROM test_logs WHERE record_id IS NOT NULL"), "20");
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 20);
    // A clock that has jumped deletes nothing.
    let ahead = sink.retain(1, now + 10 * 366 * 86_400_000_000).await;
    assert!(matches!(ahead, Err(SinkError::Misconfigured { .. })), "{ahead:?}");
    assert_eq!(ask("SELECT count(*) FROM test_logs"), "380");
    // What has gone does not come again.
    ask("DELETE FROM test_logs");
    feed(&mut sink, SOURCE, &frames).await;
    assert_eq!(stored(&tables).await, []);
    assert_eq!(expected(SOURCE, &frames, &[]).len(), 20);
}

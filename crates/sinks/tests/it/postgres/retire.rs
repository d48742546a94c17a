//! Old rows go, a part at a time.

use runstone_sinks::contract::{SOURCE, expected, feed, frames, stored};
use runstone_sinks::{Sink, SinkError};

use super::{Tables, until};
use crate::cluster::Cluster;

/// Each statement's plan goes to the server's log.
const EXPLAINS: &str =
    "session_preload_libraries = 'auto_explain'\nauto_explain.log_min_duration = 0\nauto_explain.log_analyze = on";
/// Notes for each statement that deletes: its transaction, how many rows, the oldest and the newest by their number.
const NOTES: &str = "CREATE TABLE parts (place bigserial, xid bigint, rows bigint, oldest int, newest int);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO parts (xid, rows, oldest, newest)
        SELECT txid_current(), count(*), max(process_id), min(process_id) FROM gone HAVING count(*) > 0;
        RETURN NULL;
    END$$;
    CREATE TRIGGER note AFTER DELETE ON test_logs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note()";

/// The plans of the statements that delete records.
fn plans(cluster: &Cluster) -> Vec<String> {
    let log = cluster.program("cat").arg(cluster.dir().join("log")).output().unwrap();
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let plans = log.split("duration: ").filter(|said| said.contains("Query Text: DELETE FROM \"test_logs\""));
    plans.map(str::to_owned).collect()
}

#[tokio::test]
async fn rows_older_than_so_many_days_go_and_no_others() {
    let tables = Tables::of(Cluster::start_with(&[], |_| EXPLAINS.to_owned()));
    let ask = |sql: &str| tables.cluster.ask(sql);
    let mut sink = tables.open();
    let frames = frames(&tables, 2, 10);
    feed(&mut sink, SOURCE, &frames).await;
    let now: i64 = ask("SELECT (extract(epoch FROM now()) * 1000000)::bigint").parse().unwrap();
    // Theirs, of a thousand days; the newest of them are not old enough.
    ask("INSERT INTO test_logs (timestamp, level, logger_name, process_id, thread_id, hostname, message) \
         SELECT now() - n * interval '2 hours', 'INFO', 'l', n, 1, 'h', 'm' FROM generate_series(1, 12000) n");
    ask("UPDATE test_logs SET timestamp = now() WHERE record_id IS NOT NULL");
    ask(NOTES);
    ask("ANALYZE test_logs");
    let mut other = tables.cluster.session();
    other.say("BEGIN; SELECT * FROM test_logs WHERE process_id = 11000 FOR UPDATE;");
    // Twelve rows a day, of thirty days.
    assert_eq!(sink.retain(30, now).await.unwrap(), 12_000 - 360 - 1);
    assert_eq!(ask("SELECT count(*), max(process_id) FROM test_logs WHERE record_id IS NULL"), "361|11000");
    // A part a transaction, the oldest first.
    let parts =
        "SELECT string_agg(concat_ws(' ', rows, oldest, newest), ', ' ORDER BY place), count(DISTINCT xid) FROM parts";
    assert_eq!(ask(parts), "5000 12000 7000, 5000 6999 2000, 1639 1999 361|3");
    // Each finds them through an index on their time, not by reading or sorting the table.
    let plans = plans(&tables.cluster);
    assert!(plans.len() > 2, "{plans:?}");
    for plan in plans {
        let found = plan.split("LockRows").nth(1).unwrap_or_else(|| panic!("{plan}"));
        let found = found.split("SubPlan").next().unwrap_or_default();
        assert!(found.contains("Index Cond: (\"timestamp\" <") && !found.contains("Sort"), "{plan}");
    }
    drop(other);
    // The server ends the session when it notices.
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    until("the end of a session", || ask(idle) == "0").await;
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

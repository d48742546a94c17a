//! PostgreSQL stops, is killed, is locked, loses answers: rows and cursor stay together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runstone_sinks::contract::{NEXT_SOURCE, SOURCE, Target, expected, feed, frame, frames, last, once, stored};
use runstone_sinks::postgres::Postgres;
use runstone_sinks::{DeadLetters, Delivered, Frame, Redelivered, Sink, SinkError};

use super::proxy::Proxy;
use super::{Tables, options, until};

/// Sinks whose COPY waits inside for a lock that somebody has.
struct Stuck {
    tables: Tables,
    holder: crate::cluster::Session,
}

impl Stuck {
    async fn new() -> Self {
        let tables = Tables::new();
        tables.open().cursor(SOURCE).await.unwrap();
        tables.cluster.ask(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN IF NEW.position = 30 THEN PERFORM pg_advisory_xact_lock(42); END IF; RETURN NEW; END$$",
        );
        tables.cluster.ask("CREATE TRIGGER wait BEFORE INSERT ON test_logs FOR EACH ROW EXECUTE FUNCTION wait()");
        let mut holder = tables.cluster.session();
        holder.say("SELECT pg_advisory_lock(42);");
        Self { tables, holder }
    }

    fn waiting(&self) -> String {
        self.tables.cluster.ask(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'runstone' AND query LIKE 'COPY%' \
             AND wait_event_type = 'Lock'",
        )
    }

    /// Delivers, has something happen while COPY is half done, and looks at what came of it.
    async fn meanwhile(mut self, happens: impl FnOnce(&Tables, &str)) {
        let frames = frames(&self.tables, 3, 20);
        let mut options = options(&self.tables.cluster.url());
        options.lock_timeout = Duration::from_secs(60);
        let mut sink = Postgres::new(options).unwrap();
        let (own, rest) = (frames.clone(), frames.clone());
        let fed = tokio::spawn(async move {
            feed(&mut sink, SOURCE, &own).await;
        });
        until("a COPY that waits", || !self.waiting().is_empty()).await;
        let waiting = self.waiting();
        happens(&self.tables, &waiting);
        self.holder.begin("SELECT pg_advisory_unlock_all();");
        fed.await.unwrap();
        assert_eq!(stored(&self.tables).await, expected(SOURCE, &rest, &[]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_terminated_inside_copy() {
    let terminate = |tables: &Tables, pid: &str| {
        assert_eq!(tables.cluster.ask(&format!("SELECT pg_terminate_backend({pid})")), "t");
    };
    Stuck::new().await.meanwhile(terminate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_killed_inside_copy_takes_all_others_with_it() {
    let kill = |tables: &Tables, pid: &str| {
        assert!(tables.cluster.program("kill").args(["-9", pid]).status().unwrap().success());
    };
    Stuck::new().await.meanwhile(kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_at_once_inside_copy() {
    let restart = |tables: &Tables, _: &str| {
        tables.cluster.down();
        tables.cluster.up();
    };
    Stuck::new().await.meanwhile(restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_ended_again_and_again() {
    let tables = Tables::new();
    let frames = frames(&tables, 120, 30);
    let mut sink = tables.open();
    sink.cursor(SOURCE).await.unwrap();
    let (own, ended) = (frames.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&ended);
    let fed = tokio::spawn(async move {
        for (part, frames) in own.chunks(12).enumerate() {
            feed(&mut sink, SOURCE, frames).await;
            // It may be quicker than whoever ends its connections.
            until("another is ended", || seen.load(Ordering::Relaxed) > part).await;
        }
    });
    while !fed.is_finished() {
        let pids = tables
            .cluster
            .ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runstone'");
        ended.fetch_add(pids.lines().count(), Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
    fed.await.unwrap();
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock() {
    let tables = Tables::new();
    let frames = frames(&tables, 2, 20);
    let mut options = options(&tables.cluster.url());
    options.lock_timeout = Duration::from_secs(60);
    let mut sink = Postgres::new(options).unwrap();
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    let mut other = tables.cluster.session();
    other.say("SET deadlock_timeout = '10min'; BEGIN; LOCK TABLE test_logs IN SHARE MODE;");
    let own = frames.clone();
    let fed = tokio::spawn(async move { feed(&mut sink, SOURCE, &own).await });
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runstone' AND wait_event_type = 'Lock'";
    until("a COPY that waits", || tables.cluster.ask(waits) == "1").await;
    // Each now waits for the other; the one that looks for deadlocks is ours.
    other.begin("UPDATE test_cursors SET position = position; COMMIT;");
    fed.await.unwrap();
    let deadlocks = "SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = 'postgres'";
    until("a deadlock that is counted", || tables.cluster.ask(deadlocks) == "t").await;
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_that_race_on_one_source() {
    let tables = Tables::new();
    let poison = [3, 40, 41];
    let frames: Vec<Frame> = (0..12).map(|place| frame(&tables, 1 + place * 10, 10, &poison)).collect();
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut sink, frames) = (tables.open(), frames.clone());
        racing.spawn(async move { feed(&mut sink, SOURCE, &frames).await });
    }
    racing.join_all().await;
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &poison));
    let mut letters = tables.letters().await;
    letters.sort_unstable();
    assert_eq!(letters, poison);
}

/// A directory that was copied and goes on beside the first, and connections that end at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sources_with_the_same_records_are_there_once() {
    let tables = Tables::new();
    let frames = frames(&tables, 60, 20);
    tables.open().cursor(SOURCE).await.unwrap();
    let mut racing = tokio::task::JoinSet::new();
    for source in [SOURCE, NEXT_SOURCE, SOURCE, NEXT_SOURCE] {
        let (mut sink, frames) = (tables.open(), frames.clone());
        racing.spawn(async move { feed(&mut sink, source, &frames).await });
    }
    while !racing.is_empty() {
        tables.cluster.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runstone' ORDER BY random() LIMIT 2",
        );
        while let Some(fed) = racing.try_join_next() {
            fed.unwrap();
        }
    }
    let sums = "SELECT count(*), count(DISTINCT record_id), count(DISTINCT position), min(position), max(position) FROM test_logs";
    assert_eq!(tables.cluster.ask(sums), "1200|1200|1200|1|1200");
    assert_eq!(tables.letters().await, [0_u64; 0]);
    for source in [SOURCE, NEXT_SOURCE] {
        assert_eq!(tables.open().cursor(source).await.unwrap(), 1_200);
    }
}

#[tokio::test]
async fn an_answer_to_a_commit_that_is_lost_is_no_second_delivery() {
    let tables = Tables::new();
    let proxy = Proxy::start(tables.cluster.dir()).await;
    let mut sink = Postgres::new(options(&proxy.url())).unwrap();
    sink.cursor(SOURCE).await.unwrap();
    let frames = [frame(&tables, 1, 5, &[2]), frame(&tables, 6, 5, &[])];
    for (after, frame, letters) in [(0, &frames[..1], vec![2]), (5, &frames[1..], vec![])] {
        proxy.lose_next_commit();
        let Delivered { dead_letters } = once(&mut sink, SOURCE, after, frame).await.unwrap();
        assert_eq!(dead_letters.iter().map(|letter| letter.position).collect::<Vec<_>>(), letters);
        assert!(proxy.has_lost());
    }
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[2]));
    assert_eq!(tables.letters().await, [2]);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_in_time() {
    let tables = Tables::new();
    let proxy = Proxy::start(tables.cluster.dir()).await;
    let mut options = options(&proxy.url());
    options.connect_timeout = Duration::from_millis(300);
    options.statement_timeout = Duration::from_millis(200);
    options.grace = Duration::from_millis(100);
    let mut sink = Postgres::new(options).unwrap();
    let frames = frames(&tables, 2, 5);
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    proxy.silence(true);
    let answer = once(&mut sink, SOURCE, 5, &frames[1..]).await;
    assert!(matches!(answer, Err(SinkError::Away { .. })), "{answer:?}");
    proxy.silence(false);
    feed(&mut sink, SOURCE, &frames).await;
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
}

/// A client that uses an id twice, a copied directory, and both with what was stored before.
#[tokio::test]
async fn of_two_records_with_one_id_the_first_stays() {
    let tables = Tables::new();
    let mut sink = tables.open();
    let record = |n: u32, message: &str| {
        format!(r#"{{"id":"01980000-0000-7000-8000-00000000000{n}","message":"{message}","metadata":{{"v":1.0}}}}"#)
    };
    let deliver = |texts: Vec<String>, now: i64, first: u64| {
        let parsed = runstone_record::parse::json(format!("[{}]", texts.join(",")).as_bytes()).unwrap();
        assert_eq!(parsed.errors, []);
        let mut mint = runstone_record::IdMint::new(1, u128::from(first) << 40);
        Frame { first, batch: parsed.builder.stamp(&mut mint, now, None) }
    };
    let first = deliver(vec![record(1, "one"), record(2, "two"), record(1, "other"), record(2, "two")], 1_000, 1);
    let delivered = once(&mut sink, SOURCE, 0, std::slice::from_ref(&first)).await.unwrap();
    let places =
        |delivered: &Delivered| -> Vec<u64> { delivered.dead_letters.iter().map(|one| one.position).collect() };
    assert_eq!(places(&delivered), [3]);
    assert!(delivered.dead_letters[0].reason.contains(&format!("{SOURCE} 1")), "{delivered:?}");
    let again = sink.redeliver(&delivered.dead_letters[0], 0).await.unwrap();
    assert_eq!(again, Redelivered::Refused { reason: delivered.dead_letters[0].reason.clone() });
    // Sent again much later, without a time of its own: it is the same record. 1.00 is not what was sent before.
    let again =
        deliver(vec![record(1, "one"), record(2, "two").replace("1.0", "1.00"), record(3, "three")], 2_000_000, 1);
    let delivered = once(&mut sink, NEXT_SOURCE, 0, std::slice::from_ref(&again)).await.unwrap();
    assert_eq!(places(&delivered), [2]);
    let mut all = expected(SOURCE, std::slice::from_ref(&first), &[3, 4]);
    all.extend(expected(NEXT_SOURCE, std::slice::from_ref(&again), &[1, 2]));
    assert_eq!(stored(&tables).await, all);
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), last(&[first]));
}

/// What the table's owner does not want is a dead letter too.
#[tokio::test]
async fn a_constraint_of_the_owner_makes_dead_letters() {
    let tables = Tables::new();
    let mut sink = tables.open();
    sink.cursor(SOURCE).await.unwrap();
    tables.cluster.ask("ALTER TABLE test_logs ADD CONSTRAINT even CHECK (position % 2 = 0)");
    let frames = frames(&tables, 3, 5);
    feed(&mut sink, SOURCE, &frames).await;
    let odd: Vec<u64> = (1..=15).step_by(2).collect();
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &odd));
    // The row is shown, but not to those who show the first line.
    let reasons = tables.cluster.ask(
        "SELECT DISTINCT split_part(reason, E'\\n', 1) LIKE '%\"even\"%(23514)', \
         split_part(reason, E'\\n', 2) LIKE 'Failing row contains%', split_part(reason, E'\\n', 3), \
         split_part(reason, E'\\n', 1) LIKE '%' || (record::json->>'message') || '%' FROM test_dead_letters",
    );
    assert_eq!((reasons.as_str(), tables.letters().await.len()), ("t|t||f", 8));
    let letters = sink.dead_letters(None, 100).await.unwrap();
    let refused = sink.redeliver(&letters[0], 0).await.unwrap();
    assert!(matches!(&refused, Redelivered::Refused { reason } if reason.contains("even")), "{refused:?}");
    assert_eq!(sink.dead_letters(None, 100).await.unwrap(), letters);
    tables.cluster.ask("ALTER TABLE test_logs DROP CONSTRAINT even");
    for outcome in [Redelivered::Taken, Redelivered::Gone] {
        for letter in &letters {
            assert_eq!(sink.redeliver(letter, 0).await.unwrap(), outcome);
        }
    }
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
    assert_eq!(tables.letters().await, [0_u64; 0]);
    assert_eq!(sink.cursor(SOURCE).await.unwrap(), 15);
}

/// Another session removes a letter while it is sent again, and has not said yet whether it means it.
#[tokio::test]
async fn a_letter_that_is_removed_meanwhile_is_not_brought() {
    let tables = Tables::new();
    let mut options = options(&tables.cluster.url());
    options.lock_timeout = Duration::from_secs(60);
    let mut sink = Postgres::new(options).unwrap();
    sink.cursor(SOURCE).await.unwrap();
    tables.cluster.ask("ALTER TABLE test_logs ADD CONSTRAINT few CHECK (position > 2)");
    let frame = frame(&tables, 1, 5, &[]);
    let letters = once(&mut sink, SOURCE, 0, std::slice::from_ref(&frame)).await.unwrap().dead_letters;
    tables.cluster.ask("ALTER TABLE test_logs DROP CONSTRAINT few");
    for (letter, ends, outcome) in
        [(&letters[0], "COMMIT;", Redelivered::Gone), (&letters[1], "ROLLBACK;", Redelivered::Taken)]
    {
        let mut other = tables.cluster.session();
        other.say(&format!("BEGIN; DELETE FROM test_dead_letters WHERE position = {};", letter.position));
        let (sent, own) = (sink.clone(), letter.clone());
        let sent = tokio::spawn(async move { sent.redeliver(&own, 0).await });
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runstone' AND wait_event_type = 'Lock'";
        until("a letter that waits", || tables.cluster.ask(waits) == "1").await;
        other.say(ends);
        assert_eq!(sent.await.unwrap().unwrap(), outcome);
    }
    assert_eq!(stored(&tables).await, expected(SOURCE, &[frame], &[1]));
    assert_eq!(tables.letters().await, [0_u64; 0]);
}

#[tokio::test]
async fn a_letter_whose_commit_was_not_answered_is_taken() {
    let tables = Tables::new();
    let proxy = Proxy::start(tables.cluster.dir()).await;
    let mut sink = Postgres::new(options(&proxy.url())).unwrap();
    sink.cursor(SOURCE).await.unwrap();
    tables.cluster.ask("ALTER TABLE test_logs ADD CONSTRAINT few CHECK (position > 1)");
    let frame = frame(&tables, 1, 5, &[]);
    let letters = once(&mut sink, SOURCE, 0, std::slice::from_ref(&frame)).await.unwrap().dead_letters;
    tables.cluster.ask("ALTER TABLE test_logs DROP CONSTRAINT few");
    proxy.lose_next_commit();
    assert_eq!(sink.redeliver(&letters[0], 0).await.unwrap(), Redelivered::Taken);
    assert!(proxy.has_lost());
    assert_eq!(sink.redeliver(&letters[0], 0).await.unwrap(), Redelivered::Gone);
    assert_eq!(stored(&tables).await, expected(SOURCE, &[frame], &[]));
}

/// A table that is slow takes less at a time, and all of it.
#[tokio::test]
async fn a_table_in_which_each_row_takes_long() {
    let tables = Tables::new();
    let mut options = options(&tables.cluster.url());
    options.statement_timeout = Duration::from_millis(500);
    let mut sink = Postgres::new(options).unwrap();
    sink.cursor(SOURCE).await.unwrap();
    tables.cluster.ask(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END$$",
    );
    tables.cluster.ask("CREATE TRIGGER slow BEFORE INSERT ON test_logs FOR EACH ROW EXECUTE FUNCTION slow()");
    let frames = frames(&tables, 1, 2_000);
    once(&mut sink, SOURCE, 0, &frames).await.unwrap();
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
}

/// What every record would meet is no fault of theirs: nothing becomes a dead letter.
#[tokio::test]
async fn a_fault_of_the_table_pauses_the_sink() {
    let tables = Tables::new();
    let mut sink = tables.open();
    let frames = frames(&tables, 3, 5);
    once(&mut sink, SOURCE, 0, &frames[..1]).await.unwrap();
    for (breaks, mends) in [
        ("SELECT setval('test_logs_id_seq', 1)", "SELECT setval('test_logs_id_seq', 1000)"),
        ("ALTER SEQUENCE test_logs_id_seq MAXVALUE 1000", "ALTER SEQUENCE test_logs_id_seq MAXVALUE 100000"),
        (
            "ALTER TABLE test_logs ADD tenant text NOT NULL DEFAULT 'x'; ALTER TABLE test_logs ALTER tenant DROP DEFAULT",
            "ALTER TABLE test_logs DROP COLUMN tenant",
        ),
    ] {
        tables.cluster.ask(breaks);
        let answer = once(&mut sink, SOURCE, 5, &frames[1..]).await;
        assert!(matches!(answer, Err(SinkError::Misconfigured { .. })), "{breaks}: {answer:?}");
        // The server shows the whole row.
        assert!(!format!("{answer:?}").contains("row contains"), "{answer:?}");
        tables.cluster.ask(mends);
    }
    once(&mut sink, SOURCE, 5, &frames[1..]).await.unwrap();
    assert_eq!(stored(&tables).await, expected(SOURCE, &frames, &[]));
    assert_eq!(tables.letters().await, [0_u64; 0]);
}

#[tokio::test]
async fn dead_letters_are_read_page_by_page_and_removed() {
    let tables = Tables::new();
    let mut sink = tables.open();
    let poison = [2, 3, 9, 12];
    let frame = frame(&tables, 1, 12, &poison);
    let sent = once(&mut sink, SOURCE, 0, std::slice::from_ref(&frame)).await.unwrap().dead_letters;
    let (mut walked, mut after) = (Vec::new(), None);
    loop {
        let page = sink.dead_letters(after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((SOURCE, last.position));
        walked.extend(page);
    }
    assert_eq!(walked, sent);
    assert_eq!(sink.remove_dead_letters(SOURCE, &[3, 9, 10]).await.unwrap(), 2);
    assert_eq!(sink.remove_dead_letters(NEXT_SOURCE, &[2]).await.unwrap(), 0);
    assert_eq!(tables.letters().await, [2, 12]);
}

//! Who sent what, what was acknowledged, what can be read: A ⊆ R ⊆ S, each record once, its content unchanged, and the
//! runs those that a second reading of docs/runs.md makes of R. Owns the judgement; refuses to send anything.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::client::Client;

/// A record as `POST` takes it, in the normal form in which it comes back. Its message is its own.
pub(crate) type Record = Map<String, Value>;

/// Records that were sent together.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    /// The `Idempotency-Key`.
    pub(crate) key: Option<String>,
    /// Set by the answer.
    pub(crate) acknowledged: bool,
    /// Where the answer said that they are; a repetition may not say it.
    pub(crate) positions: Option<(u64, u64)>,
}

impl Batch {
    pub(crate) fn has_ids(&self) -> bool {
        self.records.iter().all(|record| record.contains_key("id"))
    }

    /// May it be sent again after its answer was lost?
    pub(crate) fn may_be_resent(&self) -> bool {
        self.key.is_some() || self.has_ids()
    }
}

fn text<'r>(record: &'r Record, field: &str) -> &'r str {
    record.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(record: &Record, field: &str) -> u64 {
    record.get(field).and_then(Value::as_u64).unwrap()
}

/// A small generator of pseudo-random numbers (SplitMix64): a seed says everything.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Another seed each time, unless the environment has one to try again with. Printed: a failing test shows it.
    #[expect(clippy::disallowed_methods, reason = "a test's seed is no setting of the server")]
    #[expect(clippy::print_stdout, reason = "what a test prints is shown when it fails")]
    pub(crate) fn seeded(name: &str) -> Random {
        use std::hash::{BuildHasher, Hasher};
        let given = std::env::var("TEST_SEED").ok().map(|seed| seed.parse().expect("TEST_SEED is a number"));
        let seed = given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        println!("{name}: TEST_SEED={seed}");
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }

    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0xfff,
            low & 0xffff_ffff_ffff
        )
    }

    /// A moment of one day, as answers write it.
    fn moment(&mut self) -> String {
        let micros = self.below(86_400_000_000);
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        format!("2026-03-01T{:02}:{:02}:{:02}.{micros:06}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

const TYPES: [&str; 10] = ["start", "status", "code", "info", "result", "warning", "error", "success", "end", "log"];
const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

/// A record in normal form, of one of `runs` runs.
pub(crate) fn record(random: &mut Random, runs: u64, token: &str) -> Record {
    let mut record = json!({
        "timestamp": random.moment(),
        "source_system": random.pick(&["crm", "erp", "web"]),
        "run_id": format!("run-{}", random.below(runs)),
        "type": random.pick(&TYPES),
        "level": random.pick(&LEVELS),
        "message": token,
    });
    let optional = [
        ("stage", json!("load")),
        ("row_count", json!(random.below(1_000))),
        ("title", json!(format!("title of {token}"))),
        ("metadata", json!({"number": random.next(), "text": "é\n\"🚀\""})),
    ];
    for (field, value) in optional {
        if random.below(2) == 0 {
            record[field] = value;
        }
    }
    record.as_object().unwrap().clone()
}

/// Every record, read page by page.
pub(crate) fn walk(client: &mut Client, query: &str) -> Vec<Record> {
    let (mut records, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/api/v1/logs?limit=1000&{query}{cursor}")).unwrap();
        assert_eq!(page.status, 200, "{page:?}");
        let mut page = page.json();
        for record in page["records"].as_array_mut().unwrap() {
            records.push(std::mem::take(record.as_object_mut().unwrap()));
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return records,
        }
    }
}

/// Every run, read page by page, by its id.
pub(crate) fn runs(client: &mut Client) -> BTreeMap<String, Value> {
    let (mut runs, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = client.get(&format!("/api/v1/runs?limit=7{cursor}")).unwrap();
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        for run in page["runs"].as_array().unwrap() {
            let twice = runs.insert(run["run_id"].as_str().unwrap().to_owned(), run.clone());
            assert_eq!(twice, None, "a run stands on one page");
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return runs,
        }
    }
}

/// The rows of a query.
pub(crate) fn rows(client: &mut Client, sql: &str) -> Vec<Value> {
    let answer = client.sql(sql).unwrap();
    assert_eq!(answer.status, 200, "{sql}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()["rows"].as_array().unwrap().clone()
}

/// Holds what can be read against what was sent. Gives what was read.
pub(crate) fn check(url: &str, batches: &[Batch]) -> Vec<Record> {
    let read = check_records(url, batches);
    check_runs(&mut Client::new(url), &read);
    read
}

/// The same without the runs: those that another server's records changed come a moment later.
pub(crate) fn check_records(url: &str, batches: &[Batch]) -> Vec<Record> {
    let mut client = Client::new(url);
    let read = walk(&mut client, "order=oldest");
    let mut newest = walk(&mut client, "order=newest");
    newest.reverse();
    assert!(newest == read, "both orders show the same records");
    check_order(&read);
    let visible = check_content(&read, batches);
    check_batches(&visible, batches);
    check_sql(&mut client, &read);
    read
}

/// The runs are those of these records.
pub(crate) fn check_runs(client: &mut Client, read: &[Record]) {
    let (expected, found) = (fold(read), runs(client));
    for (id, run) in &expected {
        assert_eq!(found.get(id), Some(run), "run {id}");
    }
    assert_eq!(found.len(), expected.len(), "no other runs");
}

/// Records stand in the order of time, and the positions of a journal, its copies included, leave nothing out.
fn check_order(read: &[Record]) {
    let place = |record: &Record| {
        (text(record, "timestamp").to_owned(), text(record, "journal").to_owned(), number(record, "position"))
    };
    assert!(read.is_sorted_by_key(place), "the oldest comes first");
    let mut journals: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in read {
        let name = text(record, "journal").split('/').next().unwrap_or_default();
        journals.entry(name).or_default().push(number(record, "position"));
    }
    for positions in journals.values_mut() {
        positions.sort_unstable();
        let all: Vec<u64> = (1..=positions.len() as u64).collect();
        assert!(*positions == all, "positions are those from 1 to {}: {positions:?}", positions.len());
    }
}

/// R ⊆ S, each once, unchanged. Gives the place of each by its message.
fn check_content<'r>(read: &'r [Record], batches: &[Batch]) -> HashMap<&'r str, u64> {
    let sent: HashMap<&str, &Record> =
        batches.iter().flat_map(|batch| &batch.records).map(|record| (text(record, "message"), record)).collect();
    let (mut places, mut ids) = (HashMap::new(), HashMap::new());
    for record in read {
        let token = text(record, "message");
        let expected = sent.get(token).unwrap_or_else(|| panic!("nobody sent {record:?}"));
        let mut content = record.clone();
        for stamped in ["journal", "position", "ingested_at"] {
            assert!(content.shift_remove(stamped).is_some(), "{stamped} is missing: {record:?}");
        }
        if !expected.contains_key("id") {
            content.shift_remove("id");
        }
        assert_eq!(&content, *expected);
        assert_eq!(places.insert(token, number(record, "position")), None, "twice: {record:?}");
        assert_eq!(ids.insert(text(record, "id"), token), None, "the id of two: {record:?}");
    }
    places
}

/// A ⊆ R, where the answer said; and a batch is there as a whole or not at all.
fn check_batches(visible: &HashMap<&str, u64>, batches: &[Batch]) {
    for batch in batches {
        let places: Vec<u64> =
            batch.records.iter().filter_map(|record| visible.get(text(record, "message")).copied()).collect();
        if batch.acknowledged {
            assert_eq!(places.len(), batch.records.len(), "acknowledged and lost: {batch:?}");
        }
        assert!(places.is_empty() || places.len() == batch.records.len(), "half of a batch: {batch:?}");
        if let Some((first, last)) = batch.positions {
            assert!(places == (first..=last).collect::<Vec<_>>(), "not where the answer said: {places:?} {batch:?}");
        }
    }
}

/// SQL sees the same ids at the same places.
pub(crate) fn check_sql(client: &mut Client, read: &[Record]) {
    let count = read.len();
    let counted = rows(client, "SELECT count(*) AS n, count(DISTINCT id) AS ids, max(position) AS last FROM logs");
    let last = read.iter().map(|record| number(record, "position")).max();
    assert_eq!(counted, [json!({"n": count, "ids": count, "last": last})]);
    let mut journals: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for record in read {
        let place = (number(record, "position"), text(record, "id"));
        journals.entry(text(record, "journal")).or_default().push(place);
    }
    for (journal, mut expected) in journals {
        expected.sort_unstable();
        for part in expected.chunks(10_000) {
            let sql = format!(
                "SELECT position, id FROM logs WHERE journal = '{journal}' AND position BETWEEN {} AND {} \
                 ORDER BY position",
                part[0].0,
                part[part.len() - 1].0
            );
            let rows = rows(client, &sql);
            let found: Vec<(u64, &str)> =
                rows.iter().map(|row| (row["position"].as_u64().unwrap(), row["id"].as_str().unwrap())).collect();
            assert!(found == part, "{sql}");
        }
    }
}

/// What docs/runs.md makes of records like those of [`record`].
pub(crate) fn fold(read: &[Record]) -> BTreeMap<String, Value> {
    let mut runs: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in read.iter().filter(|record| record.contains_key("run_id")) {
        runs.entry(text(record, "run_id").to_owned()).or_default().push(record);
    }
    runs.into_iter()
        .map(|(id, mut records)| {
            records.sort_by_key(|record| (text(record, "timestamp"), text(record, "id")));
            // Through text, as an answer comes: of numbers with 17 digits serde_json may read a neighbour.
            let body = serde_json::from_str(&run_body(&id, &records).to_string()).unwrap();
            (id, body)
        })
        .collect()
}

fn run_body(id: &str, records: &[&Record]) -> Value {
    let of_type = |kind: &'static str| records.iter().filter(move |record| text(record, "type") == kind);
    let of_level = |levels: &[&str]| records.iter().filter(|record| levels.contains(&text(record, "level"))).count();
    let first = |field: &str| records.iter().find_map(|record| record.get(field));
    let failure = place(of_type("error").next_back());
    let success = place(of_type("success").next_back());
    let ended = place(of_type("end").next_back());
    let is_closed = ended.is_some() && of_type("end").count() >= of_type("start").count();
    let (state, ended_at) = match (failure, success) {
        (Some(failure), success) if success.is_none_or(|success| success < failure) => ("failed", Some(failure)),
        (_, Some(success)) => ("succeeded", Some(success)),
        _ if is_closed => ("succeeded", ended),
        _ => ("running", None),
    };
    let (started_at, last_at) = (text(records[0], "timestamp"), text(records[records.len() - 1], "timestamp"));
    let ended_at = ended_at.map(|(at, _)| at);
    let row_counts: Vec<u64> = records.iter().filter_map(|record| record.get("row_count")?.as_u64()).collect();
    json!({
        "run_id": id,
        "state": state,
        "source_system": first("source_system"),
        "stage": first("stage"),
        "title": records[0].get("title").or(records[0].get("message")),
        "started_at": started_at,
        "ended_at": ended_at,
        "last_at": last_at,
        "duration": (micros(ended_at.unwrap_or(last_at)) - micros(started_at)) as f64 / 1e6,
        "records": records.len(),
        "warnings": of_level(&["WARNING"]),
        "errors": of_level(&["ERROR", "CRITICAL"]),
        "row_count": (!row_counts.is_empty()).then(|| row_counts.iter().sum::<u64>()),
        "failure": (state == "failed").then(|| of_type("error").next_back().map(|record| text(record, "message"))),
        "last_position": records.iter().map(|record| number(record, "position")).max(),
        "environment": null,
        "owner": null,
        "labels": {},
    })
}

/// Where a record stands in its run.
fn place<'r>(record: Option<&&'r Record>) -> Option<(&'r str, &'r str)> {
    record.map(|record| (text(record, "timestamp"), text(record, "id")))
}

/// Microseconds since 1970.
fn micros(moment: &str) -> i64 {
    moment.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

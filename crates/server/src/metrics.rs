//! What the server counts about itself. Owns every metric's name, help and labels, in one list; refuses to decide when
//! something is counted. Names follow Prometheus: base units, the unit in the name, counters end in `_total`.
//!
//! A label's values are a closed set of the server's own words, never a client's text: a client must not be able to
//! make series.

mod labels;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use runstone_journal::{Event, Recovery};

pub use self::labels::{
    CodeLabels, ExportLabels, FormatLabels, OutcomeLabels, ReasonLabels, RequestLabels, RouteLabels, StateLabels,
};
pub use crate::sinks::metrics::SinkMetrics;

/// The type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Connections and requests.
    pub http: HttpMetrics,
    /// What was taken and refused.
    pub ingest: IngestMetrics,
    /// The journal's writer.
    pub journal: JournalMetrics,
    /// The relay to the lake.
    pub lake: LakeMetrics,
    /// The lake's upkeep.
    pub upkeep: UpkeepMetrics,
    /// Recent records in memory.
    pub recent: RecentMetrics,
    /// The runs consumer.
    pub runs: RunsMetrics,
    /// SQL and filtered reads.
    pub queries: QueryMetrics,
    /// Streamed answers.
    pub exports: ExportMetrics,
    /// Sinks.
    pub sinks: SinkMetrics,
    registry: Arc<Registry>,
}

/// Connections and requests.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    /// Answers by route, method and status.
    pub requests: Family<RequestLabels, Counter>,
    /// Seconds from a request's headers to its answer's headers, by route.
    pub request_duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Requests that failed as a whole, by error code.
    pub errors: Family<CodeLabels, Counter>,
    /// Open connections.
    pub connections: Gauge,
    /// Connections that the server closed on a client, by reason.
    pub connections_dropped: Family<ReasonLabels, Counter>,
    /// Bytes of request bodies that are held now.
    pub in_flight_bytes: Gauge,
    /// Bytes of answers that clients have not read yet.
    pub answers_bytes: Gauge,
}

/// What was taken and refused.
#[derive(Debug, Clone, Default)]
pub struct IngestMetrics {
    /// New records that became durable.
    pub records: Counter,
    /// Decoded bytes of the bodies that they came in.
    pub bytes: Counter,
    /// Records that were there before: same id, same payload.
    pub duplicates: Counter,
    /// Refused records by error code.
    pub rejected: Family<CodeLabels, Counter>,
    /// NUL characters stored as U+FFFD.
    pub replaced_nuls: Counter,
}

/// The journal's writer. Set from its own counts when somebody asks.
#[derive(Debug, Clone, Default)]
pub struct JournalMetrics {
    /// Groups of frames that were written and synced together.
    pub groups: Counter,
    /// Bytes written, headers and padding included.
    pub bytes: Counter,
    /// Syncs that succeeded.
    pub syncs: Counter,
    /// Seconds that they took together.
    pub sync_seconds: Counter<f64, AtomicU64>,
    /// Writes and syncs that failed.
    pub failed_writes: Counter,
    /// Frames that wait for the writer.
    pub waiting_frames: Gauge,
    /// The last durable position.
    pub durable_position: Gauge,
    /// The first position that was not trimmed.
    pub first_position: Gauge,
    /// Segments on disk.
    pub segments: Gauge,
    /// Valid bytes in them.
    pub segment_bytes: Gauge,
    /// Bytes of groups that were never acknowledged, cut off by this start.
    pub torn_bytes: Gauge,
    /// Acknowledged ranges that this start found damaged.
    pub damaged_ranges: Gauge,
}

/// The lake's upkeep since the start; set when somebody asks.
#[derive(Debug, Clone, Default)]
pub struct UpkeepMetrics {
    /// Runs.
    pub runs: Counter,
    /// Seconds since 1970 at the end of the last run; 0 before it.
    pub last_run: Gauge<f64, AtomicU64>,
    /// Is it at work?
    pub running: Gauge,
    /// Steps of the last run that ended early.
    pub failures: Gauge,
    /// Files that were merged.
    pub merged_files: Counter,
    /// Files that they became.
    pub made_files: Counter,
    /// Records in them.
    pub merged_records: Counter,
    /// Merges that another writer overtook.
    pub conflicts: Counter,
    /// Records that left the table because of their age.
    pub retired_records: Counter,
    /// Files that were deleted.
    pub deleted_files: Counter,
    /// Their bytes.
    pub deleted_bytes: Counter,
}

/// The relay to the lake. What the table holds is set when somebody asks.
#[derive(Debug, Clone)]
pub struct LakeMetrics {
    /// Commits with records of this server.
    pub flushes: Counter,
    /// Records in them.
    pub rows: Counter,
    /// Bytes of their files.
    pub bytes: Counter,
    /// Their files.
    pub files: Counter,
    /// Seconds of a flush: encoding, upload and commit.
    pub flush_duration: Histogram,
    /// Attempts that failed.
    pub failures: Counter,
    /// Damaged and unreadable ranges of the journal that were passed.
    pub passed: Counter,
    /// Records that the lake had already, and that were not written again.
    pub copies: Counter,
    /// Files that a flush would have to search for repeated records, and that are missing or damaged.
    pub unread: Counter,
    /// Records that the lake could not take; they are in files of their own.
    pub refused: Counter,
    /// This server's records up to here are in the lake.
    pub position: Gauge,
    /// Durable records that are not in the lake yet.
    pub lag_records: Gauge,
    /// Seconds since the arrival of the oldest record that waits for a flush.
    pub lag_seconds: Gauge<f64, AtomicU64>,
    /// The table's version.
    pub version: Gauge,
    /// Files of the table.
    pub table_files: Gauge,
    /// Their records.
    pub table_rows: Gauge,
    /// Their bytes.
    pub table_bytes: Gauge,
    /// 1 in the state that the relay is in.
    pub state: Family<StateLabels, Gauge>,
}

/// Recent records in memory.
#[derive(Debug, Clone, Default)]
pub struct RecentMetrics {
    /// Bytes.
    pub bytes: Gauge,
    /// Chunks.
    pub chunks: Gauge,
    /// Records.
    pub records: Gauge,
    /// Records that left memory.
    pub evicted: Gauge,
}

/// The runs consumer.
#[derive(Debug, Clone, Default)]
pub struct RunsMetrics {
    /// Runs that are known.
    pub known: Gauge,
    /// Records between the journal's durable position and the consumer's.
    pub lag: Gauge,
}

/// SQL and filtered reads.
#[derive(Debug, Clone)]
pub struct QueryMetrics {
    /// Finished queries by outcome: `ok`, or an error code.
    pub finished: Family<OutcomeLabels, Counter>,
    /// Seconds of one query, waiting included.
    pub duration: Histogram,
    /// Queries running now.
    pub running: Gauge,
    /// Queries waiting for their turn.
    pub waiting: Gauge,
}

/// Streamed answers.
#[derive(Debug, Clone, Default)]
pub struct ExportMetrics {
    /// Those that have ended.
    pub finished: Family<ExportLabels, Counter>,
    /// Bytes handed to connections, before compression.
    pub bytes: Family<FormatLabels, Counter>,
    /// Those that hold a place now.
    pub running: Gauge,
}

/// 0.5 ms to 16 s.
fn request_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(request_seconds),
            errors: Family::default(),
            connections: Gauge::default(),
            connections_dropped: Family::default(),
            in_flight_bytes: Gauge::default(),
            answers_bytes: Gauge::default(),
        }
    }
}

impl Default for LakeMetrics {
    fn default() -> Self {
        Self {
            flushes: Counter::default(),
            rows: Counter::default(),
            bytes: Counter::default(),
            files: Counter::default(),
            flush_duration: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            failures: Counter::default(),
            passed: Counter::default(),
            copies: Counter::default(),
            unread: Counter::default(),
            refused: Counter::default(),
            position: Gauge::default(),
            lag_records: Gauge::default(),
            lag_seconds: Gauge::default(),
            version: Gauge::default(),
            table_files: Gauge::default(),
            table_rows: Gauge::default(),
            table_bytes: Gauge::default(),
            state: Family::default(),
        }
    }
}

impl Default for QueryMetrics {
    fn default() -> Self {
        Self {
            finished: Family::default(),
            duration: request_seconds(),
            running: Gauge::default(),
            waiting: Gauge::default(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every metric, at zero, registered.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("runstone");
        let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", info);
        let http = HttpMetrics::default();
        http.register(&mut registry);
        let ingest = IngestMetrics::default();
        ingest.register(&mut registry);
        let journal = JournalMetrics::default();
        journal.register(&mut registry);
        let lake = LakeMetrics::default();
        lake.register(&mut registry);
        let upkeep = UpkeepMetrics::default();
        upkeep.register(&mut registry);
        let recent = RecentMetrics::default();
        recent.register(&mut registry);
        let runs = RunsMetrics::default();
        runs.register(&mut registry);
        let queries = QueryMetrics::default();
        queries.register(&mut registry);
        let exports = ExportMetrics::default();
        exports.register(&mut registry);
        let sinks = SinkMetrics::default();
        sinks.register(&mut registry);
        Self {
            http,
            ingest,
            journal,
            lake,
            upkeep,
            recent,
            runs,
            queries,
            exports,
            sinks,
            registry: Arc::new(registry),
        }
    }

    /// All numbers as OpenMetrics text, of type [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// A metric cannot be written: a fault in its definition.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl HttpMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("http_requests", "Answers by route, method and status", self.requests.clone());
        let help = "Time from a request's headers to its answer's headers";
        to.register_with_unit("http_request_duration", help, Unit::Seconds, self.request_duration.clone());
        to.register("http_errors", "Requests that failed as a whole, by error code", self.errors.clone());
        to.register("http_connections", "Open connections", self.connections.clone());
        let help = "Connections that the server closed on a client, by reason";
        to.register("http_connections_dropped", help, self.connections_dropped.clone());
        let help = "Bytes of request bodies that are held now";
        to.register_with_unit("http_in_flight", help, Unit::Bytes, self.in_flight_bytes.clone());
        let help = "Bytes of answers that their clients have not read yet";
        to.register_with_unit("http_answers", help, Unit::Bytes, self.answers_bytes.clone());
    }

    /// Counts a connection that was closed on its client.
    pub(crate) fn dropped(&self, reason: &'static str) {
        self.connections_dropped.get_or_create(&ReasonLabels { reason }).inc();
    }
}

impl IngestMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("ingest_records", "New records that became durable", self.records.clone());
        let help = "Decoded bytes of the bodies that durable records came in";
        to.register_with_unit("ingest", help, Unit::Bytes, self.bytes.clone());
        to.register("ingest_duplicates", "Records that were there before", self.duplicates.clone());
        to.register("ingest_rejected_records", "Refused records, by error code", self.rejected.clone());
        to.register("ingest_replaced_nuls", "NUL characters stored as U+FFFD", self.replaced_nuls.clone());
    }

    /// Counts `records` that were refused for one reason.
    pub fn reject(&self, code: runstone_record::ErrorCode, records: u64) {
        self.rejected.get_or_create(&CodeLabels { code: code.as_str() }).inc_by(records);
    }
}

impl JournalMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("journal_groups", "Groups of frames written and synced together", self.groups.clone());
        to.register_with_unit("journal_written", "Bytes written", Unit::Bytes, self.bytes.clone());
        to.register("journal_syncs", "Syncs that succeeded", self.syncs.clone());
        let help = "Time of all syncs together";
        to.register_with_unit("journal_sync_duration", help, Unit::Seconds, self.sync_seconds.clone());
        to.register("journal_failed_writes", "Writes and syncs that failed", self.failed_writes.clone());
        to.register("journal_waiting_frames", "Frames that wait for the writer", self.waiting_frames.clone());
        to.register("journal_durable_position", "The last durable position", self.durable_position.clone());
        to.register("journal_first_position", "The first position that was not trimmed", self.first_position.clone());
        to.register("journal_segments", "Segments on disk", self.segments.clone());
        to.register_with_unit("journal", "Valid bytes of the segments", Unit::Bytes, self.segment_bytes.clone());
        let help = "Bytes that were never acknowledged and that this start cut off the journal's end";
        to.register_with_unit("journal_torn_tail", help, Unit::Bytes, self.torn_bytes.clone());
        let help = "Damaged ranges of the journal that this start found";
        to.register("journal_damaged_ranges", help, self.damaged_ranges.clone());
    }

    /// Says what the start found.
    pub(crate) fn recovered(&self, recovery: &Recovery) {
        for event in &recovery.events {
            match event {
                Event::TornTail { bytes, .. } => {
                    self.torn_bytes.inc_by(i64::try_from(*bytes).unwrap_or(i64::MAX));
                }
                Event::Corruption(_) => {
                    self.damaged_ranges.inc();
                }
                _ => {}
            }
        }
    }
}

impl UpkeepMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("lake_upkeep_runs", "Runs of the lake's upkeep", self.runs.clone());
        let help = "When the last run of the lake's upkeep ended, in seconds since 1970";
        to.register("lake_upkeep_last_run_timestamp_seconds", help, self.last_run.clone());
        to.register("lake_upkeep_running", "Is the lake's upkeep at work?", self.running.clone());
        to.register("lake_upkeep_failed_steps", "Steps of its last run that ended early", self.failures.clone());
        to.register("lake_merged_files", "Files that were merged", self.merged_files.clone());
        to.register("lake_made_files", "Files that they became", self.made_files.clone());
        to.register("lake_merged_records", "Records in files that were merged", self.merged_records.clone());
        to.register("lake_merge_conflicts", "Merges that another writer overtook", self.conflicts.clone());
        to.register("lake_retired_records", "Records that left because of their age", self.retired_records.clone());
        to.register("lake_deleted_files", "Files that no version needed and were deleted", self.deleted_files.clone());
        to.register_with_unit("lake_deleted", "Bytes of deleted files", Unit::Bytes, self.deleted_bytes.clone());
    }
}

impl LakeMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("lake_flushes", "Commits to the lake with records of this server", self.flushes.clone());
        to.register("lake_flushed_records", "Records brought to the lake", self.rows.clone());
        to.register_with_unit("lake_flushed", "Bytes of files brought to the lake", Unit::Bytes, self.bytes.clone());
        to.register("lake_flushed_files", "Files brought to the lake", self.files.clone());
        let help = "Time of one flush: encoding, upload and commit";
        to.register_with_unit("lake_flush_duration", help, Unit::Seconds, self.flush_duration.clone());
        to.register("lake_failures", "Attempts to reach or write the lake that failed", self.failures.clone());
        let help = "Damaged and unreadable ranges of the journal that the lake does not get";
        to.register("lake_passed_ranges", help, self.passed.clone());
        let help = "Records that the lake had already and that were left out";
        to.register("lake_dropped_copies", help, self.copies.clone());
        let help = "Files that flushes could not search for repeated records: they are missing or damaged";
        to.register("lake_unread_files", help, self.unread.clone());
        let help = "Records that the lake could not take, kept in files of their own";
        to.register("lake_refused_records", help, self.refused.clone());
        let help = "This server's records up to this position are in the lake";
        to.register("lake_position", help, self.position.clone());
        to.register("lake_lag_records", "Durable records that are not in the lake yet", self.lag_records.clone());
        let help = "Time since the arrival of the oldest record that waits for a flush";
        to.register_with_unit("lake_lag", help, Unit::Seconds, self.lag_seconds.clone());
        to.register("lake_version", "The table's version", self.version.clone());
        to.register("lake_files", "Files of the table", self.table_files.clone());
        to.register("lake_records", "Records of the table", self.table_rows.clone());
        to.register_with_unit("lake", "Bytes of the table's files", Unit::Bytes, self.table_bytes.clone());
        to.register("lake_state", "How the relay to the lake is doing", self.state.clone());
    }
}

impl RecentMetrics {
    fn register(&self, to: &mut Registry) {
        to.register_with_unit("recent", "Bytes of recent records in memory", Unit::Bytes, self.bytes.clone());
        to.register("recent_chunks", "Chunks of recent records in memory", self.chunks.clone());
        let help = "Records that left memory and are read back when a query needs them";
        to.register("recent_evicted_records", help, self.evicted.clone());
        to.register("recent_records", "Recent records in memory", self.records.clone());
    }
}

impl RunsMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("runs", "Runs that are known", self.known.clone());
        to.register("runs_lag_records", "Durable records that the runs have not seen yet", self.lag.clone());
    }
}

impl QueryMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("queries", "Finished queries, by outcome", self.finished.clone());
        let help = "Time of one query, waiting included";
        to.register_with_unit("query_duration", help, Unit::Seconds, self.duration.clone());
        to.register("queries_running", "Queries running now", self.running.clone());
        to.register("queries_waiting", "Queries waiting for their turn", self.waiting.clone());
    }

    /// Counts a query that ended as `outcome`: `ok`, or an error code.
    pub fn finish(&self, outcome: &'static str) {
        self.finished.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

impl ExportMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("exports", "Streamed answers that have ended, by format and outcome", self.finished.clone());
        let help = "Bytes of streamed answers, before compression";
        to.register_with_unit("export", help, Unit::Bytes, self.bytes.clone());
        to.register("exports_running", "Streamed answers that hold a place now", self.running.clone());
    }

    /// Counts one that ended as `outcome`: `ok`, `cancelled`, or an error code.
    pub fn finish(&self, format: &'static str, outcome: &'static str) {
        self.finished.get_or_create(&ExportLabels { format, outcome }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runstone_record::ErrorCode;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_is_counted_is_shown_under_its_name() {
        let metrics = Metrics::new();
        let labels = RequestLabels { route: "/api/v1/logs".to_owned(), method: "POST", status: 200 };
        metrics.http.requests.get_or_create(&labels).inc();
        metrics.ingest.reject(ErrorCode::InvalidTime, 3);
        metrics.ingest.bytes.inc_by(350_000);
        metrics.journal.sync_seconds.inner().store(0.25_f64.to_bits(), Ordering::Relaxed);
        metrics.recent.bytes.set(42);
        metrics.queries.finish("ok");
        let text = metrics.encode().unwrap();
        for line in [
            "runstone_http_requests_total{route=\"/api/v1/logs\",method=\"POST\",status=\"200\"} 1",
            "runstone_ingest_rejected_records_total{code=\"invalid_time\"} 3",
            "runstone_ingest_bytes_total 350000",
            "runstone_journal_sync_duration_seconds_total 0.25",
            "runstone_recent_bytes 42",
            "runstone_queries_total{outcome=\"ok\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_family_has_the_prefix_and_a_help_text_and_stands_there_once() {
        let text = Metrics::new().encode().unwrap();
        let mut names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        assert!(names.iter().all(|name| name.starts_with("runstone_")), "{names:?}");
        let families = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), families);
    }
}

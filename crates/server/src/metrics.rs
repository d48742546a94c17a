//! What the server counts about itself. Owns every metric's name, help and labels, in one list; refuses to decide when
//! something is counted. Names follow Prometheus: base units, the unit in the name, counters end in `_total`.
//!
//! A label's values are a closed set of the server's own words, never a client's text: a client must not be able to
//! make series.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

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
    /// Recent records in memory.
    pub recent: RecentMetrics,
    /// The runs consumer.
    pub runs: RunsMetrics,
    /// SQL and filtered reads.
    pub queries: QueryMetrics,
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

/// Labels of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern, or `other`.
    pub route: String,
    /// The method, or `other`.
    pub method: &'static str,
    /// The status.
    pub status: u16,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route's pattern, or `other`.
    pub route: String,
}

/// An error code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabels {
    /// [`runstone_record::ErrorCode::as_str`].
    pub code: &'static str,
}

/// Why a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// `evicted`, `refused`, `header_timeout`, `idle_timeout`, `write_timeout` or `stopped`.
    pub reason: &'static str,
}

/// How a query ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `ok`, or an error code.
    pub outcome: &'static str,
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
        let recent = RecentMetrics::default();
        recent.register(&mut registry);
        let runs = RunsMetrics::default();
        runs.register(&mut registry);
        let queries = QueryMetrics::default();
        queries.register(&mut registry);
        Self { http, ingest, journal, recent, runs, queries, registry: Arc::new(registry) }
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

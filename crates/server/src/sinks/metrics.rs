//! What is counted of sinks. The label is the sink's own name, of which there are few.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use runstone_sinks::Delivered;
use std::sync::atomic::AtomicU64;

/// A sink.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabels {
    /// [`runstone_sinks::Sink::name`].
    pub sink: &'static str,
}

/// A sink and how it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkStateLabels {
    /// [`runstone_sinks::Sink::name`].
    pub sink: &'static str,
    /// `opening`, `ready`, `degraded`, `paused` or `failed`.
    pub state: &'static str,
}

/// Every sink's numbers.
#[derive(Debug, Clone, Default)]
pub struct SinkMetrics {
    /// Records that were delivered, dead letters included.
    pub records: Family<SinkLabels, Counter>,
    /// Deliveries.
    pub deliveries: Family<SinkLabels, Counter>,
    /// Records that a target could not take.
    pub dead_letters: Family<SinkLabels, Counter>,
    /// Times that something went wrong.
    pub failures: Family<SinkLabels, Counter>,
    /// This directory's positions up to here are in the target. Set when somebody asks, as the ones below.
    pub position: Family<SinkLabels, Gauge>,
    /// Durable records behind it.
    pub lag_records: Family<SinkLabels, Gauge>,
    /// How long the oldest record that waits has waited.
    pub lag_seconds: Family<SinkLabels, Gauge<f64, AtomicU64>>,
    /// 1 for the state that it is in.
    pub state: Family<SinkStateLabels, Gauge>,
}

impl SinkMetrics {
    pub(crate) fn register(&self, to: &mut Registry) {
        to.register("sink_records", "Records delivered to a sink, dead letters included", self.records.clone());
        to.register("sink_deliveries", "Deliveries to a sink", self.deliveries.clone());
        to.register("sink_dead_letters", "Records that a sink could not take", self.dead_letters.clone());
        to.register("sink_failures", "Times that a sink could not be fed", self.failures.clone());
        to.register("sink_position", "The last position of this journal in a sink", self.position.clone());
        to.register("sink_lag_records", "Durable records that are not in a sink yet", self.lag_records.clone());
        let help = "How long the oldest record that waits for a sink has waited";
        to.register_with_unit("sink_lag", help, Unit::Seconds, self.lag_seconds.clone());
        to.register("sink_state", "1 for the state that a sink is in", self.state.clone());
    }

    pub(super) fn of(&self, sink: &'static str) -> SinkCounts {
        let labels = SinkLabels { sink };
        SinkCounts {
            records: self.records.get_or_create(&labels).clone(),
            deliveries: self.deliveries.get_or_create(&labels).clone(),
            dead_letters: self.dead_letters.get_or_create(&labels).clone(),
            failures: self.failures.get_or_create(&labels).clone(),
        }
    }
}

/// One sink's counters.
#[derive(Debug, Clone)]
pub(super) struct SinkCounts {
    records: Counter,
    deliveries: Counter,
    dead_letters: Counter,
    failures: Counter,
}

impl SinkCounts {
    pub(super) fn delivered(&self, records: usize, delivered: &Delivered) {
        self.records.inc_by(records as u64);
        self.deliveries.inc();
        self.dead_letters.inc_by(delivered.dead_letters.len() as u64);
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}

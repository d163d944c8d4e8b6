//! The operator's own metrics.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Cheap to clone; every clone counts into the same numbers.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<OutcomeLabel, Counter>,
    reconcile_seconds: Histogram,
    writes: Family<KindLabel, Counter>,
    rooms: Gauge,
    nodes_followed: Gauge,
    leader: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

/// From a look that finds nothing to do to one that waits for a slow API server.
const RECONCILE_BUCKETS: [f64; 11] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("chatroom_operator");
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by outcome: ok, transient or bug", reconciles.clone());
        let reconcile_seconds = Histogram::new(RECONCILE_BUCKETS);
        registry.register("reconcile_seconds", "Time of one reconcile", reconcile_seconds.clone());
        let writes = Family::default();
        registry.register(
            "writes",
            "Writes to the API server by kind, without Lease and events",
            writes.clone(),
        );
        let rooms = Gauge::default();
        registry.register("rooms", "ChatRooms known to the leader", rooms.clone());
        let nodes_followed = Gauge::default();
        registry.register("nodes_followed", "Chat nodes whose status is followed", nodes_followed.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this operator leads", leader.clone());
        Self {
            registry: Arc::new(registry),
            reconciles,
            reconcile_seconds,
            writes,
            rooms,
            nodes_followed,
            leader,
        }
    }
}

impl Metrics {
    pub fn reconciled(&self, outcome: &str, took: Duration) {
        self.reconciles.get_or_create(&OutcomeLabel { outcome: outcome.into() }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Counts a write, whatever comes of it.
    pub fn wrote(&self, kind: &str) {
        self.writes.get_or_create(&KindLabel { kind: kind.into() }).inc();
    }

    pub fn sees(&self, rooms: usize, nodes: usize) {
        self.rooms.set(i64::try_from(rooms).unwrap_or(i64::MAX));
        self.nodes_followed.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }

    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Prometheus text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes all text");
        text
    }
}

//! The node's figures for Prometheus, computed when they are asked for.

use std::{fmt, sync::Arc, sync::atomic::Ordering};

use contract::metrics::{
    ACKNOWLEDGE_SECONDS, CERTIFICATE_NOT_AFTER_SECONDS, CONNECTIONS, CONNECTIONS_CLOSED, DELIVERIES,
    FLUSH_SECONDS, LOG_BYTES, MESSAGES, READ_ONLY, SHARD_POSITION,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    admission::Refusal,
    board::Board,
    figures::{BUCKETS, Durations},
};

pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn registry(board: Arc<Board>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(board)));
    registry
}

pub(crate) fn render(registry: &Registry) -> Result<String, fmt::Error> {
    let mut out = String::new();
    text::encode(&mut out, registry)?;
    Ok(out)
}

struct Figures(Arc<Board>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let board = &self.0;
        let figures = || board.crew.workers().iter().map(|worker| &worker.figures);
        let tcp: u32 = figures().map(|worker| worker.tcp.load(Ordering::Relaxed)).sum();
        let websocket: u32 = figures().map(|worker| worker.websocket.load(Ordering::Relaxed)).sum();
        let totals = board.totals();
        let counters = totals.counters;
        let log = board.log.status();

        family(
            &mut encoder,
            (CONNECTIONS, "Open client connections", MetricType::Gauge),
            "kind",
            [
                ("tcp".to_owned(), ConstGauge::new(i64::from(tcp))),
                ("websocket".to_owned(), ConstGauge::new(i64::from(websocket))),
            ],
        )?;
        let closed = [
            ("excess_flood", counters.closed_flood),
            ("sendq_exceeded", counters.closed_send_queue),
            ("timeout", counters.closed_timeout),
        ]
        .into_iter()
        .chain(Refusal::ALL.map(|refusal| (refusal.label(), board.admission.refused(refusal))));
        family(
            &mut encoder,
            (CONNECTIONS_CLOSED, "Connections refused or closed by the server", MetricType::Counter),
            "reason",
            closed.map(|(reason, count)| (reason.to_owned(), ConstCounter::new(count))),
        )?;
        single(
            &mut encoder,
            (MESSAGES, "Messages acknowledged to their senders", MetricType::Counter),
            &ConstCounter::new(counters.acknowledged),
        )?;
        single(
            &mut encoder,
            (DELIVERIES, "Messages handed to recipients' connections", MetricType::Counter),
            &ConstCounter::new(counters.deliveries),
        )?;
        histogram(
            &mut encoder,
            ACKNOWLEDGE_SECONDS,
            "From a message's line to its entry",
            &totals.acknowledge,
        )?;
        histogram(&mut encoder, FLUSH_SECONDS, "Flushes of the write-ahead log", &board.flush_durations())?;
        family(
            &mut encoder,
            (SHARD_POSITION, "Last event of a shard", MetricType::Gauge),
            "shard",
            board.view().shards.into_iter().map(|(shard, _, position)| {
                (shard.to_string(), ConstGauge::new(i64::try_from(position.0).unwrap_or(i64::MAX)))
            }),
        )?;
        single(
            &mut encoder,
            (LOG_BYTES, "Size of the write-ahead log on disk", MetricType::Gauge),
            &ConstGauge::new(i64::try_from(log.bytes).unwrap_or(i64::MAX)),
        )?;
        single(
            &mut encoder,
            (READ_ONLY, "1 while the node refuses writes", MetricType::Gauge),
            &ConstGauge::new(i64::from(log.read_only.is_some())),
        )?;
        family(
            &mut encoder,
            (CERTIFICATE_NOT_AFTER_SECONDS, "When the certificate in use expires", MetricType::Gauge),
            "listener",
            board.certificates.iter().map(|certificate| {
                (certificate.door().key().to_owned(), ConstGauge::new(certificate.not_after()))
            }),
        )
    }
}

type Description<'a> = (&'a str, &'a str, MetricType);

fn single(
    encoder: &mut DescriptorEncoder<'_>,
    of: Description<'_>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let (name, help, kind) = of;
    metric.encode(encoder.encode_descriptor(name, help, None, kind)?)
}

/// The same metric for each value of a label.
fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    of: Description<'_>,
    label: &'static str,
    metrics: impl IntoIterator<Item = (String, M)>,
) -> fmt::Result {
    let (name, help, kind) = of;
    let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
    for (value, metric) in metrics {
        metric.encode(encoder.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn histogram(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, seen: &Durations) -> fmt::Result {
    let bounds = BUCKETS.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(seen.counts).collect();
    let count = seen.counts.iter().sum();
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<NoLabelSet>(seen.sum_seconds, count, &buckets, None)
}

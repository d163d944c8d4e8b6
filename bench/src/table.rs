//! Rows of a comparison: medians over the rounds, with their range.

use std::{fmt::Write, time::Duration};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Of the servers, for each delivery.
    pub(crate) cpu: Duration,
    /// Of the store, for each message.
    pub(crate) store_cpu: Duration,
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Figures>,
}

/// A Markdown table.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut out = String::new();
    out.push_str("| | p50 ms | p99 ms | servers' CPU µs a delivery | store's CPU µs a message |\n|---|---|---|---|---|\n");
    for row in rows {
        let of = |pick: fn(&Figures) -> Duration, unit: f64| {
            let mut all: Vec<f64> =
                row.rounds.iter().map(|figures| pick(figures).as_secs_f64() * unit).collect();
            all.sort_by(f64::total_cmp);
            let median = all[all.len() / 2];
            format!("{median:.2} ({:.2}–{:.2})", all[0], all[all.len() - 1])
        };
        let (p50, p99) = (of(|f| f.p50, 1e3), of(|f| f.p99, 1e3));
        let (cpu, store) = (of(|f| f.cpu, 1e6), of(|f| f.store_cpu, 1e6));
        writeln!(out, "| {} | {p50} | {p99} | {cpu} | {store} |", row.name).expect("a String takes it all");
    }
    out
}

/// The middle of a figure's difference or ratio, round by round.
pub(crate) fn paired(rows: (&Row, &Row), of: impl Fn(&Figures, &Figures) -> f64) -> f64 {
    let mut all: Vec<f64> = rows.0.rounds.iter().zip(&rows.1.rounds).map(|(a, b)| of(a, b)).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

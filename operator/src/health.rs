//! Probes and metrics over HTTP, on a thread of their own: they answer when the rest of the program does not.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::metrics::Metrics;

/// How often the main runtime shows that it turns.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Without a beat for so long the program counts as hung.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// What the probes say.
pub struct Health {
    start: Instant,
    /// Milliseconds from `start` to the last beat.
    beat_ms: AtomicU64,
    /// Why the operator is not ready; `None` when it is.
    obstacle: Mutex<Option<String>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            beat_ms: AtomicU64::new(0),
            obstacle: Mutex::new(Some("starting".into())),
        }
    }
}

impl Health {
    pub fn ready(&self) {
        *self.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn not_ready(&self, why: String) {
        *self.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Beats for as long as it is polled.
    pub async fn beat(&self) -> ! {
        loop {
            self.beat_ms.store(self.elapsed_ms(), Ordering::Relaxed);
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn livez(&self) -> (StatusCode, String) {
        let silence = self.elapsed_ms().saturating_sub(self.beat_ms.load(Ordering::Relaxed));
        if u128::from(silence) > DEAD_AFTER.as_millis() {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the main loop has not turned for {silence} ms\n"),
            );
        }
        (StatusCode::OK, "ok\n".into())
    }

    fn readyz(&self) -> (StatusCode, String) {
        match &*self.obstacle.lock().unwrap_or_else(PoisonError::into_inner) {
            None => (StatusCode::OK, "ok\n".into()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }
    }
}

/// Starts the thread. It ends with the process.
pub fn serve(address: SocketAddr, health: Arc<Health>, metrics: Metrics) -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address} for probes and metrics: choose another --listen")
    })?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = Router::new()
        .route("/livez", get(|State(health): State<Arc<Health>>| async move { health.livez() }))
        .route("/readyz", get(|State(health): State<Arc<Health>>| async move { health.readyz() }))
        .route("/metrics", get(move || async move { metrics.text() }))
        .with_state(health);
    std::thread::Builder::new().name("health".into()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        });
        tracing::error!(?served, "probes and metrics ended");
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_what_is_waited_for() {
        let health = Health::default();
        assert_eq!(health.readyz(), (StatusCode::SERVICE_UNAVAILABLE, "starting\n".into()));
        health.ready();
        assert_eq!(health.readyz().0, StatusCode::OK);
        health.not_ready("the CRD is missing".into());
        assert_eq!(health.readyz(), (StatusCode::SERVICE_UNAVAILABLE, "the CRD is missing\n".into()));
    }

    #[test]
    fn a_loop_that_stands_still_is_dead() {
        let start = Instant::now()
            .checked_sub(DEAD_AFTER + Duration::from_secs(1))
            .expect("the machine is up longer");
        let health = Health { start, ..Health::default() };
        assert_eq!(health.livez().0, StatusCode::SERVICE_UNAVAILABLE);
        health.beat_ms.store(health.elapsed_ms(), Ordering::Relaxed);
        assert_eq!(health.livez().0, StatusCode::OK);
    }
}

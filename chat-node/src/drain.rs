//! How a node empties itself: nobody new, then clients sent away at a bounded rate, an end by a deadline always.

use std::time::Duration;

use tokio::time::{self, Instant};

use crate::{
    board::{Board, Phase},
    crew::Order,
};

/// One part in so many of the deadline is kept for the last snapshots.
const CLOSING_SHARE: u32 = 5;
/// Sent away a second by each worker at least: a few clients must not take long.
const MIN_RATE: u32 = 50;
/// Everybody at once.
const MAX_RATE: u32 = 1_000_000;
/// Load balancers take so long to hear that a node is being stopped. Whoever was sent away before would be led straight
/// back, to a door that is closed or already gone; meanwhile people talk on.
const SETTLE: Duration = Duration::from_secs(1);
/// And at most one part in so many of the deadline.
const SETTLE_SHARE: u32 = 10;
/// What is left when somebody asks for a second time.
const HURRY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Returns when the last client has gone, or the time for it is over. `hurry` ends when somebody asked again.
pub(crate) async fn drain(board: &Board, deadline: Duration, hurry: impl Future<Output = ()>) {
    board.enter(Phase::Draining);
    board.admission.close();
    let settle = SETTLE.min(deadline / SETTLE_SHARE);
    tokio::pin!(hurry);
    let mut hurried = time::timeout(settle, &mut hurry).await.is_ok();

    let time = deadline.saturating_sub(closing_time(deadline) + settle);
    let mut end = Instant::now() + if hurried { time.min(HURRY) } else { time };
    let connections = board.crew.connections();
    let workers = u32::try_from(board.crew.workers().len()).unwrap_or(u32::MAX);
    let per_second = if hurried { MAX_RATE } else { rate(connections / workers, time) };
    tracing::info!(connections, per_second_and_worker = per_second, "draining");
    board.crew.tell_all(|| Order::Drain { per_second });

    while board.crew.connections() > 0 && Instant::now() < end {
        tokio::select! {
            () = time::sleep(LOOK_EVERY) => {}
            () = &mut hurry, if !hurried => {
                hurried = true;
                end = end.min(Instant::now() + HURRY);
                board.crew.tell_all(|| Order::Drain { per_second: MAX_RATE });
            }
        }
    }
    let left = board.crew.connections();
    if left > 0 {
        tracing::warn!(connections = left, "the time to drain is over; what is left is closed");
    }
}

/// What is kept of the deadline for the last snapshots.
pub(crate) fn closing_time(deadline: Duration) -> Duration {
    deadline / CLOSING_SHARE
}

/// Clients a second and worker, so that all have gone after half of the time.
fn rate(connections: u32, time: Duration) -> u32 {
    let half = (time.as_millis() / 2).max(1);
    let rate = (u128::from(connections) * 1000).div_ceil(half);
    u32::try_from(rate).unwrap_or(MAX_RATE).clamp(MIN_RATE, MAX_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_gone_by_half_time_and_a_few_go_at_once() {
        assert_eq!(rate(10_000, Duration::from_secs(20)), 1_000);
        assert_eq!(rate(3, Duration::from_secs(20)), MIN_RATE);
        assert_eq!(rate(10_000, Duration::ZERO), MAX_RATE);
    }
}

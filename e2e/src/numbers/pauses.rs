//! How long people wait while something is done to a stateless room: the scenarios, with a stopwatch.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    client::PACE,
    group::Pause,
    scenarios::{self, Pauses, World},
};

/// In the order in which they are scenarios.
const OPERATIONS: [&str; 11] = [
    "plaza_becomes_ready",
    "scaled_up_and_down",
    "roll_moves_everybody_once",
    "bad_image_harms_nobody",
    "operator_is_away_in_a_roll",
    "pods_are_killed",
    "kubernetes_node_loses_power",
    "kubernetes_node_is_cut_off",
    "store_is_killed",
    "api_server_is_down",
    "plaza_is_deleted",
];

pub(super) async fn measure(page: &mut String, world: &mut World) -> Result<()> {
    let names = OPERATIONS.map(str::to_owned);
    let (_, failed) = scenarios::run(world, &names, true).await?;
    ensure!(failed == 0, "a scenario failed: its pauses would say nothing");
    let _ = writeln!(
        page,
        "\n## A stateless room: longest pause seen by a client\n\nFour nodes on three Kubernetes nodes over a store that the \
         operator runs, and eleven writers. For each writer the longest time between two acknowledgements while it tried; \
         as each sends every {:.1} s, that much is no pause at all. Kubernetes notices failures here as `devcluster` is \
         tuned (a lost node after 8 s). Nothing was lost or doubled in any of it.\n",
        PACE.as_secs_f64()
    );
    let _ = writeln!(
        page,
        "| what is done | lost their connection | whose pod stayed: median, longest | came back by resuming: median, longest | \
         came back as stock clients: median, longest |\n|---|---|---|---|---|"
    );
    for Pauses { what, pauses } in &world.pauses {
        let moved = pauses.iter().filter(|pause| pause.moved).count();
        let stayed = column(pauses, |pause| !pause.moved);
        let resumed = column(pauses, |pause| pause.moved && pause.resumes);
        let stock = column(pauses, |pause| pause.moved && !pause.resumes);
        let _ = writeln!(page, "| {what} | {moved} of {} | {stayed} | {resumed} | {stock} |", pauses.len());
    }
    Ok(())
}

fn column(pauses: &[Pause], belongs: impl Fn(&Pause) -> bool) -> String {
    let mut longest: Vec<Duration> =
        pauses.iter().filter(|pause| belongs(pause)).map(|pause| pause.longest).collect();
    longest.sort_unstable();
    match longest.last() {
        None => "–".to_owned(),
        Some(last) => {
            let median = longest[longest.len() / 2];
            format!("{:.1} s, {:.1} s", median.as_secs_f64(), last.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_scenarios_in_their_order() {
        let mut all = scenarios::ALL.iter().map(|(name, _)| *name);
        for operation in OPERATIONS {
            assert!(all.any(|name| name == operation), "{operation}");
        }
    }
}

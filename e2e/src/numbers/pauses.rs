//! How long people wait while something is done to a room of many nodes: the scenarios, with a stopwatch.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    client::PACE,
    group::Pause,
    scenarios::{self, Pauses, World},
};

/// In the order in which they are scenarios.
const STATELESS: [&str; 11] = [
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
const STATEFUL: [&str; 8] = [
    "forum_becomes_ready",
    "forum_loses_pods",
    "forum_scales",
    "forum_is_rolled",
    "forum_outlives_a_bad_image",
    "forum_loses_a_kubernetes_node",
    "forum_without_the_api_server",
    "forum_is_deleted",
];

pub(super) async fn measure(page: &mut String, world: &mut World) -> Result<()> {
    let _ = writeln!(
        page,
        "\n## Longest pause seen by a client\n\nEleven writers in a room on three Kubernetes nodes. For each writer the longest time \
         between two acknowledgements while it tried; as each sends every {:.1} s, that much is no pause at all. Kubernetes \
         notices failures here as `devcluster` is tuned (a lost node after 8 s). Nothing was lost or doubled in any of it.",
        PACE.as_secs_f64()
    );
    table(page, world, "A stateless room of four nodes, over a store that the operator runs", &STATELESS)
        .await?;
    table(page, world, "A stateful room of three nodes, of which one may fail", &STATEFUL).await
}

async fn table(page: &mut String, world: &mut World, room: &str, operations: &[&str]) -> Result<()> {
    let names: Vec<String> = operations.iter().map(|name| (*name).to_owned()).collect();
    world.pauses.clear();
    let (_, failed) = scenarios::run(world, &names, true).await?;
    ensure!(failed == 0, "a scenario failed: its pauses would say nothing");
    let _ = writeln!(
        page,
        "\n{room}:\n\n| what is done | lost their connection | whose pod stayed: median, longest | came back by resuming: \
         median, longest | came back as stock clients: median, longest |\n|---|---|---|---|---|"
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
        for operation in STATELESS.into_iter().chain(STATEFUL) {
            assert!(all.any(|name| name == operation), "{operation}");
        }
    }
}

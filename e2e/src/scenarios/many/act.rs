//! One thing that is done to the room: who lost a connection by it, who had to wait for how long, and whether that was
//! to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::{WITHIN, World, gather, group, scale::spread, square};
use crate::group::{Ended, Pause};

/// After it is over, everybody is acknowledged again within this (C7).
const HEALED_WITHIN: Duration = Duration::from_secs(5);
/// And everybody has seen everything within this (C7).
const EQUAL_WITHIN: Duration = Duration::from_secs(30);

/// What was before.
pub(super) struct Act {
    mark: Vec<usize>,
    pods: BTreeMap<String, Life>,
}

/// A pod's uid and how often its container was restarted.
type Life = (String, u64);

/// What one operation cost people.
pub struct Pauses {
    pub what: &'static str,
    pub pauses: Vec<Pause>,
}

impl Act {
    /// Where nobody talks yet, people come first.
    pub(super) async fn begin(world: &mut World) -> Result<Self> {
        if world.group.is_none() {
            world.group = Some(gather(world, square(world)).await?);
            spread(world).await?;
        }
        let pods = lives(world).await?;
        let group = group(world)?;
        group.progress(HEALED_WITHIN).await?;
        group.time_pauses();
        Ok(Self { mark: group.mark(), pods })
    }

    /// Pods that are no more, or that began anew.
    pub(super) async fn gone(&self, world: &World) -> Result<BTreeSet<String>> {
        let now = lives(world).await?;
        let gone = self.pods.iter().filter(|(name, life)| now.get(*name) != Some(life));
        Ok(gone.map(|(name, _)| name.clone()).collect())
    }

    /// Once everything is as it should be: nothing was lost, and no connection ended but to pods that went.
    pub(super) async fn end(self, world: &mut World, what: &'static str) -> Result<String> {
        self.end_with(world, what, BTreeSet::new()).await
    }

    /// The same where clients of further pods could not stay either.
    pub(super) async fn end_with(
        self,
        world: &mut World,
        what: &'static str,
        unreachable: BTreeSet<String>,
    ) -> Result<String> {
        square(world).wait_ready(WITHIN).await?;
        let mut gone = self.gone(world).await?;
        gone.extend(unreachable);
        let group = group(world)?;
        group.progress(HEALED_WITHIN).await?;
        let ended = group.ended_since(&self.mark);
        let pauses = group.pauses(&ended);
        let found = group.check(EQUAL_WITHIN).await?;
        let wronged: Vec<&Ended> = ended
            .iter()
            .filter(|ended| match &ended.pod {
                Some(pod) => !gone.contains(pod),
                // It went through the Service: which pod it was on is not known.
                None => gone.is_empty(),
            })
            .collect();
        if !wronged.is_empty() {
            bail!("pods went: {gone:?}; these connections ended though theirs did not: {wronged:?}");
        }
        let longest = |moved: bool| {
            let of = pauses.iter().filter(|pause| pause.resumes && pause.moved == moved);
            of.max_by_key(|pause| pause.longest).map_or("-".to_owned(), |pause| {
                format!("{:.1} s {:?}", pause.longest.as_secs_f64(), pause.by)
            })
        };
        let told = format!(
            "{} pods went, {} connections ended; longest pause of who stayed {}, of who resumed {}; {found}",
            gone.len(),
            ended.len(),
            longest(false),
            longest(true)
        );
        world.pauses.push(Pauses { what, pauses });
        Ok(told)
    }
}

async fn lives(world: &World) -> Result<BTreeMap<String, Life>> {
    let pods = square(world).pods().await?;
    let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    staying.map(life).collect()
}

fn life(pod: &Value) -> Result<(String, Life)> {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    ensure!(!text("uid").is_empty(), "a pod without uid: {pod}");
    Ok((text("name"), (text("uid"), super::super::fault::restarts(pod))))
}

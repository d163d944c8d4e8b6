//! What a start may find on the disk, and what it may not.

use std::{collections::BTreeMap, sync::Arc};

use chat_log::{committer::Asked, local::LocalLog};
use chat_state::{
    entry::Entry,
    ids::{Index, ShardId},
};

use crate::{
    archive::StartingPoint,
    env::Env,
    local::options,
    machine::Machine,
    plan::Plan,
    truth::Truth,
    violation::{Violation, ensure},
};

/// Lets a bit rot on a copy of the disk. Whatever opens must have everything; true when it does not open.
pub(crate) fn try_rot(
    plan: &Plan,
    env: &mut Env,
    machine: &Machine,
    truth: &Truth,
) -> Result<bool, Violation> {
    let mut rotten = machine.twin();
    // Opening proves the end of the log by a mark; what rots before it cannot be a torn write.
    let Ok((log, recovered)) = LocalLog::open(rotten.disk(), &options(plan)) else { return Ok(false) };
    let Some((last, end)) = recovered.report.end.clone() else { return Ok(false) };
    if truth.shards().any(|shard| log.last(shard) < truth.last(shard)) {
        // That is for the real start to find.
        return Ok(false);
    }
    drop((log, recovered));
    let files = rotten.disk().list().unwrap_or_default();
    if files.iter().all(|file| file.name != last) {
        // Opening has put it away.
        return Ok(false);
    }
    let others: Vec<_> = files.iter().filter(|file| file.name != last && file.length > 0).collect();
    if others.is_empty() || env.chance.one_in(2) {
        rotten.rot(&last, end, &mut env.chance);
    } else {
        let file = *env.chance.pick(&others);
        rotten.rot(&file.name, file.length, &mut env.chance);
    }
    let Ok((log, recovered)) = LocalLog::open(rotten.disk(), &options(plan)) else { return Ok(true) };
    let point = StartingPoint::new(&recovered, log.snapshots().clone());
    let mut reached: BTreeMap<ShardId, Index> =
        truth.shards().map(|shard| (shard, point.index(shard))).collect();
    for entry in recovered.entries {
        let Ok((shard, entry)) = entry else { return Ok(true) };
        reached.insert(shard, entry.index);
        let same = truth.entry(shard, entry.index).is_none_or(|committed| *committed == entry);
        ensure!(same, Recovery, "a rotten log told another entry {} of shard {shard}", entry.index);
    }
    for (shard, index) in reached {
        let last = truth.last(shard);
        ensure!(
            index >= last,
            Recovery,
            "a rotten log opened with {index} of {last} entries of shard {shard}"
        );
    }
    // Chunks of history are checked when they are read.
    Ok(point.replicas().is_err())
}

/// That the log kept everything that was committed, and invented nothing.
pub(crate) fn check_recovered(
    truth: &mut Truth,
    point: &StartingPoint,
    found: &[(ShardId, Arc<Entry>)],
    asked: &[Asked],
) -> Result<(), Violation> {
    let mut last: BTreeMap<ShardId, u64> =
        truth.shards().map(|shard| (shard, point.index(shard).0)).collect();
    for (shard, entry) in found {
        let last = last.entry(*shard).or_default();
        ensure!(
            entry.index.0 == *last + 1,
            Recovery,
            "shard {shard}: the recovered entry {} follows entry {last}",
            entry.index
        );
        *last += 1;
        if let Some(committed) = truth.entry(*shard, entry.index) {
            ensure!(
                committed == entry,
                Recovery,
                "entry {} of shard {shard} came back as another",
                entry.index
            );
            continue;
        }
        // It reached the disk and nobody was told: it counts from now on.
        for proposal in &entry.proposals {
            ensure!(
                asked.iter().any(|ask| ask.shard == *shard && ask.request.command == proposal.command),
                Recovery,
                "shard {shard} came back with something that nobody asked for: {:?}",
                proposal.command
            );
        }
        truth.take(*shard, entry)?;
    }
    for (shard, last) in last {
        ensure!(
            last >= truth.last(shard).0,
            Acknowledged,
            "shard {shard} came back with {last} of the {} entries that were committed",
            truth.last(shard)
        );
    }
    Ok(())
}

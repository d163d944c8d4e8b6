//! The modelled store: one process at a time, connections that break, a disk that is behind.

mod pipes;

use std::{collections::BTreeMap, sync::Arc};

use chat_log::{
    shared::store::{Extent, Snapshots, StoredEntry},
    snapshot::{ChunkRef, NewSnapshot, Snapshot},
};
use chat_state::{
    entry::{Entry, Proposal},
    ids::{Incarnation, Index, Lineage, ShardId},
};

use self::pipes::Pipe;
use super::{
    data::{Data, Effect, Head, Saved},
    mutated,
};
use crate::{
    env::Env,
    truth::Truth,
    violation::{Checker, Violation},
};

pub(crate) struct Store {
    /// As the process has it.
    live: Data,
    /// As its disk has it.
    kept: Data,
    /// What the disk does not have yet, in order.
    unflushed: Vec<Effect>,
    /// Answers that wait for the disk.
    held: Vec<(u64, Reply)>,
    /// Changes with every process.
    run: u64,
    started_ms: u64,
    /// When the next process takes connections; none while one does.
    starts_at_ms: Option<u64>,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    /// Nodes that cannot reach it: since when, and until when.
    cuts: BTreeMap<usize, (u64, u64)>,
    pub(super) slow_until_ms: u64,
    pub(super) full: bool,
    /// Its clock, beside that of the others.
    clock_ms: i64,
    /// It answers before its disk does, and may come back without its last commands.
    lossy: bool,
    losses: u64,
}

/// Of each shard its extent, its last entry and its lineage; and the snapshots.
pub(super) type Opened = (Vec<Extent>, Vec<Option<Arc<StoredEntry>>>, Snapshots, Vec<u32>);

/// A command.
pub(super) enum Request {
    Append { shard: ShardId, lineage: u32, payload: Arc<[u8]> },
    Save { lineage: u32, new: Box<NewSnapshot> },
    Beat { me: Incarnation, from: Option<String>, over: Vec<Incarnation> },
    Leave(Incarnation),
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Appended(Index),
    Saved(Snapshot),
    Nodes {
        leader: String,
        counts: BTreeMap<Incarnation, u64>,
    },
    Left,
    OtherLineage,
    Full,
    /// A snapshot that is kept with a chunk that is not there.
    UnknownChunk(ShardId),
    /// A snapshot that is not wanted.
    NotWanted(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StoreWork {
    /// Carries out the next command of a connection.
    Take(u64),
    Flush,
    Start,
}

impl Store {
    pub(crate) fn new(shards: u16, lossy: bool) -> Self {
        let run = 1;
        Self {
            live: Data::new(shards, run),
            kept: Data::new(shards, run),
            unflushed: Vec::new(),
            held: Vec::new(),
            run,
            started_ms: 0,
            starts_at_ms: None,
            pipes: BTreeMap::new(),
            next_pipe: 0,
            cuts: BTreeMap::new(),
            slow_until_ms: 0,
            full: false,
            clock_ms: 0,
            lossy,
            losses: 0,
        }
    }

    /// Whether it ever came back without something.
    pub(crate) fn has_lost(&self) -> bool {
        self.losses > 0
    }

    pub(crate) fn is_up(&self) -> bool {
        self.starts_at_ms.is_none()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.is_up() && self.pipes.values().all(|pipe| !pipe.orphaned)
    }

    pub(crate) fn possible(&self, now_ms: u64, out: &mut Vec<(u64, StoreWork)>) {
        if let Some(at) = self.starts_at_ms {
            if at <= now_ms {
                out.push((20, StoreWork::Start));
            }
            return;
        }
        if !self.unflushed.is_empty() || !self.held.is_empty() {
            out.push((if self.lossy { 2 } else { 30 }, StoreWork::Flush));
        }
        if self.slow_until_ms > now_ms {
            return;
        }
        for (id, pipe) in &self.pipes {
            if !pipe.up.is_empty() && (pipe.orphaned || !self.is_cut(pipe.slot, now_ms)) {
                out.push((if pipe.orphaned { 3 } else { 30 }, StoreWork::Take(*id)));
            }
        }
    }

    pub(crate) fn next_due_ms(&self) -> impl Iterator<Item = u64> + '_ {
        let cuts = self.cuts.values().map(|(_, until)| *until);
        cuts.chain(self.starts_at_ms).chain([self.slow_until_ms])
    }

    pub(crate) fn work(
        &mut self,
        work: StoreWork,
        env: &mut Env,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        match work {
            StoreWork::Start => {
                self.starts_at_ms = None;
                self.started_ms = env.now_ms();
                env.note(format_args!("the store is up: process {}", self.run));
                Ok(())
            }
            StoreWork::Flush => self.flush(env, truth),
            StoreWork::Take(id) => {
                let Some(pipe) = self.pipes.get_mut(&id) else { return Ok(()) };
                let late = pipe.orphaned;
                let Some(request) = pipe.up.pop_front() else { return Ok(()) };
                if pipe.up.is_empty() && late {
                    self.pipes.remove(&id);
                }
                let reply = self.carry_out(&request, env, truth)?;
                env.note(format_args!(
                    "store: {} of {id}{}",
                    shown(&reply),
                    if late { ", late" } else { "" }
                ));
                self.held.push((id, reply));
                if self.lossy {
                    self.release();
                }
                Ok(())
            }
        }
    }

    fn carry_out(&mut self, request: &Request, env: &mut Env, truth: &mut Truth) -> Result<Reply, Violation> {
        match request {
            Request::Append { shard, lineage, payload } => {
                let head = self.live.head(*shard);
                if head.lineage != *lineage && !mutated::appends_without_lineage() {
                    return Ok(Reply::OtherLineage);
                }
                if self.full {
                    return Ok(Reply::Full);
                }
                let entry = self.entry(*shard, payload.to_vec(), env);
                let index = entry.index;
                self.change(Effect::Append(entry), env, truth)?;
                Ok(Reply::Appended(index))
            }
            Request::Save { lineage, new } => {
                if self.full {
                    return Ok(Reply::Full);
                }
                match save(self.live.head(new.meta.shard), *lineage, new) {
                    Ok(saved) => {
                        let answer = Snapshot { state: Vec::new(), ..saved.snapshot.clone() };
                        let (shard, saved) = (new.meta.shard, Arc::new(saved));
                        self.change(Effect::Save { shard, saved }, env, truth)?;
                        Ok(Reply::Saved(answer))
                    }
                    Err(reply) => Ok(reply),
                }
            }
            Request::Beat { me, from, over } => {
                if self.full {
                    return Ok(Reply::Full);
                }
                let leader = self.live.leader.map_or_else(String::new, |leader| leader.0.to_string());
                let leads_from_now = from.as_ref() == Some(&leader);
                let over = over.clone();
                self.change(Effect::Beat { me: *me, leads_from_now, over }, env, truth)?;
                let leader = self.live.leader.map_or_else(String::new, |leader| leader.0.to_string());
                Ok(Reply::Nodes { leader, counts: self.live.nodes.clone() })
            }
            Request::Leave(me) => {
                self.change(Effect::Leave(*me), env, truth)?;
                Ok(Reply::Left)
            }
        }
    }

    fn entry(&self, shard: ShardId, payload: Vec<u8>, env: &Env) -> Arc<StoredEntry> {
        let index = Index(self.live.head(shard).last.0 + 1);
        let time_ms = env.now().unix_ms.saturating_add_signed(self.clock_ms);
        Arc::new(StoredEntry { shard, index, time_ms, payload })
    }

    fn change(&mut self, effect: Effect, env: &mut Env, truth: &mut Truth) -> Result<(), Violation> {
        self.live.apply(&effect);
        if self.lossy {
            note(&effect, env, truth)?;
        }
        self.unflushed.push(effect);
        Ok(())
    }

    /// The disk has everything. Where answers wait for that, it is told now, and is true now.
    fn flush(&mut self, env: &mut Env, truth: &mut Truth) -> Result<(), Violation> {
        for effect in self.unflushed.drain(..) {
            self.kept.apply(&effect);
            if !self.lossy {
                note(&effect, env, truth)?;
            }
        }
        self.release();
        Ok(())
    }

    fn release(&mut self) {
        for (id, reply) in self.held.drain(..) {
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.down.push_back(reply);
            }
        }
    }

    /// What may be told now.
    fn told(&mut self, env: &mut Env, truth: &mut Truth) -> Result<&Data, Violation> {
        if !self.lossy {
            self.flush(env, truth)?;
        }
        Ok(&self.live)
    }

    /// What a node starts with.
    pub(super) fn open(&mut self, env: &mut Env, truth: &mut Truth) -> Result<Opened, Violation> {
        let data = self.told(env, truth)?;
        let mut snapshots = Snapshots::default();
        for shard in data.shards() {
            if let Some(saved) = &data.head(shard).saved {
                snapshots.of.insert(shard, (saved.snapshot.clone(), saved.chunks.clone()));
            }
        }
        let lineages = data.shards().map(|shard| data.head(shard).lineage).collect();
        let ends =
            data.shards().map(|shard| data.head(shard).entry(data.head(shard).last).cloned()).collect();
        Ok((data.extents(), ends, snapshots, lineages))
    }

    pub(super) fn entries_after(
        &mut self,
        shard: ShardId,
        after: Index,
        most: usize,
        env: &mut Env,
        truth: &mut Truth,
    ) -> Result<Vec<StoredEntry>, Violation> {
        Ok(self.told(env, truth)?.head(shard).after(after, most))
    }

    pub(super) fn entry_at(
        &mut self,
        shard: ShardId,
        index: Index,
        env: &mut Env,
        truth: &mut Truth,
    ) -> Result<Option<Arc<StoredEntry>>, Violation> {
        Ok(self.told(env, truth)?.head(shard).entry(index).cloned())
    }

    /// Opens another lineage of a shard unless this process has one; gives the one in force, or none if it is full.
    pub(super) fn begin_lineage(
        &mut self,
        shard: ShardId,
        env: &mut Env,
        truth: &mut Truth,
    ) -> Result<Option<u32>, Violation> {
        let head = self.live.head(shard);
        if head.run == self.run || mutated::lineage_goes_on() {
            let lineage = head.lineage;
            self.told(env, truth)?;
            return Ok(Some(lineage));
        }
        if self.full {
            return Ok(None);
        }
        let seconds = env.now().unix_ms.saturating_add_signed(self.clock_ms) / 1_000;
        let lineage = u32::try_from(seconds).unwrap_or(0).max(head.lineage + 1);
        let entry =
            self.entry(shard, Entry::encode_proposals(&[Proposal::begins_lineage(Lineage(lineage))]), env);
        self.change(Effect::Lineage { entry, run: self.run, lineage }, env, truth)?;
        self.told(env, truth)?;
        Ok(Some(lineage))
    }

    /// Up to where each shard goes.
    pub(super) fn last(&self, shard: ShardId) -> Index {
        self.live.head(shard).last
    }

    /// The oldest entry that is kept of a shard.
    pub(super) fn first(&self, shard: ShardId) -> Index {
        self.live.head(shard).first()
    }

    pub(super) fn run(&self) -> u64 {
        self.run
    }

    pub(crate) fn is_cut(&self, slot: usize, now_ms: u64) -> bool {
        self.cuts.get(&slot).is_some_and(|(_, until)| *until > now_ms)
    }

    /// For how long the node does not reach it by now.
    pub(super) fn cut_for_ms(&self, slot: usize, now_ms: u64) -> u64 {
        let cut = self.cuts.get(&slot).filter(|(_, until)| *until > now_ms);
        cut.map_or(0, |(since, _)| now_ms - since)
    }

    pub(crate) fn cut_off(&mut self, slot: usize, now_ms: u64, until_ms: u64) {
        self.cuts.insert(slot, (now_ms, until_ms));
    }

    pub(crate) fn slow_down(&mut self, until_ms: u64) {
        self.slow_until_ms = until_ms;
    }

    pub(crate) fn turn_full(&mut self, full: bool) {
        self.full = full;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn set_clock(&mut self, ms: i64) {
        self.clock_ms = ms;
    }

    /// Everything that was wrong is mended.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.slow_until_ms = 0;
        self.full = false;
    }

    /// The process ends, and another one comes: with what the disk has, and perhaps more. Gives how many entries there
    /// are then, if some are lost that anybody may have been told of.
    pub(crate) fn restart(
        &mut self,
        starts_at_ms: u64,
        env: &mut Env,
        truth: &mut Truth,
    ) -> Result<Option<usize>, Violation> {
        let kept = env.chance.index(self.unflushed.len() + 1);
        let lost = self.unflushed.len() - kept;
        for effect in self.unflushed.drain(..).take(kept) {
            self.kept.apply(&effect);
            if !self.lossy {
                note(&effect, env, truth)?;
            }
        }
        let before = self.live.appended;
        self.live = self.kept.clone();
        self.held.clear();
        for pipe in self.pipes.values_mut() {
            pipe.up.clear();
            pipe.open = false;
            let read = env.chance.index(pipe.down.len() + 1);
            pipe.down.truncate(read);
        }
        self.pipes.retain(|_, pipe| !pipe.orphaned);
        self.run += 1;
        // No two processes open lineages in the same second.
        self.starts_at_ms = Some(starts_at_ms.max(self.started_ms + 1_000));
        let gone = before - self.live.appended;
        env.note(format_args!("the store ends, without {lost} of its commands and {gone} entries"));
        if self.lossy && gone > 0 {
            self.losses += 1;
            return Ok(Some(self.live.appended));
        }
        Ok(None)
    }
}

/// An entry that is in the log now.
fn note(effect: &Effect, env: &mut Env, truth: &mut Truth) -> Result<(), Violation> {
    let (Effect::Append(stored) | Effect::Lineage { entry: stored, .. }) = effect else { return Ok(()) };
    let StoredEntry { shard, index, time_ms, payload } = &**stored;
    let entry = Entry::decode_proposals(*index, *time_ms, payload).map_err(|error| {
        Violation::new(Checker::Recovery, format!("shard {shard}, entry {index}: {error}"))
    })?;
    for proposal in &entry.proposals {
        env.note(format_args!("{shard}/{index}: {:?} {:?}", proposal.producer, proposal.command));
    }
    truth.take(*shard, &Arc::new(entry))
}

/// As the store's script: only what is newer and of this history, with all of its chunks.
fn save(head: &Head, lineage: u32, new: &NewSnapshot) -> Result<Saved, Reply> {
    if head.lineage != lineage {
        return Err(Reply::NotWanted("of another lineage"));
    }
    let present = head.saved.as_ref().map_or(Index(0), |saved| saved.snapshot.meta.index);
    if present >= new.meta.index {
        return Err(Reply::NotWanted("not newer"));
    }
    if head.last < new.meta.index {
        return Err(Reply::NotWanted("not there yet"));
    }
    let mut chunks: Vec<(ChunkRef, Vec<u8>)> = Vec::new();
    for chunk in &new.kept_chunks {
        let known = head.saved.as_ref().and_then(|saved| {
            let at = saved.snapshot.chunks.iter().position(|known| known == chunk)?;
            Some(saved.chunks[at].clone())
        });
        let Some(bytes) = known else { return Err(Reply::UnknownChunk(new.meta.shard)) };
        chunks.push((*chunk, bytes));
    }
    for chunk in &new.new_chunks {
        // Names of chunks say what is in them; here their bytes do.
        let crc = chunk.bytes.iter().fold(17_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        let kept = ChunkRef { first: chunk.first, last: chunk.last, bytes: chunk.bytes.len() as u64, crc };
        chunks.push((kept, chunk.bytes.clone()));
    }
    chunks.sort();
    let (refs, bytes) = chunks.into_iter().unzip();
    let snapshot = Snapshot { meta: new.meta, state: new.state.clone(), chunks: refs, place: Vec::new() };
    Ok(Saved { snapshot, chunks: bytes })
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Saved(snapshot) => {
            format!("saved shard {} at {}", snapshot.meta.shard, snapshot.meta.index)
        }
        reply => format!("{reply:?}"),
    }
}

//! A run: what can happen next, and which of it does.

use std::collections::BTreeMap;

use chat_log::{committer::Asked, disk::memory::Loss};
use chat_state::ids::ShardId;

use crate::{
    client::{Client, Phase},
    env::Env,
    expected,
    faults::Fault,
    machine::{Machine, loss},
    network::Link,
    node::{LINEAGE, Node, Stop, Work},
    plan::Plan,
    recovery::try_rot,
    truth::Truth,
    violation::{Violation, ensure},
};

/// Steps in which everything must be answered once the faults have stopped.
const HEALING_STEPS: u64 = 60_000;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) env: Env,
    pub(crate) machine: Machine,
    /// None while the process is down.
    pub(crate) node: Option<Node>,
    pub(crate) truth: Truth,
    pub(crate) clients: Vec<Client>,
    pub(crate) links: BTreeMap<u64, Link>,
    next_link: u64,
    /// What was being committed when the process ended.
    in_flight: Vec<Asked>,
    healing: bool,
    pub(crate) counts: Counts,
}

/// What a run amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub steps: u64,
    pub crashes: u64,
    pub connections: u64,
    pub cuts: u64,
    pub snapshots: u64,
    pub disk_full: u64,
    pub rot_refused: u64,
    pub entries: u64,
    pub acknowledged: u64,
    pub gaps: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Boot,
    Node(Work),
    /// The server reads from a connection.
    Read(u64),
    /// The client reads from a connection.
    Write(u64),
    /// The server closes a connection that is over.
    Close(u64),
    Connect(usize),
    Act(usize),
    Retry(usize),
    Snapshot,
    Fault(Fault),
}

impl World {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        let mut env = Env::new(seed, print);
        let plan = Plan::of(&mut env.chance);
        env.note(format_args!("{plan:?}"));
        let clients = (0..plan.clients)
            .map(|number| Client::new(number, plan.resume_window_ms, &mut env.chance))
            .collect();
        Self {
            truth: Truth::new(plan.shards, LINEAGE),
            plan,
            env,
            machine: Machine::default(),
            node: None,
            clients,
            links: BTreeMap::new(),
            next_link: 0,
            in_flight: Vec::new(),
            healing: false,
            counts: Counts::default(),
        }
    }

    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.env.note(format_args!("the faults stop"));
        self.healing = true;
        self.machine.make_space();
        for client in &mut self.clients {
            client.stalled_until_ms = 0;
        }
        let mut left = HEALING_STEPS;
        while !self.is_settled() {
            ensure!(left > 0, Liveness, "{}", self.unsettled());
            left -= 1;
            self.step()?;
        }
        self.check()?;
        // Once more without anything that was not synced.
        self.crash(Loss::All);
        while self.node.as_ref().is_none_or(|node| !node.is_quiet()) {
            ensure!(left > 0, Liveness, "{}", self.unsettled());
            left -= 1;
            self.step()?;
        }
        self.check_replicas()
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.counts.steps += 1;
        let time = self.env.chance.below(self.plan.step_ms + 1);
        self.env.advance(time);
        let possible = self.possible();
        let total: u64 = possible.iter().map(|(weight, _)| weight).sum();
        if total == 0 {
            return self.wait();
        }
        let mut drawn = self.env.chance.below(total);
        let action = possible.into_iter().find(|(weight, _)| {
            let found = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            found
        });
        match action {
            Some((_, action)) => self.perform(action),
            None => Ok(()),
        }
    }

    /// Nothing can happen now: to when something can.
    fn wait(&mut self) -> Result<(), Violation> {
        let now = self.env.now_ms();
        let clients = self.clients.iter().filter_map(|client| match client.phase {
            Phase::Offline => Some(client.connect_at_ms),
            _ => client.retry_at_ms(),
        });
        let node = self.node.as_ref().map(Node::next_due_ms);
        let next = clients.chain(node).filter(|at| *at > now).min().unwrap_or(now + 100);
        self.env.advance(next - now);
        Ok(())
    }

    fn possible(&self) -> Vec<(u64, Action)> {
        let now = self.env.now_ms();
        let mut possible = Vec::with_capacity(64);
        let Some(node) = &self.node else {
            possible.push((10, Action::Boot));
            return possible;
        };
        let mut work = Vec::with_capacity(16);
        node.possible(now, &mut work);
        possible.extend(work.into_iter().map(|(weight, work)| (weight, Action::Node(work))));
        for (id, link) in &self.links {
            let served = node.hands[link.worker].stalled_until_ms <= now;
            let awake = link.dead || self.clients[link.client].stalled_until_ms <= now;
            if served && link.can_be_read(node) {
                possible.push((20, Action::Read(*id)));
            }
            if served && awake && link.can_be_written(node) {
                possible.push((20, Action::Write(*id)));
            } else if served && (link.dead || link.ending) {
                possible.push((4, Action::Close(*id)));
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            match client.phase {
                Phase::Offline if node.takes_clients() && client.connect_at_ms <= now => {
                    possible.push((10, Action::Connect(number)));
                }
                Phase::Ready if client.retry_is_due(now) => possible.push((20, Action::Retry(number))),
                Phase::Ready if !self.healing && client.stalled_until_ms <= now => {
                    possible.push((8, Action::Act(number)));
                }
                _ => {}
            }
        }
        if !self.healing {
            self.faults(&mut possible);
        }
        possible
    }

    fn perform(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Boot => return self.boot(),
            Action::Node(work) => {
                let Some(node) = &mut self.node else { return Ok(()) };
                let done = node.work(
                    work,
                    &self.plan,
                    &mut self.env,
                    &self.machine,
                    &mut self.truth,
                    &mut self.in_flight,
                );
                return self.done(done);
            }
            Action::Read(id) => {
                if let (Some(node), Some(link)) = (&mut self.node, self.links.get_mut(&id)) {
                    link.read(node, &mut self.env);
                }
            }
            Action::Write(id) => {
                if let (Some(node), Some(link)) = (&mut self.node, self.links.get_mut(&id)) {
                    let client = &mut self.clients[link.client];
                    link.write(node, client, &mut self.env, &self.truth)?;
                    link.send(&client.take_output());
                }
            }
            Action::Close(id) => self.close(id),
            Action::Connect(number) => self.connect(number),
            Action::Act(number) => {
                let others: Vec<String> = self
                    .clients
                    .iter()
                    .filter(|client| client.phase == Phase::Ready)
                    .map(|client| client.view.nick.clone())
                    .collect();
                self.clients[number].act(&others, &mut self.env);
                self.submit(number);
            }
            Action::Retry(number) => {
                self.clients[number].retry(&mut self.env);
                self.submit(number);
            }
            Action::Snapshot => return self.snapshot(),
            Action::Fault(fault) => self.fault(fault),
        }
        self.note_endings();
        Ok(())
    }

    /// What the client said goes on its way.
    fn submit(&mut self, number: usize) {
        let bytes = self.clients[number].take_output();
        if let Some(link) = self.links.values_mut().find(|link| link.client == number && !link.dead) {
            link.send(&bytes);
        }
    }

    fn boot(&mut self) -> Result<(), Violation> {
        if self.env.chance.below(4) < self.plan.faults.rot {
            let refused = try_rot(&self.plan, &mut self.env, &self.machine, &self.truth)?;
            self.counts.rot_refused += u64::from(refused);
        }
        if !self.healing && self.env.chance.below(20) < self.plan.faults.power {
            // The power may go again while the node starts.
            let operations = self.env.chance.below(30);
            self.machine.cut_power_after(operations);
        }
        let booted = Node::boot(&self.plan, &mut self.env, &self.machine, &mut self.truth, &self.in_flight);
        match booted {
            Ok(node) => {
                self.in_flight.clear();
                self.node = Some(node);
                Ok(())
            }
            Err(stop) => self.done(Err(stop)),
        }
    }

    fn done(&mut self, done: Result<(), Stop>) -> Result<(), Violation> {
        match done {
            Ok(()) => self.note_endings(),
            Err(Stop::Broken(violation)) => return Err(violation),
            Err(Stop::Fault) => {
                let loss = loss(&mut self.env.chance);
                self.crash(loss);
            }
        }
        Ok(())
    }

    /// The process ends; what it held is gone.
    pub(crate) fn crash(&mut self, loss: Loss) {
        self.env.note(format_args!("crash: {loss:?}"));
        self.counts.crashes += 1;
        self.node = None;
        self.machine.crash(loss);
        for link in std::mem::take(&mut self.links).into_values() {
            if !link.dead {
                self.clients[link.client].disconnected(&mut self.env);
            }
        }
    }

    fn connect(&mut self, number: usize) {
        let Some(node) = &mut self.node else { return };
        self.counts.connections += 1;
        let mut link = Link::open(node, number, &mut self.env);
        let client = &mut self.clients[number];
        client.connected(&mut self.env);
        link.send(&client.take_output());
        self.links.insert(self.next_link, link);
        self.next_link += 1;
    }

    /// Connections that the workers want closed.
    fn note_endings(&mut self) {
        let Some(node) = &mut self.node else { return };
        for (worker, hand) in node.hands.iter_mut().enumerate() {
            for (connection, close) in hand.worker.take_closing() {
                self.env.note(format_args!("worker {worker} ends {}: {}", connection.0, close.reason));
                let link = self
                    .links
                    .values_mut()
                    .find(|link| link.worker == worker && link.connection == connection);
                if let Some(link) = link {
                    link.ending = true;
                }
            }
            hand.worker.take_dirty();
            hand.worker.take_resumed_reading();
            hand.collect();
        }
    }

    fn close(&mut self, id: u64) {
        let (Some(node), Some(link)) = (&mut self.node, self.links.remove(&id)) else { return };
        self.env.note(format_args!("c{} is disconnected", link.client));
        link.close(node, &mut self.env);
        if !link.dead {
            self.clients[link.client].disconnected(&mut self.env);
        }
    }

    fn snapshot(&mut self) -> Result<(), Violation> {
        let Some(node) = &mut self.node else { return Ok(()) };
        let shard =
            ShardId(u16::try_from(self.env.chance.below(u64::from(self.plan.shards) + 1)).unwrap_or(0));
        let hand = self.env.chance.index(node.hands.len());
        match node.archive.save(&node.hands[hand].worker, shard) {
            Ok(saved) => {
                self.counts.snapshots += u64::from(saved);
                self.env.note(format_args!("snapshot of shard {shard}: {saved}"));
                Ok(())
            }
            Err(error) if self.machine.excuses_failure() => {
                self.env.note(format_args!("snapshot of shard {shard}: {error}"));
                self.done(Err(Stop::Fault))
            }
            Err(chat_log::snapshot::SnapshotError::Full { .. }) if self.machine.is_full() => Ok(()),
            Err(error) => {
                ensure!(false, Recovery, "no snapshot of shard {shard}: {error}");
                Ok(())
            }
        }
    }

    fn is_settled(&self) -> bool {
        let Some(node) = &self.node else { return false };
        node.is_quiet()
            && self.clients.iter().all(Client::is_settled)
            && self.links.values().all(|link| !link.dead && link.is_quiet(node))
            && self.truth.directory.closing().next().is_none()
    }

    fn unsettled(&self) -> String {
        let waiting: Vec<String> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, client)| !client.is_settled())
            .map(|(number, client)| format!("c{number}: {:?}, {} open", client.phase, client.open_sends()))
            .collect();
        let closing = self.truth.directory.closing().count();
        let node = self.node.as_ref().map(|node| (node.takes_clients(), node.is_quiet()));
        format!("after {HEALING_STEPS} steps without faults: node {node:?}, {closing} closing, {waiting:?}")
    }

    /// Everything that holds when all is quiet.
    fn check(&mut self) -> Result<(), Violation> {
        expected::check_history(&self.truth)?;
        self.check_replicas()?;
        for client in &self.clients {
            let present = client.lives.len();
            for (n, life) in client.lives.iter().enumerate() {
                let whole = n + 1 == present && !life.over;
                expected::check_life(life, whole, &self.truth)?;
                if whole && !life.lost_sight {
                    expected::check_view(client, life, &self.truth)?;
                }
                self.counts.acknowledged += life.acknowledged.len() as u64;
                self.counts.gaps += life.gaps.values().map(|gaps| gaps.len() as u64).sum::<u64>();
            }
        }
        self.counts.entries = self.truth.shards().map(|shard| self.truth.last(shard).0).sum();
        Ok(())
    }

    /// Every replica has everything, and all are the same.
    fn check_replicas(&self) -> Result<(), Violation> {
        let Some(node) = &self.node else { return Ok(()) };
        for (number, hand) in node.hands.iter().enumerate() {
            for shard in self.truth.shards() {
                let (directory, channels) = (hand.worker.directory(), hand.worker.channels());
                let index = hand.index(shard);
                let last = self.truth.last(shard);
                ensure!(index == last, Replicas, "worker {number} is at {index} of {last} in shard {shard}");
                self.truth.compare(directory, channels, shard, &format!("worker {number}"))?;
            }
        }
        Ok(())
    }
}

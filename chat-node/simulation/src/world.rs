//! A run: what can happen next, and which of it does.

use std::collections::BTreeMap;

use chat_log::disk::memory::Loss;
use chat_state::ids::{Lineage, ShardId};

use crate::{
    client::{Client, Phase},
    counts::Counts,
    env::Env,
    expected,
    faults::Fault,
    local::LINEAGE,
    machine::loss,
    network::Link,
    node::{Home, LogEnd, Node, Stop, Work},
    plan::{Plan, Room},
    recovery::try_rot,
    shared::{Store, StoreWork},
    truth::Truth,
    violation::{Violation, ensure},
};

/// Steps in which everything must be answered once the faults have stopped.
pub(crate) const HEALING_STEPS: u64 = 60_000;
const HEALING_STEP_MS: u64 = 5;

/// A node that drains ends after this time in any case.
const DRAIN_MS: u64 = 5_000;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) env: Env,
    pub(crate) home: Home,
    pub(crate) places: Vec<Place>,
    pub(crate) truth: Truth,
    pub(crate) clients: Vec<Client>,
    pub(crate) links: BTreeMap<u64, Link>,
    next_link: u64,
    healing: bool,
    pub(crate) counts: Counts,
}

/// Where a node runs, one life after the other.
#[derive(Default)]
pub(crate) struct Place {
    /// None while the process is down.
    pub(crate) node: Option<Node>,
    boots_at_ms: u64,
    /// The process stands still until then.
    pub(crate) frozen_until_ms: u64,
    /// When a node that drains ends in any case.
    ends_at_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Boot(usize),
    Node(usize, Work),
    /// A node that drained ends.
    End(usize),
    Store(StoreWork),
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
    pub(crate) fn new(seed: u64, room: Room, print: bool) -> Self {
        let mut env = Env::new(seed, print);
        let plan = Plan::of(room, &mut env.chance);
        env.note(format_args!("{plan:?}"));
        let clients = (0..plan.clients)
            .map(|number| Client::new(number, plan.resume_window_ms, &mut env.chance))
            .collect();
        let (home, lineage) = match room {
            Room::Alone => (Home::Disk(Box::default()), LINEAGE),
            Room::Shared => (Home::Store(Box::new(Store::new(plan.shards, false))), Lineage::default()),
            Room::Lossy => (Home::Store(Box::new(Store::new(plan.shards, true))), Lineage::default()),
        };
        let place = |slot: usize| Place {
            // Some are added later.
            boots_at_ms: if slot > 0 { env.chance.below(plan.steps * plan.step_ms / 4) } else { 0 },
            ..Place::default()
        };
        let places = (0..plan.nodes).map(place).collect();
        Self {
            truth: Truth::new(plan.shards, lineage),
            plan,
            env,
            home,
            places,
            clients,
            links: BTreeMap::new(),
            next_link: 0,
            healing: false,
            counts: Counts::default(),
        }
    }

    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.heal();
        let mut left = HEALING_STEPS;
        while !self.is_settled() {
            ensure!(left > 0, Liveness, "{}", self.unsettled());
            left -= 1;
            self.step()?;
        }
        self.check()?;
        // Once more without anything that was not kept.
        for slot in 0..self.places.len() {
            self.crash(slot, Loss::All);
        }
        if let Home::Store(_) = &self.home {
            self.restart_store()?;
        }
        while !self.is_up() {
            ensure!(left > 0, Liveness, "{}", self.unsettled());
            left -= 1;
            self.step()?;
        }
        self.check_replicas()
    }

    fn heal(&mut self) {
        self.env.note(format_args!("the faults stop"));
        self.healing = true;
        match &mut self.home {
            Home::Disk(site) => site.machine.make_space(),
            Home::Store(store) => store.heal(),
        }
        for place in &mut self.places {
            place.frozen_until_ms = 0;
        }
        for client in &mut self.clients {
            client.stalled_until_ms = 0;
        }
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.counts.steps += 1;
        // Steps are what everything takes; when all has to come to rest, they must not be too slow for the clocks.
        let most_ms = if self.healing { self.plan.step_ms.min(HEALING_STEP_MS) } else { self.plan.step_ms };
        let time = self.env.chance.below(most_ms + 1);
        self.env.advance(time);
        let possible = self.possible();
        let total: u64 = possible.iter().map(|(weight, _)| weight).sum();
        if total == 0 {
            self.wait();
            return Ok(());
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
    fn wait(&mut self) {
        let now = self.env.now_ms();
        let clients = self.clients.iter().filter_map(|client| match client.phase {
            Phase::Offline => Some(client.connect_at_ms),
            _ => client.retry_at_ms(),
        });
        let places = self.places.iter().map(|place| match &place.node {
            None => place.boots_at_ms,
            Some(node) => node.next_due_ms(now).max(place.frozen_until_ms),
        });
        let store = match &self.home {
            Home::Disk(_) => Vec::new(),
            Home::Store(store) => store.next_due_ms().collect(),
        };
        let next = clients.chain(places).chain(store).filter(|at| *at > now).min().unwrap_or(now + 100);
        self.env.advance(if next == u64::MAX { 100 } else { next - now });
    }

    fn possible(&self) -> Vec<(u64, Action)> {
        let now = self.env.now_ms();
        let mut possible = Vec::with_capacity(64);
        for (slot, place) in self.places.iter().enumerate() {
            self.possible_at(slot, place, &mut possible);
        }
        if let Home::Store(store) = &self.home {
            let mut work = Vec::with_capacity(8);
            store.possible(now, &mut work);
            possible.extend(work.into_iter().map(|(weight, work)| (weight, Action::Store(work))));
        }
        for (id, link) in &self.links {
            let place = &self.places[link.slot];
            let Some(node) = &place.node else { continue };
            let served = node.hands[link.worker].stalled_until_ms <= now && place.frozen_until_ms <= now;
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
        let open = self.doors().next().is_some();
        for (number, client) in self.clients.iter().enumerate() {
            match client.phase {
                Phase::Offline if open && client.connect_at_ms <= now => {
                    possible.push((10, Action::Connect(number)));
                }
                Phase::Ready if client.retry_is_due(now) => possible.push((20, Action::Retry(number))),
                Phase::Ready if !self.healing && client.stalled_until_ms <= now => {
                    possible.push((8, Action::Act(number)));
                }
                _ => {}
            }
        }
        if !self.healing && !possible.is_empty() {
            self.faults(&mut possible);
        }
        possible
    }

    fn possible_at(&self, slot: usize, place: &Place, possible: &mut Vec<(u64, Action)>) {
        let now = self.env.now_ms();
        match &place.node {
            None => {
                let reachable = match &self.home {
                    Home::Disk(_) => true,
                    Home::Store(store) => store.is_up() && !store.is_cut(slot, now),
                };
                if reachable && place.boots_at_ms <= now {
                    possible.push((10, Action::Boot(slot)));
                }
            }
            Some(_) if place.frozen_until_ms > now => {}
            Some(node) => {
                let mut work = Vec::with_capacity(16);
                node.possible(now, &self.home, &mut work);
                possible.extend(work.into_iter().map(|(weight, work)| (weight, Action::Node(slot, work))));
                let empty = self.links.values().all(|link| link.slot != slot);
                if node.draining && (empty || place.ends_at_ms <= now) {
                    possible.push((10, Action::End(slot)));
                }
            }
        }
    }

    /// Nodes that take clients.
    fn doors(&self) -> impl Iterator<Item = usize> + '_ {
        let open = |place: &Place| place.node.as_ref().is_some_and(Node::takes_clients);
        self.places.iter().enumerate().filter(move |(_, place)| open(place)).map(|(slot, _)| slot)
    }

    fn perform(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Boot(slot) => return self.boot(slot),
            Action::Node(slot, work) => {
                let Some(node) = &mut self.places[slot].node else { return Ok(()) };
                let done = node.work(work, &self.plan, &mut self.env, &mut self.home, &mut self.truth);
                return self.done(slot, done);
            }
            Action::End(slot) => self.end(slot),
            Action::Store(work) => {
                if let Home::Store(store) = &mut self.home {
                    store.work(work, &mut self.env, &mut self.truth)?;
                }
            }
            Action::Read(id) => {
                if let Some(link) = self.links.get_mut(&id)
                    && let Some(node) = &mut self.places[link.slot].node
                {
                    link.read(node, &mut self.env);
                }
            }
            Action::Write(id) => {
                if let Some(link) = self.links.get_mut(&id)
                    && let Some(node) = &mut self.places[link.slot].node
                {
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
            Action::Fault(fault) => self.fault(fault)?,
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

    fn boot(&mut self, slot: usize) -> Result<(), Violation> {
        if let Home::Disk(site) = &mut self.home {
            if self.env.chance.below(4) < self.plan.faults.rot {
                let refused = try_rot(&self.plan, &mut self.env, &site.machine, &self.truth)?;
                self.counts.rot_refused += u64::from(refused);
            }
            if !self.healing && self.env.chance.below(20) < self.plan.faults.power {
                // The power may go again while the node starts.
                let operations = self.env.chance.below(30);
                site.machine.cut_power_after(operations);
            }
        }
        self.places[slot].frozen_until_ms = 0;
        let booted = Node::boot(slot, &self.plan, &mut self.env, &mut self.home, &mut self.truth);
        match booted {
            Ok(node) => {
                self.places[slot].node = Some(node);
                Ok(())
            }
            Err(stop) => self.done(slot, Err(stop)),
        }
    }

    fn done(&mut self, slot: usize, done: Result<(), Stop>) -> Result<(), Violation> {
        match done {
            Ok(()) => self.note_endings(),
            Err(Stop::Broken(violation)) => return Err(violation),
            Err(Stop::Fault) => {
                let loss = loss(&mut self.env.chance);
                self.crash(slot, loss);
            }
            Err(Stop::Ended(reason)) => {
                self.env.note(format_args!("node {slot} ends: {reason}"));
                self.counts.ended += 1;
                self.down(slot);
            }
        }
        Ok(())
    }

    /// The process ends; what it held is gone.
    pub(crate) fn crash(&mut self, slot: usize, loss: Loss) {
        self.env.note(format_args!("crash of node {slot}: {loss:?}"));
        self.counts.crashes += 1;
        if let Home::Disk(site) = &mut self.home {
            site.machine.crash(loss);
        }
        self.down(slot);
    }

    fn down(&mut self, slot: usize) {
        let place = &mut self.places[slot];
        if let Some(LogEnd::Shared(seat)) = place.node.take().map(|node| node.log) {
            self.counts.snapshots += seat.saved;
        }
        if let Home::Store(store) = &mut self.home {
            place.boots_at_ms = self.env.now_ms() + self.env.chance.below(8_000);
            store.abandon(slot, &mut self.env.chance);
        }
        let ids: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.slot == slot).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(link) = self.links.remove(&id)
                && !link.dead
            {
                self.clients[link.client].disconnected(&mut self.env);
            }
        }
    }

    /// A node that drained is done.
    fn end(&mut self, slot: usize) {
        let place = &mut self.places[slot];
        let (Some(node), Home::Store(store)) = (&mut place.node, &mut self.home) else { return };
        let LogEnd::Shared(seat) = &mut node.log else { return };
        if !seat.is_idle() && place.ends_at_ms > self.env.now_ms() {
            return;
        }
        self.env.note(format_args!("node {slot} says goodbye"));
        seat.say_goodbye(&mut self.env, store);
        self.counts.drained += 1;
        self.down(slot);
    }

    pub(crate) fn drain(&mut self, slot: usize) {
        let place = &mut self.places[slot];
        if let Some(node) = place.node.as_mut().filter(|node| node.takes_clients()) {
            node.drain(self.env.now());
            place.ends_at_ms = self.env.now_ms() + DRAIN_MS;
        }
    }

    /// The store ends, and comes back in a while.
    pub(crate) fn restart_store(&mut self) -> Result<(), Violation> {
        let Home::Store(store) = &mut self.home else { return Ok(()) };
        if !store.is_up() {
            return Ok(());
        }
        self.counts.restarts += 1;
        let away = *self.env.chance.pick(&[10, 1_000, 8_000]);
        let starts_at_ms = self.env.now_ms() + self.env.chance.below(away);
        match store.restart(starts_at_ms, &mut self.env, &mut self.truth)? {
            Some(kept) => self.lose(kept),
            None => Ok(()),
        }
    }

    /// The store came back with its first entries only.
    fn lose(&mut self, kept: usize) -> Result<(), Violation> {
        self.counts.losses += 1;
        // So far everything was as it should be.
        for life in self.clients.iter().flat_map(|client| &client.lives) {
            expected::check_life(life, false, &self.truth)?;
        }
        self.truth.rewind(kept)?;
        let mut on_lost_node = vec![false; self.clients.len()];
        for (slot, place) in self.places.iter_mut().enumerate() {
            if place.node.as_mut().is_some_and(|node| node.log_was_lost(&self.truth)) {
                for link in self.links.values_mut().filter(|link| link.slot == slot && !link.dead) {
                    on_lost_node[link.client] = true;
                    link.dead = true;
                    self.clients[link.client].disconnected(&mut self.env);
                }
            }
        }
        for (client, lost) in self.clients.iter_mut().zip(on_lost_node) {
            client.log_was_lost(&self.truth, lost);
        }
        Ok(())
    }

    fn connect(&mut self, number: usize) {
        let doors: Vec<usize> = self.doors().collect();
        if doors.is_empty() {
            return;
        }
        let slot = *self.env.chance.pick(&doors);
        let Some(node) = &mut self.places[slot].node else { return };
        self.counts.connections += 1;
        let mut link = Link::open(node, slot, number, &mut self.env);
        let client = &mut self.clients[number];
        client.connected(&mut self.env);
        link.send(&client.take_output());
        self.links.insert(self.next_link, link);
        self.next_link += 1;
    }

    /// Connections that the workers want closed.
    fn note_endings(&mut self) {
        for (slot, place) in self.places.iter_mut().enumerate() {
            let Some(node) = &mut place.node else { continue };
            for (worker, hand) in node.hands.iter_mut().enumerate() {
                for (connection, close) in hand.worker.take_closing() {
                    self.env.note(format_args!("worker {worker} ends {}: {}", connection.0, close.reason));
                    let link = self.links.values_mut().find(|link| {
                        link.slot == slot && link.worker == worker && link.connection == connection
                    });
                    if let Some(link) = link {
                        link.ending = true;
                        if !link.dead {
                            self.clients[link.client].ended(&self.env);
                        }
                    }
                }
                hand.worker.take_dirty();
                hand.worker.take_resumed_reading();
                hand.collect();
            }
        }
    }

    fn close(&mut self, id: u64) {
        let Some(link) = self.links.remove(&id) else { return };
        let Some(node) = &mut self.places[link.slot].node else { return };
        self.env.note(format_args!("c{} is disconnected", link.client));
        link.close(node, &mut self.env);
        if !link.dead {
            self.clients[link.client].disconnected(&mut self.env);
        }
    }

    fn snapshot(&mut self) -> Result<(), Violation> {
        let (Some(node), Home::Disk(site)) = (&mut self.places[0].node, &self.home) else { return Ok(()) };
        let LogEnd::Own(log) = &mut node.log else { return Ok(()) };
        let shard =
            ShardId(u16::try_from(self.env.chance.below(u64::from(self.plan.shards) + 1)).unwrap_or(0));
        let hand = self.env.chance.index(node.hands.len());
        match log.archive.save(&node.hands[hand].worker, shard) {
            Ok(saved) => {
                self.counts.snapshots += u64::from(saved);
                self.env.note(format_args!("snapshot of shard {shard}: {saved}"));
                Ok(())
            }
            Err(error) if site.machine.excuses_failure() => {
                self.env.note(format_args!("snapshot of shard {shard}: {error}"));
                self.done(0, Err(Stop::Fault))
            }
            Err(chat_log::snapshot::SnapshotError::Full { .. }) if site.machine.is_full() => Ok(()),
            Err(error) => {
                ensure!(false, Recovery, "no snapshot of shard {shard}: {error}");
                Ok(())
            }
        }
    }
}

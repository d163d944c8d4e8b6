//! What goes wrong in a run besides the clients' own doing.

use chat_state::ids::ShardId;

use crate::{
    machine::loss,
    node::Home,
    violation::Violation,
    world::{Action, World},
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Crash,
    Power,
    SyncError,
    FullDisk,
    Cut,
    Clock,
    Stall,
    Block,
    Freeze,
    Drain,
    CutOff,
    BreakOff,
    Restart,
    FullStore,
    SlowStore,
}

impl World {
    /// Weights are in thousandths of a step's other possibilities, so that rates mean the same in all runs.
    pub(crate) fn faults(&self, possible: &mut Vec<(u64, Action)>) {
        let others: u64 = possible.iter().map(|(weight, _)| weight).sum();
        for (weight, _) in &mut *possible {
            *weight *= 1_000;
        }
        let rates = self.plan.faults;
        for (rate, fault) in [
            (rates.crash, Fault::Crash),
            (rates.power, Fault::Power),
            (rates.sync_error, Fault::SyncError),
            (rates.full_disk, Fault::FullDisk),
            (rates.cut, Fault::Cut),
            (rates.clock, Fault::Clock),
            (rates.stall, Fault::Stall),
            (rates.block, Fault::Block),
            (rates.freeze, Fault::Freeze),
            (rates.drain, Fault::Drain),
            (rates.cut_off, Fault::CutOff),
            (rates.break_off, Fault::BreakOff),
            (rates.restart, Fault::Restart),
            (rates.full_store, Fault::FullStore),
            (rates.slow_store, Fault::SlowStore),
        ] {
            possible.push((rate * others, Action::Fault(fault)));
        }
        if let Home::Disk(_) = self.home {
            possible.push((others * 8, Action::Snapshot));
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) -> Result<(), Violation> {
        self.env.note(format_args!("{fault:?}"));
        let slot = self.env.chance.index(self.places.len());
        match (fault, &mut self.home) {
            (Fault::Crash, _) => {
                let loss = loss(&mut self.env.chance);
                self.crash(slot, loss);
            }
            (Fault::Power, Home::Disk(site)) => {
                let operations = self.env.chance.below(12);
                site.machine.cut_power_after(operations);
            }
            (Fault::SyncError, Home::Disk(site)) => site.machine.fail_syncs(),
            (Fault::FullDisk, Home::Disk(site)) if site.machine.is_full() => site.machine.make_space(),
            (Fault::FullDisk, Home::Disk(site)) => {
                self.counts.disk_full += 1;
                let (free, all) = (self.env.chance.below(16 << 10), self.env.chance.one_in(2));
                site.machine.fill(free, all);
            }
            (Fault::Clock, Home::Store(store)) if self.env.chance.one_in(2) => {
                let minutes = i64::try_from(self.env.chance.below(120)).unwrap_or(0) - 60;
                store.set_clock(minutes * 60_000);
            }
            (Fault::Clock, _) => {
                let minutes = i64::try_from(self.env.chance.below(120)).unwrap_or(0) - 60;
                self.env.jump_wall_clock(minutes * 60_000);
            }
            (Fault::Restart, Home::Store(_)) => return self.restart_store(),
            (_, Home::Store(store)) => match fault {
                Fault::BreakOff => store.break_one(&mut self.env.chance),
                Fault::FullStore => {
                    self.counts.disk_full += 1;
                    store.turn_full(!store.is_full());
                }
                Fault::SlowStore => store.slow_down(self.env.now_ms() + self.env.chance.below(5_000)),
                Fault::CutOff => {
                    let now = self.env.now_ms();
                    let most = *self.env.chance.pick(&[500, 5_000, 12_000]);
                    store.cut_off(slot, now, now + self.env.chance.below(most));
                }
                _ => self.hurt_node(slot, fault),
            },
            (_, Home::Disk(_)) => self.hurt_node(slot, fault),
        }
        Ok(())
    }

    fn hurt_node(&mut self, slot: usize, fault: Fault) {
        let now = self.env.now_ms();
        let place = &mut self.places[slot];
        match fault {
            Fault::Freeze => {
                let most = *self.env.chance.pick(&[500, 4_000, 12_000]);
                place.frozen_until_ms = now + self.env.chance.below(most);
            }
            Fault::Drain => self.drain(slot),
            Fault::Cut => self.cut_one(),
            Fault::Block => {
                let Some(node) = &mut place.node else { return };
                // Where something waits, or else anywhere.
                let waiting: Vec<(usize, ShardId)> = node
                    .hands
                    .iter()
                    .enumerate()
                    .flat_map(|(number, hand)| hand.waiting().map(move |shard| (number, shard)))
                    .collect();
                let (hand, shard) = if waiting.is_empty() {
                    let shard = self.env.chance.below(u64::from(self.plan.shards) + 1);
                    (self.env.chance.index(node.hands.len()), ShardId(u16::try_from(shard).unwrap_or(0)))
                } else {
                    *self.env.chance.pick(&waiting)
                };
                let until = now + self.env.chance.below(200 * self.plan.step_ms);
                node.hands[hand].block(shard, until);
            }
            Fault::Stall => {
                let until = now + self.env.chance.below(2_000);
                let who = self.env.chance.index(self.clients.len() + 2);
                match (self.clients.get_mut(who), &mut place.node) {
                    (Some(client), _) => client.stalled_until_ms = until,
                    (None, Some(node)) => {
                        let hand = self.env.chance.index(node.hands.len());
                        node.hands[hand].stalled_until_ms = until;
                    }
                    (None, None) => {}
                }
            }
            // Of another kind of room.
            _ => {}
        }
    }

    fn cut_one(&mut self) {
        let alive: Vec<u64> = self.links.iter().filter(|(_, link)| !link.dead).map(|(id, _)| *id).collect();
        if alive.is_empty() {
            return;
        }
        self.counts.cuts += 1;
        let id = *self.env.chance.pick(&alive);
        if let Some(link) = self.links.get_mut(&id) {
            link.dead = true;
            self.clients[link.client].disconnected(&mut self.env);
        }
    }
}

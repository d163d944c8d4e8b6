//! What goes wrong in a run besides the clients' own doing.

use chat_state::ids::ShardId;

use crate::{
    machine::loss,
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
}

impl World {
    /// Weights are in hundredths of a step's other possibilities, so that rates mean the same in all runs.
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
        ] {
            possible.push((rate * others, Action::Fault(fault)));
        }
        possible.push((others * 8, Action::Snapshot));
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.env.note(format_args!("{fault:?}"));
        let now = self.env.now_ms();
        match fault {
            Fault::Crash => {
                let loss = loss(&mut self.env.chance);
                self.crash(loss);
            }
            Fault::Power => {
                let operations = self.env.chance.below(12);
                self.machine.cut_power_after(operations);
            }
            Fault::SyncError => self.machine.fail_syncs(),
            Fault::FullDisk if self.machine.is_full() => self.machine.make_space(),
            Fault::FullDisk => {
                self.counts.disk_full += 1;
                let (free, all) = (self.env.chance.below(16 << 10), self.env.chance.one_in(2));
                self.machine.fill(free, all);
            }
            Fault::Cut => {
                let alive: Vec<u64> =
                    self.links.iter().filter(|(_, link)| !link.dead).map(|(id, _)| *id).collect();
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
            Fault::Clock => {
                let minutes = i64::try_from(self.env.chance.below(120)).unwrap_or(0) - 60;
                self.env.jump_wall_clock(minutes * 60_000);
            }
            Fault::Block => {
                let Some(node) = &mut self.node else { return };
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
                match (self.clients.get_mut(who), &mut self.node) {
                    (Some(client), _) => client.stalled_until_ms = until,
                    (None, Some(node)) => {
                        let hand = self.env.chance.index(node.hands.len());
                        node.hands[hand].stalled_until_ms = until;
                    }
                    (None, None) => {}
                }
            }
        }
    }
}

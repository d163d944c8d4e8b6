//! Who is there: members give a sign of life to the directory's leader, and that one judges by its own clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chat_log::shared::roll::{DEAD_AFTER, Roll};
use chat_state::ids::Incarnation;

use crate::messages;

#[derive(Debug, Default)]
pub struct Roster {
    leads: bool,
    counts: BTreeMap<Incarnation, u64>,
    /// The life that each member is in.
    lives: BTreeMap<u64, Incarnation>,
    heard: BTreeMap<u64, Duration>,
    roll: Roll,
    /// What was last known, here or from the leader of the time.
    known: messages::Roster,
}

impl Roster {
    /// This node follows: what the leader said is what is known.
    pub fn told(&mut self, roster: messages::Roster) {
        self.known = roster;
        self.leads = false;
    }

    pub fn known(&self) -> &messages::Roster {
        &self.known
    }

    /// A member gave a sign of life, or asked for something, while this node leads.
    pub fn heard(&mut self, member: u64, life: Option<Incarnation>, now: Duration) {
        self.begin_to_lead(now);
        self.heard.insert(member, now);
        let Some(life) = life else { return };
        // Whoever is in another life has ended the one before.
        if let Some(before) = self.lives.insert(member, life)
            && before != life
        {
            self.counts.remove(&before);
        }
        *self.counts.entry(life).or_default() += 1;
    }

    /// A life ended in good order.
    pub fn left(&mut self, life: Incarnation, now: Duration) {
        self.begin_to_lead(now);
        self.counts.remove(&life);
        self.lives.retain(|_, of| *of != life);
    }

    /// Looks who is there. Called about as often as signs of life come.
    pub fn call(&mut self, now: Duration) -> messages::Roster {
        self.begin_to_lead(now);
        let alive = self.roll.call(&self.counts, now);
        for gone in self.roll.forgettable(now) {
            self.counts.remove(&gone);
        }
        let lately = |at: &Duration| now.saturating_sub(*at) < DEAD_AFTER;
        self.heard.retain(|_, at| lately(at));
        self.known = messages::Roster {
            lives: self
                .lives
                .iter()
                .filter(|(_, life)| alive.contains(life))
                .map(|(id, life)| (*id, *life))
                .collect(),
            members: self.heard.keys().copied().collect(),
        };
        self.known.clone()
    }

    /// A leader that is new waits for those that were there as if it had heard of them just now.
    fn begin_to_lead(&mut self, now: Duration) {
        if self.leads {
            return;
        }
        self.leads = true;
        self.roll = Roll::default();
        self.lives = self.known.lives.clone();
        self.counts = self.lives.values().map(|life| (*life, 0)).collect();
        self.heard = self.known.members.iter().map(|member| (*member, now)).collect();
        self.roll.call(&self.counts, now);
    }
}

/// As the shared log wants it.
pub fn alive(roster: &messages::Roster) -> BTreeSet<Incarnation> {
    roster.lives.values().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn lives(roster: &messages::Roster) -> Vec<u64> {
        alive(roster).iter().map(|life| life.0).collect()
    }

    #[test]
    fn who_falls_silent_is_missed_after_a_while() {
        let mut roster = Roster::default();
        for second in 0..5 {
            roster.heard(1, Some(Incarnation(11)), secs(second));
            if second == 0 {
                roster.heard(2, Some(Incarnation(12)), secs(0));
            }
            assert_eq!(lives(&roster.call(secs(second))), [11, 12], "at {second} s");
        }
        roster.heard(1, Some(Incarnation(11)), secs(5));
        let now = roster.call(secs(5));
        assert_eq!((lives(&now), now.members), (vec![11], [1].into()));
    }

    #[test]
    fn another_life_of_a_member_ends_the_one_before() {
        let mut roster = Roster::default();
        roster.heard(2, Some(Incarnation(12)), secs(0));
        roster.heard(2, Some(Incarnation(19)), secs(1));
        assert_eq!(lives(&roster.call(secs(1))), [19]);
        roster.left(Incarnation(19), secs(2));
        assert!(roster.call(secs(2)).lives.is_empty());
    }

    #[test]
    fn a_new_leader_gives_everybody_time() {
        let mut roster = Roster::default();
        let known = [(1, Incarnation(11)), (2, Incarnation(12))].into();
        roster.told(messages::Roster { lives: known, members: [1, 2].into() });
        for second in 100..105 {
            roster.heard(1, Some(Incarnation(11)), secs(second));
            assert_eq!(lives(&roster.call(secs(second))), [11, 12], "at {second} s");
        }
        roster.heard(1, Some(Incarnation(11)), secs(105));
        assert_eq!(lives(&roster.call(secs(105))), [11]);
    }
}

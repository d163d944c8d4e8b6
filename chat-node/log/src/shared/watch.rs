//! One node's watch over the others: who is there, and when to take the lead over. Pure; time is given.

use std::{collections::BTreeMap, time::Duration};

use chat_state::ids::Incarnation;

use super::{roll::Roll, store::Beat};

#[derive(Debug, Default)]
pub struct Watch {
    roll: Roll,
    /// As the store named it last; empty for nobody.
    leader: String,
    over: Vec<Incarnation>,
}

/// What a sign of life asks for besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Whom to take the lead over from, as the store named it: empty for nobody. `None` to leave it.
    pub from: Option<String>,
    /// Nodes that are over: their counters are to be removed.
    pub over: Vec<Incarnation>,
}

impl Watch {
    /// Before a sign of life of this node.
    pub fn wishes(&mut self, me: Incarnation, now: Duration) -> Wishes {
        let leads = self.leader == me.0.to_string();
        let over = if leads { std::mem::take(&mut self.over) } else { Vec::new() };
        let gone = match self.leader.parse().map(Incarnation) {
            Ok(leader) => leader != me && self.roll.is_gone(leader, now),
            Err(_) => true,
        };
        Wishes { from: gone.then(|| self.leader.clone()), over }
    }

    /// What the store answered: who leads, and the counters of all.
    pub fn heard(
        &mut self,
        me: Incarnation,
        leader: &str,
        counts: &BTreeMap<Incarnation, u64>,
        now: Duration,
    ) -> Beat {
        let alive = self.roll.call(counts, now);
        leader.clone_into(&mut self.leader);
        self.over = self.roll.forgettable(now);
        Beat { leads: leader == me.0.to_string(), alive }
    }
}

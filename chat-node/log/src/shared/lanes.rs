//! What waits for a shared store and what is on its way to it, shard by shard. Pure: the simulation runs this.
//!
//! A shard has at most one append in flight. What arrives meanwhile waits, and is the next append. An append whose
//! result is unknown is sent again as it was, before anything else of its shard, until it is answered or read back:
//! so the node's stream keeps its order, and the state machine drops what arrived twice.

use std::{collections::VecDeque, sync::Arc};

use chat_state::{
    entry::{DecodeError, Entry, Proposal, Stamp},
    ids::{Incarnation, Index, ShardId},
};

use crate::{
    committer::{Asked, MAX_REQUEST_BYTES, is_chore, request_of},
    log::Reason,
    producer::{NotRegistered, Producer, UNSTAMPED},
    weight::weight,
};

/// The node's side of a shared log.
#[derive(Debug)]
pub struct Lanes {
    producer: Producer,
    /// One per shard, the directory first.
    lanes: Vec<Lane>,
    append_bytes: usize,
    next_number: u64,
    /// Why nothing is taken now but what ends things.
    refusing: Option<Reason>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Asked>,
    flight: Option<Flight>,
    /// The last entry that was read from the store.
    read: Index,
    /// Appends that landed and were not read back yet: where, and the last of the node's stream in each.
    landed: VecDeque<(Index, Stamp)>,
    #[cfg(feature = "mutations")]
    overtaken: Option<Flight>,
}

/// An append that was not answered yet.
#[derive(Debug)]
struct Flight {
    number: u64,
    payload: Arc<[u8]>,
    /// First and last of the node's stream in it; registrations have no place there.
    stamps: Option<(u64, Stamp)>,
    registrations: Vec<Asked>,
    /// On its way; otherwise it is to be sent again.
    sent: bool,
    /// It was sent before, without an answer: a refusal now says nothing about what came of that.
    doubtful: bool,
}

/// An append to hand to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub shard: ShardId,
    /// To be given back with the answer.
    pub number: u64,
    pub payload: Arc<[u8]>,
}

/// What the store said to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is the entry of this index.
    Landed(Index),
    /// It did not get into the log, and will not.
    Refused(Reason),
    /// Nobody can say.
    Unknown,
}

/// The store does not hold what a log must hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("shard {shard}: the store gave entry {found} where entry {expected} follows")]
    Gap { shard: ShardId, expected: Index, found: Index },
    #[error(
        "shard {shard}: entry {index} is another one than this node appended: the store lost what it had answered. The \
         node starts anew from what is there"
    )]
    Lost { shard: ShardId, index: Index },
    #[error("shard {shard}, entry {index}: {source}")]
    Unreadable { shard: ShardId, index: Index, source: DecodeError },
}

impl Lanes {
    /// `read` is the last entry of each shard, the directory first, up to where the store was read already.
    pub fn new(read: impl IntoIterator<Item = Index>, append_bytes: usize) -> Self {
        let lanes = read.into_iter().map(|read| Lane { read, ..Lane::default() }).collect();
        Self { producer: Producer::new(), lanes, append_bytes, next_number: 1, refusing: None }
    }

    /// The node's life began.
    pub fn begin(&mut self, incarnation: Incarnation) {
        let open = self.producer.begin(incarnation);
        assert!(open.is_empty(), "a process has one life in a shared log");
    }

    pub fn incarnation(&self) -> Option<Incarnation> {
        self.producer.incarnation()
    }

    /// From now on nothing new is taken, for this reason, but what must get through in the end; or everything is.
    /// Gives back what waits.
    pub fn refuse(&mut self, reason: Option<Reason>) -> Vec<(Asked, Reason)> {
        self.refusing = reason;
        let Some(reason) = reason else { return Vec::new() };
        let mut refused = Vec::new();
        for lane in &mut self.lanes {
            let (chores, others): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut lane.waiting).into_iter().partition(|ask| is_chore(&ask.request.command));
            lane.waiting = chores;
            refused.extend(others.into_iter().map(|ask| (ask, reason)));
        }
        refused
    }

    pub fn refusing(&self) -> Option<Reason> {
        self.refusing
    }

    /// Takes a request, or gives it back with the reason.
    pub fn ask(&mut self, asked: Asked) -> Option<(Asked, Reason)> {
        let Some(lane) = self.lanes.get_mut(usize::from(asked.shard.0)) else {
            return Some((asked, Reason::NoSuchShard));
        };
        if weight(&asked.request) > MAX_REQUEST_BYTES {
            return Some((asked, Reason::TooLarge));
        }
        if let Some(reason) = self.refusing
            && !is_chore(&asked.request.command)
        {
            return Some((asked, reason));
        }
        lane.waiting.push_back(asked);
        None
    }

    /// Whether a shard has something to send, and nothing on its way.
    pub fn can_launch(&self) -> bool {
        self.lanes.iter().any(|lane| match &lane.flight {
            Some(flight) => !flight.sent,
            #[cfg(feature = "mutations")]
            None if lane.overtaken.is_some() => true,
            None => !lane.waiting.is_empty(),
        })
    }

    /// The next append of a shard, if none is on its way. `refused` gets what cannot be sent at all.
    pub fn launch(&mut self, shard: ShardId, refused: &mut Vec<(Asked, Reason)>) -> Option<Launch> {
        let lane = self.lanes.get_mut(usize::from(shard.0))?;
        #[cfg(feature = "mutations")]
        if lane.flight.is_none() && lane.waiting.is_empty() {
            lane.flight = lane.overtaken.take();
        }
        match &mut lane.flight {
            Some(flight) if flight.sent => return None,
            Some(flight) => {
                flight.sent = true;
                return Some(Launch { shard, number: flight.number, payload: Arc::clone(&flight.payload) });
            }
            None => {}
        }
        let mut proposals = Vec::new();
        let mut registrations = Vec::new();
        let mut bytes = 0;
        while let Some(ask) = lane.waiting.front() {
            let weight = weight(&ask.request);
            if bytes > 0 && bytes + weight > self.append_bytes {
                break;
            }
            let Some(Asked { from, shard, request }) = lane.waiting.pop_front() else { break };
            match self.producer.stamp(shard, from, request) {
                Ok(proposal) => {
                    bytes += weight;
                    if proposal.producer == UNSTAMPED {
                        registrations.push(Asked { from, shard, request: request_of(proposal.clone()) });
                    }
                    proposals.push(proposal);
                }
                Err(NotRegistered(request)) => {
                    refused.push((Asked { from, shard, request: *request }, Reason::NotRegistered));
                }
            }
        }
        if proposals.is_empty() {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        let payload: Arc<[u8]> = Entry::encode_proposals(&proposals).into();
        let stamps = stamps(&proposals);
        lane.flight = Some(Flight {
            number,
            payload: Arc::clone(&payload),
            stamps,
            registrations,
            sent: true,
            doubtful: false,
        });
        Some(Launch { shard, number, payload })
    }

    /// The store answered, or will not. Gives back what was refused.
    pub fn answered(&mut self, shard: ShardId, number: u64, answer: Answer) -> Vec<(Asked, Reason)> {
        let Some(lane) = self.lanes.get_mut(usize::from(shard.0)) else { return Vec::new() };
        let Some(flight) = lane.flight.as_mut().filter(|flight| flight.number == number) else {
            // It was read back already.
            return Vec::new();
        };
        match answer {
            Answer::Landed(index) => {
                if let Some((_, last)) = flight.stamps {
                    self.producer.applied(shard, last);
                    if index > lane.read {
                        lane.landed.push_back((index, last));
                    }
                }
                lane.flight = None;
                Vec::new()
            }
            Answer::Refused(reason) if !flight.doubtful => {
                let Some(flight) = lane.flight.take() else { return Vec::new() };
                let mut back = flight.registrations;
                if let Some((first, _)) = flight.stamps {
                    back.extend(self.producer.take_back(shard, first).into_iter().map(|open| Asked {
                        from: open.from,
                        shard,
                        request: request_of(open.proposal),
                    }));
                }
                let (chores, others): (Vec<_>, Vec<_>) =
                    back.into_iter().partition(|ask| is_chore(&ask.request.command));
                for chore in chores.into_iter().rev() {
                    lane.waiting.push_front(chore);
                }
                others.into_iter().map(|ask| (ask, reason)).collect()
            }
            Answer::Refused(_) => {
                flight.sent = false;
                Vec::new()
            }
            Answer::Unknown => {
                flight.sent = false;
                flight.doubtful = true;
                #[cfg(feature = "mutations")]
                if chat_state::mutation::is(chat_state::mutation::Mutation::RetryOvertakes)
                    && !lane.waiting.is_empty()
                    && lane.overtaken.is_none()
                {
                    lane.overtaken = lane.flight.take();
                }
                Vec::new()
            }
        }
    }

    /// An entry that the store holds. `None` for one that was read before.
    pub fn read(
        &mut self,
        shard: ShardId,
        index: Index,
        time_ms: u64,
        payload: &[u8],
    ) -> Result<Option<Arc<Entry>>, ReadError> {
        let Some(lane) = self.lanes.get_mut(usize::from(shard.0)) else { return Ok(None) };
        if index <= lane.read {
            return Ok(None);
        }
        let expected = Index(lane.read.0 + 1);
        if index != expected {
            return Err(ReadError::Gap { shard, expected, found: index });
        }
        let entry = Entry::decode_proposals(index, time_ms, payload)
            .map_err(|source| ReadError::Unreadable { shard, index, source })?;
        lane.read = index;
        while let Some((landed, stamp)) = lane.landed.front().copied().filter(|(landed, _)| *landed <= index)
        {
            lane.landed.pop_front();
            #[cfg(feature = "mutations")]
            if chat_state::mutation::is(chat_state::mutation::Mutation::LossUnnoticed) {
                continue;
            }
            if landed == index && entry.proposals.iter().all(|proposal| proposal.producer != stamp) {
                // The stream of this node has a hole now, and nothing that follows would be taken.
                return Err(ReadError::Lost { shard, index });
            }
        }
        let ours = |stamp: &Stamp| Some(stamp.incarnation) == self.producer.incarnation();
        if let Some(last) =
            entry.proposals.iter().rev().map(|proposal| proposal.producer).find(|stamp| ours(stamp))
        {
            self.producer.applied(shard, last);
            // What follows a registration in the same append came with it.
            if lane.flight.as_ref().is_some_and(|flight| {
                flight.stamps.is_some_and(|(_, flying)| {
                    flying.incarnation == last.incarnation && flying.sequence <= last.sequence
                })
            }) {
                lane.flight = None;
            }
        }
        Ok(Some(Arc::new(entry)))
    }

    /// The last entry of a shard that was read.
    pub fn last_read(&self, shard: ShardId) -> Index {
        self.lanes.get(usize::from(shard.0)).map_or(Index(0), |lane| lane.read)
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let lanes = u16::try_from(self.lanes.len()).expect("a room has fewer than 2^16 shards");
        (0..lanes).map(ShardId)
    }

    /// Requests that wait or are on their way: none when all is settled.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.flight.is_none() && lane.waiting.is_empty())
    }

    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting.len()).sum()
    }
}

fn stamps(proposals: &[Proposal]) -> Option<(u64, Stamp)> {
    let mut stamped = proposals.iter().map(|proposal| proposal.producer).filter(|stamp| *stamp != UNSTAMPED);
    let first = stamped.next()?;
    Some((first.sequence, stamped.next_back().unwrap_or(first)))
}

#[cfg(test)]
mod tests;

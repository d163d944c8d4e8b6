//! What a resume cannot replay: it is told, and the channels are shown as they are now.

use std::collections::BTreeMap;

use chat_protocol::{LineWriter, MsgId, Source};
use chat_state::{
    ids::{ChannelId, Lineage, Position, ShardId, UserId},
    replay::{Gap, replay},
};

use crate::{
    commands::Known,
    connection::{ConnectionId, Identity},
    lines::msgid,
    worker::Worker,
};

/// What a client says that it saw last of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    shard: ShardId,
    lineage: Lineage,
    position: Position,
}

/// Streams of which a client saw what is not in their histories any more, by the last place that both have in common.
pub(crate) type Lost = BTreeMap<ShardId, Position>;

impl Worker {
    /// What a msgid says, if there is such a shard.
    pub(crate) fn seen_at(&self, msgid: MsgId) -> Option<Seen> {
        let shard = ShardId(u16::try_from(msgid.stream.shard).ok().filter(|n| *n <= self.config.shards)?);
        Some(Seen { shard, lineage: Lineage(msgid.stream.lineage), position: Position(msgid.position) })
    }

    fn place_of(&self, seen: &Seen) -> Option<Result<Position, Position>> {
        match seen.shard {
            ShardId::DIRECTORY => self.directory.place_of(seen.lineage, seen.position),
            shard => self.shard(shard).place_of(seen.lineage, seen.position),
        }
    }

    /// Whether this node has yet to apply what a client saw elsewhere.
    pub(crate) fn is_behind(&self, seen: &Seen) -> bool {
        match self.place_of(seen) {
            Some(Ok(position)) => self.position(seen.shard) < position,
            Some(Err(_)) => false,
            // A later one this node may have yet to hear of; an earlier one is of a history that was lost.
            None => seen.lineage > self.lineage(seen.shard),
        }
    }

    /// Where the streams go on for a client, and which of them lost what it saw.
    pub(crate) fn places(&self, seen: &[Seen]) -> (BTreeMap<ShardId, Position>, Lost) {
        let (mut places, mut lost) = (BTreeMap::new(), Lost::new());
        for seen in seen {
            let place = match self.place_of(seen) {
                Some(Ok(position)) => position,
                Some(Err(left)) => {
                    #[cfg(feature = "mutations")]
                    if chat_state::mutation::is(chat_state::mutation::Mutation::LossUntold) {
                        places.insert(seen.shard, left);
                        continue;
                    }
                    lost.insert(seen.shard, left);
                    left
                }
                None => Position(self.position(seen.shard).0 + 1),
            };
            let highest: &mut Position = places.entry(seen.shard).or_default();
            *highest = place.max(*highest);
        }
        (places, lost)
    }

    /// Of a stream in which the client names what is not there, it has seen another history than this one: what it
    /// knows of it counts for nothing. It is told what came after the last that both have in common; where that is not
    /// known, the next event of the stream.
    pub(crate) fn add_unknown(
        &self,
        user: UserId,
        seen: &BTreeMap<ShardId, Position>,
        lost: &Lost,
        gaps: &mut Vec<Gap>,
    ) {
        let beyond = seen.iter().filter(|(shard, at)| self.position(**shard) < **at);
        let beyond = beyond.map(|(shard, _)| (*shard, self.position(*shard)));
        for (shard, last) in lost.iter().map(|(shard, left)| (*shard, *left)).chain(beyond) {
            let oldest = Position(last.0 + 1);
            let mut add = |gap: Gap| {
                // One that goes further back is told already.
                let same = |other: &Gap| match (other, &gap) {
                    (Gap::Channel { channel: a, .. }, Gap::Channel { channel: b, .. }) => a == b,
                    (Gap::Direct { shard: a, .. }, Gap::Direct { shard: b, .. }) => a == b,
                    _ => false,
                };
                if !gaps.iter().any(same) {
                    gaps.push(gap);
                }
            };
            add(Gap::Direct { shard, oldest });
            if !shard.is_directory() {
                for channel in self.shard(shard).channels_of(user) {
                    if let Some(Known { name, .. }) = self.shard(shard).channel(channel).map(Known::of) {
                        add(Gap::Channel { channel, name, oldest });
                    }
                }
            }
        }
    }

    /// Whether the client knows people by what they were called in another history.
    pub(crate) fn is_another_directory(&self, seen: &BTreeMap<ShardId, Position>, lost: &Lost) -> bool {
        let directory = ShardId::DIRECTORY;
        lost.contains_key(&directory) || seen.get(&directory).is_some_and(|at| self.position(directory) < *at)
    }

    /// Channels to show anew though nothing of them is missing now.
    ///
    /// When the last resume may not have arrived whole, a gap may have been told in it, and the connection lost before
    /// the channel was shown: then it still has to be. Which gaps these were is not known; never more than for a
    /// client that saw nothing.
    pub(crate) fn add_doubtful(
        &self,
        user: UserId,
        another_directory: bool,
        in_doubt: bool,
        anew: &mut Vec<Known>,
    ) {
        let channels: Vec<ChannelId> = if another_directory {
            // What everybody is called.
            self.channels.iter().flat_map(|shard| shard.channels_of(user)).collect()
        } else if in_doubt {
            let all = replay(user, &self.directory, &self.channels, &BTreeMap::new());
            let channel = |gap| match gap {
                Gap::Channel { channel, .. } => Some(channel),
                Gap::Direct { .. } => None,
            };
            all.gaps.into_iter().filter_map(channel).collect()
        } else {
            return;
        };
        for channel in channels {
            let known = self.joined(user, channel);
            anew.extend(known.filter(|known| anew.iter().all(|other| other.id != known.id)));
        }
    }

    /// A channel, if the user is in it.
    fn joined(&self, user: UserId, channel: ChannelId) -> Option<Known> {
        let channel = self.shard(channel.shard).channel(channel)?;
        channel.member(user).map(|_| Known::of(channel))
    }

    /// Says what cannot be told. Gives the channels that are to be shown as they are now: those that the user is
    /// still in. How it left the others is among what is replayed.
    pub(crate) fn tell_gaps(&mut self, id: ConnectionId, user: UserId, gaps: &[Gap]) -> Vec<Known> {
        let mut anew = Vec::new();
        for gap in gaps {
            let (target, shard, oldest) = match gap {
                Gap::Channel { channel, name, oldest } => {
                    anew.extend(self.joined(user, *channel));
                    (name.to_string(), channel.shard, oldest)
                }
                // Direct messages: what is gone is the client's own.
                Gap::Direct { shard, oldest } => (self.client_name(id), *shard, oldest),
            };
            let oldest = msgid(shard, self.lineage(shard), *oldest).to_string();
            self.say(id, |server, out| {
                LineWriter::begin(out)
                    .command(Source::Server(server), "RESUME")
                    .param("GAP")
                    .param(&target)
                    .param(&oldest)
                    .finish();
            });
        }
        anew
    }

    /// The channel as it is now.
    pub(crate) fn show_anew(&mut self, id: ConnectionId, identity: Identity, known: &Known) {
        let Some(prefix) = self.prefix_of(identity) else { return };
        self.say(id, |_, out| {
            LineWriter::begin(out).command(crate::lines::source(&prefix), "JOIN").param(&known.name).finish();
        });
        self.channel_modes(id, identity, known);
        self.introduce(id, known);
    }
}

//! What a resume cannot replay: it is told, and the channels are shown as they are now.

use std::collections::{BTreeMap, BTreeSet};

use chat_protocol::{LineWriter, MsgId, Source};
use chat_state::{
    command::{Command, CommonCommand},
    ids::{ChannelId, Lineage, Place, Position, ShardId, UserId},
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

    fn place_of(&self, seen: &Seen) -> Place {
        match seen.shard {
            ShardId::DIRECTORY => self.directory.place_of(seen.lineage, seen.position),
            shard => self.shard(shard).place_of(seen.lineage, seen.position),
        }
    }

    /// Whether this node may have yet to apply what a client saw elsewhere.
    pub(crate) fn is_behind(&self, seen: &Seen, attached_at: Position) -> bool {
        let missing = match self.place_of(seen) {
            Place::Here(position) => self.position(seen.shard) < position,
            Place::Lost(_) | Place::Replaced(_) => false,
            Place::Later => true,
        };
        missing && !self.follows_own_log && !self.is_past(seen.shard, attached_at)
    }

    /// Whether an entry of a shard was applied that this node asked for after a place of the directory: what clients
    /// saw before that, and is not here, is no part of the log any more.
    fn is_past(&self, shard: ShardId, directory_at: Position) -> bool {
        let heard = match shard {
            ShardId::DIRECTORY => Some(self.directory.position()),
            shard => {
                let own = self.incarnation.and_then(|own| self.shard(shard).producers().get(own));
                own.map(|producer| producer.heard)
            }
        };
        heard.is_some_and(|heard| heard >= directory_at)
    }

    /// Has an entry put into each shard that seems to be behind, which changes nothing: when it comes back, it is
    /// known whether the log has what the client saw.
    pub(crate) fn ask_for_the_end(&mut self, seen: &[Seen], attached_at: Position) {
        let behind: BTreeSet<ShardId> =
            seen.iter().filter(|seen| self.is_behind(seen, attached_at)).map(|seen| seen.shard).collect();
        for shard in behind {
            let level = self.shard(shard).level();
            self.request(shard, None, Command::Common(CommonCommand::RaiseLevel(level)));
        }
    }

    /// Shards of which a client names what is not there, or not any more.
    pub(crate) fn lost_ever(&self, seen: &[Seen]) -> BTreeSet<ShardId> {
        let lost = seen.iter().filter(|seen| !matches!(self.place_of(seen), Place::Here(_)));
        lost.map(|seen| seen.shard).collect()
    }

    /// Where the streams go on for a client, and which of them lost what it saw.
    ///
    /// Of each shard the latest lineage counts that is a part of its history: before the client was shown anything of
    /// that, it was told what earlier ones had lost. A later one that is no part of it is lost whole; it counts unless
    /// the client has been shown the present one since.
    pub(crate) fn places(&self, seen: &[Seen]) -> (BTreeMap<ShardId, Position>, Lost) {
        let (mut places, mut lost) = (BTreeMap::new(), Lost::new());
        for shard in seen.iter().map(|seen| seen.shard).collect::<BTreeSet<_>>() {
            let (mut known, mut unknown) = (None, None);
            for seen in seen.iter().filter(|seen| seen.shard == shard) {
                let place = self.place_of(seen);
                let latest = match place {
                    Place::Here(_) | Place::Lost(_) => &mut known,
                    Place::Replaced(_) | Place::Later => &mut unknown,
                };
                *latest = (*latest).max(Some((seen.lineage, place)));
            }
            let was_told = known.is_some_and(|(known, _)| {
                known == self.lineage(shard) || unknown.is_some_and(|(unknown, _)| unknown < known)
            });
            if was_told {
                unknown = None;
            }
            let end = self.position(shard);
            let (place, left) = match (known, unknown) {
                (Some((_, Place::Here(at))), None) => (at, None),
                (Some((_, Place::Here(at) | Place::Lost(at))), _)
                | (None, Some((_, Place::Replaced(at)))) => (at, Some(at)),
                _ => (Position(end.0 + 1), Some(end)),
            };
            places.insert(shard, place);
            #[cfg(feature = "mutations")]
            let left = left.filter(|_| !chat_state::mutation::is(chat_state::mutation::Mutation::LossUntold));
            lost.extend(left.map(|left| (shard, left)));
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
    pub(crate) fn add_doubtful(&self, user: UserId, lost_ever: &BTreeSet<ShardId>, anew: &mut Vec<Known>) {
        if lost_ever.contains(&ShardId::DIRECTORY) {
            self.add_all(user, anew);
            return;
        }
        let all = replay(user, &self.directory, &self.channels, &BTreeMap::new());
        let told = all.gaps.into_iter().filter_map(|gap| match gap {
            Gap::Channel { channel, .. } => Some(channel),
            Gap::Direct { .. } => None,
        });
        let lost = self.channels.iter().filter(|shard| lost_ever.contains(&shard.shard()));
        self.add_anew(user, told.chain(lost.flat_map(|shard| shard.channels_of(user))), anew);
    }

    /// All channels are to be shown anew: what everybody is called in them is not known to the client.
    pub(crate) fn add_all(&self, user: UserId, anew: &mut Vec<Known>) {
        self.add_anew(user, self.channels.iter().flat_map(|shard| shard.channels_of(user)), anew);
    }

    fn add_anew(&self, user: UserId, channels: impl Iterator<Item = ChannelId>, anew: &mut Vec<Known>) {
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
            let oldest = msgid(shard, self.lineage_at(shard, *oldest), *oldest).to_string();
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

//! What a resume cannot replay: it is told, and the channels are shown as they are now.

use std::collections::BTreeMap;

use chat_protocol::{LineWriter, Source};
use chat_state::{
    ids::{ChannelId, Position, ShardId, UserId},
    replay::{Gap, replay},
};

use crate::{
    commands::Known,
    connection::{ConnectionId, Identity},
    lines::msgid,
    worker::Worker,
};

impl Worker {
    /// Of a stream in which the client names what is not there, it has seen another history than this one: what it
    /// knows of it counts for nothing. The next event of the stream is the first it is told.
    pub(crate) fn add_unknown(&self, user: UserId, seen: &BTreeMap<ShardId, Position>, gaps: &mut Vec<Gap>) {
        for (shard, _) in seen.iter().filter(|(shard, at)| self.position(**shard) < **at) {
            let oldest = Position(self.position(*shard).0 + 1);
            gaps.push(Gap::Direct { shard: *shard, oldest });
            if !shard.is_directory() {
                let channels = self.shard(*shard).channels_of(user);
                gaps.extend(channels.map(|channel| Gap::Channel { channel, oldest }));
            }
        }
    }

    /// Channels to show anew though nothing of them is missing now.
    ///
    /// When the last resume may not have arrived whole, a gap may have been told in it, and the connection lost before
    /// the channel was shown: then it still has to be. Which gaps these were is not known; never more than for a
    /// client that saw nothing.
    pub(crate) fn add_doubtful(
        &self,
        user: UserId,
        seen: &BTreeMap<ShardId, Position>,
        in_doubt: bool,
        anew: &mut Vec<Known>,
    ) {
        let directory = ShardId::DIRECTORY;
        let channels: Vec<ChannelId> =
            if seen.get(&directory).is_some_and(|at| self.position(directory) < *at) {
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
            let known = self.shard(channel.shard).channel(channel).map(Known::of);
            anew.extend(known.filter(|known| anew.iter().all(|other| other.id != known.id)));
        }
    }

    /// Says what cannot be told. Gives the channels that are to be shown as they are now.
    pub(crate) fn tell_gaps(&mut self, id: ConnectionId, gaps: &[Gap]) -> Vec<Known> {
        let mut anew = Vec::new();
        for gap in gaps {
            let (target, shard, oldest) = match gap {
                Gap::Channel { channel, oldest } => {
                    let Some(known) = self.shard(channel.shard).channel(*channel).map(Known::of) else {
                        continue;
                    };
                    let name = known.name.to_string();
                    anew.push(known);
                    (name, channel.shard, oldest)
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

//! One event to many connections: encoded once per variant, put into each output once.

use chat_protocol::MsgId;
use chat_state::{
    event::Event,
    ids::{ChannelId, Lineage, Position, ShardId, UserId},
    replay::names_changed,
};

use crate::{
    connection::ConnectionId,
    encode::{Variant, frame},
    lines::{Body, Meta, Personal, msgid},
    worker::Worker,
};

impl Worker {
    /// To every connection here of a channel's members; to the asker as its answer.
    pub(crate) fn tell_channel(
        &mut self,
        shard: ShardId,
        event: &Event,
        channel: ChannelId,
        own: Option<ConnectionId>,
        body: &Body<'_>,
    ) {
        let receivers = self.local.get(&channel).cloned().unwrap_or_default();
        self.broadcast(shard, event, &receivers, own, body);
        if let Some(id) = own {
            self.send_own(shard, event, id, body, None);
        }
    }

    /// To the user's own connections and to all who share a channel with it; to the asker as its answer.
    pub(crate) fn tell_acquaintances(
        &mut self,
        shard: ShardId,
        event: &Event,
        user: UserId,
        own: Option<ConnectionId>,
        body: &Body<'_>,
    ) {
        let receivers = self.acquaintances(user);
        self.broadcast(shard, event, &receivers, own, body);
        if let Some(id) = own {
            self.send_own(shard, event, id, body, None);
        }
    }

    /// The user's own connections, and those of all who share a channel with it; some more than once.
    pub(crate) fn acquaintances(&self, user: UserId) -> Vec<ConnectionId> {
        let mut found = self.by_user.get(&user).cloned().unwrap_or_default();
        for channel in self.channels.iter().flat_map(|shard| shard.channels_of(user)) {
            found.extend(self.local.get(&channel).into_iter().flatten());
        }
        found
    }

    /// Encodes the line once per variant and puts it into each receiver's output, once. Returns how many got it.
    pub(crate) fn broadcast(
        &mut self,
        shard: ShardId,
        event: &Event,
        receivers: &[ConnectionId],
        skip: Option<ConnectionId>,
        body: &Body<'_>,
    ) -> u64 {
        self.fan_out += 1;
        let (mark, meta, needs) = (self.fan_out, self.meta(shard, event), body.needs());
        let mut encoded: [Option<Vec<u8>>; Variant::COUNT] = [const { None }; Variant::COUNT];
        let mut sent = 0;
        for id in receivers.iter().filter(|id| Some(**id) != skip) {
            let Some(connection) = self.connections[id.0 as usize].as_deref_mut() else { continue };
            if connection.identity().is_none() {
                continue;
            }
            let wanted = needs.is_none_or(|capability| connection.has(capability));
            if connection.mark == mark || !wanted {
                continue;
            }
            connection.mark = mark;
            let bytes = encoded[connection.variant.index()].get_or_insert_with(|| {
                let (mut line, mut framed) = (Vec::new(), Vec::new());
                body.write(meta, connection.variant, Personal::default(), &mut line);
                frame(&line, connection.variant.framing(), &mut framed);
                framed
            });
            connection.output.extend_from_slice(bytes);
            self.mark_dirty(*id);
            sent += 1;
        }
        sent
    }

    /// The asker's own copy: labelled, with the id it gave.
    pub(crate) fn send_own(
        &mut self,
        shard: ShardId,
        event: &Event,
        id: ConnectionId,
        body: &Body<'_>,
        id_tag: Option<u64>,
    ) {
        let (meta, context) = (self.meta(shard, event), self.context);
        let Some(connection) = self.connections[id.0 as usize].as_deref_mut() else { return };
        if body.needs().is_some_and(|capability| !connection.has(capability)) {
            return;
        }
        let tag = context.and_then(|label| connection.labels.tag(label));
        let mut line = Vec::new();
        body.write(meta, connection.variant, Personal { tag: tag.as_ref(), id: id_tag }, &mut line);
        self.send(id, &line);
    }

    pub(crate) fn meta(&self, shard: ShardId, event: &Event) -> Meta {
        let lineage = self.lineage_at(shard, event.position);
        Meta { time_ms: event.time_ms, msgid: msgid(shard, lineage, event.position) }
    }

    /// What a JOIN that is shown at a place of the directory has to name for resumes, beside itself: names changed
    /// between what its proposer had seen and that place, and nobody was shown these changes who did not share a
    /// channel then. None if its own place says it all.
    pub(crate) fn seen_with(&self, event: &Event, directory_at: Position) -> Option<MsgId> {
        let is_ahead =
            directory_at > event.dir_at && names_changed(&self.directory, event.dir_at, directory_at);
        is_ahead.then(|| msgid(ShardId::DIRECTORY, self.directory.lineage_at(directory_at), directory_at))
    }

    /// The lineage that the msgid of an event names.
    pub(crate) fn lineage_at(&self, shard: ShardId, position: Position) -> Lineage {
        match shard {
            ShardId::DIRECTORY => self.directory.lineage_at(position),
            ShardId(_) => self.shard(shard).lineage_at(position),
        }
    }
}

//! LIST, with the conditions of ELIST.

use chat_protocol::{
    Folded, Line, LineWriter,
    list::{ListRequest, Listed},
    mask::has_wildcard,
    numeric,
};
use chat_state::{
    channels::{Channel, ChannelShard},
    ids::channel_shard,
};

use super::{channel::visible, long::Effort};
use crate::{
    connection::{ConnectionId, Identity},
    worker::Worker,
};

const MINUTE_MS: u64 = 60_000;

impl Worker {
    pub(crate) fn list(&mut self, id: ConnectionId, identity: Identity, line: &Line<'_>) {
        // Names and conditions may come as two parameters, or as one.
        let asked = line.params.iter().take(2).copied().collect::<Vec<_>>().join(",");
        let request = ListRequest::parse(Some(&asked));
        self.numeric_text(id, numeric::RPL_LISTSTART, &["Channel"], numeric::RPL_LISTSTART.text());
        let client = self.client_name(id);
        let mut answer = self.long_answer(id);
        let effort = Effort::new();
        let shown = self
            .listed(&request)
            .take_while(|channel| effort.spend(Effort::LOOK + request.cost(channel.name.len())))
            .filter(|channel| visible(channel, Some(identity.user)))
            .filter(|channel| request.accepts(&self.summary(channel)));
        for channel in shown {
            let topic = channel.topic.as_ref().map_or("", |topic| &topic.text);
            let fits = answer.add_for(&effort, |out| {
                LineWriter::begin(out)
                    .numeric(&self.config.server_name, numeric::RPL_LIST, &client)
                    .param(&channel.name)
                    .param_display(channel.members.len())
                    .trailing(topic);
            });
            if !fits {
                break;
            }
        }
        let answer = answer.found_with(&effort);
        self.say_long(id, "LIST", answer);
        self.numeric(id, numeric::RPL_LISTEND, &[]);
    }

    /// The channels that may be meant: those named, or all.
    fn listed<'a>(&'a self, request: &ListRequest<'a>) -> Box<dyn Iterator<Item = &'a Channel> + 'a> {
        if request.names.is_empty() || request.names.iter().any(|name| has_wildcard(name)) {
            return Box::new(self.channels.iter().flat_map(ChannelShard::channels));
        }
        let mut names: Vec<Folded> = request.names.iter().map(|name| Folded::new(name)).collect();
        names.sort_unstable();
        names.dedup();
        Box::new(names.into_iter().filter_map(|name| {
            self.shard(channel_shard(name.as_str(), self.config.shards)).channel_by_name(name.as_str())
        }))
    }

    fn summary<'a>(&self, channel: &'a Channel) -> Listed<'a> {
        let minutes_ago = |at_ms: u64| self.now.unix_ms.saturating_sub(at_ms) / MINUTE_MS;
        Listed {
            name: &channel.name,
            members: u32::try_from(channel.members.len()).unwrap_or(u32::MAX),
            created_minutes_ago: minutes_ago(channel.created_ms),
            topic_minutes_ago: channel.topic.as_ref().map(|topic| minutes_ago(topic.at_ms)),
        }
    }
}

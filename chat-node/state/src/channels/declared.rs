//! The channels that the settings declare: they exist without members.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    channels::{Channel, ChannelShard},
    event::EventKind,
    ids::{ChannelId, channel_shard},
    names::{cut, folded, is_channel},
};

impl ChannelShard {
    /// Holds the channels to the settings just taken.
    pub(super) fn declare(&mut self) -> EventKind {
        let settings = Arc::clone(&self.state.journal.settings);
        let limits = settings.limits;
        let mut wanted: BTreeMap<String, (&str, &str)> = BTreeMap::new();
        for channel in &settings.channels {
            let name = folded(&channel.name);
            let ours = channel_shard(&name, self.state.shards) == self.shard();
            if ours && is_channel(&channel.name, usize::from(limits.channel_length)) {
                wanted.entry(name).or_insert((&channel.name, &channel.topic));
            }
        }
        self.undeclare_all_but(&wanted);
        let mut topics = Vec::new();
        let mut created = 0;
        for (folded, (name, topic)) in wanted {
            let id = self.derived.names.get(&folded).copied().unwrap_or_else(|| {
                created += 1;
                self.create(name, folded, created)
            });
            let topic = cut(topic, limits.topic_length);
            let at_ms = self.state.journal.time_ms;
            if self.channel_mut(id).declare_topic(topic, at_ms) {
                topics.push((id, topic.to_owned()));
            }
        }
        EventKind::Settings { revision: settings.revision, topics }
    }

    fn undeclare_all_but(&mut self, wanted: &BTreeMap<String, (&str, &str)>) {
        let gone: Vec<ChannelId> = self
            .channels()
            .filter(|channel| channel.declared.is_some() && !wanted.contains_key(&folded(&channel.name)))
            .map(|channel| channel.id)
            .collect();
        for channel in gone {
            self.channel_mut(channel).declared = None;
            self.end_if_empty(channel);
        }
    }
}

impl Channel {
    /// Whether the topic was set: when it is declared first (unless with none) and whenever the declared text changes,
    /// so that operators may set another one in between.
    fn declare_topic(&mut self, topic: &str, at_ms: u64) -> bool {
        let first = self.declared.is_none();
        if self.declared.as_deref() == Some(topic) {
            return false;
        }
        self.declared = Some(topic.to_owned());
        if first && topic.is_empty() {
            return false;
        }
        self.set_topic(topic, &Arc::from(""), at_ms);
        true
    }
}

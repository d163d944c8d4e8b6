//! What a client knows of the channels it is in, from nothing but the lines it got.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) nick: String,
    /// By folded name.
    pub(crate) channels: BTreeMap<String, Channel>,
    /// Nick of each person it met in a channel, by user name.
    names: BTreeMap<String, String>,
    /// User names whose QUIT was seen.
    pub(crate) left: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    /// Nicks; not known until NAMES was answered.
    pub(crate) members: Option<BTreeSet<String>>,
    /// Of the NAMES answer that is coming in.
    pub(crate) named: BTreeSet<String>,
    /// The client was shown that it is in it, and nothing that may have been its leaving was lost since.
    pub(crate) surely: bool,
}

impl Channel {
    /// Who is in it is not known any more.
    pub(crate) fn doubt(&mut self) {
        self.members = None;
        self.named.clear();
        self.surely = false;
    }
}

impl View {
    /// Everything known of people and channels may be of another history.
    pub(crate) fn doubt(&mut self) {
        self.channels.values_mut().for_each(Channel::doubt);
        self.names.clear();
        self.left.clear();
    }

    pub(crate) fn channel(&mut self, name: &str) -> Option<&mut Channel> {
        self.channels.get_mut(&name.to_ascii_lowercase())
    }

    /// The rest of an answer to NAMES will not come.
    pub(crate) fn stop_naming(&mut self) {
        for channel in self.channels.values_mut() {
            channel.named.clear();
        }
    }

    /// The nick under which this person is known at present.
    pub(crate) fn nick_of(&self, username: &str) -> Option<&str> {
        self.names.get(username).map(String::as_str)
    }

    pub(crate) fn shares_channel(&self, nick: &str) -> bool {
        self.members().any(|members| members.contains(nick))
    }

    /// Whether all members of all channels are known.
    pub(crate) fn is_complete(&self) -> bool {
        self.channels.values().all(|channel| channel.members.is_some())
    }

    fn members(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        self.channels.values().filter_map(|channel| channel.members.as_ref())
    }

    fn members_mut(&mut self) -> impl Iterator<Item = &mut BTreeSet<String>> {
        self.channels.values_mut().filter_map(|channel| channel.members.as_mut())
    }

    /// This person speaks; known by that nick from now on, if it is in a channel with the client.
    pub(crate) fn met(&mut self, username: &str, nick: &str) {
        if self.shares_channel(nick) {
            self.names.insert(username.to_owned(), nick.to_owned());
        }
    }

    pub(crate) fn joined(&mut self, channel: &str, nick: &str) {
        let own = nick == self.nick;
        let known = self.channels.entry(channel.to_ascii_lowercase());
        if own {
            let channel = known.or_default();
            channel.doubt();
            channel.surely = true;
            self.forget_strangers();
        } else if let Some(members) = known.or_default().members.as_mut() {
            members.insert(nick.to_owned());
        }
    }

    pub(crate) fn left_channel(&mut self, channel: &str, nick: &str) {
        if nick == self.nick {
            self.channels.remove(&channel.to_ascii_lowercase());
        } else if let Some(members) = self.channel(channel).and_then(|channel| channel.members.as_mut()) {
            members.remove(nick);
        }
        self.forget_strangers();
    }

    /// Whoever shares no channel any more may have any nick by now.
    pub(crate) fn forget_strangers(&mut self) {
        let shared: BTreeSet<String> = self.members().flatten().cloned().collect();
        self.names.retain(|_, nick| shared.contains(nick));
    }

    pub(crate) fn renamed(&mut self, username: &str, from: &str, to: &str) {
        for members in self.members_mut() {
            if members.remove(from) {
                members.insert(to.to_owned());
            }
        }
        if self.nick == from {
            to.clone_into(&mut self.nick);
        }
        self.met(username, to);
    }

    pub(crate) fn quit(&mut self, username: &str, nick: &str) {
        for members in self.members_mut() {
            members.remove(nick);
        }
        self.names.remove(username);
        self.left.insert(username.to_owned());
    }
}

//! What a client makes of each line, and what cannot be.

use chat_state::{
    command::Target,
    event::EventKind,
    ids::{Position, ShardId, channel_shard, home_shard},
};

use super::{
    Batch, Client, Phase, Seen, Sending, first_word,
    line::{Line, Msgid, shard_and_lineage},
    what,
};
use crate::{
    env::Env,
    truth::Truth,
    violation::{Violation, ensure},
};

impl Client {
    pub(super) fn hear(&mut self, line: &Line, env: &mut Env, truth: &Truth) -> Result<(), Violation> {
        if let Some(batch) = line.tag("batch").and_then(|batch| self.batches.get_mut(batch))
            && batch.kind == "chathistory"
        {
            let msgid = line.msgid();
            ensure!(msgid.is_some(), Reading, "a line of history has no msgid");
            batch.history.extend(msgid.map(|msgid| (msgid.shard, msgid.position)));
            return Ok(());
        }
        match &*line.command {
            "001" => {
                self.view.nick = line.param(0).to_owned();
                self.attached = true;
                self.life().began = true;
            }
            "376" | "422" if self.phase == Phase::Registering => self.phase = Phase::Ready,
            "433" | "432" if self.phase == Phase::Registering => {
                let nick = self.new_nick(env);
                self.say(&format!("NICK {nick}"));
            }
            "PING" => self.say(&format!("PONG :{}", line.last())),
            "RESUME" => return self.hear_resume(line, truth),
            "BATCH" => return self.hear_batch(line, env, truth),
            "FAIL" => return self.hear_fail(line, env, truth),
            "NOTE" if line.param(1) == "DUPLICATE" => return self.hear_duplicate(line, truth),
            "ACK" => {
                // Without echo-message this is how a message is acknowledged.
                if let Some(id) = self.labelled(line) {
                    self.acknowledged(id);
                }
            }
            "353" => {
                let names = line.last().split(' ').map(|name| name.trim_start_matches(['@', '+']).to_owned());
                if let Some(channel) = self.view.channel(line.param(2)) {
                    channel.named.extend(names.filter(|name| !name.is_empty()));
                }
            }
            "366" => return self.hear_names(line.param(1), truth),
            "401" | "403" | "404" | "442" => self.refused(line),
            "JOIN" | "PART" | "KICK" | "NICK" | "QUIT" | "TOPIC" | "MODE" | "PRIVMSG" | "NOTICE" | "AWAY"
            | "SETNAME" | "TAGMSG" | "INVITE" => return self.hear_event(line, truth),
            _ => {}
        }
        Ok(())
    }

    fn hear_event(&mut self, line: &Line, truth: &Truth) -> Result<(), Violation> {
        let Some((nick, username)) = line.person() else {
            if line.command == "TOPIC" {
                self.note_position(line)?;
                self.record(line, truth, &what("TOPIC", "server", line.param(0), line.last()))?;
            }
            return Ok(());
        };
        self.check_person(nick, username, line, truth)?;
        self.note_position(line)?;
        if let Some(Msgid { stream, position, .. }) = line.tag("chatroom.dev/seen").and_then(Msgid::parse) {
            let newest = self.newest.entry(stream).or_default();
            if position > newest.0 {
                *newest = (position, String::new());
            }
        }
        let place = line.param(0);
        let command = &*line.command;
        let in_channel = place.trim_start_matches(['@', '+']).starts_with('#');
        match command {
            "NICK" if self.is_known_change(line) => {}
            "NICK" => self.view.renamed(username, nick, place),
            "QUIT" => self.view.quit(username, nick),
            "JOIN" => {
                // Told again after a gap, without a place of its own.
                let again = self.kind.tags && line.msgid().is_none();
                if !again {
                    self.record(line, truth, &what(command, username, place, ""))?;
                }
                if nick == self.view.nick {
                    self.newest_message.remove(&place.to_ascii_lowercase());
                }
                self.view.joined(place, nick);
                self.view.met(username, nick);
            }
            "PART" => {
                self.record(line, truth, &what(command, username, place, &text_of(line, 1)))?;
                self.view.left_channel(place, nick);
            }
            "KICK" => {
                self.record(line, truth, &what(command, username, place, line.last()))?;
                self.view.left_channel(place, line.param(1));
            }
            "TOPIC" => self.record(line, truth, &what(command, username, place, line.last()))?,
            "MODE" if in_channel => self.record(line, truth, &what(command, username, place, ""))?,
            "PRIVMSG" | "NOTICE" => {
                let shown = if in_channel { place } else { "" };
                if !self.is_to_self(line) {
                    self.record(line, truth, &what(command, username, shown, first_word(line.last())))?;
                }
                if username == self.life().username {
                    self.hear_own(line)?;
                }
                if let (true, Some(msgid)) = (in_channel, line.msgid()) {
                    self.newest_message.insert(place.to_ascii_lowercase(), msgid.position);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// That the source is somebody who can be there, under the nick that the client knows.
    fn check_person(
        &mut self,
        nick: &str,
        username: &str,
        line: &Line,
        truth: &Truth,
    ) -> Result<(), Violation> {
        if username == self.life().username {
            // What RESUME SUCCESS said holds from some place of the batch on, even if the change itself is gone.
            let gap = !self.life().gaps.is_empty();
            if self.phase == Phase::Resuming && (nick == self.resumed_nick || line.command == "NICK" || gap) {
                nick.clone_into(&mut self.view.nick);
            }
            ensure!(nick == self.view.nick, Identity, "own nick is {:?}", self.view.nick);
            return Ok(());
        }
        ensure!(!self.view.left.contains(username), Identity, "{username} has quit");
        if self.is_known_change(line) {
            return Ok(());
        }
        let known = self.view.nick_of(username);
        ensure!(known.is_none_or(|known| known == nick), Identity, "{username} is known as {known:?}");
        let speaks = matches!(&*line.command, "PRIVMSG" | "NOTICE" | "PART" | "TOPIC" | "KICK" | "MODE");
        let members = self.view.channel(line.param(0)).and_then(|channel| channel.members.as_ref());
        if let (true, Some(members)) = (speaks, members) {
            ensure!(
                members.contains(nick) || truth.is_leaving(username),
                Subscription,
                "{nick} is not known to be in {}: {members:?}",
                line.param(0)
            );
        }
        if line.command == "NICK" && self.view.is_complete() {
            ensure!(
                self.view.shares_channel(nick) || truth.is_leaving(username),
                Subscription,
                "{nick} is in none of the client's channels"
            );
        }
        if line.param(0).starts_with('#') {
            self.view.met(username, nick);
        }
        Ok(())
    }

    /// A change of nick in a resume batch that went before the client met the person. The server cannot always know,
    /// and says so in its `replay`.
    fn is_known_change(&self, line: &Line) -> bool {
        line.command == "NICK"
            && self.phase == Phase::Resuming
            && line
                .person()
                .is_some_and(|(nick, _)| nick != self.view.nick && !self.view.shares_channel(nick))
    }

    /// That streams never go back, and no event comes twice.
    fn note_position(&mut self, line: &Line) -> Result<(), Violation> {
        let Some(Msgid { stream, position, .. }) = line.msgid() else { return Ok(()) };
        let to_self = self.is_to_self(line);
        let newest = self.newest.get(&stream);
        let is_new = newest.is_none_or(|(newest, command)| {
            // Who is away is said together with their JOIN; topics of several channels may come together; a message
            // to oneself comes with its echo.
            let together = *command != line.command || line.command == "TOPIC" || to_self;
            position > *newest || (position == *newest && together)
        });
        ensure!(is_new, Subscription, "the stream was at {newest:?}");
        self.newest.insert(stream, (position, line.command.clone()));
        Ok(())
    }

    /// A direct message that the client sent to itself.
    fn is_to_self(&self, line: &Line) -> bool {
        let own = line.person().is_some_and(|(nick, _)| nick == self.view.nick);
        own && line.param(0).eq_ignore_ascii_case(&self.view.nick)
    }

    fn record(&mut self, line: &Line, truth: &Truth, what: &str) -> Result<(), Violation> {
        let msgid = line.msgid();
        ensure!(msgid.is_some() == self.kind.tags, Subscription, "a msgid is there: {}", msgid.is_some());
        let shards = u16::try_from(truth.channels.len()).expect("shards are numbered by u16");
        let place = line.param(0).trim_start_matches(['@', '+']);
        let shard = match &msgid {
            Some(msgid) => msgid.shard,
            None if place.starts_with('#') => channel_shard(&place.to_ascii_lowercase(), shards).0,
            None => truth.user(&self.life().username).map_or(0, |user| home_shard(user, shards).0),
        };
        let position = msgid.map(|msgid| msgid.position);
        let deceived = self.life().deceived.contains(&shard);
        ensure!(!deceived, Subscription, "what was seen before is lost, and that was not told");
        self.life().seen.entry(shard).or_default().push(Seen { position, what: what.to_owned() });
        Ok(())
    }

    /// The echo of an own message.
    fn hear_own(&mut self, line: &Line) -> Result<(), Violation> {
        let text = line.last().to_owned();
        let id = line.tag("chatroom.dev/id").and_then(|id| id.parse().ok());
        let to_self = self.is_to_self(line);
        ensure!(id.is_some() == self.kind.ids || to_self, Deduplication, "the id of an own message: {id:?}");
        if let Some(sending) = id.and_then(|id| self.sends.remove(&id)) {
            ensure!(is_cut_of(&text, &sending.text), Deduplication, "the id was given to {:?}", sending.text);
        }
        self.life().acknowledged.push(first_word(&text).to_owned());
        Ok(())
    }

    fn acknowledged(&mut self, id: u64) {
        if let Some(sending) = self.sends.remove(&id) {
            self.life().acknowledged.push(first_word(&sending.text).to_owned());
        }
    }

    fn hear_duplicate(&mut self, line: &Line, truth: &Truth) -> Result<(), Violation> {
        let id: u64 = line.param(2).parse().unwrap_or(0);
        let at = Msgid::parse(line.param(3));
        let stored = at.and_then(|at| truth.event(ShardId(at.shard), Position(at.position)));
        if let Some(sending) = self.sends.get(&id) {
            let right = stored.is_some_and(
                |event| matches!(&event.kind, EventKind::Message { message, .. } if is_cut_of(&message.text, &sending.text)),
            );
            ensure!(right, Deduplication, "{:?} is not there", sending.text);
            self.acknowledged(id);
        }
        Ok(())
    }

    fn hear_fail(&mut self, line: &Line, env: &mut Env, truth: &Truth) -> Result<(), Violation> {
        let id = line.param(2).parse::<u64>().ok();
        match (line.param(0), line.param(1)) {
            ("RESUME", "INVALID_TOKEN") if self.previous_token.is_some() => {
                // Another attempt of the client's own may have come in late, and taken its place.
                self.token = self.previous_token.take();
                let token = self.token.clone().unwrap_or_default();
                self.ask_to_resume(&token, env);
            }
            ("RESUME", "INVALID_TOKEN") => {
                let since = env.now_ms().saturating_sub(self.cut_at_ms);
                ensure!(
                    since >= self.resume_window_ms || truth.has_lost(),
                    Identity,
                    "the session was to stay for {} ms, and is gone after {since}",
                    self.resume_window_ms
                );
                self.register(env);
            }
            ("RESUME", "TRY_AGAIN") => {}
            ("RESUME", code) => ensure!(false, Subscription, "RESUME is refused: {code}"),
            (_, "ID_REUSED") => {
                if let Some(sending) = id.and_then(|id| self.sends.remove(&id)) {
                    check_reuse(&sending, truth)?;
                }
            }
            ("PRIVMSG", "DUPLICATE_WINDOW" | "INVALID_ID" | "INVALID_TARGET") => {
                ensure!(false, Deduplication, "the id is refused");
            }
            (_, "READ_ONLY" | "UNKNOWN_RESULT") if self.phase != Phase::Offline => {
                if let Some(life) = self.lives.last_mut() {
                    life.reordered = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn hear_resume(&mut self, line: &Line, truth: &Truth) -> Result<(), Violation> {
        match line.param(0) {
            "TOKEN" => {
                let token = line.param(1).to_owned();
                self.previous_token = self.token.replace(token);
            }
            "SUCCESS" => {
                self.attached = true;
                line.param(1).clone_into(&mut self.resumed_nick);
            }
            "GAP" => {
                let oldest = Msgid::parse(line.param(2));
                ensure!(oldest.is_some(), Subscription, "a gap without a msgid");
                if let Some(oldest) = oldest {
                    if !line.param(1).starts_with('#') {
                        self.forget_from(&oldest);
                    }
                    self.hear_gap(&oldest, truth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn hear_gap(&mut self, oldest: &Msgid, truth: &Truth) -> Result<(), Violation> {
        self.life().deceived.remove(&oldest.shard);
        if truth.has_lost() {
            // Which of the two reasons there was is not said.
            self.view.doubt();
        } else {
            self.check_gap(oldest, truth)?;
        }
        let shards = u16::try_from(truth.channels.len()).expect("shards are numbered by u16");
        let life = self.life();
        let so_far = life.seen.get(&oldest.shard).map_or(0, Vec::len);
        life.gaps.entry(oldest.shard).or_default().push((so_far, oldest.position));
        for (name, channel) in &mut self.view.channels {
            if channel_shard(name, shards).0 == oldest.shard {
                channel.doubt();
            }
        }
        self.view.forget_strangers();
        self.told_a_gap = true;
        Ok(())
    }

    /// That there is a gap.
    fn check_gap(&self, oldest: &Msgid, truth: &Truth) -> Result<(), Violation> {
        let seen = |shard: u16| {
            let of_shard = self.newest.iter().filter(|(stream, _)| shard_and_lineage(stream).0 == shard);
            of_shard.map(|(_, (position, _))| *position).max().unwrap_or_default()
        };
        let gone = truth.shard(ShardId(oldest.shard)).kept().oldest().0 > seen(oldest.shard) + 1
            || truth.directory.kept().oldest().0 > seen(0) + 1;
        ensure!(gone, Subscription, "everything since {} is still kept", seen(oldest.shard));
        let lineage = truth.shard(ShardId(oldest.shard)).lineage_at(Position(oldest.position));
        let named = shard_and_lineage(&oldest.stream).1;
        ensure!(named == lineage.0, Subscription, "{} was numbered under lineage {lineage:?}", oldest.text);
        Ok(())
    }

    fn hear_batch(&mut self, line: &Line, env: &mut Env, truth: &Truth) -> Result<(), Violation> {
        let (sign, name) = line.param(0).split_at(usize::from(!line.param(0).is_empty()));
        if sign == "+" {
            let batch = Batch {
                kind: line.param(1).to_owned(),
                label: line.tag("label").map(str::to_owned),
                history: Vec::new(),
                target: line.param(2).to_ascii_lowercase(),
            };
            self.batches.insert(name.to_owned(), batch);
            return Ok(());
        }
        match self.batches.remove(name) {
            Some(batch) if batch.kind == "chatroom.dev/resume" => self.resumed(env),
            Some(batch) if batch.kind == "chathistory" => self.check_history(&batch, truth),
            _ => Ok(()),
        }
    }

    /// Everything that was missed was told.
    fn resumed(&mut self, env: &mut Env) -> Result<(), Violation> {
        self.view.nick.clone_from(&self.resumed_nick);
        self.phase = Phase::Ready;
        self.send_again(env);
        let unknown: Vec<String> = self
            .view
            .channels
            .iter()
            .filter(|(_, channel)| channel.members.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        for name in unknown {
            self.say(&format!("NAMES {name}"));
        }
        Ok(())
    }

    fn hear_names(&mut self, name: &str, truth: &Truth) -> Result<(), Violation> {
        let own = self.view.nick.clone();
        let Some(channel) = self.view.channel(name) else { return Ok(()) };
        let named = std::mem::take(&mut channel.named);
        let Some(members) = &channel.members else {
            self.told_a_gap &= self.phase == Phase::Resuming;
            if named.contains(&own) {
                channel.members = Some(named);
            } else {
                ensure!(!channel.surely, Reading, "it was shown that it is in {name}: {named:?}");
                // It left in what is gone.
                self.view.channels.remove(&name.to_ascii_lowercase());
            }
            return Ok(());
        };
        let members = members.clone();
        let stranger = named.iter().find(|nick| !members.contains(*nick));
        ensure!(stranger.is_none(), Reading, "{stranger:?} was never seen to join {name}: {members:?}");
        // Who is on the way out is not named any more; its QUIT is to come, though the nick may be another's by now.
        let missing = members.iter().find(|nick| !named.contains(*nick) && !self.may_be_leaving(nick, truth));
        let excused = missing.is_some_and(|nick| !truth_has_member(truth, name, nick));
        ensure!(missing.is_none() || excused, Reading, "{missing:?} is not named in {name}: {named:?}");
        Ok(())
    }

    /// Whether one whom the client may know by this nick has no session any more, and its QUIT was not seen.
    fn may_be_leaving(&self, nick: &str, truth: &Truth) -> bool {
        let folded = nick.to_ascii_lowercase();
        if truth.directory.user_by_nick(&folded).is_none() {
            return true;
        }
        let own = self.lives.last().and_then(|life| truth.user(&life.username));
        let met_since = Position(own.map_or(0, |user| user.0));
        truth.events(ShardId::DIRECTORY).iter().rev().take_while(|event| event.position > met_since).any(
            |event| {
                let EventKind::Freed { prefix, .. } = &event.kind else { return false };
                let (freed, rest) = prefix.split_once('!').unwrap_or_default();
                let (username, _) = rest.split_once('@').unwrap_or_default();
                freed.eq_ignore_ascii_case(nick) && !self.view.left.contains(username)
            },
        )
    }

    fn check_history(&self, batch: &Batch, truth: &Truth) -> Result<(), Violation> {
        let newest = self.newest_message.get(&batch.target).copied();
        let Some(&(shard, first)) = batch.history.first() else {
            ensure!(newest.is_none(), Reading, "history is empty, {newest:?} was seen");
            return Ok(());
        };
        let shard = ShardId(shard);
        let of = |event: &chat_state::event::Event| match &event.kind {
            EventKind::Message { target: Target::Channel { channel, .. }, number, .. } if *number > 0 => {
                Some(*channel)
            }
            _ => None,
        };
        let channel = truth.event(shard, Position(first)).and_then(|event| of(event));
        let all = truth.events(shard).iter().filter(|event| channel.is_some() && of(event) == channel);
        let expected: Vec<u64> = all
            .map(|event| event.position.0)
            .skip_while(|position| *position < first)
            .take(batch.history.len())
            .collect();
        let told: Vec<u64> = batch.history.iter().map(|(_, position)| *position).collect();
        ensure!(told == expected, Reading, "history tells {told:?}, the log {expected:?}");
        let last = told.last().copied();
        ensure!(last >= newest, Reading, "history ends at {last:?}, {newest:?} was seen");
        Ok(())
    }

    /// A message was refused.
    fn refused(&mut self, line: &Line) {
        let id = match self.labelled(line) {
            Some(id) => Some(id),
            None if self.kind.labels => None,
            None => {
                let about = line.param(1);
                let same = |target: &str| target.eq_ignore_ascii_case(about);
                self.sends.iter().find(|(_, sending)| same(&sending.target)).map(|(id, _)| *id)
            }
        };
        if let Some(id) = id {
            self.sends.remove(&id);
        }
    }

    /// The id of the message that a line answers, by its label.
    fn labelled(&self, line: &Line) -> Option<u64> {
        let batch = line.tag("batch").and_then(|batch| self.batches.get(batch));
        let label = line.tag("label").or_else(|| batch?.label.as_deref())?;
        label.strip_prefix('m')?.parse().ok()
    }
}

/// Whether a stored text is what was sent, or as much of it as fits into a line.
fn is_cut_of(stored: &str, sent: &str) -> bool {
    sent.starts_with(stored) && first_word(stored) == first_word(sent)
}

/// This client gives no id to two texts: where one is said to be of another message, the target must be another by now.
fn check_reuse(sending: &Sending, truth: &Truth) -> Result<(), Violation> {
    let stored = truth.stored(&sending.text);
    ensure!(stored.len() == 1, Deduplication, "{:?} is stored at {stored:?}", sending.text);
    let (shard, at) = stored[0];
    if let Some(event) = truth.event(shard, at)
        && let EventKind::Message { target: Target::Channel { channel, .. }, name, .. } = &event.kind
    {
        let same =
            name.eq_ignore_ascii_case(&sending.target) && truth.shard(shard).channel(*channel).is_some();
        ensure!(!same, Deduplication, "{:?} is at {at} of shard {shard}, and so was this", sending.text);
    }
    Ok(())
}

fn text_of(line: &Line, at: usize) -> String {
    line.param(at).to_owned()
}

fn truth_has_member(truth: &Truth, channel: &str, nick: &str) -> bool {
    let folded = channel.to_ascii_lowercase();
    let shards = u16::try_from(truth.channels.len()).expect("shards are numbered by u16");
    let user = truth.directory.user_by_nick(&nick.to_ascii_lowercase());
    let known = truth.shard(channel_shard(&folded, shards)).channel_by_name(&folded);
    known.zip(user).is_some_and(|(channel, user)| channel.member(user).is_some())
}

//! A line from the server, as a client reads it. Written apart from the server's own parser, so that the two check
//! each other.

#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    tags: Vec<(String, String)>,
    pub(crate) source: String,
    pub(crate) command: String,
    pub(crate) params: Vec<String>,
}

/// Where an event stands: its stream, and its position there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Msgid {
    pub(crate) text: String,
    pub(crate) stream: String,
    pub(crate) shard: u16,
    pub(crate) position: u64,
}

impl Line {
    /// `text` has no line ending.
    pub(crate) fn parse(text: &str) -> Self {
        let mut line = Self::default();
        let mut rest = text;
        if let Some(tagged) = rest.strip_prefix('@') {
            let (tags, after) = tagged.split_once(' ').unwrap_or((tagged, ""));
            line.tags = tags.split(';').map(tag).collect();
            rest = after;
        }
        if let Some(sourced) = rest.strip_prefix(':') {
            let (source, after) = sourced.split_once(' ').unwrap_or((sourced, ""));
            source.clone_into(&mut line.source);
            rest = after;
        }
        let (front, trailing) = match rest.split_once(" :") {
            Some((front, trailing)) => (front, Some(trailing)),
            None => (rest, None),
        };
        let mut words = front.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
        line.command = words.next().unwrap_or_default();
        line.params = words.collect();
        line.params.extend(trailing.map(str::to_owned));
        line
    }

    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    pub(crate) fn param(&self, at: usize) -> &str {
        self.params.get(at).map_or("", |param| param)
    }

    pub(crate) fn last(&self) -> &str {
        self.params.last().map_or("", |param| param)
    }

    /// The source's nick and user name; none when it is a server.
    pub(crate) fn person(&self) -> Option<(&str, &str)> {
        let (nick, rest) = self.source.split_once('!')?;
        Some((nick, rest.split_once('@')?.0))
    }

    pub(crate) fn msgid(&self) -> Option<Msgid> {
        Msgid::parse(self.tag("msgid")?)
    }
}

impl Msgid {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (stream, position) = text.rsplit_once('-')?;
        let (shard, _) = stream.split_once('.')?;
        Some(Self {
            text: text.to_owned(),
            stream: stream.to_owned(),
            shard: shard.parse().ok()?,
            position: position.parse().ok()?,
        })
    }
}

/// What a stream's name says.
pub(crate) fn shard_and_lineage(stream: &str) -> (u16, u32) {
    let (shard, lineage) = stream.split_once('.').unwrap_or_default();
    (shard.parse().unwrap_or_default(), lineage.parse().unwrap_or_default())
}

fn tag(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.replace("\\:", ";").replace("\\s", " ").replace("\\\\", "\\"))
}

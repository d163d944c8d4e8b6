//! labeled-response: which lines answer which labelled command (IRCv3 labeled-response).
//!
//! While a command runs its lines are collected; then it is known whether they are none (ACK), one (tagged with the
//! label) or many (a batch). A command that waits for the log says at once which of the last two it will be.

use chat_protocol::tags;

/// The labelled commands of a connection that are not fully answered.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    next: u32,
    open: Vec<Label>,
}

#[derive(Debug)]
struct Label {
    id: u32,
    label: String,
    style: Style,
    /// Answers of the log still to come.
    remaining: usize,
    said: bool,
    /// The lines are a batch of their own kind.
    one_batch: bool,
}

#[derive(Debug)]
enum Style {
    Collecting(Vec<u8>),
    Single,
    Batch,
}

/// The tag of a line that belongs to a labelled command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelTag {
    pub(crate) key: &'static str,
    pub(crate) value: String,
}

impl Labels {
    /// A labelled command begins.
    pub(crate) fn begin(&mut self, label: &str) -> u32 {
        self.next = self.next.wrapping_add(1);
        let style = Style::Collecting(Vec::new());
        self.open.push(Label {
            id: self.next,
            label: label.to_owned(),
            style,
            remaining: 0,
            said: false,
            one_batch: false,
        });
        self.next
    }

    /// The command did not run after all.
    pub(crate) fn abort(&mut self, id: u32) {
        self.open.retain(|label| label.id != id);
    }

    /// What the command says is one whole batch: its opening line carries the label, and no other batch is needed.
    pub(crate) fn is_one_batch(&mut self, id: u32) {
        if let Some(label) = self.find(id) {
            label.one_batch = true;
        }
    }

    /// Where lines go while the command runs; none once it waits for the log.
    pub(crate) fn collecting(&mut self, id: u32) -> Option<&mut Vec<u8>> {
        match &mut self.find(id)?.style {
            Style::Collecting(lines) => Some(lines),
            Style::Single | Style::Batch => None,
        }
    }

    /// The command has run; `remaining` answers will come from the log, `single` if together they are one line.
    pub(crate) fn ran(&mut self, id: u32, remaining: usize, single: bool, server: &str, out: &mut Vec<u8>) {
        let Some(label) = self.find(id) else { return };
        let Style::Collecting(lines) = std::mem::replace(&mut label.style, Style::Single) else { return };
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        label.remaining = remaining;
        label.said = count > 0;
        if label.one_batch && remaining == 0 {
            let tag = LabelTag { key: "label", value: label.label.clone() };
            let opening = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
            write_tagged(&tag, &lines[..opening], out);
            out.extend_from_slice(&lines[opening..]);
            return self.close_if_answered(id, server, out);
        }
        let tag = if count > 1 || (remaining > 0 && (count > 0 || !single)) {
            label.style = Style::Batch;
            open_batch(label, server, out);
            batch_tag(id)
        } else {
            LabelTag { key: "label", value: label.label.clone() }
        };
        write_tagged(&tag, &lines, out);
        self.close_if_answered(id, server, out);
    }

    /// The tag for a line that answers the command; the caller sends such a line.
    pub(crate) fn tag(&mut self, id: u32) -> Option<LabelTag> {
        let label = self.find(id)?;
        label.said = true;
        Some(match label.style {
            Style::Batch => batch_tag(id),
            Style::Single | Style::Collecting(_) => LabelTag { key: "label", value: label.label.clone() },
        })
    }

    /// One of the answers from the log was given.
    pub(crate) fn answered(&mut self, id: u32, server: &str, out: &mut Vec<u8>) {
        if let Some(label) = self.find(id) {
            label.remaining = label.remaining.saturating_sub(1);
            self.close_if_answered(id, server, out);
        }
    }

    fn close_if_answered(&mut self, id: u32, server: &str, out: &mut Vec<u8>) {
        let Some(at) = self.open.iter().position(|label| label.id == id && label.remaining == 0) else {
            return;
        };
        let label = self.open.swap_remove(at);
        match label.style {
            Style::Batch => out.extend_from_slice(format!(":{server} BATCH -L{id}\r\n").as_bytes()),
            _ if label.said => {}
            _ => write_tagged(
                &LabelTag { key: "label", value: label.label },
                format!(":{server} ACK\r\n").as_bytes(),
                out,
            ),
        }
    }

    fn find(&mut self, id: u32) -> Option<&mut Label> {
        self.open.iter_mut().find(|label| label.id == id)
    }
}

fn batch_tag(id: u32) -> LabelTag {
    LabelTag { key: "batch", value: format!("L{id}") }
}

fn open_batch(label: &Label, server: &str, out: &mut Vec<u8>) {
    let line = format!(":{server} BATCH +L{} labeled-response\r\n", label.id);
    write_tagged(&LabelTag { key: "label", value: label.label.clone() }, line.as_bytes(), out);
}

/// Writes each line with the tag in front.
pub(crate) fn write_tagged(tag: &LabelTag, lines: &[u8], out: &mut Vec<u8>) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        out.push(b'@');
        out.extend_from_slice(tag.key.as_bytes());
        out.push(b'=');
        tags::escape_into(&tag.value, out);
        // A line that has tags already gets this one more.
        match line.strip_prefix(b"@") {
            Some(rest) => {
                out.push(b';');
                out.extend_from_slice(rest);
            }
            None => {
                out.push(b' ');
                out.extend_from_slice(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).replace("\r\n", "|")
    }

    #[test]
    fn no_line_is_an_ack() {
        let (mut labels, mut out) = (Labels::default(), Vec::new());
        let id = labels.begin("x");
        labels.ran(id, 0, true, "s", &mut out);
        assert_eq!(text(&out), "@label=x :s ACK|");
    }

    #[test]
    fn one_line_carries_the_label() {
        let (mut labels, mut out) = (Labels::default(), Vec::new());
        let id = labels.begin("a;b");
        labels.collecting(id).unwrap().extend_from_slice(b":s PONG s\r\n");
        labels.ran(id, 0, true, "s", &mut out);
        assert_eq!(text(&out), "@label=a\\:b :s PONG s|");
    }

    #[test]
    fn many_lines_are_a_batch_that_closes_with_the_last_answer() {
        let (mut labels, mut out) = (Labels::default(), Vec::new());
        let id = labels.begin("x");
        labels.collecting(id).unwrap().extend_from_slice(b":s 1 a\r\n");
        labels.ran(id, 1, true, "s", &mut out);
        let tag = labels.tag(id).unwrap();
        write_tagged(&tag, b"@time=t :n JOIN #c\r\n", &mut out);
        labels.answered(id, "s", &mut out);
        assert_eq!(
            text(&out),
            "@label=x :s BATCH +L1 labeled-response|@batch=L1 :s 1 a|@batch=L1;time=t :n JOIN #c|:s BATCH -L1|"
        );
    }

    #[test]
    fn a_batch_of_its_own_kind_carries_the_label_where_it_opens() {
        let (mut labels, mut out) = (Labels::default(), Vec::new());
        let id = labels.begin("x");
        labels.is_one_batch(id);
        let lines = b":s BATCH +h chathistory #c\r\n@batch=h :n PRIVMSG #c :hi\r\n:s BATCH -h\r\n";
        labels.collecting(id).unwrap().extend_from_slice(lines);
        labels.ran(id, 0, true, "s", &mut out);
        let expected = "@label=x :s BATCH +h chathistory #c|@batch=h :n PRIVMSG #c :hi|:s BATCH -h|";
        assert_eq!(text(&out), expected);
    }

    #[test]
    fn an_echo_carries_the_label_alone() {
        let (mut labels, mut out) = (Labels::default(), Vec::new());
        let id = labels.begin("x");
        labels.ran(id, 1, true, "s", &mut out);
        assert_eq!(labels.tag(id), Some(LabelTag { key: "label", value: "x".into() }));
        labels.answered(id, "s", &mut out);
        assert_eq!(text(&out), "");
    }
}

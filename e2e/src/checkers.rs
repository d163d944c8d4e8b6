//! What must hold whatever was broken: over the clients' records and the history that a newcomer reads afterwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Record, Seen};

/// Everything that is wrong, in words; empty is right.
pub fn check(records: &[Record], history: &[Seen]) -> Vec<String> {
    let mut wrong = Vec::new();
    numbered_once(history, &mut wrong);
    for record in records {
        acknowledged_once(record, history, &mut wrong);
        contiguous(record, history, &mut wrong);
        sessions_kept(record, &mut wrong);
    }
    wrong
}

/// C2: history is in the order of one shard's positions, each once.
fn numbered_once(history: &[Seen], wrong: &mut Vec<String>) {
    let mut last: Option<(&str, u64)> = None;
    for seen in history {
        let Some((stream, position)) = parts(&seen.msgid) else {
            wrong.push(format!("C2: {:?} is no msgid", seen.msgid));
            continue;
        };
        if let Some((last_stream, last_position)) = last
            && (stream != last_stream || position <= last_position)
        {
            wrong.push(format!("C2: {} follows {last_stream}-{last_position} in history", seen.msgid));
        }
        last = Some((stream, position));
    }
}

/// C1 and C5: what was acknowledged is there once, under the msgid it was acknowledged with; nothing is there twice.
fn acknowledged_once(record: &Record, history: &[Seen], wrong: &mut Vec<String>) {
    let mut stored: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for seen in history.iter().filter(|seen| seen.sender == record.name) {
        stored.entry(&seen.text).or_default().push(&seen.msgid);
    }
    for (id, text) in &record.sent {
        let places = stored.get(text.as_str()).map_or(&[][..], Vec::as_slice);
        match (record.acknowledged.get(id), places) {
            (Some(msgid), [place]) if msgid == place => {}
            (Some(msgid), []) => {
                wrong.push(format!("C1: {} lost {text:?}, acknowledged as {msgid}", record.name));
            }
            (Some(msgid), [place]) => {
                wrong.push(format!("C1: {text:?} was acknowledged as {msgid} and is stored as {place}"));
            }
            (_, [_, _, ..]) => {
                wrong.push(format!("C5: {text:?} is stored {} times: {places:?}", places.len()));
            }
            (None, _) => {}
        }
    }
}

/// C3: what a subscriber saw is a slice of the history without a hole, in its order.
fn contiguous(record: &Record, history: &[Seen], wrong: &mut Vec<String>) {
    let Some(first) = record.seen.first() else {
        if !history.is_empty() {
            wrong.push(format!("C3: {} saw nothing at all", record.name));
        }
        return;
    };
    let Some(start) = history.iter().position(|seen| seen.msgid == first.msgid) else {
        wrong.push(format!("C3: {} saw {} first, which history does not have", record.name, first.msgid));
        return;
    };
    let expected = &history[start..];
    for (at, (seen, stored)) in record.seen.iter().zip(expected).enumerate() {
        if seen != stored {
            wrong.push(format!(
                "C3: {} saw {} {:?} as its {}th message, history has {} {:?} there; {} reconnects",
                record.name,
                seen.msgid,
                seen.text,
                at + 1,
                stored.msgid,
                stored.text,
                record.reconnects
            ));
            return;
        }
    }
    if record.seen.len() != expected.len() {
        wrong.push(format!(
            "C3: {} saw {} messages since it came, history has {}",
            record.name,
            record.seen.len(),
            expected.len()
        ));
    }
}

/// No session was lost, no gap told, no error shown.
fn sessions_kept(record: &Record, wrong: &mut Vec<String>) {
    let name = &record.name;
    wrong.extend(record.sessions_lost.iter().map(|lost| format!("{name} could not resume: {lost}")));
    wrong.extend(record.gaps.iter().map(|gap| format!("{name} was told of a gap: {gap}")));
    wrong.extend(record.complaints.iter().map(|complaint| format!("{name} was told: {complaint}")));
}

fn parts(msgid: &str) -> Option<(&str, u64)> {
    let (stream, position) = msgid.rsplit_once('-')?;
    Some((stream, position.parse().ok()?))
}

/// How much was proved, for people: messages acknowledged, deliveries seen, reconnects.
pub fn summary(records: &[Record]) -> String {
    let acknowledged: usize = records.iter().map(|record| record.acknowledged.len()).sum();
    let seen: usize = records.iter().map(|record| record.seen.len()).sum();
    let reconnects: usize = records.iter().map(|record| record.reconnects).sum();
    let slowest = records.iter().map(|record| record.slowest).max().unwrap_or_default();
    let names: BTreeSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
    format!(
        "{} clients, {acknowledged} messages acknowledged, {seen} seen, {reconnects} reconnects, \
         longest wait for an acknowledgement {:.1} s",
        names.len(),
        slowest.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(position: u64, text: &str) -> Seen {
        Seen { msgid: format!("2.0-{position}"), sender: "ann".into(), text: text.into() }
    }

    fn record(sent: &[(u64, &str, u64)], seen_by: &[Seen]) -> Record {
        let mut record = Record { name: "ann".into(), seen: seen_by.to_vec(), ..Record::default() };
        for (id, text, position) in sent {
            record.sent.insert(*id, (*text).to_owned());
            record.acknowledged.insert(*id, format!("2.0-{position}"));
        }
        record
    }

    #[test]
    fn all_is_well() {
        let history = [seen(3, "a"), seen(5, "b")];
        assert_eq!(check(&[record(&[(1, "a", 3), (2, "b", 5)], &history)], &history), Vec::<String>::new());
    }

    #[test]
    fn a_lost_message_is_found() {
        let history = [seen(3, "a")];
        let wrong = check(&[record(&[(1, "a", 3), (2, "b", 5)], &history)], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C1")), "{wrong:?}");
    }

    #[test]
    fn a_doubled_message_is_found() {
        let history = [seen(3, "a"), seen(5, "a")];
        let wrong = check(&[record(&[(1, "a", 3)], &history)], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C5")), "{wrong:?}");
    }

    #[test]
    fn a_hole_in_what_was_seen_is_found() {
        let history = [seen(3, "a"), seen(5, "b"), seen(6, "c")];
        let wrong = check(&[record(&[], &[seen(3, "a"), seen(6, "c")])], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C3")), "{wrong:?}");
    }

    #[test]
    fn an_end_that_is_missing_is_found() {
        let history = [seen(3, "a"), seen(5, "b")];
        let wrong = check(&[record(&[], &[seen(3, "a")])], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C3")), "{wrong:?}");
    }
}

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
    in_real_time(records, &mut wrong);
    wrong
}

/// C2: history is in the order of one shard's positions, each once; a store that comes back begins another lineage.
fn numbered_once(history: &[Seen], wrong: &mut Vec<String>) {
    let mut last: Option<Place<'_>> = None;
    for seen in history {
        let Some(place) = Place::of(&seen.msgid) else {
            wrong.push(format!("C2: {:?} is no msgid", seen.msgid));
            continue;
        };
        if let Some(last) = last
            && (place.shard != last.shard || place.lineage < last.lineage || place.position <= last.position)
        {
            wrong.push(format!("C2: {} follows {last:?} in history", seen.msgid));
        }
        last = Some(place);
    }
}

/// C4: who was acknowledged before another one began to send stands before it.
fn in_real_time(records: &[Record], wrong: &mut Vec<String>) {
    let mut sent = Vec::new();
    let mut acknowledged = Vec::new();
    for record in records {
        for (id, msgid) in &record.acknowledged {
            let (Some(times), Some(place)) = (record.times.get(id), Place::of(msgid)) else { continue };
            sent.push((times.sent, place.position, msgid));
            acknowledged.extend(times.acknowledged.map(|at| (at, place.position, msgid)));
        }
    }
    sent.sort_unstable();
    acknowledged.sort_unstable();
    let mut before = acknowledged.into_iter().peekable();
    let mut last: Option<(u64, &String)> = None;
    for (at, position, msgid) in sent {
        while let Some((_, position, msgid)) = before.next_if(|(acknowledged, ..)| *acknowledged < at) {
            last = last.max(Some((position, msgid)));
        }
        if let Some((last, earlier)) = last
            && last >= position
        {
            wrong.push(format!(
                "C4: {earlier} was acknowledged before {msgid} was sent, and stands behind it"
            ));
        }
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

/// C3: what a subscriber saw in a session is a slice of the history without a hole, in its order; sessions follow each
/// other, and the last one goes to the end.
fn contiguous(record: &Record, history: &[Seen], wrong: &mut Vec<String>) {
    let name = &record.name;
    let mut from = 0;
    for (at, run) in record.runs.iter().enumerate() {
        let Some(first) = run.first() else { continue };
        let Some(start) = history[from..].iter().position(|seen| seen.msgid == first.msgid) else {
            wrong.push(format!("C3: {name} saw {} first, which history does not have then", first.msgid));
            return;
        };
        let expected = &history[from + start..];
        for (at, seen) in run.iter().enumerate() {
            let stored = expected.get(at);
            if stored != Some(seen) {
                wrong.push(format!(
                    "C3: {name} saw {seen:?} as its {}th message, history has {stored:?} there; {} reconnects",
                    at + 1,
                    record.reconnects()
                ));
                return;
            }
        }
        if at + 1 == record.runs.len() && run.len() != expected.len() {
            wrong.push(format!(
                "C3: {name} saw {} messages since it came, history has {}; the next is {:?}",
                run.len(),
                expected.len(),
                expected.get(run.len())
            ));
        }
        from += start + run.len();
    }
    if from == 0 && !history.is_empty() {
        wrong.push(format!("C3: {name} saw nothing at all"));
    }
}

/// No session was lost, no gap told, no error shown.
fn sessions_kept(record: &Record, wrong: &mut Vec<String>) {
    let name = &record.name;
    wrong.extend(record.sessions_lost.iter().map(|lost| format!("{name} could not resume: {lost}")));
    wrong.extend(record.gaps.iter().map(|gap| format!("{name} was told of a gap: {gap}")));
    wrong.extend(record.complaints.iter().map(|complaint| format!("{name} was told: {complaint}")));
}

/// What a msgid says: `<shard>.<lineage>-<position>`.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    shard: &'a str,
    lineage: u64,
    position: u64,
}

impl<'a> Place<'a> {
    fn of(msgid: &'a str) -> Option<Self> {
        let (stream, position) = msgid.rsplit_once('-')?;
        let (shard, lineage) = stream.split_once('.')?;
        Some(Self { shard, lineage: lineage.parse().ok()?, position: position.parse().ok()? })
    }
}

/// How much was proved, for people: messages acknowledged, deliveries seen, reconnects.
pub fn summary(records: &[Record]) -> String {
    let acknowledged: usize = records.iter().map(|record| record.acknowledged.len()).sum();
    let seen: usize = records.iter().flat_map(|record| &record.runs).map(Vec::len).sum();
    let reconnects: usize = records.iter().map(Record::reconnects).sum();
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
        let mut record = Record { name: "ann".into(), runs: vec![seen_by.to_vec()], ..Record::default() };
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
    fn a_session_that_goes_back_is_found() {
        let history = [seen(3, "a"), seen(5, "b"), seen(6, "c")];
        let mut record = record(&[], &history[..2]);
        record.runs.push(history[2..].to_vec());
        assert_eq!(check(&[record.clone()], &history), Vec::<String>::new());
        record.runs[1] = history[1..].to_vec();
        let wrong = check(&[record], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C3")), "{wrong:?}");
    }

    #[test]
    fn an_order_against_time_is_found() {
        let history = [seen(3, "a"), seen(5, "b")];
        let mut record = Record { name: "ann".into(), runs: vec![history.to_vec()], ..Record::default() };
        for (id, text, position) in [(1, "b", 5), (2, "a", 3)] {
            record.send(id, text.into());
            record.acknowledge(id, &format!("2.0-{position}"));
        }
        let wrong = check(&[record], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C4")), "{wrong:?}");
    }

    #[test]
    fn a_lineage_may_follow_and_not_go_back() {
        let other = |position, text: &str| Seen { msgid: format!("2.7-{position}"), ..seen(position, text) };
        let history = [seen(3, "a"), other(5, "b")];
        assert_eq!(check(&[record(&[], &history)], &history), Vec::<String>::new());
        let history = [other(3, "a"), seen(5, "b")];
        let wrong = check(&[record(&[], &history)], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C2")), "{wrong:?}");
    }

    #[test]
    fn an_end_that_is_missing_is_found() {
        let history = [seen(3, "a"), seen(5, "b")];
        let wrong = check(&[record(&[], &[seen(3, "a")])], &history);
        assert!(wrong.iter().any(|line| line.starts_with("C3")), "{wrong:?}");
    }
}

//! The log of a lone node on the simulated disk.

use chat_state::{
    command::{ChannelCommand, Command, Message, MessageKind, Target},
    entry::Stamp,
    ids::{Incarnation, Lineage, MemberId, Position, UserId},
};

use super::*;
use crate::{
    disk::memory::{Loss, MemoryDisk},
    snapshot::{NewChunk, SnapshotMeta},
};

fn identity(shards: u16) -> Identity {
    Identity {
        member: MemberId(0xfeed),
        room: "lounge".to_owned(),
        shards,
        lineage: Lineage(0),
        cluster: None,
    }
}

fn options() -> LocalOptions {
    LocalOptions {
        identity: identity(2),
        segment_bytes: 4096,
        disk_reserve_bytes: 0,
        chore_reserve_bytes: 256,
    }
}

fn open(disk: &MemoryDisk) -> Result<(LocalLog, Recovered), OpenError> {
    LocalLog::open(Arc::new(disk.clone()), &options())
}

fn proposal(n: u64) -> Proposal {
    let message = Message {
        kind: MessageKind::Privmsg,
        prefix: "ann!a@host".into(),
        to_nick: String::new(),
        text: format!("{n} {}", "x".repeat(n as usize * 37 % 300)),
        tags: String::new(),
        id: Some(n),
    };
    let target = Target::User { user: UserId(n) };
    Proposal {
        producer: Stamp { incarnation: Incarnation(1), sequence: n },
        origin: None,
        dir_at: Position(n),
        command: Command::Channel(ChannelCommand::Message { target, message: message.into() }),
    }
}

fn commit(log: &mut LocalLog, n: u64) -> Result<Vec<(ShardId, Arc<Entry>)>, CommitError> {
    let batches = (0..=2).map(|shard| (ShardId(shard), vec![proposal(n), proposal(n + 1)])).collect();
    log.commit(batches, Space::Ordinary, 1000 + n)
}

fn snapshot(shard: u16, index: u64) -> NewSnapshot {
    let meta = SnapshotMeta {
        shard: ShardId(shard),
        lineage: Lineage(0),
        index: Index(index),
        position: Position(2 * index),
    };
    let chunk = NewChunk { first: Position(1), last: Position(index), bytes: vec![index as u8; 100] };
    NewSnapshot {
        meta,
        state: vec![index as u8; 900],
        kept_chunks: Vec::new(),
        new_chunks: vec![chunk],
        place: Vec::new(),
    }
}

/// What a shard has: entries up to the snapshot, and the entries after it.
fn check_whole(recovered: Recovered, acknowledged: u64, store: &SnapshotStore, context: &str) {
    let mut last = BTreeMap::new();
    for (shard, snapshot) in &recovered.snapshots {
        let index = snapshot.as_ref().map_or(0, |snapshot| {
            let meta = snapshot.meta;
            assert_eq!((meta.shard, snapshot.state.len()), (*shard, 900), "{context}");
            assert_eq!(snapshot.state, vec![meta.index.0 as u8; 900], "{context}");
            for chunk in &snapshot.chunks {
                let bytes =
                    store.read_chunk(*shard, chunk).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(bytes, vec![meta.index.0 as u8; 100], "{context}");
            }
            meta.index.0
        });
        last.insert(*shard, index);
    }
    for item in recovered.entries {
        let (shard, entry) = item.unwrap_or_else(|error| panic!("{context}: {error}"));
        let before = last.get_mut(&shard).expect("a shard of the room");
        assert_eq!(entry.index.0, *before + 1, "{context}: shard {shard}");
        assert_eq!(entry.proposals, [proposal(entry.index.0), proposal(entry.index.0 + 1)], "{context}");
        assert_eq!(entry.time_ms, 1000 + entry.index.0);
        *before = entry.index.0;
    }
    for (shard, last) in last {
        assert!(
            last >= acknowledged,
            "{context}: shard {shard} ends at {last}, {acknowledged} was acknowledged"
        );
    }
}

/// Commits and snapshots in turn, until the power goes; returns the last index that was acknowledged.
fn run(log: &mut LocalLog, from: u64, to: u64) -> u64 {
    for n in from..=to {
        if commit(log, n).is_err() {
            return n - 1;
        }
        // The shards at different times, so that they lag behind each other.
        let shard = (n % 4) as u16;
        if shard <= 2 && log.install_snapshot(&snapshot(shard, n - 1)).is_err() {
            return n;
        }
    }
    to
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let disk = MemoryDisk::new();
    let (mut log, recovered) = open(&disk).expect("a new log");
    assert_eq!(recovered.snapshots.len(), 3);
    for n in 1..=20 {
        let entries = commit(&mut log, n).expect("space");
        assert_eq!(entries.len(), 3);
        assert!(entries.iter().all(|(_, entry)| entry.index == Index(n)));
    }
    assert_eq!(log.pinning(), Some(ShardId(0)));
    disk.crash(Loss::All);
    let (log, recovered) = open(&disk).expect("whole");
    check_whole(recovered, 20, log.snapshots(), "reopened");
}

#[test]
fn one_sync_for_all_shards() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let before = disk.syncs();
    commit(&mut log, 1).expect("space");
    assert_eq!(disk.syncs() - before, 1);
}

#[test]
fn a_shard_named_twice_gets_two_entries() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    let batches = vec![(ShardId(1), vec![proposal(1)]), (ShardId(1), vec![proposal(2)])];
    let entries = log.commit(batches, Space::Ordinary, 5).expect("space");
    assert_eq!(entries.iter().map(|(_, entry)| entry.index.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn wherever_the_power_goes_snapshots_and_entries_meet() {
    let clean = MemoryDisk::new();
    let (mut log, _) = open(&clean).expect("a new log");
    let begun = clean.operations();
    assert_eq!(run(&mut log, 1, 16), 16);
    let operations = clean.operations() - begun;
    assert!(operations > 150, "{operations}");
    for cut in 0..operations {
        for loss in [Loss::All, Loss::Nothing, Loss::TornAt(30), Loss::Random(cut), Loss::Random(cut + 7777)]
        {
            let disk = MemoryDisk::new();
            let (mut log, _) = open(&disk).expect("a new log");
            disk.cut_power_after(cut);
            let acknowledged = run(&mut log, 1, 16);
            disk.crash(loss);
            let context = format!("cut {cut}, {loss:?}");
            let (mut log, recovered) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            check_whole(recovered, acknowledged, log.snapshots(), &context);
            // The shards may have come back at different entries; each goes on from its own.
            let next = (0..=2).map(|shard| {
                let n = log.last(ShardId(shard)).0 + 1;
                (ShardId(shard), vec![proposal(n), proposal(n + 1)])
            });
            log.commit(next.collect(), Space::Ordinary, 1).expect("the log goes on");
        }
    }
}

#[test]
fn the_power_may_go_while_opening() {
    let first = MemoryDisk::new();
    let (mut log, _) = open(&first).expect("a new log");
    run(&mut log, 1, 9);
    first.cut_power_after(1);
    commit(&mut log, 10).expect_err("the power went");
    first.crash(Loss::TornAt(500));
    for cut in 0..40 {
        let disk = first.copy();
        disk.cut_power_after(cut);
        let opened = open(&disk).is_ok();
        disk.crash(Loss::Random(cut));
        let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        check_whole(recovered, 9, log.snapshots(), &format!("cut {cut} while opening"));
        if opened {
            assert!(cut > 0);
            return;
        }
    }
    panic!("opening never ended");
}

#[test]
fn the_power_may_go_while_a_directory_is_made() {
    let clean = MemoryDisk::new();
    drop(open(&clean).expect("a new log"));
    for cut in 0..clean.operations() {
        for loss in [Loss::All, Loss::Nothing, Loss::Random(cut), Loss::Random(cut + 55)] {
            let disk = MemoryDisk::new();
            disk.cut_power_after(cut);
            let _ = open(&disk);
            disk.crash(loss);
            let (mut log, _) = open(&disk).unwrap_or_else(|error| panic!("cut {cut}, {loss:?}: {error}"));
            commit(&mut log, 1).expect("space");
        }
    }
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_older_one_while_the_log_covers_it() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    for n in 1..=4 {
        commit(&mut log, n).expect("space");
    }
    log.install_snapshot(&snapshot(1, 2)).expect("stored");
    log.install_snapshot(&snapshot(1, 4)).expect("stored");
    drop(log);
    let both = disk.copy();
    disk.flip_bit("snapshot-00001-00000000000000000004", 4000);
    let (mut log, recovered) = open(&disk).expect("the older one and the log make up for it");
    assert_eq!(recovered.passed_over.len(), 1);
    assert_eq!(recovered.snapshots[&ShardId(1)].as_ref().map(|snapshot| snapshot.meta.index), Some(Index(2)));
    check_whole(recovered, 4, log.snapshots(), "older snapshot");
    log.install_snapshot(&snapshot(1, 4)).expect("stored again");

    both.flip_bit("snapshot-00001-00000000000000000004", 4000);
    both.flip_bit("snapshot-00001-00000000000000000002", 4000);
    assert!(matches!(open(&both), Err(OpenError::Snapshot(SnapshotError::NoneUsable { .. }))));
}

#[test]
fn a_damaged_snapshot_is_refused_when_the_log_has_moved_on() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    for n in 1..=30 {
        commit(&mut log, n).expect("space");
        if n == 2 || n == 30 {
            for shard in 0..=2 {
                log.install_snapshot(&snapshot(shard, n)).expect("stored");
            }
        }
    }
    assert!(log.oldest_segment() > 1);
    drop(log);
    disk.flip_bit("snapshot-00001-00000000000000000030", 4000);
    match open(&disk) {
        Err(error @ OpenError::Gap { shard: ShardId(1), .. }) => {
            assert!(error.to_string().contains("snapshot-00001-00000000000000000030 is damaged"), "{error}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("entries are missing"),
    }
}

#[test]
fn old_snapshots_and_chunks_are_removed_kept_chunks_stay() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    for n in 1..=6 {
        commit(&mut log, n).expect("space");
    }
    let first = log.install_snapshot(&snapshot(1, 1)).expect("stored");
    for index in 2..=6 {
        let kept_chunks = first.chunks.clone();
        log.install_snapshot(&NewSnapshot { kept_chunks, ..snapshot(1, index) }).expect("stored");
    }
    let names: Vec<_> = Disk::list(&disk).expect("files").into_iter().map(|file| file.name).collect();
    let count = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((count("snapshot-"), count("chunk-")), (2, 3), "{names:?}");
    assert_eq!(log.snapshots().read_chunk(ShardId(1), &first.chunks[0]).expect("kept"), vec![1; 100]);
    let old = NewSnapshot { kept_chunks: Vec::new(), ..snapshot(1, 6) };
    assert!(matches!(
        log.install_snapshot(&old),
        Err(InstallError::Snapshot(SnapshotError::NotNewer { .. }))
    ));
    let future = log.install_snapshot(&snapshot(1, 7));
    assert!(matches!(future, Err(InstallError::Snapshot(SnapshotError::NotYet { .. }))));
}

#[test]
fn a_snapshot_without_space_leaves_the_previous_one_and_no_litter() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    commit(&mut log, 1).expect("space");
    commit(&mut log, 2).expect("space");
    log.install_snapshot(&snapshot(1, 1)).expect("stored");
    let before = Disk::list(&disk).expect("files");
    let used: u64 = before.iter().map(|file| file.length).sum();
    disk.set_capacity(Some(used + 500));
    let full = log.install_snapshot(&snapshot(1, 2));
    assert!(matches!(full, Err(InstallError::Snapshot(SnapshotError::Full { .. }))));
    let after = Disk::list(&disk).expect("files");
    let new: Vec<_> = after.iter().filter(|file| !before.contains(file)).collect();
    assert!(new.iter().all(|file| file.name.starts_with("chunk-")), "{new:?}");
    disk.set_capacity(None);
    log.install_snapshot(&snapshot(1, 2)).expect("space again");
}

#[test]
fn an_end_that_was_lost_behind_a_snapshot_is_noticed() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    commit(&mut log, 1).expect("space");
    let old = disk.read("wal-0000000000000001").expect("a segment");
    commit(&mut log, 2).expect("space");
    log.install_snapshot(&snapshot(1, 2)).expect("stored");
    drop(log);
    disk.replace("wal-0000000000000001", old);
    assert!(matches!(open(&disk), Err(OpenError::LostEnd { shard: ShardId(1), .. })));
}

#[test]
fn a_directory_is_for_one_process_one_room_and_one_number_of_shards() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk).expect("a new log");
    assert!(matches!(open(&disk), Err(OpenError::InUse { .. })));
    drop(log);
    let mut other = options();
    other.identity.shards = 4;
    let error = LocalLog::open(Arc::new(disk.clone()), &other).err().expect("refused").to_string();
    assert!(error.contains("made with 2 shards, 4 are configured"), "{error}");
    let mut other = options();
    other.identity.room = "kitchen".to_owned();
    let error = LocalLog::open(Arc::new(disk.clone()), &other).err().expect("refused").to_string();
    assert!(error.contains("belongs to the room \"lounge\""), "{error}");
    let mut renewed = options();
    renewed.identity.member = MemberId(1);
    let (_, recovered) = LocalLog::open(Arc::new(disk.clone()), &renewed).expect("the same room");
    assert_eq!(recovered.identity.member, MemberId(0xfeed), "the directory's own number stays");
}

#[test]
fn a_lost_or_damaged_identity_is_refused() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    commit(&mut log, 1).expect("space");
    drop(log);
    let bits = disk.read("identity").expect("there").len() as u64 * 8;
    for bit in 0..bits {
        let disk = disk.copy();
        disk.flip_bit("identity", bit);
        assert!(open(&disk).is_err(), "bit {bit}");
    }
    disk.remove("identity").expect("there");
    let error = open(&disk).err().expect("refused").to_string();
    assert!(error.contains("identity"), "{error}");
}

#[test]
fn every_bit_flip_in_a_snapshot_is_noticed() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).expect("a new log");
    commit(&mut log, 1).expect("space");
    log.install_snapshot(&snapshot(0, 1)).expect("stored");
    drop(log);
    let name = "snapshot-00000-00000000000000000001";
    for bit in 0..disk.read(name).expect("there").len() as u64 * 8 {
        let disk = disk.copy();
        disk.flip_bit(name, bit);
        assert!(open(&disk).is_err(), "bit {bit}");
    }
}

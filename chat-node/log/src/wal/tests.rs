//! The write-ahead log on the simulated disk: crashes, damage, full disks.

use std::sync::Arc;

mod space;

use super::{format::SegmentHeader, *};
use crate::disk::memory::{Loss, MemoryDisk};

const LOG_ID: u64 = 0x1234_5678_9abc_def0;

fn options() -> WalOptions {
    WalOptions { log_id: LOG_ID, segment_bytes: 4096, disk_reserve_bytes: 0, chore_reserve_bytes: 256 }
}

fn create(disk: &MemoryDisk) -> Wal {
    Wal::open(Arc::new(disk.clone()), options(), Expect::Nothing).expect("a new log").0
}

fn reopen(disk: &MemoryDisk) -> Result<(Wal, Report), WalError> {
    Wal::open(Arc::new(disk.clone()), options(), Expect::Log)
}

fn entry(group: u16, index: u64, payload: &[u8]) -> OwnedRecord {
    OwnedRecord { group, kind: Kind::Entry, term: 3, index, payload: payload.to_vec() }
}

fn batch(records: &[OwnedRecord]) -> Batch {
    let mut batch = Batch::default();
    for record in records {
        let payload = |out: &mut Vec<u8>| out.extend_from_slice(&record.payload);
        batch.push(record.group, record.kind, record.term, record.index, payload);
    }
    batch
}

fn append(wal: &mut Wal, records: &[OwnedRecord]) -> Result<(), AppendError> {
    wal.append(&mut batch(records), Space::Ordinary)
}

/// Everything but marks.
fn contents(wal: &Wal) -> Vec<OwnedRecord> {
    let records = wal.reader(wal.start()).map(|record| record.expect("what was recovered can be read"));
    records.filter(|record| record.kind != Kind::Mark).collect()
}

/// Batches of three groups, of sizes from nothing to several sectors.
fn script(batches: u64) -> Vec<Vec<OwnedRecord>> {
    (1..=batches)
        .map(|n| {
            (0..3)
                .map(|group| entry(group, n, &vec![n as u8; (n as usize * 131 * usize::from(group)) % 1500]))
                .collect()
        })
        .collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn what_was_appended_comes_back_in_order_over_many_segments() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    for records in script(30) {
        append(&mut wal, &records).expect("space");
    }
    assert!(wal.segments() > 5, "the script fills several segments, not {}", wal.segments());
    let expected = script(30).concat();
    assert_eq!(contents(&wal), expected);
    disk.crash(Loss::All);
    let (wal, report) = reopen(&disk).expect("a crash after the last sync loses nothing");
    assert_eq!(report.cut_bytes, 0);
    assert_eq!(contents(&wal), expected);
}

#[test]
fn a_batch_torn_at_any_byte_is_cut_and_nothing_before_it() {
    let before = MemoryDisk::new();
    let mut wal = create(&before);
    for records in &script(3)[..2] {
        append(&mut wal, records).expect("space");
    }
    before.cut_power_after(1);
    let last = &script(3)[2];
    assert!(matches!(append(&mut wal, last), Err(AppendError::Fatal(_))), "written, but not synced");
    let mut kept_counts = Vec::new();
    for torn_at in 0..=batch(last).len() {
        let disk = before.copy();
        // The copy knows the un-synced write.
        disk.crash(Loss::TornAt(torn_at));
        let (mut wal, _) = reopen(&disk).expect("a torn write is no damage");
        let found = contents(&wal);
        let whole = script(3).concat();
        assert_eq!(found, whole[..found.len()], "torn at {torn_at}");
        assert!(found.len() >= 6, "torn at {torn_at}: only {} records", found.len());
        kept_counts.push(found.len());
        // And the log goes on behind it.
        append(&mut wal, &[entry(9, 1, b"next")]).expect("space");
        disk.crash(Loss::All);
        let (wal, report) = reopen(&disk).expect("the tail was settled");
        assert_eq!(report.cut_bytes, 0);
        assert_eq!(contents(&wal).len(), found.len() + 1);
    }
    kept_counts.dedup();
    assert_eq!(kept_counts, [6, 7, 8, 9], "record by record");
}

#[test]
fn sectors_of_the_last_batch_may_arrive_in_any_order() {
    let before = MemoryDisk::new();
    let mut wal = create(&before);
    append(&mut wal, &[entry(1, 1, &[1; 700])]).expect("space");
    before.cut_power_after(1);
    let last = [entry(1, 2, &[2; 300]), entry(2, 1, &[2; 600]), entry(3, 1, &[3; 300])];
    append(&mut wal, &last).expect_err("the power went");
    let mut cut = 0;
    for seed in 0..300 {
        let disk = before.copy();
        disk.crash(Loss::Random(seed));
        let (wal, report) = reopen(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(contents(&wal)[0], entry(1, 1, &[1; 700]), "seed {seed}");
        cut += u64::from(report.cut_bytes > 0);
    }
    assert!(cut > 100, "the loss was seen {cut} times");
}

#[test]
fn every_bit_flip_is_refused_or_harmless() {
    let before = MemoryDisk::new();
    let mut wal = create(&before);
    for records in script(12) {
        append(&mut wal, &records).expect("space");
    }
    wal.mark().expect("space");
    let expected = script(12).concat();
    let files: Vec<_> = Disk::list(&before).expect("files");
    let mut random = Random(7);
    let mut refused = 0;
    for _ in 0..1000 {
        let disk = before.copy();
        let file = &files[random.below(files.len() as u64) as usize];
        let bit = random.below(file.length * 8);
        disk.flip_bit(&file.name, bit);
        match reopen(&disk) {
            Ok((wal, _)) => assert_eq!(contents(&wal), expected, "{} bit {bit}", file.name),
            Err(WalError::Damaged { .. } | WalError::Foreign { .. } | WalError::Version { .. }) => {
                refused += 1;
            }
            Err(other) => panic!("{} bit {bit}: {other}", file.name),
        }
    }
    assert!(refused > 500, "most of the bytes matter, {refused} of 1000 were refused");
}

#[test]
fn a_flip_in_a_record_that_others_follow_names_file_and_offset() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    append(&mut wal, &[entry(1, 1, b"first")]).expect("space");
    let place = wal.end();
    append(&mut wal, &[entry(1, 2, b"second")]).expect("space");
    append(&mut wal, &[entry(1, 3, b"third")]).expect("space");
    disk.flip_bit(&segment_name(1), (place.offset + 33) * 8);
    match reopen(&disk) {
        Err(WalError::Damaged { file, offset, .. }) => {
            assert_eq!((file, offset), (segment_name(1), place.offset));
        }
        other => panic!("taken for a torn tail: {:?}", other.map(|(_, report)| report)),
    }
}

#[test]
fn after_a_mark_even_the_last_record_is_known_to_have_been_whole() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    append(&mut wal, &[entry(1, 1, b"first")]).expect("space");
    let place = wal.end();
    append(&mut wal, &[entry(1, 2, b"second")]).expect("space");
    let without = disk.copy();
    wal.mark().expect("space");
    for disk in [&disk, &without] {
        disk.flip_bit(&segment_name(1), (place.offset + 33) * 8);
    }
    assert!(matches!(reopen(&disk), Err(WalError::Damaged { offset, .. }) if offset == place.offset));
    let (wal, report) = reopen(&without).expect("not to be told from a torn write");
    assert!(report.cut_bytes > 0);
    assert_eq!(contents(&wal).len(), 1);
}

#[test]
fn a_cut_a_lost_and_a_foreign_file_are_refused() {
    let before = MemoryDisk::new();
    let mut wal = create(&before);
    for records in script(12) {
        append(&mut wal, &records).expect("space");
    }
    let names: Vec<_> = Disk::list(&before).expect("files").into_iter().map(|file| file.name).collect();
    let last = names.last().expect("segments").clone();

    for name in [&names[1], &last] {
        for keep in [64, 100, 2000, 4095] {
            let disk = before.copy();
            let mut bytes = disk.read(name).expect("a segment");
            bytes.truncate(keep);
            disk.replace(name, bytes);
            assert!(matches!(reopen(&disk), Err(WalError::Cut { .. })), "{name} cut to {keep}");
        }
    }
    let disk = before.copy();
    disk.remove(&names[1]).expect("there");
    assert!(matches!(reopen(&disk), Err(WalError::Missing { file }) if file == names[1]));

    let other = WalOptions { log_id: 1, ..options() };
    let error = Wal::open(Arc::new(before.copy()), other, Expect::Log).err();
    assert!(matches!(error, Some(WalError::Foreign { .. })), "{error:?}");
    let error = Wal::open(Arc::new(before.copy()), options(), Expect::Nothing).err();
    assert!(matches!(error, Some(WalError::Unexpected { .. })), "{error:?}");
}

#[test]
fn a_rotten_header_does_not_pass_for_one_that_was_never_finished() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    let mut index = 0;
    while wal.segments() < 3 {
        index += 1;
        append(&mut wal, &[entry(1, index, &[1; 300])]).expect("space");
    }
    // One batch in the newest segment, acknowledged; no mark behind it.
    let name = segment_name(wal.end().sequence);
    for bit in (0..64 * 8).step_by(5) {
        let disk = disk.copy();
        disk.flip_bit(&name, bit);
        match reopen(&disk) {
            Ok((wal, _)) => assert_eq!(wal.group(1).expect("known").last, index, "bit {bit}"),
            Err(error) => assert!(matches!(error, WalError::Damaged { .. }), "bit {bit}: {error}"),
        }
    }
}

#[test]
fn a_segment_that_goes_on_behind_the_end_that_its_successor_knows_is_refused() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    append(&mut wal, &[entry(1, 1, &[1; 300])]).expect("space");
    let early = wal.end();
    for index in 2..20 {
        append(&mut wal, &[entry(1, index, &[1; 300])]).expect("space");
    }
    let name = segment_name(2);
    let mut bytes = disk.read(&name).expect("a second segment");
    let header = SegmentHeader::decode(&bytes).expect("whole");
    let lying = SegmentHeader { previous_end: early.offset, ..header };
    bytes[..SEGMENT_HEADER].copy_from_slice(&lying.encode());
    disk.replace(&name, bytes);
    let error = reopen(&disk).err();
    assert!(matches!(&error, Some(WalError::Damaged { file, .. }) if *file == segment_name(1)), "{error:?}");
}

#[test]
fn a_reader_goes_on_from_the_end_of_a_segment_that_was_let_go_of() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    append(&mut wal, &[entry(1, 1, &[1; 3000])]).expect("space");
    let place = wal.end();
    append(&mut wal, &[entry(1, 2, &[2; 3000])]).expect("space");
    wal.release(1, 1).expect("removal");
    assert!(wal.start().sequence > place.sequence);
    let indexes: Vec<_> = wal.reader(place).map(|record| record.expect("readable").index).collect();
    assert_eq!(indexes.last(), Some(&2));
}

/// Runs the script until the power goes; returns how many batches were acknowledged.
fn run_until_cut(disk: &MemoryDisk, wal: &mut Wal, batches: &[Vec<OwnedRecord>]) -> usize {
    for (n, records) in batches.iter().enumerate() {
        if append(wal, records).is_err() {
            return n;
        }
        // Two groups are snapshotted often, the third late: segments come and go.
        let index = n as u64 + 1;
        for (group, lag) in [(0, 1), (1, 2), (2, 6)] {
            if wal.release(group, index.saturating_sub(lag)).is_err() {
                return n + 1;
            }
        }
    }
    assert!(disk.operations() > 0);
    batches.len()
}

#[test]
fn wherever_the_power_goes_everything_acknowledged_is_there() {
    let batches = script(24);
    let clean = MemoryDisk::new();
    let mut wal = create(&clean);
    let begun = clean.operations();
    run_until_cut(&clean, &mut wal, &batches);
    let operations = clean.operations() - begun;
    assert!(operations > 60, "{operations}");
    let losses =
        [Loss::All, Loss::Nothing, Loss::TornAt(40), Loss::Random(1), Loss::Random(2), Loss::Random(3)];
    for cut in 0..operations {
        for loss in losses {
            let disk = MemoryDisk::new();
            let mut wal = create(&disk);
            disk.cut_power_after(cut);
            let acknowledged = run_until_cut(&disk, &mut wal, &batches);
            disk.crash(loss);
            let (mut wal, _) = reopen(&disk).unwrap_or_else(|error| panic!("cut {cut}, {loss:?}: {error}"));
            let found = contents(&wal);
            for group in 0..3 {
                let of_group = |record: &&OwnedRecord| record.group == group;
                let indexes: Vec<_> = found.iter().filter(of_group).map(|record| record.index).collect();
                assert!(
                    indexes.windows(2).all(|pair| pair[1] == pair[0] + 1),
                    "cut {cut}, {loss:?}: {indexes:?}"
                );
                // No snapshot ever covered the newest entry, so it must be there, whichever segments went.
                if let Some(newest) = acknowledged.checked_sub(1) {
                    let newest = &batches[newest][usize::from(group)];
                    assert!(found.contains(newest), "cut {cut}, {loss:?}: {} is gone", newest.index);
                }
            }
            append(&mut wal, &[entry(9, 1, b"next")]).expect("the log goes on");
        }
    }
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_made_durable_before_it_is_read() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    disk.cut_power_after(1);
    append(&mut wal, &[entry(1, 1, b"written, not synced")]).expect_err("ended before the sync");
    disk.kill_process();
    let (wal, _) = reopen(&disk).expect("whole");
    assert_eq!(contents(&wal).len(), 1, "the next process sees it, and acts upon it");
    disk.crash(Loss::All);
    assert_eq!(contents(&reopen(&disk).expect("whole").0).len(), 1, "it was acted upon");
}

#[test]
fn after_a_failed_sync_nothing_is_taken_any_more() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    append(&mut wal, &[entry(1, 1, b"kept")]).expect("space");
    disk.fail_syncs();
    assert!(matches!(append(&mut wal, &[entry(1, 2, b"unknown")]), Err(AppendError::Fatal(_))));
    let syncs = disk.syncs();
    let again = append(&mut wal, &[entry(1, 2, b"unknown")]);
    assert!(matches!(again, Err(AppendError::Fatal(WalError::Broken))));
    assert!(matches!(wal.probe_space(1), Err(AppendError::Fatal(_))));
    assert_eq!(disk.syncs(), syncs, "a failed sync is not tried again");
    disk.crash(Loss::All);
    assert_eq!(contents(&reopen(&disk).expect("whole").0), [entry(1, 1, b"kept")]);
}

#[test]
fn the_group_that_begins_first_in_the_oldest_segment_pins_it() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    append(&mut wal, &[entry(5, 1, b"oldest")]).expect("space");
    assert_eq!(wal.pinning_group(), None, "the segment in use is not pinned by anybody");
    for records in script(8) {
        append(&mut wal, &records).expect("space");
    }
    let segments = wal.segments();
    assert_eq!(wal.pinning_group(), Some(5));
    wal.release(5, 1).expect("removal");
    assert_eq!((wal.pinning_group(), wal.segments()), (Some(0), segments));
    for group in 0..3 {
        wal.release(group, 8).expect("removal");
    }
    assert_eq!((wal.pinning_group(), wal.segments()), (None, 1));
    assert_eq!(wal.group(0).expect("known").last, 8);
}

#[test]
fn votes_outlive_the_segments_they_were_written_to() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    let vote = |term, payload: &[u8]| OwnedRecord {
        group: 1,
        kind: Kind::Vote,
        term,
        index: 0,
        payload: payload.to_vec(),
    };
    append(&mut wal, &[vote(4, b"old"), vote(5, b"for seven")]).expect("space");
    let committed =
        OwnedRecord { group: 1, kind: Kind::Committed, term: 5, index: 2, payload: b"c".to_vec() };
    append(&mut wal, &[entry(1, 1, b""), entry(1, 2, b""), committed]).expect("space");
    let purge = OwnedRecord { group: 1, kind: Kind::Purge, term: 5, index: 2, payload: b"p".to_vec() };
    append(&mut wal, std::slice::from_ref(&purge)).expect("space");
    for index in 3..80 {
        append(&mut wal, &[entry(1, index, &[0; 200])]).expect("space");
        wal.release(1, index).expect("removal");
    }
    assert!(wal.start().sequence > 1);
    disk.crash(Loss::All);
    let (wal, _) = reopen(&disk).expect("whole");
    let group = wal.group(1).expect("known");
    assert_eq!(group.vote, Some(Kept { term: 5, index: 0, payload: b"for seven".to_vec() }));
    assert_eq!(group.committed.as_ref().map(|kept| kept.index), Some(2));
    assert_eq!(group.purged.as_ref().map(|kept| kept.payload.as_slice()), Some(b"p".as_slice()));
    assert_eq!(group.last, 79);
}

#[test]
fn a_truncation_makes_way_for_other_entries_of_the_same_numbers() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    let truncate = OwnedRecord { group: 1, kind: Kind::Truncate, term: 0, index: 1, payload: Vec::new() };
    append(&mut wal, &[entry(1, 1, b"a"), entry(1, 2, b"b"), entry(1, 3, b"c")]).expect("space");
    append(&mut wal, &[truncate, entry(1, 2, b"B")]).expect("space");
    disk.crash(Loss::All);
    let (wal, _) = reopen(&disk).expect("whole");
    assert_eq!(wal.group(1).expect("known").last, 2);
    assert_eq!(contents(&wal).last(), Some(&entry(1, 2, b"B")));
}

#[test]
fn a_log_whose_making_was_interrupted_is_made_anew() {
    let clean = MemoryDisk::new();
    create(&clean);
    for cut in 0..clean.operations() {
        for loss in [Loss::All, Loss::Nothing, Loss::Random(cut), Loss::Random(cut + 99)] {
            let disk = MemoryDisk::new();
            disk.cut_power_after(cut);
            assert!(Wal::open(Arc::new(disk.clone()), options(), Expect::Nothing).is_err());
            disk.crash(loss);
            let other = WalOptions { log_id: 77, ..options() };
            let opened = Wal::open(Arc::new(disk.clone()), other, Expect::Nothing);
            let (mut wal, _) = opened.unwrap_or_else(|error| panic!("cut {cut}, {loss:?}: {error}"));
            append(&mut wal, &[entry(1, 1, b"first")]).expect("space");
        }
    }
}

//! Full disks, and small ones.

use super::*;

#[test]
fn a_full_disk_refuses_a_batch_as_a_whole_and_recovers() {
    let disk = MemoryDisk::new();
    let mut wal = create(&disk);
    append(&mut wal, &[entry(1, 1, b"kept")]).expect("space");
    // A file system that cannot keep space: half of the batch gets into the file.
    disk.fail_writes_full(true);
    let refused = [entry(1, 2, &[7; 500]), entry(2, 1, &[8; 500])];
    assert!(matches!(append(&mut wal, &refused), Err(AppendError::Full)));
    let crashed = disk.copy();
    for loss in [Loss::All, Loss::Nothing].into_iter().chain((0..40).map(Loss::Random)) {
        let disk = crashed.copy();
        disk.crash(loss);
        let (wal, report) = reopen(&disk).expect("nothing is torn");
        assert_eq!(contents(&wal), [entry(1, 1, b"kept")]);
        assert_eq!(report.cut_bytes, 0, "{loss:?}: a part of the refused batch came back");
    }
    disk.fail_writes_full(false);
    wal.probe_space(1000).expect("there is space again");
    append(&mut wal, &[entry(1, 2, b"other")]).expect("space");
    assert_eq!(contents(&wal), [entry(1, 1, b"kept"), entry(1, 2, b"other")]);
}

#[test]
fn chores_go_on_for_a_while_when_no_segment_can_be_made() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(3 * 4096));
    let mut wal = Wal::open(
        Arc::new(disk.clone()),
        WalOptions { disk_reserve_bytes: 4096, ..options() },
        Expect::Nothing,
    )
    .expect("a new log")
    .0;
    let mut index = 0;
    let refused = loop {
        index += 1;
        if let Err(error) = append(&mut wal, &[entry(1, index, &[1; 100])]) {
            break error;
        }
        assert!(index < 100, "the disk never filled");
    };
    assert!(matches!(refused, AppendError::Full));
    assert_eq!(wal.bytes(), 2 * 4096, "the reserve of the disk was left");
    wal.append(&mut batch(&[entry(1, index, &[2; 100])]), Space::Reserved).expect("chores have space");
    assert!(matches!(wal.probe_space(100), Err(AppendError::Full)));
    // A snapshot lets go of the first segment: its space is a new one.
    wal.release(1, index - 1).expect("removal");
    wal.probe_space(100).expect("space again");
    append(&mut wal, &[entry(1, index + 1, &[3; 100])]).expect("space again");
    disk.crash(Loss::All);
    let options = WalOptions { disk_reserve_bytes: 4096, ..options() };
    let (wal, _) = Wal::open(Arc::new(disk.clone()), options, Expect::Log).expect("whole");
    assert_eq!(wal.group(1).map(|group| group.last), Some(index + 1));
}

/// With the sizes that a node has. Snapshots let go of everything as soon as a segment is finished.
#[test]
fn a_small_disk_is_written_over_again_and_again() {
    for megabytes in [4_u64, 16, 64, 130] {
        let capacity = megabytes << 20;
        let disk = MemoryDisk::new();
        disk.set_capacity(Some(capacity));
        let (mut wal, _) =
            Wal::open(Arc::new(disk.clone()), WalOptions::new(LOG_ID), Expect::Nothing).expect("a new log");
        let payload = vec![7; usize::try_from(capacity / 100).expect("fits")];
        for index in 1..=200 {
            append(&mut wal, &[entry(1, index, &payload)]).unwrap_or_else(|error| {
                panic!("{megabytes} MiB, after {index} % with {} segments: {error}", wal.segments())
            });
            if wal.segments() > 1 {
                wal.release(1, index).expect("removal");
            }
        }
    }
}

#[test]
fn space_that_others_took_and_gave_back_is_used() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(64 << 20));
    let (mut wal, _) =
        Wal::open(Arc::new(disk.clone()), WalOptions::new(LOG_ID), Expect::Nothing).expect("a new log");
    let mut index = 0;
    let mut fill = |wal: &mut Wal| loop {
        if let Err(error) = append(wal, &[entry(1, index + 1, &[7; 1 << 20])]) {
            assert!(matches!(error, AppendError::Full));
            break index;
        }
        index += 1;
    };
    // The volume is made as small as what is in it.
    disk.set_capacity(Some(wal.bytes()));
    fill(&mut wal);
    assert!(matches!(wal.probe_space(1 << 20), Err(AppendError::Full)));
    disk.set_capacity(Some(64 << 20));
    wal.probe_space(1 << 20).expect("space again");
    let last = fill(&mut wal);
    assert!((32..48).contains(&last), "a quarter is left for snapshots: {last} MiB were taken");
}

#[test]
fn a_disk_that_is_too_small_is_refused_with_the_size_it_needs() {
    let disk = MemoryDisk::new();
    disk.set_capacity(Some(100 << 10));
    let opened = Wal::open(Arc::new(disk.clone()), WalOptions::new(LOG_ID), Expect::Nothing);
    let needed = match opened {
        Err(WalError::NoSpace { needed }) => needed,
        other => panic!("{:?}", other.map(|(_, report)| report)),
    };
    disk.set_capacity(Some(needed));
    Wal::open(Arc::new(disk.clone()), WalOptions::new(LOG_ID), Expect::Nothing).expect("as it said");
}

//! Snapshots from node to node, when something comes between.

use std::sync::{Arc, Mutex};

use chat_log::{
    disk::memory::MemoryDisk,
    snapshot::{NewChunk, NewSnapshot, SnapshotMeta, SnapshotStore},
};
use chat_raft::{
    machine::Place,
    messages::{Answer, Request},
    record::log_id,
    transfer::{self, Arrivals},
    types::{StoredMembership, Vote},
};
use chat_state::ids::{Index, Lineage, MemberId, Position, ShardId};
use openraft_rt_tokio::TokioRuntime;

const SHARD: ShardId = ShardId(1);
const LEADER: MemberId = MemberId(1);

fn store() -> SnapshotStore {
    SnapshotStore::new(Arc::new(MemoryDisk::new()))
}

/// A snapshot of everything up to this entry.
fn save(store: &SnapshotStore, index: u64) {
    let place = Place { last: log_id(3, index + 1), membership: StoredMembership::default() };
    let chunk = NewChunk { first: Position(index), last: Position(index), bytes: vec![7; 600_000] };
    let new = NewSnapshot {
        meta: SnapshotMeta {
            shard: SHARD,
            lineage: Lineage::default(),
            index: Index(index),
            position: Position(index),
        },
        state: format!("up to {index}").into_bytes(),
        kept_chunks: Vec::new(),
        new_chunks: vec![chunk],
        place: place.encode(),
    };
    store.save(&new).expect("saved");
}

/// Sends; gives the entry that was installed. `lost`: the word to install, or the answer to it, does not get through.
async fn send(
    from: &SnapshotStore,
    arrivals: &Mutex<Arrivals>,
    index: u64,
    lost: bool,
) -> Result<u64, String> {
    let installed = Mutex::new(0);
    let call = |request: &Request<TokioRuntime>| {
        let mut arrivals = arrivals.lock().expect("whole");
        let answer: Result<Answer<TokioRuntime>, String> = match request {
            Request::Offer(_, offer) => arrivals.offered(LEADER, SHARD, offer.clone()).map(Answer::Wanted),
            Request::Piece(_, piece) => arrivals.arrived(LEADER, SHARD, piece.clone()).map(|()| Answer::Done),
            Request::Install(_, vote) => arrivals.complete(LEADER, SHARD).and_then(|(index, _)| {
                *installed.lock().expect("whole") = index.0;
                if lost { Err("the connection was lost".to_owned()) } else { Ok(Answer::Installed(*vote)) }
            }),
            other => Err(format!("nobody sends this here: {other:?}")),
        };
        async move { answer }
    };
    transfer::send(from, SHARD, Index(index), Vote::new(3, 1), call).await?;
    Ok(*installed.lock().expect("whole"))
}

#[tokio::test]
async fn a_snapshot_whose_end_was_lost_is_sent_again() {
    let (leader, follower) = (store(), store());
    let arrivals = Mutex::new(Arrivals::new(follower.clone()));
    save(&leader, 10);
    assert!(send(&leader, &arrivals, 10, true).await.is_err());
    assert_eq!(send(&leader, &arrivals, 10, false).await, Ok(10));
}

#[tokio::test]
async fn a_leader_with_an_older_snapshot_installs_the_newer_one_that_came_before() {
    let (leader, next, follower) = (store(), store(), store());
    let arrivals = Mutex::new(Arrivals::new(follower.clone()));
    save(&leader, 10);
    save(&next, 8);
    assert!(send(&leader, &arrivals, 10, true).await.is_err());
    assert_eq!(send(&next, &arrivals, 8, false).await, Ok(10));
    save(&next, 12);
    assert_eq!(send(&next, &arrivals, 12, false).await, Ok(12));
}

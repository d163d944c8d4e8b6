//! Snapshots from node to node: the chunks that the other does not have, its state, then the word to install it.

use std::collections::BTreeMap;

use chat_log::snapshot::{ChunkRef, Snapshot, SnapshotError, SnapshotStore};
use chat_state::ids::{Index, MemberId, ShardId};
use openraft::AsyncRuntime;

use crate::{
    machine::Place,
    messages::{Answer, Offer, Piece, Request},
    types::Vote,
};

/// Bytes of a piece: other messages go between two of them.
const PIECE_BYTES: usize = 256 << 10;

/// Largest snapshot that is taken, and chunk of one.
const MAX_BYTES: u64 = 4 << 30;

/// Sends the newest snapshot of a shard, which is that of `index` or a later one. Gives the other's vote.
pub async fn send<R, F>(
    store: &SnapshotStore,
    shard: ShardId,
    index: Index,
    vote: Vote,
    call: impl Fn(&Request<R>) -> F,
) -> Result<Vote, String>
where
    R: AsyncRuntime,
    F: Future<Output = Result<Answer<R>, String>>,
{
    let loaded = store.load(shard).map_err(|error| error.to_string())?;
    let snapshot = loaded.map(|loaded| loaded.snapshot).ok_or("there is no snapshot to send")?;
    if snapshot.meta.index < index {
        return Err(format!(
            "the snapshot of entry {index} cannot be read, and the one before it is too old"
        ));
    }
    let place = Place::of(&snapshot).map_err(|error| error.to_string())?.encode();
    let Snapshot { meta, state, chunks, .. } = snapshot;
    let offer = Offer { meta, place, chunks, state_bytes: state.len() as u64 };
    let wanted = match call(&Request::Offer(shard.0, offer)).await? {
        Answer::Wanted(wanted) => wanted,
        other => return Err(in_words(&other)),
    };
    let pieces = async |chunk: Option<ChunkRef>, bytes: &[u8]| {
        for (piece, offset) in bytes.chunks(PIECE_BYTES).zip((0..).step_by(PIECE_BYTES)) {
            let piece = Piece { chunk, offset, bytes: piece.to_vec().into() };
            match call(&Request::Piece(shard.0, piece)).await? {
                Answer::Done => {}
                other => return Err(in_words(&other)),
            }
        }
        Ok(())
    };
    for chunk in wanted {
        let bytes = store.read_chunk(shard, &chunk).map_err(|error| error.to_string())?;
        pieces(Some(chunk), &bytes).await?;
    }
    pieces(None, &state).await?;
    match call(&Request::Install(shard.0, vote)).await? {
        Answer::Installed(vote) => Ok(vote),
        other => Err(in_words(&other)),
    }
}

fn in_words<R: AsyncRuntime>(answer: &Answer<R>) -> String {
    match answer {
        Answer::Failed(reason) => reason.clone(),
        other => format!("an answer to something else: {other:?}"),
    }
}

/// Snapshots on their way here, one of each shard.
pub struct Arrivals {
    store: SnapshotStore,
    of: BTreeMap<ShardId, Arrival>,
}

struct Arrival {
    from: MemberId,
    offer: Offer,
    /// The chunk that is being received, as far as it came.
    chunk: Option<(ChunkRef, Vec<u8>)>,
    state: Vec<u8>,
}

impl Arrivals {
    pub fn new(store: SnapshotStore) -> Self {
        Self { store, of: BTreeMap::new() }
    }

    /// Another offer takes the place of one that was not finished. Gives the chunks that are not here.
    pub fn offered(&mut self, from: MemberId, shard: ShardId, offer: Offer) -> Result<Vec<ChunkRef>, String> {
        let too_large = |bytes: u64| format!("a snapshot with a part of {bytes} bytes is larger than may be");
        if let Some(bytes) = offer
            .chunks
            .iter()
            .map(|chunk| chunk.bytes)
            .chain([offer.state_bytes])
            .find(|bytes| *bytes > MAX_BYTES)
        {
            return Err(too_large(bytes));
        }
        let wanted =
            offer.chunks.iter().copied().filter(|chunk| !self.store.has_chunk(shard, chunk)).collect();
        self.of.insert(shard, Arrival { from, offer, chunk: None, state: Vec::new() });
        Ok(wanted)
    }

    pub fn arrived(&mut self, from: MemberId, shard: ShardId, piece: Piece) -> Result<(), String> {
        let arrival = self.of.get_mut(&shard).filter(|arrival| arrival.from == from);
        let Arrival { offer, chunk, state, .. } = arrival.ok_or("no snapshot was offered")?;
        let Piece { chunk: of, offset, bytes } = piece;
        let Some(of) = of else {
            return take_in(state, offset, &bytes, offer.state_bytes);
        };
        if !offer.chunks.contains(&of) {
            return Err("the snapshot that was offered has no such chunk".to_owned());
        }
        let (_, so_far) = match chunk {
            Some(present) if present.0 == of => present,
            _ => chunk.insert((of, Vec::new())),
        };
        take_in(so_far, offset, &bytes, of.bytes)?;
        if so_far.len() as u64 == of.bytes
            && let Some((of, bytes)) = chunk.take()
        {
            self.store.receive_chunk(shard, &of, bytes).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// All of it is here: it goes to the disk. Gives where it stands.
    pub fn complete(&mut self, from: MemberId, shard: ShardId) -> Result<(Index, Place), String> {
        let Arrival { offer, state, .. } =
            self.of.remove(&shard).filter(|arrival| arrival.from == from).ok_or("no snapshot was offered")?;
        if state.len() as u64 != offer.state_bytes {
            return Err("the snapshot's state is not all here".to_owned());
        }
        let Offer { meta, place, chunks, .. } = offer;
        let snapshot = Snapshot { meta, state, chunks, place };
        let present = match self.store.receive(&snapshot) {
            Ok(()) => snapshot,
            // One came before, but not the word to install it; or that it was installed did not get through. It is as good: what
            // is in a snapshot is committed.
            Err(SnapshotError::NotNewer { .. }) => self
                .store
                .load(shard)
                .map_err(|error| error.to_string())?
                .map(|loaded| loaded.snapshot)
                .filter(|present| present.meta.index >= meta.index)
                .ok_or("a newer snapshot is here, but it is damaged: it goes when this node starts anew")?,
            Err(error) => return Err(error.to_string()),
        };
        let place = Place::of(&present).map_err(|error| error.to_string())?;
        Ok((present.meta.index, place))
    }
}

fn take_in(so_far: &mut Vec<u8>, offset: u64, bytes: &[u8], whole: u64) -> Result<(), String> {
    if so_far.len() as u64 != offset || offset + bytes.len() as u64 > whole {
        return Err("a piece of the snapshot does not follow the one before it".to_owned());
    }
    so_far.extend_from_slice(bytes);
    Ok(())
}

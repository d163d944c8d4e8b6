//! What peers would notice of a restart from a snapshot that lost something.

mod room;

use chat_state::{
    channels::{ChannelShard, Conversation, FORGOTTEN_KEPT},
    ids::Position,
};
use room::{Room, happened, text_of};

/// The chunks of a node's disk, and the restart from them.
#[derive(Default)]
struct Disk {
    chunks: Vec<Vec<u8>>,
    written: Position,
}

impl Disk {
    fn write(&mut self, room: &Room) {
        let snapshot = room.one().snapshot();
        self.chunks.push(snapshot.encode_history(self.written));
        self.written = snapshot.position();
    }

    fn restart(&mut self, room: &mut Room) {
        self.write(room);
        let state = room.one().encode_state();
        let chunks = self.chunks.iter().map(Vec::as_slice);
        room.shards[0] = ChannelShard::restore(&state, chunks).expect("a snapshot restores");
    }
}

#[test]
fn history_is_read_from_all_the_chunks() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let channel = room.join(alice, "#a");
    let mut disk = Disk::default();
    for n in 0..4 {
        happened(room.say(alice, channel, &n.to_string(), None));
        disk.write(&room);
    }
    disk.restart(&mut room);
    assert_eq!(room.texts(channel), ["0", "1", "2", "3"]);
    assert_eq!(
        disk.chunks.iter().filter(|chunk| chunk.len() > 40).count(),
        4,
        "each message is written once"
    );
}

#[test]
fn history_goes_on_aging() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let channel = room.join(alice, "#a");
    happened(room.say(alice, channel, "old", None));
    Disk::default().restart(&mut room);
    room.now_ms += 8 * 86_400_000;
    room.join(alice, "#b");
    assert!(room.texts(channel).is_empty());
}

#[test]
fn a_conversation_is_still_of_both() {
    let (mut room, node) = Room::small();
    let alice = room.open(node, "alice");
    let bob = room.open(node, "bob");
    happened(room.tell(alice, bob.user, "one", None));
    Disk::default().restart(&mut room);
    happened(room.close(alice));
    room.sweep(node);
    let history = room.one().direct_history(bob.user, alice.user).expect("bob is still there");
    assert_eq!(history.iter().map(text_of).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn the_forgotten_are_still_let_go() {
    let (mut room, node) = Room::small();
    let ghost = room.open(node, "ghost");
    happened(room.close(ghost));
    room.sweep(node);
    Disk::default().restart(&mut room);
    for n in 0..FORGOTTEN_KEPT {
        let passer = room.open(node, &format!("n{n}"));
        happened(room.close(passer));
        room.sweep(node);
    }
    assert!(room.one().forgotten(ghost.user).is_none());
}

#[test]
fn direct_messages_are_still_copied() {
    let mut room = Room::new(2);
    let node = room.register(1, 1);
    let alice = room.open(node, "alice");
    let home = |room: &Room, user| chat_state::ids::home_shard(user, room.shard_count());
    let mut bob = room.open(node, "bob");
    for n in 0.. {
        if home(&room, bob.user) != home(&room, alice.user) {
            break;
        }
        bob = room.open(node, &format!("bob{n}"));
    }
    happened(room.tell(alice, bob.user, "one", None));
    let source = usize::from(home(&room, bob.user).0) - 1;
    let (state, chunk) =
        (room.shards[source].encode_state(), room.shards[source].encode_history(Position(0)));
    room.shards[source] = ChannelShard::restore(&state, [&*chunk].into_iter()).expect("a snapshot restores");
    room.copy(node);
    let at_home = room.shard(home(&room, alice.user));
    assert_eq!(at_home.direct_history(alice.user, bob.user).map(Conversation::len), Some(1));
}

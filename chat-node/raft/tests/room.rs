//! Several nodes of a room in one process, over real sockets and directories.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chat_log::{
    clock::SystemClock,
    disk::{Disk, FileDisk, memory::MemoryDisk},
    handle::OnFatal,
    shared::store::{Reader, Store, StoredEntry},
    wal::WalOptions,
};
use chat_raft::{
    control::{Control, OrderError},
    messages::{Announcement, Answer, Refusal, Request, decode, encode},
    open::{Opened, Options, Surroundings, open},
    peers::{Me, PeerOptions, Peers},
    store::RaftStore,
    types::PeerNode,
};
use chat_state::ids::{Index, MemberId, ShardId};
use contract::status::Membership;
use openraft_rt_tokio::TokioRuntime;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime, time};

mod stalling;

use stalling::Stalling;

const SHARD: ShardId = ShardId(1);

/// One node: a thread with a runtime of its own, so that it can be ended like a process.
struct Seat {
    place: TempDir,
    name: String,
    address: String,
    peers: Vec<String>,
    /// In place of the directory.
    memory: Option<MemoryDisk>,
    running: Option<Running>,
    /// Its disk finishes no write as long as this is set.
    stalled: Arc<AtomicBool>,
}

struct Running {
    control: Control,
    runtime: runtime::Runtime,
    opened: tokio::sync::oneshot::Receiver<Opened>,
    store: Option<RaftStore>,
    fatal: Arc<Mutex<Option<String>>>,
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl Seat {
    fn new(name: &str, peers: &[String]) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        Self {
            place,
            name: name.to_owned(),
            address: String::new(),
            peers: peers.to_vec(),
            memory: None,
            running: None,
            stalled: Arc::default(),
        }
    }

    fn start(&mut self) -> String {
        let (control, orders) = Control::new();
        let runtime =
            runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound").to_string();
        let (answer, opened) = tokio::sync::oneshot::channel();
        let fatal = Arc::new(Mutex::new(None));
        let told = Arc::clone(&fatal);
        let on_fatal: OnFatal =
            Box::new(move |reason: &str| *told.lock().expect("whole") = Some(reason.to_owned()));
        let options = Options {
            room: "lounge".to_owned(),
            shards: 2,
            tolerate: 1,
            node: PeerNode { name: self.name.clone(), address: address.clone(), ..PeerNode::default() },
            peers: self.peers.clone(),
            wal: WalOptions { segment_bytes: 1 << 20, ..WalOptions::new(0) },
            peer_options: PeerOptions::default(),
        };
        let surroundings = Surroundings {
            disk: Arc::new(Stalling { disk: self.disk(), stalled: Arc::clone(&self.stalled) }),
            clock: Arc::new(SystemClock::new()),
            listener: {
                let _inside = runtime.enter();
                TcpListener::from_std(listener).expect("a socket")
            },
            tls: None,
            random: Arc::new(|| NUMBERS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            on_fatal: Arc::new(Mutex::new(Some(on_fatal))),
        };
        let its = control.clone();
        runtime.spawn(async move {
            let opened = open(&options, surroundings, &its, orders, |_| {}).await.expect("it opens");
            drop(answer.send(opened));
        });
        self.running = Some(Running { control, runtime, opened, store: None, fatal });
        self.address.clone_from(&address);
        address
    }

    fn disk(&self) -> Arc<dyn Disk> {
        match &self.memory {
            Some(memory) => Arc::new(memory.clone()),
            None => Arc::new(FileDisk::open(self.place.path()).expect("a directory")),
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    fn control(&self) -> &Control {
        &self.running().control
    }

    async fn member(&self) -> MemberId {
        until("the directory is open", || self.control().member()).await
    }

    async fn opened(&mut self) {
        let running = self.running.as_mut().expect("it runs");
        let opened = time::timeout(Duration::from_secs(30), &mut running.opened).await;
        running.store = Some(opened.expect("in time").expect("opened").store);
    }

    fn store(&self) -> &RaftStore {
        self.running().store.as_ref().expect("opened")
    }

    /// Ends it without a word to anybody.
    fn kill(&mut self) {
        let running = self.running.take().expect("it runs");
        let Running { runtime, store, control, .. } = running;
        runtime.shutdown_background();
        drop((store, control));
        // A process would be gone by now.
        let disk = self.disk();
        while disk.lock().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.runtime.shutdown_background();
        }
    }
}

/// Looks until there is something.
async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    for _ in 0..1_500 {
        if let Some(found) = look() {
            return found;
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited for this in vain: {what}");
}

/// Three nodes that have found each other, the first of which began the room.
async fn three() -> Vec<Seat> {
    three_from(Seat::new("lounge-0", &[])).await
}

async fn three_from(mut first: Seat) -> Vec<Seat> {
    let address = first.start();
    let member = first.member().await;
    first.control().found(member).await.expect("founded");
    let mut seats = vec![first];
    for name in ["lounge-1", "lounge-2"] {
        let mut seat = Seat::new(name, std::slice::from_ref(&address));
        seat.start();
        seats.push(seat);
    }
    for seat in &mut seats {
        seat.opened().await;
    }
    until("everybody votes everywhere", || {
        let cluster = seats[0].control().cluster();
        cluster.groups.iter().all(|group| group.voters.len() == 3).then_some(())
    })
    .await;
    seats
}

async fn append(seat: &Seat, text: &str) -> Index {
    for _ in 0..50 {
        if let Ok(index) = seat.store().append(SHARD, text.as_bytes().into()).await {
            return index;
        }
        // Some refusals are quick.
        time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{text} was not appended");
}

/// Everything of the shard up to a text.
async fn read_to(seat: &Seat, last: &str) -> Vec<String> {
    let mut reader = seat.store().reader(vec![Index(0); 3]);
    let mut texts = Vec::new();
    while texts.last().map(String::as_str) != Some(last) {
        let entries =
            time::timeout(Duration::from_secs(10), reader.next()).await.expect("in time").expect("read");
        let of_shard = entries.into_iter().filter(|entry| entry.shard == SHARD);
        for (StoredEntry { index, payload, .. }, expected) in of_shard.zip(texts.len() as u64 + 1..) {
            assert_eq!(index, Index(expected));
            texts.push(String::from_utf8(payload).expect("text"));
        }
    }
    texts
}

#[tokio::test]
async fn what_one_node_appends_every_node_reads() {
    let seats = three().await;
    let mut expected = Vec::new();
    for (n, seat) in seats.iter().cycle().take(9).enumerate() {
        let text = format!("message {n}");
        assert_eq!(append(seat, &text).await, Index(n as u64 + 1));
        expected.push(text);
    }
    for seat in &seats {
        assert_eq!(read_to(seat, "message 8").await, expected);
        assert_eq!(seat.control().cluster().membership, Membership::Member);
    }
}

#[tokio::test]
async fn any_one_node_may_die_and_come_back() {
    let mut seats = three().await;
    let mut expected = Vec::new();
    for victim in 0..3 {
        let text = format!("before {victim}");
        append(&seats[victim], &text).await;
        expected.push(text);
        seats[victim].kill();
        let text = format!("without {victim}");
        append(&seats[(victim + 1) % 3], &text).await;
        expected.push(text);
        seats[victim].start();
        seats[victim].opened().await;
        assert_eq!(read_to(&seats[victim], &format!("without {victim}")).await, expected);
    }
    for seat in &seats {
        assert_eq!(*seat.running().fatal.lock().expect("whole"), None);
    }
}

/// The seat that leads the shard.
fn leader(seats: &[Seat]) -> Option<usize> {
    seats.iter().position(|seat| {
        let cluster = seat.control().cluster();
        let own = cluster.members.iter().find(|member| member.name == seat.name).map(|member| &member.id);
        cluster.groups[usize::from(SHARD.0)].current.len() > 1
            && own == Some(&cluster.groups[usize::from(SHARD.0)].leader)
    })
}

#[tokio::test]
async fn a_leader_whose_disk_stands_still_gives_way() {
    let seats = three().await;
    append(&seats[0], "before").await;
    let stalled = until("there is a leader", || leader(&seats)).await;
    seats[stalled].stalled.store(true, Ordering::Relaxed);
    let [one, two] = [(stalled + 1) % 3, (stalled + 2) % 3];
    // Its followers have it on their disks all the same: that is a majority.
    append(&seats[one], "meanwhile").await;
    until("another leads", || leader(&seats).filter(|leader| *leader != stalled)).await;
    append(&seats[two], "with another").await;
    let expected = ["before", "meanwhile", "with another"];
    assert_eq!(read_to(&seats[one], "with another").await, expected);
    seats[stalled].stalled.store(false, Ordering::Relaxed);
    assert_eq!(read_to(&seats[stalled], "with another").await, expected);
}

#[tokio::test]
async fn those_that_were_told_to_hand_over_lead_when_there_is_nobody_else() {
    let mut seats = three().await;
    for seat in &seats {
        // The last has nobody who takes it.
        let _ = seat.control().hand_over().await;
    }
    for (n, seat) in seats.iter().enumerate() {
        append(seat, &format!("all rest {n}")).await;
    }
    seats[0].kill();
    append(&seats[1], "and one is gone").await;
}

#[tokio::test]
async fn nothing_is_handed_to_a_node_that_declines() {
    let seats = three().await;
    // Now the third is the only one that takes anything.
    for seat in &seats[..2] {
        seat.control().hand_over().await.expect("others take it");
    }
    let own = format!("{:016x}", seats[2].member().await.0);
    let terms = || -> Option<Vec<u64>> {
        let groups = seats[2].control().cluster().groups;
        groups
            .iter()
            .all(|group| group.leader == own)
            .then(|| groups.iter().map(|group| group.term).collect())
    };
    let before = until("the third leads everything", terms).await;
    // By now it has led long enough to give some of it to those that should lead, which rest.
    time::sleep(Duration::from_secs(7)).await;
    assert_eq!(terms(), Some(before), "it leads on, without a pause");
    append(&seats[2], "as before").await;
}

#[tokio::test]
async fn the_last_member_that_stays_cannot_be_dismissed() {
    let seats = three().await;
    let mut members = Vec::new();
    for seat in &seats {
        members.push(seat.member().await);
    }
    let control = seats[0].control();
    for member in &members[1..] {
        while control.dismiss(*member).await.is_err() {
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    let refused = loop {
        match control.dismiss(members[0]).await {
            Err(OrderError::Failed(_)) => time::sleep(Duration::from_millis(50)).await,
            other => break other,
        }
    };
    assert!(matches!(&refused, Err(OrderError::Refused(_))), "{refused:?}");
    append(&seats[0], "the room goes on").await;
}

struct Full(MemoryDisk);

impl Drop for Full {
    fn drop(&mut self) {
        self.0.fail_writes_full(false);
    }
}

#[tokio::test]
async fn a_leader_with_a_full_disk_lets_others_lead_and_nobody_waits_for_it() {
    let disk = MemoryDisk::new();
    let mut first = Seat::new("lounge-0", &[]);
    first.memory = Some(disk.clone());
    let seats = three_from(first).await;
    // What waits for space ends when there is some: also when this fails.
    let full = Full(disk);
    full.0.fail_writes_full(true);
    for n in 0..20 {
        append(&seats[1 + n % 2], &format!("message {n}")).await;
    }
    until("the full one leads nothing", || {
        let cluster = seats[1].control().cluster();
        let its = seats[0].control().member()?;
        cluster.groups.iter().all(|group| group.leader != format!("{:016x}", its.0)).then_some(())
    })
    .await;
    drop(full);
    append(&seats[0], "there is space again").await;
    assert_eq!(read_to(&seats[0], "there is space again").await.len(), 21);
}

#[tokio::test]
async fn a_leader_that_may_have_been_followed_by_another_tells_nobody_that_it_was_removed() {
    let mut seats = three().await;
    let leader = until("one leads the directory", || {
        let own = |seat: &Seat| seat.control().member().map(|own| format!("{:016x}", own.0));
        seats.iter().position(|seat| own(seat).as_ref() == Some(&seat.control().cluster().groups[0].leader))
    })
    .await;
    // A member of whom the others might have heard in the meantime.
    let me = Me {
        room: "lounge".to_owned(),
        member: MemberId(77),
        name: "lounge-7".to_owned(),
        advertise: "127.0.0.1:1".to_owned(),
    };
    let peers = Peers::new(me, None, PeerOptions::default());
    let node = PeerNode { name: "lounge-7".to_owned(), ..PeerNode::default() };
    let announcement = Announcement { node, shards: 2, cluster: None, has_log: true };
    let request = encode(&Request::<TokioRuntime>::Announce(announcement));
    let ask = || peers.ask(&seats[leader].address, request.clone(), Duration::from_secs(2));
    let answer = |body: &[u8]| decode::<Answer<TokioRuntime>>(body).expect("an answer");
    let (_, told) = ask().await.expect("answered");
    assert!(matches!(answer(&told), Answer::Refused(Refusal::Removed)), "{:?}", answer(&told));

    let address = seats[leader].address.clone();
    for n in (0..3).filter(|n| *n != leader) {
        seats[n].kill();
    }
    let (_, told) = peers.ask(&address, request, Duration::from_secs(2)).await.expect("answered");
    assert!(!matches!(answer(&told), Answer::Refused(Refusal::Removed)), "it does not know whether it leads");
}

#[tokio::test]
async fn a_leader_that_moved_tells_its_new_address() {
    let mut seat = Seat::new("lounge-0", &[]);
    seat.start();
    let member = seat.member().await;
    seat.control().found(member).await.expect("founded");
    seat.opened().await;
    seat.kill();
    let moved = seat.start();
    seat.opened().await;
    until("the membership has it", || {
        seat.control().cluster().members.first().filter(|member| member.address == moved).map(drop)
    })
    .await;
}

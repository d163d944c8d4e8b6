//! Several nodes of a room in one process, over real sockets and directories.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chat_log::{
    clock::SystemClock,
    disk::{DirectoryLock, Disk, DiskFile, FileDisk, FileInfo},
    handle::OnFatal,
    shared::store::{Reader, Store, StoredEntry},
    wal::WalOptions,
};
use chat_raft::{
    control::Control,
    open::{Opened, Options, Surroundings, open},
    peers::PeerOptions,
    store::RaftStore,
    types::PeerNode,
};
use chat_state::ids::{Index, MemberId, ShardId};
use contract::status::Membership;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime, time};

const SHARD: ShardId = ShardId(1);

/// One node: a thread with a runtime of its own, so that it can be ended like a process.
struct Seat {
    place: TempDir,
    name: String,
    peers: Vec<String>,
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
        Self { place, name: name.to_owned(), peers: peers.to_vec(), running: None, stalled: Arc::default() }
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
            disk: Arc::new(Stalling { disk: disk(self.place.path()), stalled: Arc::clone(&self.stalled) }),
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
        address
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
        let disk = disk(self.place.path());
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

/// A disk that can be made to stand still.
struct Stalling {
    disk: Arc<dyn Disk>,
    stalled: Arc<AtomicBool>,
}

struct StallingFile {
    file: Box<dyn DiskFile>,
    stalled: Arc<AtomicBool>,
}

impl Stalling {
    fn file(&self, file: io::Result<Box<dyn DiskFile>>) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(StallingFile { file: file?, stalled: Arc::clone(&self.stalled) }))
    }
}

impl Disk for Stalling {
    fn place(&self) -> String {
        self.disk.place()
    }

    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>> {
        self.disk.lock()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.file(self.disk.create(name))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.file(self.disk.open(name))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.disk.read_range(name, offset, length)
    }

    fn list(&self) -> io::Result<Vec<FileInfo>> {
        self.disk.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for StallingFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        while self.stalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.file.sync_data()
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn zero_from(&mut self, offset: u64) -> io::Result<()> {
        self.file.zero_from(offset)
    }
}

fn disk(place: &Path) -> Arc<dyn Disk> {
    Arc::new(FileDisk::open(place).expect("a directory"))
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
    let mut first = Seat::new("lounge-0", &[]);
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

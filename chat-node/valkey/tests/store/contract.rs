//! The contract that every log keeps, on a real server.

use std::sync::Arc;

use chat_log::{
    contract_tests::{self, Factory, Opened, SHARDS},
    shared::handle::{SharedLogHandle, SharedOptions},
    snapshot::Snapshot,
};
use chat_valkey::{Options, ValkeyStore, test_server::TestServer};

use crate::nodes::runtime;

struct OnServer {
    server: TestServer,
}

impl Factory for OnServer {
    type Log = SharedLogHandle<ValkeyStore>;

    fn open(&mut self) -> Opened<Self::Log> {
        let runtime = runtime();
        let options = Options::new(self.server.url_file(), "lounge".to_owned(), SHARDS);
        let opened = runtime.block_on(ValkeyStore::open(options)).expect("a store");
        let snapshots = opened.snapshots.of.into_iter().map(|(shard, (snapshot, _))| (shard, snapshot));
        let snapshots: std::collections::BTreeMap<_, Snapshot> = snapshots.collect();
        let options = SharedOptions { follower_bytes: 256 << 10, ..SharedOptions::default() };
        let on_fatal = Box::new(|reason: &str| panic!("{reason}"));
        let log = SharedLogHandle::start(Arc::new(opened.store), opened.extents, runtime, options, on_fatal);
        Opened { log: log.expect("a thread"), snapshots }
    }

    fn close(&mut self, log: Self::Log) {
        drop(log);
    }

    fn fill(&mut self) -> bool {
        self.server.set("maxmemory", "6mb");
        true
    }

    fn drain(&mut self) {
        self.server.set("maxmemory", "0");
    }
}

#[test]
fn keeps_the_contract() {
    contract_tests::run_all(|| OnServer { server: TestServer::start() });
}

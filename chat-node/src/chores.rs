//! The node's chores on the first worker's thread: asks for them, begins the node's life in the log, publishes the
//! state in figures.

use std::sync::Arc;

use chat_log::log::{Log, Request};
use chat_session::{Housekeeper, Now, Standing, Worker};
use chat_state::{
    command::{Command, DirectoryCommand},
    ids::{Incarnation, ShardId},
};

use crate::view::View;

const TICK_MS: u64 = 1_000;

pub(crate) struct Chores {
    housekeeper: Housekeeper,
    log: Arc<dyn Log>,
    /// The life that the log was told of.
    begun: Option<Incarnation>,
    on_settled: Option<Box<dyn FnOnce() + Send>>,
    publish: Box<dyn FnMut(View) + Send>,
    requests: Vec<(ShardId, Request)>,
    next_tick_ms: u64,
}

impl Chores {
    /// `on_settled` is called once, when the node is registered and its settings are in force; `publish` every so
    /// often with the state as it is.
    pub(crate) fn new(
        housekeeper: Housekeeper,
        log: Arc<dyn Log>,
        on_settled: Box<dyn FnOnce() + Send>,
        publish: Box<dyn FnMut(View) + Send>,
    ) -> Self {
        Self {
            housekeeper,
            log,
            begun: None,
            on_settled: Some(on_settled),
            publish,
            requests: Vec::new(),
            next_tick_ms: 0,
        }
    }

    /// After entries were applied.
    pub(crate) fn run(&mut self, worker: &Worker, now: Now) {
        if let Some(incarnation) = worker.incarnation()
            && self.begun != Some(incarnation)
        {
            self.log.begin(incarnation);
            self.begun = Some(incarnation);
        }
        self.stand();
        // Until it is settled somebody waits for everything, also for what else is only done now and then.
        let asked = if self.on_settled.is_some() {
            self.housekeeper.tick(worker, now)
        } else {
            self.housekeeper.run(worker, now)
        };
        self.requests.extend(asked);
        if self.on_settled.is_some()
            && self.housekeeper.is_settled(worker)
            && let Some(on_settled) = self.on_settled.take()
        {
            (self.publish)(View::of(worker));
            on_settled();
        }
    }

    pub(crate) fn tick(&mut self, worker: &Worker, now: Now) {
        (self.publish)(View::of(worker));
        if now.monotonic_ms >= self.next_tick_ms {
            self.next_tick_ms = now.monotonic_ms + TICK_MS;
            self.stand();
            let asked = self.housekeeper.tick(worker, now);
            self.requests.extend(asked);
        }
    }

    fn stand(&mut self) {
        let chat_log::log::Standing { leads, alive } = self.log.standing();
        self.housekeeper.stand(Standing { leads, alive });
    }

    /// The log refused a request; one that no client asked for is a chore.
    pub(crate) fn refused(&mut self, request: &Request) {
        let opens = matches!(
            request.command,
            Command::Directory(DirectoryCommand::Open(_) | DirectoryCommand::Attach(_))
        );
        if request.origin.is_none() && !opens {
            self.housekeeper.refused();
        }
    }

    pub(crate) fn take_requests(&mut self) -> Vec<(ShardId, Request)> {
        std::mem::take(&mut self.requests)
    }
}

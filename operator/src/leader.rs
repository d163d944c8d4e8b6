//! Leader election by a Lease: only its holder watches and writes.

use std::time::Duration;

use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::time::timeout;

use crate::{backoff::Backoff, health::Health};

/// How long a leader that vanished holds the others up.
const LEASE_SECONDS: u64 = 15;
/// The Lease is renewed so long before it ends.
const GRACE_SECONDS: u64 = 5;
/// Requests about the Lease end before the Lease does.
const REQUEST_WITHIN: Duration = Duration::from_secs(3);
/// How often one who stands by looks whether the Lease was released.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(10) };

/// What takes part in the election.
pub struct Candidate {
    client: Client,
    namespace: String,
    lease: String,
    identity: String,
}

/// Leadership, until [`Term::over`] returns.
pub struct Term(LeaseManager);

impl Candidate {
    /// With a client that fails fast: with kube's own retries a request about the Lease outlives the Lease.
    pub fn new(config: &Config, namespace: &str, lease: &str, identity: &str) -> anyhow::Result<Self> {
        let mut config = config.clone();
        config.default_retry = false;
        config.connect_timeout = Some(REQUEST_WITHIN);
        config.read_timeout = Some(REQUEST_WITHIN);
        config.write_timeout = Some(REQUEST_WITHIN);
        config.reset_reader_on_write = true;
        Ok(Self {
            client: Client::try_from(config)?,
            namespace: namespace.into(),
            lease: lease.into(),
            identity: identity.into(),
        })
    }

    /// Waits for leadership. Standing by is being ready; not reaching the Lease is not.
    pub async fn campaign(&self, health: &Health) -> Term {
        let mut failures = 0;
        loop {
            match self.try_campaign(health).await {
                Ok(Some(term)) => return term,
                Ok(None) => failures = 0,
                Err(error) => {
                    let why = format!("Lease {} cannot be read or written: {error}", self.lease());
                    tracing::warn!(why, "waiting");
                    health.not_ready(why);
                    tokio::time::sleep(RETRY.delay(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    async fn try_campaign(&self, health: &Health) -> kube_lease_manager::Result<Option<Term>> {
        // Made anew each time, for three reasons: a manager that has led does not tell again that it leads; one that
        // waits does not look at the Lease before it runs out, though its holder may have released it; and its field
        // manager is random, which is what makes two candidates that lock at once conflict.
        let manager = LeaseManagerBuilder::new(self.client.clone(), &self.lease)
            .with_namespace(&self.namespace)
            .with_identity(&self.identity)
            .with_duration(LEASE_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await?;
        health.ready();
        // A lock that is cut short is found, by our identity, at the next look.
        match timeout(LOOK_AGAIN, manager.changed()).await {
            Ok(leads) => Ok(leads?.then_some(Term(manager))),
            Err(_) => Ok(None),
        }
    }

    pub fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.lease)
    }
}

impl Term {
    /// Renews the Lease until it is lost. A single failure to renew ends the term, as the Lease may run out before the
    /// next try; the same operator is elected again as soon as the API server answers.
    pub async fn over(&self) {
        loop {
            match self.0.changed().await {
                Ok(true) => {}
                Ok(false) => return tracing::warn!("another operator leads now"),
                Err(error) => return tracing::warn!(%error, "the Lease could not be renewed"),
            }
        }
    }

    /// Gives the Lease away, so that a successor need not wait for its end.
    pub async fn resign(self) {
        if let Err(error) = self.0.release().await {
            tracing::warn!(%error, "the Lease could not be released; it runs out in {LEASE_SECONDS} s");
        }
    }
}

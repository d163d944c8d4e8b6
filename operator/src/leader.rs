//! Leader election by a Lease: only its holder watches and writes.

use std::{fmt, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::time::timeout;

use crate::{backoff::Backoff, cli::RunOptions, health::Health, names};

/// How long a leader that vanished holds the others up.
const LEASE_SECONDS: u64 = 15;
/// The Lease is renewed so long before it ends.
const GRACE_SECONDS: u64 = 5;
/// Requests about the Lease end before the Lease does.
const REQUEST_WITHIN: Duration = Duration::from_secs(3);
/// How often one who stands by looks whether the Lease was released.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(10) };

/// What takes part in the election. Whoever watches the same rooms is a candidate for the same Lease, so that two
/// operators never write the same objects.
pub struct Candidate {
    client: Client,
    lease: LeaseName,
    identity: Identity,
}

/// Where the Lease of those who watch these namespaces is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LeaseName {
    namespace: String,
    name: &'static str,
    /// The rooms that its holder runs, in words.
    rooms: String,
}

impl LeaseName {
    fn of(watch_namespace: Option<&str>) -> Self {
        match watch_namespace {
            Some(namespace) => Self {
                namespace: namespace.into(),
                name: names::NAMESPACE_LEASE,
                rooms: format!("the ChatRooms of namespace {namespace}"),
            },
            None => Self {
                namespace: names::CLUSTER_LEASE_NAMESPACE.into(),
                name: names::CLUSTER_LEASE,
                rooms: "the ChatRooms of all namespaces".into(),
            },
        }
    }
}

/// Who holds a Lease, as it is written there: `namespace/installation/pod`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    installation: String,
    pod: String,
}

impl Identity {
    /// Whether the holder of that name is a replica of the same installation.
    fn is_fellow(&self, holder: &str) -> bool {
        holder.rsplit_once('/').is_some_and(|(installation, _)| installation == self.installation)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.installation, self.pod)
    }
}

/// Leadership, until [`Term::over`] returns.
pub struct Term(LeaseManager);

impl Candidate {
    /// With a client that fails fast: with kube's own retries a request about the Lease outlives the Lease.
    pub fn new(config: &Config, options: &RunOptions) -> anyhow::Result<Self> {
        let mut config = config.clone();
        config.default_retry = false;
        config.connect_timeout = Some(REQUEST_WITHIN);
        config.read_timeout = Some(REQUEST_WITHIN);
        config.write_timeout = Some(REQUEST_WITHIN);
        config.reset_reader_on_write = true;
        Ok(Self {
            client: Client::try_from(config)?,
            lease: LeaseName::of(options.watch_namespace.as_deref()),
            identity: Identity {
                installation: format!("{}/{}", options.namespace, options.installation),
                pod: options.identity.clone(),
            },
        })
    }

    /// Waits for leadership. Standing by for a fellow replica is being ready; not reaching the Lease is not, nor is
    /// finding that another installation runs these rooms already.
    pub async fn campaign(&self, health: &Health) -> Term {
        tracing::info!(lease = %self.lease(), identity = %self.identity, "waiting for leadership");
        let mut failures = 0;
        let mut told = None;
        loop {
            let obstacle = match self.try_campaign().await {
                Ok(Turn::Leads(term)) => {
                    health.ready();
                    return *term;
                }
                Ok(Turn::StandsBy) => None,
                Ok(Turn::Superfluous { holder }) => Some(format!(
                    "{} are run by another operator already: {holder} holds the Lease {}. Uninstall one of the two, or \
                     let each watch a namespace of its own",
                    self.lease.rooms,
                    self.lease()
                )),
                Err(error) => {
                    let why = format!("Lease {} cannot be read or written: {error}", self.lease());
                    tracing::warn!(why, "waiting");
                    health.not_ready(why);
                    tokio::time::sleep(RETRY.delay(failures)).await;
                    failures = failures.saturating_add(1);
                    continue;
                }
            };
            failures = 0;
            match &obstacle {
                None => health.ready(),
                Some(why) => {
                    health.not_ready(why.clone());
                    if obstacle != told {
                        tracing::error!(why, "not needed");
                    }
                }
            }
            told = obstacle;
        }
    }

    async fn try_campaign(&self) -> Result<Turn, Box<dyn std::error::Error + Send + Sync>> {
        // Made anew each time, for three reasons: a manager that has led does not tell again that it leads; one that
        // waits does not look at the Lease before it runs out, though its holder may have released it; and its field
        // manager is random, which is what makes two candidates that lock at once conflict.
        let manager = LeaseManagerBuilder::new(self.client.clone(), self.lease.name)
            .with_namespace(&self.lease.namespace)
            .with_identity(self.identity.to_string())
            .with_duration(LEASE_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await?;
        // A lock that is cut short is found, by our identity, at the next look.
        if let Ok(leads) = timeout(LOOK_AGAIN, manager.changed()).await {
            return Ok(if leads? { Turn::Leads(Box::new(Term(manager))) } else { Turn::StandsBy });
        }
        let leases = Api::<Lease>::namespaced(self.client.clone(), &self.lease.namespace);
        let holder = leases.get_opt(self.lease.name).await?.and_then(|lease| lease.spec?.holder_identity);
        Ok(match holder {
            Some(holder) if !self.identity.is_fellow(&holder) => Turn::Superfluous { holder },
            _ => Turn::StandsBy,
        })
    }

    pub fn lease(&self) -> String {
        format!("{}/{}", self.lease.namespace, self.lease.name)
    }
}

/// What one look at the Lease came to.
enum Turn {
    Leads(Box<Term>),
    /// A fellow replica leads, or nobody does yet.
    StandsBy,
    /// Somebody else's operator leads.
    Superfluous {
        holder: String,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_of_one_installation_are_fellows_and_others_are_not() {
        let identity = Identity { installation: "chatroom-system/chatroom-operator".into(), pod: "a".into() };
        assert!(identity.is_fellow("chatroom-system/chatroom-operator/b"));
        for other in ["elsewhere/chatroom-operator/b", "chatroom-system/second/b", "b"] {
            assert!(!identity.is_fellow(other), "{other}");
        }
    }

    #[test]
    fn who_watches_the_same_rooms_wants_the_same_lease() {
        assert_eq!(LeaseName::of(None), LeaseName::of(None));
        assert_ne!(LeaseName::of(Some("team")), LeaseName::of(Some("other")));
        // Also where the one namespace is the one in which the Lease for all is.
        let (all, one) = (LeaseName::of(None), LeaseName::of(Some(names::CLUSTER_LEASE_NAMESPACE)));
        assert!(all.namespace == one.namespace && all.name != one.name);
    }
}

//! Where clients connect to: fixed addresses, or the pods behind a Service, as a load balancer knows them that sends
//! each connection straight to a pod.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use crate::cluster::Cluster;

/// Port of a chat node for IRC.
const IRC: u16 = 6667;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pod, where it is one.
    pub pod: Option<String>,
    pub address: SocketAddr,
}

/// A list of places that may change, handed out in turn.
#[derive(Clone)]
pub struct Places {
    known: watch::Receiver<Vec<Place>>,
    turn: Arc<AtomicUsize>,
    /// What keeps the list right, as long as somebody uses it.
    _follower: Option<Arc<Follower>>,
}

struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Places {
    pub fn fixed(addresses: Vec<SocketAddr>) -> Self {
        let places = addresses.into_iter().map(|address| Place { pod: None, address }).collect();
        Self { known: watch::channel(places).1, turn: Arc::default(), _follower: None }
    }

    /// The ready pods behind a Service. While the API server is away the list stays as it is.
    pub fn behind(cluster: &Cluster, namespace: &str, service: &str) -> Self {
        let (sender, known) = watch::channel(Vec::new());
        let (cluster, namespace, service) = (cluster.clone(), namespace.to_owned(), service.to_owned());
        let follower = tokio::spawn(async move {
            loop {
                // A watch ends by itself now and then, and with the API server.
                follow(&cluster, &namespace, &service, &sender).await.ok();
                sleep(Duration::from_millis(500)).await;
            }
        });
        Self { known, turn: Arc::default(), _follower: Some(Arc::new(Follower(follower))) }
    }

    /// The next place, if there is any.
    pub fn next(&self) -> Option<Place> {
        let known = self.known.borrow();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        known.get(turn % known.len().max(1)).cloned()
    }

    pub fn all(&self) -> Vec<Place> {
        self.known.borrow().clone()
    }
}

/// Columns of an EndpointSlice: its name, then address=pod=ready of each endpoint.
const COLUMNS: &str = "jsonpath={.metadata.name}{range .endpoints[*]} \
     {.addresses[0]}={.targetRef.name}={.conditions.ready}{end}{\"\\n\"}";

async fn follow(
    cluster: &Cluster,
    namespace: &str,
    service: &str,
    sender: &watch::Sender<Vec<Place>>,
) -> Result<()> {
    let selector = format!("kubernetes.io/service-name={service}");
    let args = ["get", "endpointslices", "--namespace", namespace, "--selector", &selector, "--watch"];
    let mut child = cluster.spawn("kubectl", &[&args[..], &["--output", COLUMNS]].concat())?;
    let stdout = child.stdout.take().context("kubectl's output is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut slices: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    while let Some(line) = lines.next_line().await? {
        let Some((name, places)) = slice(&line) else { continue };
        slices.insert(name, places);
        sender.send_replace(slices.values().flatten().cloned().collect());
    }
    Ok(())
}

fn slice(line: &str) -> Option<(String, Vec<Place>)> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let place = |word: &str| {
        let mut parts = word.split('=');
        let (address, pod, ready) = (parts.next()?, parts.next()?, parts.next()?);
        let address = SocketAddr::new(address.parse::<IpAddr>().ok()?, IRC);
        (ready == "true").then(|| Place { pod: Some(pod.to_owned()), address })
    };
    Some((name, words.filter_map(place).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_endpoints_are_places() {
        let (name, places) = slice("plaza-x 10.244.0.3=plaza-a=true 10.244.1.4=plaza-b=false").unwrap();
        let ready = Place { pod: Some("plaza-a".into()), address: "10.244.0.3:6667".parse().unwrap() };
        assert_eq!((name.as_str(), places), ("plaza-x", vec![ready]));
        assert_eq!(slice("plaza-x").unwrap().1, []);
    }

    #[test]
    fn places_are_handed_out_in_turn() {
        let places = Places::fixed(vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap()]);
        let ports: Vec<_> = (0..3).map(|_| places.next().unwrap().address.to_string()).collect();
        assert_eq!(ports, ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:1"]);
        assert_eq!(Places::fixed(Vec::new()).next(), None);
    }
}

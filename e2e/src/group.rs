//! Clients that talk with each other through whatever happens.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::{
    checkers,
    client::{Client, Habits, PACE},
    history,
    places::{Place, Places},
    record::{Record, Seen},
};

/// Until all who are new were heard.
const BEGIN_WITHIN: Duration = Duration::from_secs(30);

/// Broken promises that are shown.
const SHOWN: usize = 20;

pub struct Group {
    clients: Vec<Client>,
    /// Where newcomers read history.
    places: Places,
    checks: usize,
}

/// The longest time that one writer waited between two acknowledgements.
#[derive(Debug)]
pub struct Pause {
    pub resumes: bool,
    /// Whether it lost its connection.
    pub moved: bool,
    pub longest: Duration,
    /// What went wrong in it.
    pub by: Vec<String>,
}

/// A connection that ended.
#[derive(Debug)]
pub struct Ended {
    pub client: String,
    pub pod: Option<String>,
    pub why: String,
}

impl Group {
    /// Nobody yet; newcomers read history at these places, which must all tell the same.
    pub fn empty(places: Places) -> Self {
        Self { clients: Vec::new(), places, checks: 0 }
    }

    /// Writers and readers who resume; returns when all writers were heard.
    pub async fn start(places: Places, writers: usize, readers: usize) -> Result<Self> {
        let mut group = Self::empty(places.clone());
        group.join("reader", readers, &places, Habits { sends_every: None, resumes: true });
        group.join("writer", writers, &places, Habits { sends_every: Some(PACE), resumes: true });
        group.progress(BEGIN_WITHIN).await?;
        Ok(group)
    }

    /// More clients, who are led to these places.
    pub fn join(&mut self, name: &str, count: usize, places: &Places, habits: Habits) {
        // The room may still keep the nicks of an earlier run.
        let run = std::process::id();
        let client = |number| Client::start(&format!("{name}{number}-{run}"), places.clone(), habits);
        self.clients.extend((0..count).map(client));
    }

    /// Waits until every writer got further acknowledgements.
    pub async fn progress(&self, within: Duration) -> Result<()> {
        let before: Vec<usize> = self.clients.iter().map(Client::acknowledged).collect();
        let deadline = Instant::now() + within;
        loop {
            let stuck = |(client, before): &(&Client, &usize)| {
                client.habits.sends_every.is_some() && client.acknowledged() < *before + 3
            };
            let Some((client, _)) = self.clients.iter().zip(&before).find(stuck) else { return Ok(()) };
            if Instant::now() > deadline {
                let record = client.record();
                bail!(
                    "{} got no further acknowledgements within {within:?}; {} are pending; last problem: {}",
                    record.name,
                    record.pending().len(),
                    record.last_problem
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets everything be acknowledged, reads history as a newcomer, and holds all that was seen against it.
    pub async fn check(&mut self, within: Duration) -> Result<String> {
        self.pause(true);
        let deadline = Instant::now() + within;
        while let Some(client) = self.clients.iter().find(|client| client.with(|r| !r.pending().is_empty())) {
            if Instant::now() > deadline {
                let (name, problem) =
                    client.with(|record| (record.name.clone(), record.last_problem.clone()));
                bail!("not everything of {name} was acknowledged within {within:?}; last problem: {problem}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        let history = loop {
            match self.history().await {
                Ok(history) => break history,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        };
        // What was said last may still be on its way to those who just came back.
        let mut wrong = checkers::check(&self.records(), &history);
        while !wrong.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(500)).await;
            wrong = checkers::check(&self.records(), &history);
        }
        if !wrong.is_empty() {
            let first = wrong.iter().take(SHOWN).map(|line| format!("\n  {line}")).collect::<String>();
            bail!("{} promises were broken, among them:{first}", wrong.len());
        }
        self.pause(false);
        Ok(checkers::summary(&self.records()))
    }

    /// History as one place tells it, and the end of it as all others do (C7).
    async fn history(&mut self) -> Result<Vec<Seen>> {
        self.checks += 1;
        let checks = self.checks;
        let Some(place) = self.places.next() else { bail!("there is nowhere to read history") };
        let whole = history::whole(place.address, &format!("newcomer{checks}")).await?;
        for (number, Place { pod, address }) in self.places.all().into_iter().enumerate() {
            let Some(pod) = pod.filter(|_| address != place.address) else { continue };
            let end = history::end(address, &format!("comparer{checks}-{number}")).await?;
            ensure!(
                whole.ends_with(&end) && !end.is_empty(),
                "C7: {pod} and {:?} do not tell the same history: it ends with {:?} and {:?}",
                place.pod,
                end.last(),
                whole.last()
            );
        }
        Ok(whole)
    }

    fn pause(&self, paused: bool) {
        self.clients.iter().for_each(|client| client.pause(paused));
    }

    pub fn records(&self) -> Vec<Record> {
        self.clients.iter().map(Client::record).collect()
    }

    /// Reconnects of all clients so far.
    pub fn reconnects(&self) -> usize {
        self.clients.iter().map(|client| client.with(|record| record.reconnects())).sum()
    }

    /// How often somebody was told that nothing can be written now.
    pub fn refused(&self) -> usize {
        self.clients.iter().map(|client| client.with(|record| record.refused)).sum()
    }

    /// Has every client with this in its name leave its place and come back to the next one.
    pub fn move_on(&self, name: &str) {
        let named = |client: &&Client| client.with(|record| record.name.contains(name));
        self.clients.iter().filter(named).for_each(Client::move_on);
    }

    /// How many connections each client has had so far, for [`Group::ended_since`].
    pub fn mark(&self) -> Vec<usize> {
        let lasting = |record: &mut Record| record.stays.iter().filter(|stay| stay.ended.is_some()).count();
        self.clients.iter().map(|client| client.with(lasting)).collect()
    }

    /// Connections that have ended since, those left on request not among them.
    pub fn ended_since(&self, mark: &[usize]) -> Vec<Ended> {
        let of_client = |(client, &mark): (&Client, &usize)| {
            client.with(|record| {
                let name = &record.name;
                let ended = record.stays.iter().skip(mark).filter(|stay| !stay.on_request);
                let ended = ended.filter_map(|stay| {
                    Some(Ended { client: name.clone(), pod: stay.pod.clone(), why: stay.ended.clone()? })
                });
                ended.collect::<Vec<_>>()
            })
        };
        self.clients.iter().zip(mark).flat_map(of_client).collect()
    }

    /// Pods that somebody is connected to.
    pub fn pods(&self) -> BTreeSet<String> {
        let pod = |record: &mut Record| record.stays.last().filter(|stay| stay.ended.is_none())?.pod.clone();
        self.clients.iter().filter_map(|client| client.with(pod)).collect()
    }

    /// Begins to look anew for the longest pause.
    pub fn time_pauses(&self) {
        self.clients.iter().for_each(|client| client.with(|record| record.longest_pause = Duration::ZERO));
    }

    /// Longest time between two acknowledgements of each writer, and whether it is among those whose connection ended.
    pub fn pauses(&self, ended: &[Ended]) -> Vec<Pause> {
        let writers = self.clients.iter().filter(|client| client.habits.sends_every.is_some());
        let of_client = |client: &Client| {
            client.with(|record| Pause {
                resumes: client.habits.resumes,
                moved: ended.iter().any(|ended| ended.client == record.name),
                longest: record.longest_pause,
                by: record.paused_by.clone(),
            })
        };
        writers.map(of_client).collect()
    }
}

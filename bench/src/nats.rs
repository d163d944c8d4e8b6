//! Three JetStream servers, flushing every message before they acknowledge it.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    process::{Process, free_address, wait_for},
    speech::JetStream,
};

pub(crate) const SERVERS: usize = 3;
/// Elections of a cluster that just started included.
const PATIENCE: Duration = Duration::from_secs(60);

/// They end with this value.
pub(crate) struct Cluster {
    _processes: Vec<Process>,
    _directory: TempDir,
    pub(crate) servers: Vec<SocketAddr>,
}

impl Cluster {
    /// With streams that all of the servers keep.
    pub(crate) fn start(program: &Path, streams: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let places: Vec<_> =
            (0..SERVERS).map(|_| Ok((free_address()?, free_address()?))).collect::<Result<_>>()?;
        let routes: Vec<_> = places.iter().map(|(_, route)| format!("\"nats://{route}\"")).collect();
        let mut processes = Vec::new();
        for (n, (listen, route)) in places.iter().enumerate() {
            let config = directory.path().join(format!("{n}.conf"));
            let text = format!(
                "server_name: n{n}\nlisten: \"{listen}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n\
                 cluster {{ name: bench, listen: \"{route}\", routes: [{}] }}\n",
                directory.path().join(n.to_string()).display(),
                routes.join(", ")
            );
            fs::write(&config, text)?;
            processes.push(Process::start(Command::new(program).arg("--config").arg(&config))?);
        }
        let servers: Vec<_> = places.iter().map(|(listen, _)| *listen).collect();
        for server in &servers {
            wait_for(*server)?;
        }
        for stream in 0..streams {
            let end = Instant::now() + PATIENCE;
            while let Err(error) = JetStream::create(servers[0], stream, SERVERS) {
                if Instant::now() > end {
                    return Err(error).context("the servers did not become a cluster");
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(Self { _processes: processes, _directory: directory, servers })
    }
}

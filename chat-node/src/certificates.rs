//! The certificates that are in use, and those that take their place while the node runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use contract::config::Listeners;
use rustls::{ClientConfig, ServerConfig};
use tokio::time::{self, MissedTickBehavior};

use crate::certificate::{CertificateError, Contents, Door, Files, Loaded};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A certificate that expires within this time is spoken of …
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 86_400);
/// … so often.
const SAY_EVERY: Duration = Duration::from_secs(86_400);

/// Those of all listeners that have one.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    pub(crate) ircs: Option<Arc<Certificate>>,
    pub(crate) webs: Option<Arc<Certificate>>,
    pub(crate) control: Option<Arc<Certificate>>,
    pub(crate) peer: Option<Arc<Certificate>>,
}

/// One listener's; the next handshake takes what is here then.
#[derive(Debug)]
pub(crate) struct Certificate {
    door: Door,
    loaded: Mutex<Loaded>,
}

impl Certificate {
    pub(crate) fn door(&self) -> Door {
        self.door
    }

    /// For a handshake that begins now.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().config)
    }

    /// For a connection to another node that begins now.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(self.lock().client.as_ref().expect("asked of what nodes show each other alone"))
    }

    /// Seconds since 1970.
    pub(crate) fn not_after(&self) -> i64 {
        self.lock().not_after
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        // Replaced as a whole: a panic elsewhere leaves it whole.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Certificates {
    /// Reads them all; the watch has to run for changes to be seen.
    pub(crate) fn load(listeners: &Listeners) -> Result<(Self, Watch), CertificateError> {
        let mut watched = Vec::new();
        let mut load = |files: Files| {
            let contents = files.read()?;
            let loaded = files.load(&contents)?;
            let certificate = Arc::new(Certificate { door: files.door, loaded: Mutex::new(loaded) });
            watched.push(Watched::new(files, contents, Arc::clone(&certificate)));
            Ok(certificate)
        };
        let certificates = Self {
            ircs: listeners.ircs.as_ref().map(|ircs| load(ircs.into())).transpose()?,
            webs: listeners.webs.as_ref().map(|webs| load(webs.into())).transpose()?,
            control: listeners.control.as_ref().map(|control| load(control.into())).transpose()?,
            peer: listeners
                .peer
                .iter()
                .find_map(|peer| peer.tls.as_ref())
                .map(|tls| load(tls.into()))
                .transpose()?,
        };
        Ok((certificates, Watch(watched)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Certificate> {
        [&self.ircs, &self.webs, &self.control, &self.peer].into_iter().flatten().map(Arc::as_ref)
    }
}

/// Looks at the files of all certificates.
pub(crate) struct Watch(Vec<Watched>);

impl Watch {
    /// Until it is dropped. The files are a few KiB each and read where it runs: a thread for that would be one more
    /// that does nothing.
    pub(crate) async fn run(mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut looks = time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            for watched in &mut self.0 {
                watched.look();
                watched.say_if_it_expires(Instant::now());
            }
        }
    }
}

type Seen = Result<Contents, CertificateError>;

struct Watched {
    files: Files,
    certificate: Arc<Certificate>,
    /// What was acted upon.
    judged: Seen,
    /// What the last look found, if that is something else.
    found: Option<Seen>,
    said: Option<Instant>,
}

impl Watched {
    fn new(files: Files, contents: Contents, certificate: Arc<Certificate>) -> Self {
        Self { files, certificate, judged: Ok(contents), found: None, said: None }
    }

    /// A change counts once two looks found the same: files may be written one after the other, and a half is no
    /// mistake to speak of.
    fn look(&mut self) {
        let seen = self.files.read();
        if seen == self.judged {
            self.found = None;
        } else if self.found.as_ref() == Some(&seen) {
            self.found = None;
            self.judge(&seen);
            self.judged = seen;
        } else {
            self.found = Some(seen);
        }
    }

    fn judge(&mut self, seen: &Seen) {
        let loaded = match seen {
            Ok(contents) => self.files.load(contents),
            Err(error) => Err(error.clone()),
        };
        let listener = self.files.door.key();
        match loaded {
            Ok(loaded) => {
                let not_after = loaded.not_after;
                *self.certificate.lock() = loaded;
                self.said = None;
                tracing::info!(listener, not_after, "new connections get the new certificate");
            }
            Err(error) => {
                tracing::warn!(%error, "the new certificate cannot be used; the one before stays in use");
            }
        }
    }

    fn say_if_it_expires(&mut self, now: Instant) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = self.certificate.not_after().saturating_sub_unsigned(unix.as_secs());
        let soon = left < i64::try_from(EXPIRES_SOON.as_secs()).unwrap_or(i64::MAX);
        if soon && self.said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
            self.said = Some(now);
            let (listener, file) = (self.files.door.key(), self.files.certificate().display());
            if left < 0 {
                tracing::warn!(listener, %file, "the certificate has expired: clients refuse it; renew it");
            } else {
                let hours_left = left / 3_600;
                tracing::warn!(listener, %file, hours_left, "the certificate expires soon: renew it");
            }
        }
    }
}

//! Every listener of a node, bound before anything else: a port that is taken is found at once.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use contract::config::Listeners;

use crate::{
    admin::Pages,
    certificates::{Certificate, Certificates},
    listen::{ListenError, listen},
};

/// Where clients come in.
pub(crate) struct Doors {
    pub(crate) irc: Vec<IrcDoor>,
    pub(crate) web: Vec<WebDoor>,
}

pub(crate) struct IrcDoor {
    pub(crate) listener: std::net::TcpListener,
    /// With one it is for TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

pub(crate) struct WebDoor {
    pub(crate) listener: std::net::TcpListener,
    /// With one it is for TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) allowed_origins: Vec<String>,
}

/// Where the node answers those who look after it.
pub(crate) struct Posts {
    pub(crate) admin: tokio::net::TcpListener,
    /// What is to be had there.
    pub(crate) admin_pages: Pages,
    pub(crate) control: Option<(tokio::net::TcpListener, Arc<Certificate>)>,
}

/// Where the other nodes come in.
pub(crate) struct PeerDoor {
    pub(crate) listener: std::net::TcpListener,
    /// With one it is for TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// For the line that the node is ready.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) irc: Shown,
    pub(crate) ircs: Shown,
    pub(crate) web: Shown,
    pub(crate) webs: Shown,
    pub(crate) admin: Shown,
    pub(crate) control: Shown,
    pub(crate) peer: Shown,
}

#[derive(Clone, Copy)]
pub(crate) struct Shown(Option<SocketAddr>);

impl Shown {
    pub(crate) fn port(self) -> Option<u16> {
        self.0.map(|address| address.port())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the system refuses a listener: {0}")]
    System(#[from] io::Error),
}

/// Binds what the configuration asks for, on the runtime of whoever calls.
pub(crate) fn bind(
    listeners: &Listeners,
    certificates: &Certificates,
) -> Result<(Doors, Posts, Option<PeerDoor>, Addresses), DoorError> {
    let Listeners { irc, ircs, web, webs, admin, control, peer } = listeners;
    let open = |key, address| -> Result<_, DoorError> {
        let listener = listen(key, address)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let certificate = |certificate: &Option<Arc<Certificate>>| {
        Arc::clone(certificate.as_ref().expect("the certificates are those of these listeners"))
    };
    let mut addresses = Addresses {
        irc: Shown(None),
        ircs: Shown(None),
        web: Shown(None),
        webs: Shown(None),
        admin: Shown(None),
        control: Shown(None),
        peer: Shown(None),
    };
    let mut doors = Doors { irc: Vec::new(), web: Vec::new() };
    if let Some(irc) = irc {
        let (listener, address) = open("listeners.irc.address", irc.address)?;
        addresses.irc = Shown(Some(address));
        doors.irc.push(IrcDoor { listener, certificate: None });
    }
    if let Some(ircs) = ircs {
        let (listener, address) = open("listeners.ircs.address", ircs.address)?;
        addresses.ircs = Shown(Some(address));
        doors.irc.push(IrcDoor { listener, certificate: Some(certificate(&certificates.ircs)) });
    }
    if let Some(web) = web {
        let (listener, address) = open("listeners.web.address", web.address)?;
        addresses.web = Shown(Some(address));
        let allowed_origins = web.allowed_origins.clone();
        doors.web.push(WebDoor { listener, certificate: None, allowed_origins });
    }
    if let Some(webs) = webs {
        let (listener, address) = open("listeners.webs.address", webs.address)?;
        addresses.webs = Shown(Some(address));
        let allowed_origins = webs.allowed_origins.clone();
        let certificate = Some(certificate(&certificates.webs));
        doors.web.push(WebDoor { listener, certificate, allowed_origins });
    }
    let (listener, address) = open("listeners.admin", *admin)?;
    addresses.admin = Shown(Some(address));
    let mut posts =
        Posts { admin: tokio::net::TcpListener::from_std(listener)?, admin_pages: Pages::All, control: None };
    if let Some(control) = control {
        let (listener, address) = open("listeners.control.address", control.address)?;
        addresses.control = Shown(Some(address));
        posts.admin_pages = Pages::Probes;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        posts.control = Some((listener, certificate(&certificates.control)));
    }
    let peer = match peer {
        None => None,
        Some(peer) => {
            let (listener, address) = open("listeners.peer.address", peer.address)?;
            addresses.peer = Shown(Some(address));
            Some(PeerDoor { listener, certificate: certificates.peer.clone() })
        }
    };
    Ok((doors, posts, peer, addresses))
}

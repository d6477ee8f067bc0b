use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use axum::Router;
use hub::Hub;
use tokio::net::TcpListener;

use crate::{Access, AppState, app, connections::Connections, os, socket::Sockets};

/// How long open requests may go on once the program is told to stop; told again, it waits no longer.
const GRACE: Duration = Duration::from_secs(10);

/// How long answers that were cut off may take to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Serves the hub at the address of its settings until the program is told to stop (Ctrl-C, or `SIGTERM` on Unix).
///
/// `ready` is told once connections are accepted and signals are heard; the server knows the port that was taken.
///
/// # Errors
/// As [`Server::bind`].
pub async fn serve(hub: Hub, ready: impl FnOnce(&Server)) -> Result<(), Error> {
    let server = Server::bind(hub).await?;
    // Whoever is told that the server is ready may stop it at once.
    let stop = os::told_to_stop();
    ready(&server);
    let patience = async {
        // Begins to listen when it is first asked, so the word that stopped the server is not heard twice.
        tokio::select! {
            () = tokio::time::sleep(GRACE) => {}
            () = os::told_to_stop() => {}
        }
    };
    server.run(stop, patience).await;
    Ok(())
}

/// A server that has its address and does not serve yet.
///
/// From here on connections are accepted by the operating system, and answered once [`run`](Self::run) is called.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    stalled: Duration,
    hub: Hub,
    wants_keys: bool,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A part of the hub does not answer.
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// The address is reachable from other machines and nobody has a key.
    #[error(
        "{host} can be reached from other machines, and there is no key to tell callers apart: make one with \
         `hub keys create NAME`, or serve 127.0.0.1"
    )]
    NoKey {
        /// The address.
        host: IpAddr,
    },
    /// Another program has the port.
    #[error(
        "port {port} is taken by {}: stop it, or choose another with `--port` (0 takes a free one)",
        holder.as_deref().unwrap_or("another program")
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The program, where the system tells.
        holder: Option<String>,
    },
    /// The address cannot be bound for another reason.
    #[error("cannot listen on {address}: choose another with `--host` and `--port`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> hub::base::ErrorKind {
        use hub::base::ErrorKind;
        match self {
            Self::Hub(error) => error.kind(),
            Self::NoKey { .. } => ErrorKind::Denied,
            Self::PortTaken { .. } | Self::Bind { .. } => ErrorKind::Unavailable,
        }
    }
}

impl Server {
    /// Takes the address of the hub's settings.
    ///
    /// A home is served by one program at a time; whoever calls this holds its lock ([`hub::Home::lock`]).
    ///
    /// # Errors
    /// [`Error::NoKey`] for an address that other machines reach while no key exists; [`Error::PortTaken`] with who
    /// has the port.
    pub async fn bind(hub: Hub) -> Result<Self, Error> {
        let config = hub.config();
        let (host, port) = (config.server.host, config.server.port);
        let access = Access::new(&config.server, config.auth.local);
        let stalled = config.models.stalled_reader();
        if access.is_public() && !has_key(&hub).await? {
            return Err(Error::NoKey { host });
        }
        let address = SocketAddr::new(host, port);
        let cannot = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortTaken { port, holder: os::holder_of_port(port) },
            _ => Error::Bind { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let wants_keys = access.wants_keys();
        let router = app(AppState::new(hub.clone(), access));
        Ok(Self { listener, address, router, stalled, hub, wants_keys })
    }

    /// Returns the address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells whether every caller needs a key.
    pub fn wants_keys(&self) -> bool {
        self.wants_keys
    }

    /// Returns the address as programs on this machine use it: `http://127.0.0.1:8484`.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Serves until `shutdown` is ready, and then lets open requests end until `patience` is.
    ///
    /// Those that are still open then are cut off: the hub is shut down, and each is told so in its own form.
    pub async fn run(self, shutdown: impl Future<Output = ()>, patience: impl Future<Output = ()>) {
        let mut connections = Connections::new(Sockets::new(self.listener, self.stalled), self.router);
        connections.accept_until(shutdown).await;
        tracing::info!(
            "stopping; answers that still run may take a little longer, another signal cuts them off"
        );
        let mut drained = pin!(connections.drained());
        tokio::select! {
            () = &mut drained => return,
            () = patience => tracing::warn!("requests are still open and are cut off"),
        }
        let cut = async { tokio::join!(self.hub.shutdown(Duration::ZERO), drained) };
        if tokio::time::timeout(FLUSH, cut).await.is_err() {
            tracing::warn!("not every open request could be told that the server stops");
        }
    }
}

async fn has_key(hub: &Hub) -> Result<bool, hub::Error> {
    Ok(hub.store().keys().list().await?.iter().any(|key| key.is_active()))
}

/// Writes where a server is reached from this machine: one that listens everywhere also listens on loopback.
fn url(address: SocketAddr) -> String {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(host, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: &str) {
        assert_eq!(url(address.parse().unwrap()), expected);
    }

    #[test]
    fn an_address_is_written_as_it_is_reached() {
        check("127.0.0.1:8484", "http://127.0.0.1:8484");
        check("[::1]:80", "http://[::1]:80");
        check("0.0.0.0:1", "http://127.0.0.1:1");
        check("[::]:1", "http://[::1]:1");
        check("192.168.1.2:8484", "http://192.168.1.2:8484");
    }
}

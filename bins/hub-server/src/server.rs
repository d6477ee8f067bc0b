use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::Router;
use hub::{HomeLock, Hub};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{Access, AppState, InvalidOrigin, app, os, socket::Sockets};

/// A server that has its address and does not serve yet.
///
/// From here on connections are accepted by the operating system, and answered once [`run`](Self::run) is called.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    stalled: Duration,
    // Held until the server has stopped.
    _lock: HomeLock,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The home is served already, or a part of the hub does not answer.
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// An allowed origin is none.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
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

impl ServeError {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> hub::base::ErrorKind {
        use hub::base::ErrorKind;
        match self {
            Self::Hub(error) => error.kind(),
            Self::Origin(_) => ErrorKind::InvalidInput,
            Self::NoKey { .. } => ErrorKind::Denied,
            Self::PortTaken { .. } | Self::Bind { .. } => ErrorKind::Unavailable,
        }
    }
}

impl Server {
    /// Takes the hub's home and the address of its settings, and announces the address to other programs.
    ///
    /// # Errors
    /// [`ServeError::Hub`] with the address of another server on the same home; [`ServeError::NoKey`] for an address
    /// that other machines reach while no key exists; [`ServeError::PortTaken`] with who has the port.
    pub async fn bind(hub: Hub) -> Result<Self, ServeError> {
        let config = hub.config();
        let (host, port) = (config.server.host, config.server.port);
        let access = Access::new(&config.server, config.auth.local)?;
        let stalled = Duration::from_secs(config.models.stalled_reader_s);
        if access.is_public() && !has_key(&hub).await? {
            return Err(ServeError::NoKey { host });
        }
        let lock = hub.home().lock()?;
        let address = SocketAddr::new(host, port);
        let cannot = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortTaken { port, holder: os::holder_of_port(port) },
            _ => ServeError::Bind { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        lock.announce(&url(address))?;
        Ok(Self { listener, address, router: app(AppState::new(hub, access)), stalled, _lock: lock })
    }

    /// Returns the address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address as programs on this machine use it: `http://127.0.0.1:8484`.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Serves until `shutdown` is ready, and then lets open requests end within `grace`.
    ///
    /// Requests that are still open afterwards end with the hub's own shutdown.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static, grace: Duration) {
        let (stopping, stopped) = oneshot::channel();
        let signal = async {
            shutdown.await;
            // Fails only if nobody waits any more.
            let _ = stopping.send(());
        };
        let sockets = Sockets::new(self.listener, self.stalled);
        let serving = axum::serve(sockets, self.router).with_graceful_shutdown(signal);
        let overdue = async {
            // Fails only if serving ended, which the other branch sees.
            let _ = stopped.await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            // It has no way to fail: a connection that breaks is that connection's end.
            _ = serving => {}
            () = overdue => tracing::warn!("requests were still open when the server stopped"),
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

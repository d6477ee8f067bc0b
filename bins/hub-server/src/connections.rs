use std::{pin::pin, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};

use crate::socket::Sockets;

/// How long the head of a request may take, and how long a connection may idle in front of one.
const HEAD: Duration = Duration::from_secs(60);

/// The connections of a server, each on a task of its own.
pub(crate) struct Connections {
    sockets: Sockets,
    service: TowerToHyperService<Router>,
    builder: http1::Builder,
    open: GracefulShutdown,
}

impl Connections {
    pub(crate) fn new(sockets: Sockets, router: Router) -> Self {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
        Self { sockets, service: TowerToHyperService::new(router), builder, open: GracefulShutdown::new() }
    }

    /// Serves every connection that comes until `shutdown` is ready.
    pub(crate) async fn accept_until(&mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                (socket, _) = self.sockets.accept() => {
                    let connection = self.builder.serve_connection(TokioIo::new(socket), self.service.clone());
                    let connection = self.open.watch(connection);
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection broke");
                        }
                    });
                }
                () = &mut shutdown => return,
            }
        }
    }

    /// Takes no more connections, lets idle ones go, and waits for those that answer a request.
    pub(crate) async fn drained(self) {
        drop(self.sockets);
        self.open.shutdown().await;
    }
}

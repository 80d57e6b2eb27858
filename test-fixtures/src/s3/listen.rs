//! The listening socket and its connections, on threads of their own.
//!
//! A server must answer while its test blocks, whether the test has a runtime or not; hence a runtime per listener,
//! which is stopped without waiting for it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::ShapedBody;
use super::front::{Dropped, Front};

/// A listener that answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    stop: CancellationToken,
    closed: Receiver<()>,
    runtime: Option<Runtime>,
}

impl Listener {
    /// Listens on `address` (port 0: any free one) and answers with `front`.
    pub(crate) fn start(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        front: Arc<Front>,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("test-s3")
            .enable_all()
            .build()?;
        let socket = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(socket)?
        };
        let stop = CancellationToken::new();
        let (sender, closed) = channel();
        let stopped = stop.clone();
        runtime.spawn(async move {
            accept(socket, tls, front, stopped).await;
            let _nobody_waits = sender.send(());
        });
        Ok(Self {
            address,
            stop,
            closed,
            runtime: Some(runtime),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    /// Closes the socket, so that its port is free, and breaks every connection.
    fn drop(&mut self) {
        self.stop.cancel();
        let _closed_or_late = self.closed.recv_timeout(Duration::from_secs(5));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(
    socket: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    front: Arc<Front>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                // Too many open files: the pause keeps this loop from spinning.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _slower_at_worst = stream.set_nodelay(true);
        let (tls, front, stop) = (tls.clone(), Arc::clone(&front), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(stream, tls, front) => {}
            }
        });
    }
}

async fn serve(stream: tokio::net::TcpStream, tls: Option<TlsAcceptor>, front: Arc<Front>) {
    match tls {
        None => serve_http(stream, front).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => serve_http(stream, front).await,
            Err(error) => tracing::debug!(%error, "TLS handshake failed"),
        },
    }
}

async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, front: Arc<Front>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let front = Arc::clone(&front);
        async move {
            let response: Result<Response<ShapedBody>, Dropped> =
                front.handle(request.map(s3s::Body::from)).await;
            response
        }
    });
    if let Err(error) = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "connection ended");
    }
}

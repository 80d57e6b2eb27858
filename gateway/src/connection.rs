//! One connection, from the handshake to its end.
//!
//! HTTP/1.1 alone: every client here speaks it, and its connections are simple to keep within limits. A client that is slow
//! to agree, to send a head, or to take an answer is not waited for.

mod patient;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use self::patient::Patient;
use crate::{access::Peer, listen::Accepted, server::Front};

/// Room for a request's head, in bytes.
const HEAD_SIZE_MAX: usize = 64 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a client may take nothing of its answer.
const STALLED_WITHIN: Duration = Duration::from_secs(30);

/// Answers somebody who has connected until he goes away, or `stop`.
pub(crate) async fn serve(accepted: Accepted, front: Arc<Front>, stop: CancellationToken) {
    match accepted {
        Accepted::Unix(stream, peer) => answer(stream, peer, front, stop).await,
        Accepted::Tcp(stream, address, None) => {
            let peer = Peer::Network {
                address: address.ip().to_canonical(),
                certificate: Vec::new(),
            };
            answer(stream, peer, front, stop).await;
        }
        Accepted::Tcp(stream, address, Some(tls)) => {
            let agreed = tokio::time::timeout(front.head_within, tls.accept(stream)).await;
            let (stream, certificate) = match agreed {
                Ok(Ok(agreed)) => agreed,
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "no agreement on a connection");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%address, "too slow to agree on a connection");
                    return;
                }
            };
            let peer = Peer::Network {
                address: address.ip().to_canonical(),
                certificate,
            };
            answer(stream, peer, front, stop).await;
        }
    }
}

async fn answer<S>(stream: S, peer: Peer, front: Arc<Front>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let head_within = front.head_within;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (front, peer) = (front.clone(), peer.clone());
        async move { Ok::<_, Infallible>(front.answer(peer, request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_SIZE_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, STALLED_WITHIN)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            // The request that is at work is answered; no other is taken.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

//! How many connections there may be, and how long one may last that asks nothing.
//!
//! Whoever reaches the port can open connections; that it has a certificate is known only after TLS, and each takes memory and a
//! file descriptor until then. So there is a bound on all of them and on those of one address, and a connection has to make its
//! first request in time.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tonic::transport::server::Connected;

/// Connections in total.
const CONNECTIONS_MAX: usize = 256;
/// Connections from one address.
const PER_ADDRESS_MAX: usize = 32;
/// How long a connection has for TLS and its first request.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How often it is said at most that connections are refused.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The connections of all addresses that are listened on.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    limits: Limits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    all: usize,
    per_address: usize,
    first_request: Duration,
}

#[derive(Debug, Default)]
struct State {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    said: Option<Instant>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self::new(Limits {
            all: CONNECTIONS_MAX,
            per_address: PER_ADDRESS_MAX,
            first_request: FIRST_REQUEST_WITHIN,
        })
    }
}

impl Arrivals {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Arc::default(),
        }
    }

    /// Takes a connection in; `None` if there are too many: then it is closed.
    pub(super) fn take(&self, stream: TcpStream, from: IpAddr) -> Option<Guest> {
        let from = from.to_canonical();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = state.by_address.get(&from).copied().unwrap_or_default();
        if state.all >= self.limits.all || of_it >= self.limits.per_address {
            if state.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                state.said = Some(Instant::now());
                tracing::warn!(
                    %from,
                    of_this_address = of_it,
                    in_all = state.all,
                    "too many connections: one was closed at once"
                );
            }
            return None;
        }
        state.all += 1;
        *state.by_address.entry(from).or_default() += 1;
        Some(Guest {
            stream,
            patience: Box::pin(sleep(self.limits.first_request)),
            asked: Asked::default(),
            _place: Place {
                from,
                state: self.state.clone(),
            },
        })
    }
}

/// One connection's place among all.
#[derive(Debug)]
struct Place {
    from: IpAddr,
    state: Arc<Mutex<State>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.all -= 1;
        if let Some(count) = state.by_address.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&self.from);
            }
        }
    }
}

/// Whether a request has come over a connection. Every request carries it.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// One has come.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that breaks by itself unless something is asked in time.
#[derive(Debug)]
pub(super) struct Guest {
    stream: TcpStream,
    patience: Pin<Box<Sleep>>,
    asked: Asked,
    _place: Place,
}

impl Connected for Guest {
    type ConnectInfo = Asked;

    fn connect_info(&self) -> Asked {
        self.asked.clone()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let has_asked = self.asked.0.load(Ordering::Relaxed);
        if !has_asked && self.patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    /// A connection, both ends.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn arrivals(all: usize, per_address: usize) -> Arrivals {
        Arrivals::new(Limits {
            all,
            per_address,
            first_request: Duration::from_millis(30),
        })
    }

    #[tokio::test]
    async fn there_are_not_more_than_may_be() {
        let arrivals = arrivals(3, 2);
        let take = async |from: &str| {
            let (_, far) = connection().await;
            arrivals.take(far, from.parse().unwrap())
        };
        let first = take("192.0.2.1").await.unwrap();
        let _second = take("::ffff:192.0.2.1").await.unwrap();
        assert!(take("192.0.2.1").await.is_none(), "of one address");
        let _third = take("192.0.2.2").await.unwrap();
        assert!(take("192.0.2.3").await.is_none(), "in all");
        drop(first);
        take("192.0.2.1").await.unwrap();
        assert_eq!(arrivals.state.lock().unwrap().by_address.len(), 2);
    }

    #[tokio::test]
    async fn one_that_asks_nothing_breaks() {
        let arrivals = arrivals(2, 2);
        let (_near, far) = connection().await;
        let mut silent = arrivals.take(far, "192.0.2.1".parse().unwrap()).unwrap();
        let error = silent.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (near, far) = connection().await;
        let mut asking = arrivals.take(far, "192.0.2.1".parse().unwrap()).unwrap();
        asking.connect_info().note();
        let waiting = tokio::time::timeout(Duration::from_millis(90), asking.read_u8());
        assert!(waiting.await.is_err(), "it broke though it had asked");
        drop(near);
        let error = asking.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

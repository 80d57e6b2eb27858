//! The other side: found, checked, connected to, and never waited for without an end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{StreamError, format::HEADER_SIZE};
use crate::{
    ManagerError,
    config::{StreamsConfig, split},
};

/// How long one attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a name may take to be looked up.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(10);
/// What the other side has to take or give, in bytes, in each `streams.silentSecondsMax` that it is waited for.
const LEAST_BYTES: u64 = 1 << 20;
/// How long the other side may take to close after we have.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// An address that may be connected to.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    name: String,
    addresses: Vec<SocketAddr>,
    config: StreamsConfig,
}

impl Peer {
    /// Finds an address that is on the list. What is connected to later is what was checked here, whatever a name leads to then.
    ///
    /// # Errors
    /// `Address`, `NotAllowed`; `Unreachable` for a name on the list that leads nowhere.
    pub(super) async fn find(text: &str, config: &StreamsConfig) -> Result<Self, StreamError> {
        let shown: String = text.chars().take(280).collect();
        let malformed = || StreamError::Address {
            text: shown.clone(),
        };
        let (host, port) = split(text).ok_or_else(malformed)?;
        let denied = || StreamError::NotAllowed {
            address: shown.clone(),
        };
        let allowed = &config.allowed_destinations;
        let is_in_network =
            |address: &SocketAddr| allowed.iter().any(|a| a.contains(address.ip(), port));
        let addresses = if let Ok(address) = host.parse::<IpAddr>() {
            vec![SocketAddr::new(address, port)]
                .into_iter()
                .filter(is_in_network)
                .collect()
        } else if !crate::config::is_host_name(host) {
            return Err(malformed());
        } else if allowed.iter().any(|a| a.is_name(host, port)) {
            look_up(host, port)
                .await
                .map_err(|source| StreamError::Unreachable {
                    address: shown.clone(),
                    source,
                })?
        } else {
            // A name that is on no list may lead to where one of them does; one that leads nowhere is on none.
            let found = look_up(host, port).await.unwrap_or_default();
            found.into_iter().filter(is_in_network).collect()
        };
        if addresses.is_empty() {
            return Err(denied());
        }
        Ok(Self {
            name: shown,
            addresses,
            config: config.clone(),
        })
    }

    /// As it was asked for.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Connects, with patience: who asks for a stream may begin to listen only after that.
    pub(super) async fn connect(&self) -> Result<Connection<'_>, StreamError> {
        let patience = Duration::from_secs(self.config.connect_within_seconds);
        let until = Instant::now() + patience;
        loop {
            let error = match self.attempt().await {
                Ok(stream) => {
                    // Small frames need not wait for each other.
                    let _ = stream.set_nodelay(true);
                    return Ok(Connection {
                        peer: self,
                        stream,
                        waited: Duration::ZERO,
                        moved_bytes: 0,
                    });
                }
                Err(error) => error,
            };
            if Instant::now() + PAUSE >= until {
                return Err(StreamError::Unreachable {
                    address: self.name.clone(),
                    source: error,
                });
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in &self.addresses {
            match timeout(ATTEMPT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// Waits for all that comes before the content, not for each byte of it.
    pub(super) async fn within<T>(
        &self,
        steps: impl Future<Output = Result<T, ManagerError>>,
    ) -> Result<T, ManagerError> {
        let seconds = self.config.silent_seconds_max;
        let done = timeout(Duration::from_secs(seconds), steps).await;
        done.unwrap_or_else(|_| {
            Err(StreamError::Slow {
                address: self.name.clone(),
                bytes: HEADER_SIZE as u64,
                seconds,
            }
            .into())
        })
    }

    fn broken(&self, source: io::Error) -> StreamError {
        StreamError::Broken {
            address: self.name.clone(),
            source,
        }
    }

    /// Waits for the other side, not for ever.
    async fn patiently<T>(
        &self,
        step: impl Future<Output = io::Result<T>>,
    ) -> Result<T, StreamError> {
        let seconds = self.config.silent_seconds_max;
        match timeout(Duration::from_secs(seconds), step).await {
            Ok(done) => done.map_err(|error| self.broken(error)),
            Err(_) => Err(StreamError::Silent {
                address: self.name.clone(),
                seconds,
            }),
        }
    }
}

async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((host, port))).await;
    Ok(found
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
        .collect())
}

/// A connection to it.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    peer: &'a Peer,
    stream: TcpStream,
    /// How long it was waited for since it was last looked at how much that moved.
    waited: Duration,
    moved_bytes: u64,
}

impl Connection<'_> {
    /// Sends all of it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let mut left = bytes;
        while !left.is_empty() {
            let since = Instant::now();
            let sent = self.peer.patiently(self.stream.write(left)).await?;
            if sent == 0 {
                return Err(self.peer.broken(io::ErrorKind::WriteZero.into()));
            }
            self.moved(sent, since.elapsed())?;
            left = &left[sent..];
        }
        Ok(())
    }

    /// What comes next; nothing at its end.
    pub(super) async fn receive(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        let since = Instant::now();
        let len = self.peer.patiently(self.stream.read(into)).await?;
        // The end may come as late as it likes, within what is waited for at all.
        if len > 0 {
            self.moved(len, since.elapsed())?;
        }
        Ok(len)
    }

    /// Refuses one that takes or gives a little now and then: it would hold the turn of others for ever.
    fn moved(&mut self, len: usize, waited: Duration) -> Result<(), StreamError> {
        self.moved_bytes += len as u64;
        self.waited += waited;
        let seconds = self.peer.config.silent_seconds_max;
        if self.waited < Duration::from_secs(seconds) {
            return Ok(());
        }
        if self.moved_bytes < LEAST_BYTES {
            return Err(StreamError::Slow {
                address: self.peer.name.clone(),
                bytes: LEAST_BYTES,
                seconds,
            });
        }
        (self.waited, self.moved_bytes) = (Duration::ZERO, 0);
        Ok(())
    }

    /// Closes after the last byte, so that the other side gets it for certain.
    pub(super) async fn close(mut self) -> Result<(), StreamError> {
        // Some receivers throw away what they have not read yet as soon as they see that the sender has closed.
        sleep(Duration::from_secs(self.peer.config.linger_seconds)).await;
        let closed = self.stream.shutdown().await;
        closed.map_err(|error| self.peer.broken(error))?;
        let until = Instant::now() + CLOSE_WITHIN;
        let mut nothing = [0; 512];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left, self.stream.read(&mut nothing)).await {
                // It keeps its end open, which is its own matter.
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(Ok(_)) => {}
                // It closed before it had read everything.
                Ok(Err(error)) => return Err(self.peer.broken(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(allowed: &[&str]) -> StreamsConfig {
        let parse = |text: &&str| text.parse().unwrap();
        StreamsConfig {
            allowed_destinations: allowed.iter().map(parse).collect(),
            connect_within_seconds: 1,
            silent_seconds_max: 1,
            linger_seconds: 0,
            ..StreamsConfig::default()
        }
    }

    #[tokio::test]
    async fn only_what_is_on_the_list_is_found() {
        let list = config(&["127.0.0.0/8:9000", "localhost:9001"]);
        for good in ["127.0.0.1:9000", "localhost:9000", "localhost:9001"] {
            let found = Peer::find(good, &list).await;
            assert!(found.is_ok(), "{good}: {found:?}");
        }
        for bad in [
            "127.0.0.1:9001",
            "192.0.2.1:9000",
            "[::1]:9000",
            "nowhere.invalid:9000",
        ] {
            let refused = Peer::find(bad, &list).await;
            assert!(
                matches!(refused, Err(StreamError::NotAllowed { .. })),
                "{bad}: {refused:?}"
            );
        }
        for bad in ["", "host", "host:0", "::1:9000", "a b:9000", "file:///x"] {
            let refused = Peer::find(bad, &list).await;
            assert!(
                matches!(refused, Err(StreamError::Address { .. })),
                "{bad}: {refused:?}"
            );
        }
        let none = Peer::find("127.0.0.1:9000", &config(&[])).await;
        assert!(matches!(none, Err(StreamError::NotAllowed { .. })));
    }

    #[tokio::test]
    async fn one_that_gives_a_byte_now_and_then_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = Peer::find(&address, &config(&[&address])).await.unwrap();
        let mut connection = peer.connect().await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let giving = async {
            while other.write_all(&[7]).await.is_ok() {
                sleep(Duration::from_millis(300)).await;
            }
        };
        let receiving = async {
            loop {
                match connection.receive(&mut [0; 8]).await {
                    Ok(len) => assert_eq!(len, 1),
                    Err(error) => return error,
                }
            }
        };
        let slow = tokio::select! {
            slow = timeout(Duration::from_secs(10), receiving) => slow.unwrap(),
            () = giving => panic!("the connection ended"),
        };
        assert!(
            matches!(slow, StreamError::Slow { seconds: 1, .. }),
            "{slow:?}"
        );
    }

    #[tokio::test]
    async fn one_that_is_silent_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let list = config(&[&format!("127.0.0.1:{port}")]);
        let peer = Peer::find(&format!("127.0.0.1:{port}"), &list)
            .await
            .unwrap();
        let mut connection = peer.connect().await.unwrap();
        let silent = connection.receive(&mut [0; 8]).await;
        assert!(
            matches!(silent, Err(StreamError::Silent { seconds: 1, .. })),
            "{silent:?}"
        );
        drop(listener);
        let refused = peer.connect().await;
        assert!(
            matches!(refused, Err(StreamError::Unreachable { .. })),
            "{refused:?}"
        );
    }
}

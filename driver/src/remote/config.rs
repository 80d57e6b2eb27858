//! Where a storage node is, and how long to wait for it.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::CertificateFiles;

/// Where a storage node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`, the host as a name or an address; with TLS.
    Network(String),
    /// A unix socket on this host.
    Unix(PathBuf),
}

/// The text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address: HOST:PORT, [IPV6]:PORT or unix:///PATH")]
pub struct InvalidAddress {
    text: String,
}

impl Address {
    /// Whether it is reached over the network, so that certificates are needed.
    #[must_use]
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Network(_))
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress {
            text: text.chars().take(80).collect(),
        };
        if let Some(path) = text.strip_prefix("unix://") {
            let is_path = path.starts_with('/') && !path.ends_with('/');
            return is_path.then(|| Self::Unix(path.into())).ok_or_else(invalid);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
                !host.is_empty() && host.len() <= 253 && host.bytes().all(sound)
            }
        };
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        (is_host && is_port)
            .then(|| Self::Network(text.to_owned()))
            .ok_or_else(invalid)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(authority) => f.write_str(authority),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How long a storage node is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Until it is connected to.
    pub connect: Duration,
    /// For the answer whether it is there and its pool is well.
    pub look: Duration,
    /// For the answer to a call that is a matter of moments.
    pub call: Duration,
    /// For the answer to a call that may copy or zero a whole volume. A node that is gone is noticed much earlier.
    pub long_call: Duration,
    /// How often it is asked whether it is there while a call is open; and how long it may take to say so.
    pub alive: Duration,
    /// How often a call is made before it is given up, while the node cannot be reached.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            look: Duration::from_secs(10),
            call: Duration::from_secs(60),
            long_call: Duration::from_secs(3600),
            alive: Duration::from_secs(10),
            attempts: 3,
            pause: Duration::from_millis(300),
        }
    }
}

/// A pool of another node.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The storage node's name: its certificate has to say it.
    pub node: String,
    /// Where it is.
    pub address: Address,
    /// The pool's name there; empty for its only one.
    pub pool: String,
    /// By which this node proves itself; needed on the network.
    pub certificate: Option<CertificateFiles>,
    /// How long it is waited for.
    pub limits: Limits,
}

impl RemoteConfig {
    /// With the usual limits.
    pub fn new(
        node: impl Into<String>,
        address: Address,
        pool: impl Into<String>,
        certificate: Option<CertificateFiles>,
    ) -> Self {
        Self {
            node: node.into(),
            address,
            pool: pool.into(),
            certificate,
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "storage-1:7420",
            "192.0.2.1:7420",
            "[2001:db8::1]:7420",
            "unix:///run/m.sock",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "storage-1",
            "storage-1:0",
            "storage-1:70000",
            ":7420",
            "2001:db8::1:7420",
            "https://a:1",
            "user@a:1",
            "unix://run/m.sock",
            "unix:///",
            "a/b:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}

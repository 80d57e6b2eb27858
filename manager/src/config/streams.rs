//! To whom contents of snapshots may be sent, and from whom volumes may be received.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, de};

use super::ConfigError;

/// Longest name of a host, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// Most that any of the numbers of streams may be.
const STREAMS_MAX: usize = 10_000;
/// Longest any of the times may be, in seconds.
const SECONDS_MAX: u64 = 3600;

/// Streams to and from addresses. Without an allowed one there are none.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamsConfig {
    /// `NETWORK/BITS:PORT`, `ADDRESS:PORT` or `NAME:PORT` each; IPv6 in brackets, as `[2001:db8::/32]:9000`.
    #[serde(default)]
    pub allowed_destinations: Vec<AllowedAddress>,
    /// How long nobody may listen at the address yet, in seconds: some begin to only after they have asked.
    #[serde(default = "default_seconds")]
    pub connect_within_seconds: u64,
    /// How long the other side may take or give nothing, in seconds. In all that it is waited for that long it has to take or give
    /// a mebibyte.
    #[serde(default = "default_seconds")]
    pub silent_seconds_max: u64,
    /// How long a connection stays open after the last byte, in seconds: some receivers drop what they have not read yet when the
    /// sender closes.
    #[serde(default = "default_linger")]
    pub linger_seconds: u64,
    /// Snapshots sent at the same time; the others wait.
    #[serde(default = "default_turns")]
    pub sends_max: usize,
    /// Volumes received at the same time; the others wait.
    #[serde(default = "default_turns")]
    pub receives_max: usize,
    /// Streams at the same time, with those that wait; more are refused.
    #[serde(default = "default_streams")]
    pub streams_max: usize,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            allowed_destinations: Vec::new(),
            connect_within_seconds: default_seconds(),
            silent_seconds_max: default_seconds(),
            linger_seconds: default_linger(),
            sends_max: default_turns(),
            receives_max: default_turns(),
            streams_max: default_streams(),
        }
    }
}

impl StreamsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, seconds, least) in [
            ("connectWithinSeconds", self.connect_within_seconds, 1),
            ("silentSecondsMax", self.silent_seconds_max, 1),
            ("lingerSeconds", self.linger_seconds, 0),
        ] {
            if !(least..=SECONDS_MAX).contains(&seconds) {
                return Err(ConfigError {
                    field: format!("streams.{field}"),
                    problem: format!("{seconds} is not from {least} to {SECONDS_MAX}"),
                });
            }
        }
        for (field, number) in [
            ("sendsMax", self.sends_max),
            ("receivesMax", self.receives_max),
            ("streamsMax", self.streams_max),
        ] {
            if !(1..=STREAMS_MAX).contains(&number) {
                return Err(ConfigError {
                    field: format!("streams.{field}"),
                    problem: format!("{number} is not from 1 to {STREAMS_MAX}"),
                });
            }
        }
        Ok(())
    }
}

/// Addresses that may be connected to, with one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedAddress {
    place: Place,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// All addresses whose first bits are the same.
    Network(IpAddr, u8),
    /// Whatever a name, in small letters, leads to.
    Name(String),
}

impl AllowedAddress {
    /// Whether it is a name, and this one.
    pub(crate) fn is_name(&self, host: &str, port: u16) -> bool {
        self.port == port
            && matches!(&self.place, Place::Name(name) if name.eq_ignore_ascii_case(host))
    }

    /// Whether it is a network, and this address lies in it.
    pub(crate) fn contains(&self, address: IpAddr, port: u16) -> bool {
        // What a socket for both families calls an IPv4 address.
        let address = address.to_canonical();
        self.port == port
            && match &self.place {
                Place::Network(network, bits) => first_bits(address, *bits)
                    .is_some_and(|first| Some(first) == first_bits(*network, *bits)),
                Place::Name(_) => false,
            }
    }
}

/// The first bits of an address, and of which kind it is.
fn first_bits(address: IpAddr, bits: u8) -> Option<(bool, u128)> {
    let (is_v4, value, len) = match address {
        IpAddr::V4(address) => (true, u128::from(address.to_bits()), 32_u32),
        IpAddr::V6(address) => (false, address.to_bits(), 128),
    };
    let rest = len.checked_sub(u32::from(bits))?;
    Some((is_v4, value.checked_shr(rest).unwrap_or(0)))
}

/// A host and its port, as `HOST:PORT`; IPv6 in brackets.
pub(crate) fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_number && *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        // An IPv6 address without brackets: where it ends nobody can tell.
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port))
}

/// Whether a name can be one of a host.
pub(crate) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label)
}

impl std::str::FromStr for AllowedAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = split(text).ok_or(())?;
        let (address, bits) = match host.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| ())?)),
            None => (host, None),
        };
        let place = match (address.parse::<IpAddr>(), bits) {
            (Ok(address), bits) => {
                let most = if address.is_ipv4() { 32 } else { 128 };
                let bits = bits.unwrap_or(most);
                if bits > most {
                    return Err(());
                }
                Place::Network(address.to_canonical(), bits)
            }
            (Err(_), None) if is_host_name(host) => Place::Name(host.to_ascii_lowercase()),
            (Err(_), _) => return Err(()),
        };
        Ok(Self { place, port })
    }
}

impl fmt::Display for AllowedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Network(IpAddr::V4(address), 32) => write!(f, "{address}:{}", self.port),
            Place::Network(IpAddr::V4(address), bits) => {
                write!(f, "{address}/{bits}:{}", self.port)
            }
            Place::Network(IpAddr::V6(address), bits) => {
                write!(f, "[{address}/{bits}]:{}", self.port)
            }
            Place::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl<'de> Deserialize<'de> for AllowedAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| {
            let shown: String = text.chars().take(80).collect();
            de::Error::custom(format!(
                "{shown:?} is no address with a port: write it as \"192.0.2.0/24:9000\", \"backup.example.net:9000\" or \
                 \"[2001:db8::/32]:9000\""
            ))
        })
    }
}

fn default_seconds() -> u64 {
    60
}

fn default_turns() -> usize {
    2
}

fn default_streams() -> usize {
    64
}

fn default_linger() -> u64 {
    3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> AllowedAddress {
        text.parse().unwrap_or_else(|()| panic!("{text}"))
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.1.0.0/16:9000", "10.1.255.1", "10.2.0.1"),
            ("192.0.2.7:9000", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0:9000", "198.51.100.1", "2001:db8::1"),
            ("[2001:db8::/32]:9000", "2001:db8:1::5", "2001:db9::5"),
            ("[::/0]:9000", "2001:db8::1", "192.0.2.1"),
            ("10.0.0.0/8:9000", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
        ] {
            let allowed = allowed(network);
            assert!(allowed.contains(inside.parse().unwrap(), 9000), "{network}");
            assert!(
                !allowed.contains(inside.parse().unwrap(), 9001),
                "{network}"
            );
            assert!(
                !allowed.contains(outside.parse().unwrap(), 9000),
                "{network}"
            );
        }
        let name = allowed("Backup.example.net:9000");
        assert!(name.is_name("backup.EXAMPLE.net", 9000) && !name.is_name("example.net", 9000));
        assert!(!name.contains("192.0.2.1".parse().unwrap(), 9000));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "a",
            ":9000",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "10.0.0.0/33:1",
            "2001:db8::1:9000",
            "[::1:9000",
            "a b:1",
            "a/8:1",
            "10.0.0.0/x:1",
            "..:1",
            "[2001:db8::]/32:1",
        ] {
            assert!(bad.parse::<AllowedAddress>().is_err(), "{bad}");
        }
        for good in [
            "10.0.0.0/8:9000",
            "192.0.2.1:1",
            "[2001:db8::/32]:9000",
            "backup.example.net:9000",
        ] {
            assert_eq!(allowed(good).to_string(), good);
        }
    }
}

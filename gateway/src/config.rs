//! What an administrator says to the gateway: the section `gateway` of the daemon's file.
//!
//! ```yaml
//! gateway:
//!   socket: /run/stockpot/gateway.sock
//!   socketMode: owner                    # or group: what the group of the daemon may open, too
//!   listen: ["10.0.0.5:8776"]
//!   certificate: {certFile: …, keyFile: …, caFile: …}   # caFile: clients have to show a certificate that it signed
//!   authentication:
//!     tokensFile: /etc/stockpot/tokens   # NAME:SHA-256 of the token in hex, one a line
//!     allowCertificates: [backup-operator]
//!     allowWithoutAuthentication: [127.0.0.0/8]
//! ```
//!
//! No secret stands here. What does not fit together is refused before anything is bound.

mod network;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::network::Network;

/// The configuration of the gateway.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayConfig {
    /// The unix socket of the manager; told by the program.
    #[serde(skip)]
    pub manager_socket: PathBuf,
    /// A unix socket to serve on: whoever may open it, may call.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Who may open it.
    #[serde(default)]
    pub socket_mode: SocketMode,
    /// Addresses to serve on, `IP:PORT`.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// By which the gateway proves itself on TCP; without, it speaks plain HTTP.
    #[serde(default)]
    pub certificate: Option<CertificateConfig>,
    /// Who may call over TCP.
    #[serde(default)]
    pub authentication: AuthenticationConfig,
    /// How much a caller may ask for.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// Who may open the unix socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SocketMode {
    /// Its owner: 0600.
    #[default]
    Owner,
    /// Its group, too: 0660.
    Group,
}

impl SocketMode {
    /// As the file system has it.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

/// PEM files; they are read again when they change.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateConfig {
    /// The gateway's certificate, with those between it and the authority.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The authority of the clients' certificates; with it, a client may show one.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Who may call over TCP.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfig {
    /// A file with a line `NAME:SHA-256 of the token in hex` for each token; it is read again when it changes.
    #[serde(default)]
    pub tokens_file: Option<PathBuf>,
    /// Names (DNS names, else the common name) of the clients' certificates that are let in.
    #[serde(default)]
    pub allow_certificates: Vec<String>,
    /// Networks whose hosts need to show nothing, for clients that cannot.
    #[serde(default)]
    pub allow_without_authentication: Vec<Network>,
}

/// How much a caller may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Largest body, in bytes.
    pub body_size_bytes_max: usize,
    /// Requests of one caller each second, in the long run.
    pub requests_per_second_max: u32,
    /// Requests of one caller at once after a pause.
    pub requests_burst_max: u32,
    /// Requests at work, of all callers.
    pub requests_at_once_max: usize,
    /// Connections that are open on each address and on the socket, of all callers.
    pub connections_max: usize,
    /// How long a request may take, in seconds.
    pub request_seconds_max: u64,
    /// How long a client may take to send the head of a request, or to send the next one, in seconds.
    pub head_seconds_max: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_size_bytes_max: 1 << 20,
            requests_per_second_max: 50,
            requests_burst_max: 200,
            requests_at_once_max: 64,
            connections_max: 512,
            request_seconds_max: 60,
            head_seconds_max: 15,
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// The setting.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// Longest path of a unix socket that Linux takes, in bytes, without the final zero; some are kept for the name it has
/// before it is open.
const SOCKET_PATH_BYTES_MAX: usize = 103;

impl GatewayConfig {
    /// Refuses what cannot work or would let in whoever comes.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.socket.is_none() && self.listen.is_empty() {
            return wrong("gateway", "name a `socket`, or an address in `listen`");
        }
        if let Some(socket) = &self.socket {
            check_socket(socket, &self.manager_socket)?;
        }
        self.check_access()?;
        self.limits.check()
    }

    fn check_access(&self) -> Result<(), ConfigError> {
        let access = &self.authentication;
        let shows_certificates = self
            .certificate
            .as_ref()
            .is_some_and(|certificate| certificate.ca_file.is_some());
        if !access.allow_certificates.is_empty() && !shows_certificates {
            return wrong(
                "authentication.allowCertificates",
                "needs `certificate.caFile`, the authority that signed them",
            );
        }
        if shows_certificates && access.allow_certificates.is_empty() {
            return wrong(
                "certificate.caFile",
                "needs the names that are let in, `authentication.allowCertificates`",
            );
        }
        let lets_somebody_in = access.tokens_file.is_some()
            || !access.allow_certificates.is_empty()
            || !access.allow_without_authentication.is_empty();
        if !self.listen.is_empty() && !lets_somebody_in {
            return wrong(
                "authentication",
                "nobody could call on the addresses of `listen`: name a `tokensFile`, or `allowCertificates` with \
                 `certificate.caFile`, or, for clients that can show nothing, their networks in \
                 `allowWithoutAuthentication` (this host is 127.0.0.0/8 and ::1/128)",
            );
        }
        for (field, path) in [
            ("authentication.tokensFile", access.tokens_file.as_ref()),
            (
                "certificate.certFile",
                self.certificate.as_ref().map(|c| &c.cert_file),
            ),
            (
                "certificate.keyFile",
                self.certificate.as_ref().map(|c| &c.key_file),
            ),
            (
                "certificate.caFile",
                self.certificate.as_ref().and_then(|c| c.ca_file.as_ref()),
            ),
        ] {
            if let Some(path) = path
                && !path.is_absolute()
            {
                return wrong(field, format!("{} is not absolute", path.display()));
            }
        }
        Ok(())
    }

    /// Whether tokens would cross a network where others can read them.
    #[must_use]
    pub(crate) fn tokens_travel_in_clear(&self) -> bool {
        let beyond_this_host = |address: &SocketAddr| !address.ip().is_loopback();
        self.certificate.is_none()
            && self.authentication.tokens_file.is_some()
            && self.listen.iter().any(beyond_this_host)
    }
}

impl LimitsConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let within = |field: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            wrong(
                &format!("limits.{field}"),
                format!("{value} is not from {least} to {most}"),
            )
        };
        within(
            "bodySizeBytesMax",
            self.body_size_bytes_max as u64,
            4096,
            64 << 20,
        )?;
        within(
            "requestsPerSecondMax",
            self.requests_per_second_max.into(),
            1,
            100_000,
        )?;
        within(
            "requestsBurstMax",
            self.requests_burst_max.into(),
            1,
            1_000_000,
        )?;
        within(
            "requestsAtOnceMax",
            self.requests_at_once_max as u64,
            1,
            10_000,
        )?;
        within("connectionsMax", self.connections_max as u64, 1, 60_000)?;
        within("requestSecondsMax", self.request_seconds_max, 1, 3600)?;
        within("headSecondsMax", self.head_seconds_max, 1, 600)
    }
}

fn wrong<T>(field: &str, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError {
        field: field.to_owned(),
        problem: problem.into(),
    })
}

fn check_socket(socket: &Path, manager: &Path) -> Result<(), ConfigError> {
    if !socket.is_absolute() {
        return wrong("socket", format!("{} is not absolute", socket.display()));
    }
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let problem = format!(
            "{} is longer than a socket's name may be, {SOCKET_PATH_BYTES_MAX} bytes",
            socket.display()
        );
        return wrong("socket", problem);
    }
    if socket == manager {
        return wrong(
            "socket",
            "is the manager's `socket` already: each needs its own",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Real S3 servers as child processes: versitygw and MinIO, as `make setup-s3` installed them.
//!
//! Each server has a directory and a port of its own, listens on 127.0.0.1, and is gone when its handle is dropped
//! or when the test dies.

mod process;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials as SdkCredentials, Region};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::keys::Credentials;
use process::Process;

/// How long a server may take to answer.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A server that the tests know how to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Versity S3 gateway on a POSIX directory.
    Versitygw,
    /// MinIO on one directory.
    Minio,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Versitygw, Self::Minio];

    /// The program's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Versitygw => "versitygw",
            Self::Minio => "minio",
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    /// It is not installed.
    #[error("{} is not there: run 'make setup-s3'", path.display())]
    NotInstalled {
        /// Where it should be.
        path: PathBuf,
    },
    /// `STOCKPOT_TEST_S3` names something else than a known server.
    #[error("STOCKPOT_TEST_S3 names '{name}', which is neither versitygw nor minio")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// No directory for it could be made.
    #[error("cannot make a directory for the server")]
    Directory(#[source] std::io::Error),
    /// It could not be run.
    #[error("cannot run {}", path.display())]
    Run {
        /// The script or program.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended, or did not answer within a minute.
    #[error("{name} did not become ready; it said: {output}")]
    NotReady {
        /// The program.
        name: &'static str,
        /// The end of its output.
        output: String,
    },
}

/// The servers that the caller of the tests asked for: `STOCKPOT_TEST_S3=versitygw,minio`. None if it is not set.
///
/// # Errors
/// If the variable names an unknown server.
pub fn requested() -> Result<Vec<Kind>, RealError> {
    let names = environment("STOCKPOT_TEST_S3").unwrap_or_default();
    let names = names.split([',', ' ']).filter(|name| !name.is_empty());
    names.map(parse_kind).collect()
}

fn parse_kind(name: &str) -> Result<Kind, RealError> {
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| RealError::UnknownName {
        name: name.to_owned(),
    })
}

/// A running server.
#[derive(Debug)]
pub struct RealServer {
    kind: Kind,
    address: SocketAddr,
    credentials: Credentials,
    process: Option<Process>,
    directory: TempDir,
}

impl RealServer {
    /// Starts a server with an empty store and waits until it answers.
    ///
    /// # Errors
    /// If it is not installed, or does not come up.
    pub fn start(kind: Kind) -> Result<Self, RealError> {
        let program = program(kind);
        if !program.exists() {
            return Err(RealError::NotInstalled { path: program });
        }
        let mut last = None;
        // Between finding a free port and listening on it, somebody else may take it.
        for _attempt in 0..3 {
            let mut server = Self {
                kind,
                address: free_address().map_err(RealError::Directory)?,
                credentials: Credentials::random(),
                process: None,
                directory: directory().map_err(RealError::Directory)?,
            };
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("the loop ran at least once"))
    }

    /// Which server it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The endpoint's URL; path style, region `us-east-1`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The root user's keys.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The SDK as the root user: for what Stockpot itself never asks a server.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        let (id, secret) = (
            &self.credentials.access_key,
            self.credentials.secret_key.expose_secret(),
        );
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(self.endpoint())
            .force_path_style(true)
            .credentials_provider(SdkCredentials::new(id, secret, None, None, "test"));
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Makes an empty bucket, as a folder of the server's: both keep buckets so.
    ///
    /// # Errors
    /// Those of making the folder.
    pub fn create_bucket(&self, name: &str) -> std::io::Result<()> {
        std::fs::create_dir(self.directory.path().join("data").join(name))
    }

    /// Kills the server as a crash does; what it stored stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port with what it stored.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self) -> Result<(), RealError> {
        self.process = None;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("s3-server");
        let arguments = [
            self.kind.name().into(),
            self.directory.path().into(),
            self.address.to_string().into(),
        ];
        let environment = [
            ("ROOT_ACCESS_KEY", self.credentials.access_key.as_str()),
            (
                "ROOT_SECRET_KEY",
                self.credentials.secret_key.expose_secret(),
            ),
        ];
        let log = self.directory.path().join("server.log");
        let process = Process::start(&script, &arguments, &environment, &log);
        let process = process.map_err(|source| RealError::Run {
            path: script,
            source,
        })?;
        wait_ready(&process, self.address, self.kind, &log)?;
        self.process = Some(process);
        Ok(())
    }
}

fn wait_ready(
    process: &Process,
    address: SocketAddr,
    kind: Kind,
    log: &Path,
) -> Result<(), RealError> {
    let deadline = Instant::now() + READY_DEADLINE;
    while Instant::now() < deadline && process.is_running() {
        if answers(address).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = std::fs::read(log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output[output.len().saturating_sub(2000)..])
        .trim()
        .to_owned();
    Err(RealError::NotReady {
        name: kind.name(),
        output,
    })
}

/// Whether the server answers a request with something that is not its own failure: an unsigned listing is refused
/// with 403 by a server that works, and answered 503 by one that is still starting.
fn answers(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(
        format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut start = [0u8; 12];
    stream.read_exact(&mut start)?;
    Ok(start.starts_with(b"HTTP/1.") && matches!(start[9], b'2'..=b'4'))
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A directory where files can have extended attributes, which versitygw needs: on disk if that can, else wherever
/// temporary files belong.
fn directory() -> std::io::Result<TempDir> {
    if let Ok(directory) = TempDir::with_prefix_in("stockpot-s3-", "/var/tmp")
        && xattr::set(directory.path(), "user.stockpot", b"1").is_ok()
    {
        return Ok(directory);
    }
    TempDir::with_prefix("stockpot-s3-")
}

fn program(kind: Kind) -> PathBuf {
    let cache = environment("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| Path::new(&environment("HOME").unwrap_or_default()).join(".cache"));
    cache.join("stockpot/bin").join(kind.name())
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but their environment"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parse_kind("minio").unwrap(), Kind::Minio);
        assert!(
            matches!(parse_kind("ceph"), Err(RealError::UnknownName { name }) if name == "ceph")
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = RealError::NotInstalled {
            path: "/x/minio".into(),
        };
        assert_eq!(
            error.to_string(),
            "/x/minio is not there: run 'make setup-s3'"
        );
    }
}

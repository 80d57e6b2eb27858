//! A node's certificate: whose it is, how long it lasts, and its files.
//!
//! A certificate is of one node: it has exactly one DNS name, the node's. What it is worth is for the TLS library to
//! judge, at each connection.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tonic::transport::{Certificate, ClientTlsConfig, Identity, Server, ServerTlsConfig};
use x509_parser::prelude::{FromDer, GeneralName, Pem, X509Certificate, X509Error};
use zeroize::Zeroizing;

use super::failure;
use crate::task::Stopping;

/// Largest file of certificates or of a key, in bytes.
const FILE_SIZE_MAX: u64 = 256 << 10;
/// How long a caller may take to agree on a connection.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Where a node's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, in PEM, and what leads from it to the authority.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authority of all nodes, in PEM.
    pub ca: PathBuf,
}

/// A certificate that cannot be used. Never holds what is in a key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it has to be.
    #[error("{} cannot be used: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// It is not valid any more.
    #[error("{} has expired: make a new certificate (`stockpot pki issue`)", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
    },
    /// None is configured, and the network wants one.
    #[error("this node has no certificate, and another node is reached with one only")]
    None,
    /// The process ended before the files were read.
    #[error("the process is stopping")]
    Stopping,
}

impl From<Stopping> for CertificateError {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its DNS names.
    pub names: Vec<String>,
    /// Whom it is made out to, in full.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Whether it is an authority's.
    pub is_authority: bool,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl CertificateFacts {
    /// Reads the first certificate of a PEM file's content.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let block = Pem::iter_from_buffer(pem)
            .find(|block| block.as_ref().is_ok_and(|b| b.label == "CERTIFICATE"));
        match block {
            Some(Ok(block)) => Self::of_der(&block.contents),
            _ => Err("it holds no certificate in PEM".to_owned()),
        }
    }

    /// Reads a certificate.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_der(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| "it is no X.509 certificate".to_owned())?;
        let alternatives = certificate
            .subject_alternative_name()
            .map_err(|_| "it has its names twice".to_owned())?;
        let names = alternatives
            .iter()
            .flat_map(|them| &them.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Ok(Self {
            names: names.collect(),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            is_authority: certificate.is_ca(),
            not_before: time_of(certificate.validity().not_before.timestamp()),
            not_after: time_of(certificate.validity().not_after.timestamp()),
        })
    }

    /// The one node that it is of.
    ///
    /// # Errors
    /// If it has no DNS name, or several.
    pub fn node(&self) -> Result<&str, String> {
        match self.names.as_slice() {
            [name] => Ok(name),
            [] => Err("it has no DNS name; a node's certificate has the node's name".to_owned()),
            several => Err(format!(
                "it has the names {}; a node's certificate has one, the node's",
                several.join(", ")
            )),
        }
    }

    /// How long it lasts from now on; nothing when it has expired.
    #[must_use]
    pub fn left(&self) -> Duration {
        let left = self.not_after.duration_since(SystemTime::now());
        left.unwrap_or(Duration::ZERO)
    }

    /// When it expires, in words.
    #[must_use]
    pub fn end(&self) -> String {
        match jiff::Timestamp::try_from(self.not_after) {
            Ok(end) => end.to_string(),
            Err(_) => "a time that has no name".to_owned(),
        }
    }
}

fn time_of(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if seconds < 0 {
        epoch.checked_sub(since)
    } else {
        epoch.checked_add(since)
    };
    time.unwrap_or(epoch)
}

/// A node's certificate, key and authority, read and looked at.
pub struct NodeCertificate {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    ca: Vec<u8>,
    facts: CertificateFacts,
    node: String,
}

impl std::fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCertificate")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl NodeCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read or is not what it has to be, every user of the host can read the key, or they do not go
    /// together.
    pub fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let unusable = |path: &Path, problem: &str| CertificateError::Unusable {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let certificate = read(&files.certificate)?;
        let facts = CertificateFacts::of_pem(&certificate)
            .map_err(|problem| unusable(&files.certificate, &problem))?;
        let node = facts.node().map(str::to_owned);
        let node = node.map_err(|problem| unusable(&files.certificate, &problem))?;
        let ca = read(&files.ca)?;
        let authority =
            CertificateFacts::of_pem(&ca).map_err(|problem| unusable(&files.ca, &problem))?;
        if !authority.is_authority {
            return Err(unusable(&files.ca, "it is not an authority's certificate"));
        }
        if !leads_to(&certificate, &ca) {
            return Err(unusable(
                &files.certificate,
                &format!("it is not of the authority in {}", files.ca.display()),
            ));
        }
        let mode = fs::metadata(&files.key).map(|meta| meta.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o007 != 0) {
            return Err(unusable(
                &files.key,
                "every user of this host can read this key; chmod 600",
            ));
        }
        let key = Zeroizing::new(read(&files.key)?);
        if !key.windows(11).any(|window| window == b"PRIVATE KEY") {
            return Err(unusable(&files.key, "it holds no private key in PEM"));
        }
        let this = Self {
            certificate,
            key,
            ca,
            facts,
            node,
        };
        match Server::builder().tls_config(this.server()) {
            Ok(_) => Ok(this),
            Err(error) => {
                let why = failure::chain(&error);
                let problem =
                    format!("it does not go with the certificate and the authority: {why}");
                Err(unusable(&files.key, &problem))
            }
        }
    }

    /// The name of the node that it is of.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What it says.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &*self.key)
    }

    /// How this node answers others: only to certificates of the authority.
    pub(super) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity())
            .client_ca_root(Certificate::from_pem(&self.ca))
            .timeout(HANDSHAKE_WITHIN)
    }

    /// How this node calls another one, whose certificate has to have that name; they have so long to agree.
    pub(super) fn client(&self, node: &str, within: Duration) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(self.identity())
            .ca_certificate(Certificate::from_pem(&self.ca))
            .domain_name(node)
            .timeout(within)
    }
}

/// Whether the first certificate was issued by one of the authorities, by way of the others that are with it. What is
/// signed in a way that is not known here is left to the TLS library.
fn leads_to(certificates: &[u8], authorities: &[u8]) -> bool {
    let blocks = |pem| -> Vec<Pem> { Pem::iter_from_buffer(pem).filter_map(Result::ok).collect() };
    let (chain, authorities) = (blocks(certificates), blocks(authorities));
    let chain: Vec<_> = chain
        .iter()
        .filter_map(|pem| pem.parse_x509().ok())
        .collect();
    let authorities: Vec<_> = authorities
        .iter()
        .filter_map(|pem| pem.parse_x509().ok())
        .collect();
    let Some((mut current, between)) = chain.split_first() else {
        return false;
    };
    for _ in 0..=between.len() {
        if authorities.iter().any(|issuer| issued(issuer, current)) {
            return true;
        }
        let next = between.iter().find(|issuer| issued(issuer, current));
        let Some(next) = next else { return false };
        current = next;
    }
    false
}

fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    issuer.subject() == certificate.issuer()
        && !matches!(
            certificate.verify_signature(Some(issuer.public_key())),
            Err(X509Error::SignatureVerificationError)
        )
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read {
        path: path.to_owned(),
        source,
    };
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_file() || meta.len() > FILE_SIZE_MAX {
        return Err(CertificateError::Unusable {
            path: path.to_owned(),
            problem: format!("it is no file of at most {FILE_SIZE_MAX} bytes"),
        });
    }
    fs::read(path).map_err(failed)
}

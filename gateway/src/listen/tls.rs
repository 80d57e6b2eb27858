//! TLS: the gateway's certificate, and those that clients show.
//!
//! The files are read again when they change: a renewed certificate holds from the next connection on. Files that
//! cannot be used then change nothing, and are told.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::CertificateConfig;

/// What tells that files have changed: modification time, size, inode of each.
type Stamp = Vec<(i64, i64, u64, u64)>;

/// Certificates that cannot be used. Never holds what is in a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file is not what it has to be.
    #[error("{} cannot be used: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// How the gateway agrees on a connection.
pub(crate) struct Tls {
    files: CertificateConfig,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    pub(crate) fn read(files: CertificateConfig) -> Result<Self, TlsError> {
        let stamp = stamp(&files);
        let config = Arc::new(server_config(&files)?);
        Ok(Self {
            files,
            current: Mutex::new((stamp, config)),
        })
    }

    /// Agrees with a client; the names in its certificate, if it showed one, which the authority signed.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Vec<String>)> {
        let acceptor = TlsAcceptor::from(self.config());
        let stream = acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(|all| all.first());
        let names = shown
            .map(|certificate| names(certificate))
            .unwrap_or_default();
        Ok((stream, names))
    }

    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.files);
        if current.0 != now {
            match server_config(&self.files) {
                Ok(config) => {
                    tracing::info!("the gateway's certificate was read again");
                    *current = (now, Arc::new(config));
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the gateway goes on with the certificate it has");
                    // Told once for each change.
                    current.0 = now;
                }
            }
        }
        current.1.clone()
    }
}

fn stamp(files: &CertificateConfig) -> Stamp {
    let all = [
        Some(&files.cert_file),
        Some(&files.key_file),
        files.ca_file.as_ref(),
    ];
    let stamps = all.into_iter().flatten().map(|path| {
        fs::metadata(path)
            .map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
            .unwrap_or_default()
    });
    stamps.collect()
}

fn server_config(files: &CertificateConfig) -> Result<ServerConfig, TlsError> {
    let unusable = |path: &Path, problem: String| TlsError::Unusable {
        path: path.to_owned(),
        problem,
    };
    let chain = certificates(&files.cert_file)?;
    let mode = fs::metadata(&files.key_file).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        let problem = "every user of this host can read this key; chmod 600".to_owned();
        return Err(unusable(&files.key_file, problem));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key_file)?)
        .map_err(|_| unusable(&files.key_file, "it holds no private key in PEM".to_owned()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.cert_file, error.to_string()))?;
    let builder = match &files.ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| unusable(path, error.to_string()))?;
            }
            // Who shows none may have a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let problem = format!("it does not go with the certificate: {error}");
        unusable(&files.key_file, problem)
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(TlsError::Unusable {
            path: path.to_owned(),
            problem: "it holds no certificate in PEM".to_owned(),
        }),
    }
}

/// The DNS names of a certificate; the common names where it has none.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives
        .iter()
        .flat_map(|them| &them.value.general_names);
    let names: Vec<_> = names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name();
    common
        .filter_map(|name| name.as_str().ok().map(str::to_owned))
        .collect()
}

//! A node's certificate as it is on disk now: one that was renewed is taken with the next connection, without a restart.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{CertificateError, CertificateFiles, NodeCertificate};

/// A node's certificate whose files may be replaced while it is in use.
///
/// Files that cannot be used (while only one of them is replaced, say) are told in the log, once, and leave the certificate
/// that was read before in use. So do those of another node.
#[derive(Debug)]
pub struct RenewedCertificate {
    files: CertificateFiles,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: Option<Arc<NodeCertificate>>,
    /// What the files were when they were last read, whether or not they could be used.
    read: Option<Stamp>,
}

/// What tells a file that was replaced or written to; nothing for one that is not there.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 3];

impl RenewedCertificate {
    /// That of these files; nothing is read yet.
    #[must_use]
    pub fn new(files: CertificateFiles) -> Self {
        Self {
            files,
            state: Mutex::default(),
        }
    }

    /// The certificate as it is now: the same [`Arc`] while the files are the same.
    ///
    /// # Errors
    /// If the files cannot be used, and none that could be used was read before.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<NodeCertificate>, CertificateError> {
        let this = self.clone();
        crate::task::blocking(move || this.look()).await
    }

    fn look(&self) -> Result<Arc<NodeCertificate>, CertificateError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: what is replaced meanwhile is read again the next time.
        let stamp = self.stamp();
        if let Some(used) = &state.used
            && state.read == Some(stamp)
        {
            return Ok(used.clone());
        }
        let read = NodeCertificate::read(&self.files);
        // Files that could not be read at all may be readable the next time, and be the same.
        let is_read = !matches!(read, Err(CertificateError::Read { .. }));
        state.read = is_read.then_some(stamp);
        let Some(used) = &state.used else {
            let first = Arc::new(read?);
            state.used = Some(first.clone());
            return Ok(first);
        };
        match read {
            Ok(new) if new.node() == used.node() => {
                tracing::info!(
                    node = new.node(),
                    days = new.facts().left().as_secs() / (24 * 3600),
                    "a renewed certificate is used from now on"
                );
                let new = Arc::new(new);
                state.used = Some(new.clone());
                Ok(new)
            }
            Ok(new) => {
                tracing::error!(
                    certificate = %self.files.certificate.display(),
                    node = new.node(),
                    "the certificate was replaced by another node's: the one before stays in use"
                );
                Ok(used.clone())
            }
            Err(error) => {
                let error = super::failure::chain(&error);
                tracing::warn!(
                    error,
                    "the certificate's files were replaced and cannot be used as they are: the one before stays in use"
                );
                Ok(used.clone())
            }
        }
    }

    fn stamp(&self) -> Stamp {
        let files = &self.files;
        [&files.certificate, &files.key, &files.ca].map(|file| {
            let meta = fs::metadata(file).ok()?;
            Some((
                meta.dev(),
                meta.ino(),
                meta.size(),
                meta.mtime(),
                meta.mtime_nsec(),
            ))
        })
    }
}

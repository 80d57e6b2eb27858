//! What must survive a reboot: who was let in to what, with which secrets.

use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ExportName;
use crate::{AccessMode, ChapCredentials, IscsiAuth, task::Stopping};

/// One host's access to an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The initiator's name, in small letters.
    pub initiator: String,
    /// The host that asked, which alone may ask again and end it; `None` where that is not on record.
    pub host: Option<String>,
    /// What it may do.
    pub mode: AccessMode,
    /// The secrets of this connection.
    pub auth: IscsiAuth,
}

/// What is exported to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRecord {
    /// What is exported.
    pub name: ExportName,
    /// To whom; never empty.
    pub grants: Vec<Grant>,
}

/// All that is on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Those that can be read.
    pub records: Vec<ExportRecord>,
    /// Of these something is written that cannot be opened: what the kernel has of them must not go.
    pub unreadable: Vec<ExportName>,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// It is there, and damaged, or sealed with another key; the text says which one. No secret.
    #[error("{0}")]
    Unreadable(String),
    /// The place where records are kept did not do what was asked.
    #[error("{doing}")]
    Failed {
        /// What was being done, in words; no secret.
        doing: String,
        /// The cause, where there is one; no secret.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl RecordsError {
    /// An error without a cause.
    pub fn new(doing: impl Into<String>) -> Self {
        Self::Failed {
            doing: doing.into(),
            source: None,
        }
    }

    /// An error and its cause.
    pub fn because(
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            doing: doing.into(),
            source: Some(source.into()),
        }
    }
}

impl From<Stopping> for RecordsError {
    fn from(_: Stopping) -> Self {
        Self::new("the process is stopping")
    }
}

/// Where records are kept. They hold secrets: an implementation seals what it writes.
///
/// A record is written before the kernel is told, and removed after. So whatever the kernel has is in a record.
#[async_trait]
pub trait ExportRecords: Send + Sync + fmt::Debug {
    /// Writes a record, or replaces it; it survives a power cut once this returns.
    ///
    /// # Errors
    /// If it could not be written.
    async fn put(&self, record: &ExportRecord) -> Result<(), RecordsError>;

    /// The record, or `None`.
    ///
    /// # Errors
    /// [`RecordsError::Unreadable`] if it is there and cannot be opened.
    async fn get(&self, name: &ExportName) -> Result<Option<ExportRecord>, RecordsError>;

    /// Removes a record. None is success.
    ///
    /// # Errors
    /// If it could not be removed.
    async fn remove(&self, name: &ExportName) -> Result<(), RecordsError>;

    /// All records, and the names of those that cannot be opened.
    ///
    /// # Errors
    /// If they could not be listed.
    async fn all(&self) -> Result<Recorded, RecordsError>;
}

/// The record in writing. Holds secrets in clear: sealed before it goes anywhere.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow)]
    grants: Vec<WrittenGrant<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WrittenGrant<'a> {
    initiator: &'a str,
    /// Not in records of the first version.
    #[serde(default)]
    host: Option<&'a str>,
    mode: AccessMode,
    user: &'a str,
    secret: &'a str,
    mutual: Option<(&'a str, &'a str)>,
}

impl ExportRecord {
    /// The record as bytes, secrets in clear: for an [`ExportRecords`] to seal.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let grants = self.grants.iter().map(|grant| WrittenGrant {
            initiator: &grant.initiator,
            host: grant.host.as_deref(),
            mode: grant.mode,
            user: &grant.auth.initiator.username,
            secret: grant.auth.initiator.password.expose_secret(),
            mutual: grant
                .auth
                .target
                .as_ref()
                .map(|target| (target.username.as_str(), target.password.expose_secret())),
        });
        let written = Written {
            name: self.name.key(),
            grants: grants.collect(),
        };
        // Room enough at once: growing would leave copies of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(256 + 1024 * self.grants.len()));
        serde_json::to_writer(&mut *bytes, &written).expect("strings are written to memory");
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes); `None` if these are other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let written: Written<'_> = serde_json::from_slice(bytes).ok()?;
        let credentials = |username: &str, password: &str| ChapCredentials {
            username: username.to_owned(),
            password: SecretString::from(password),
        };
        let grants = written.grants.iter().map(|grant| Grant {
            initiator: grant.initiator.to_owned(),
            host: grant.host.map(str::to_owned),
            mode: grant.mode,
            auth: IscsiAuth {
                initiator: credentials(grant.user, grant.secret),
                target: grant.mutual.map(|(user, secret)| credentials(user, secret)),
            },
        });
        Some(Self {
            name: written.name.parse().ok()?,
            grants: grants.collect(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn record(id: &str) -> ExportRecord {
        let grant = |initiator: &str, mode| Grant {
            initiator: initiator.into(),
            host: Some("worker-1".into()),
            mode,
            auth: super::super::secret::fresh().unwrap(),
        };
        let mut one_way = grant("iqn.2026-01.test:b", AccessMode::ReadWrite);
        one_way.auth.target = None;
        one_way.host = None;
        ExportRecord {
            name: ExportName::Snapshot(id.parse().unwrap()),
            grants: vec![grant("iqn.2026-01.test:a", AccessMode::ReadOnly), one_way],
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let record = record("s-1");
        let bytes = record.to_bytes();
        assert!(bytes.len() < 256 + 2 * 1024);
        assert_eq!(ExportRecord::from_bytes(&bytes).as_ref(), Some(&record));
        let first_version = String::from_utf8(bytes.to_vec()).unwrap();
        let first_version = first_version.replace("\"host\":null,", "");
        assert_eq!(
            ExportRecord::from_bytes(first_version.as_bytes()).as_ref(),
            Some(&record)
        );
        for odd in [
            &b""[..],
            b"{}",
            b"null",
            &bytes[1..],
            b"{\"name\":\"x\",\"grants\":[]}",
        ] {
            assert_eq!(ExportRecord::from_bytes(odd), None);
        }
    }
}

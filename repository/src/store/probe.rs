//! What an endpoint can do, found by trial when a repository is made and recorded in its marker.
//!
//! S3 is spoken by many servers, and few speak all of it. Nothing here is taken from a server's name or
//! documents: each ability was tried, with its opposite (a body that does not match its checksum must be
//! refused, a second conditional write must be refused). The trial itself belongs to the store
//! ([`crate::store::ObjectStore::probe`]); this module holds its result and says it in words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a body is guarded on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyCheck {
    /// `x-amz-checksum-crc32c` in a header; the payload is not signed.
    Crc32c,
    /// `Content-MD5`; the payload is not signed.
    ContentMd5,
    /// The payload's SHA-256 is part of the signature.
    SignedSha256,
    /// Nothing that the server checks: what was written is read back and compared.
    ReadBack,
}

/// What an endpoint does with `If-None-Match: *` where an object is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conditional {
    /// Refuses the write, as it should.
    Enforced,
    /// Takes the write: the header means nothing to it.
    Ignored,
    /// Refuses the header itself.
    Rejected,
}

/// Which open uploads an endpoint lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UploadListing {
    /// Those whose key starts with the prefix asked for.
    ByPrefix,
    /// None for a partial prefix, but all of the bucket when no prefix is given (MinIO); they are sorted out here.
    WholeBucket,
    /// Only those of a key given in full.
    ByKey,
    /// None.
    Unsupported,
}

/// What an endpoint can, and so which fallbacks are used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointReport {
    /// How objects written at once are guarded.
    pub put_check: BodyCheck,
    /// How parts of a multipart upload are guarded.
    pub part_check: BodyCheck,
    /// Whether the server keeps a CRC32C of a whole multipart object, not only of its parts.
    pub whole_object_crc: bool,
    /// `If-None-Match: *` when an object is written at once.
    pub conditional_put: Conditional,
    /// `If-None-Match: *` when a multipart upload is completed.
    pub conditional_complete: Conditional,
    /// Which open uploads can be listed.
    pub upload_listing: UploadListing,
}

impl EndpointReport {
    /// An endpoint that can all of it.
    #[must_use]
    pub fn complete() -> Self {
        Self {
            put_check: BodyCheck::Crc32c,
            part_check: BodyCheck::Crc32c,
            whole_object_crc: true,
            conditional_put: Conditional::Enforced,
            conditional_complete: Conditional::Enforced,
            upload_listing: UploadListing::ByPrefix,
        }
    }

    /// Whether pruning is safe: deciding once per snapshot needs an atomic `If-None-Match: *`.
    #[must_use]
    pub fn allows_prune(&self) -> bool {
        self.conditional_put == Conditional::Enforced
    }

    /// Whether anything less than the best is used, which a user should be told.
    #[must_use]
    pub fn has_fallbacks(&self) -> bool {
        *self != Self::complete()
    }
}

impl fmt::Display for EndpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "objects are guarded by {}", self.put_check)?;
        let whole = if self.whole_object_crc {
            ", whole objects too"
        } else {
            ""
        };
        writeln!(f, "parts are guarded by {}{whole}", self.part_check)?;
        let put = match self.conditional_put {
            Conditional::Enforced => "refused, as it must be",
            Conditional::Ignored => {
                "NOT refused: prune is refused in this repository, two writers of one id are not told apart"
            }
            Conditional::Rejected => {
                "not supported: prune is refused in this repository, two writers of one id are not told apart"
            }
        };
        writeln!(f, "a second conditional write is {put}")?;
        let complete = match self.conditional_complete {
            Conditional::Enforced => "refused",
            Conditional::Ignored => "not refused (not needed: pack names are never used twice)",
            Conditional::Rejected => "not supported (not needed: pack names are never used twice)",
        };
        writeln!(f, "a second conditional completion is {complete}")?;
        let listing = match self.upload_listing {
            UploadListing::ByPrefix => "listed by prefix",
            UploadListing::WholeBucket => "listed for the whole bucket only, and sorted out here",
            UploadListing::ByKey => "listed only for a key given in full",
            UploadListing::Unsupported => "not listed",
        };
        write!(f, "open uploads are {listing}")
    }
}

impl fmt::Display for BodyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crc32c => "CRC32C",
            Self::ContentMd5 => "Content-MD5 (no CRC32C here)",
            Self::SignedSha256 => "a signed SHA-256 (neither CRC32C nor Content-MD5 here)",
            Self::ReadBack => "reading them back (the endpoint checks nothing)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_stable_as_json() {
        let json = serde_json::to_string(&EndpointReport::complete()).unwrap();
        assert_eq!(
            json,
            r#"{"put_check":"crc32c","part_check":"crc32c","whole_object_crc":true,"conditional_put":"enforced","conditional_complete":"enforced","upload_listing":"by-prefix"}"#
        );
        assert_eq!(
            serde_json::from_str::<EndpointReport>(&json).unwrap(),
            EndpointReport::complete()
        );
    }

    #[test]
    fn words_say_what_is_lost() {
        let report = EndpointReport {
            conditional_put: Conditional::Ignored,
            ..EndpointReport::complete()
        };
        assert!(!report.allows_prune());
        assert!(report.to_string().contains("prune is refused"));
    }
}

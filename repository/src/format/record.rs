//! Envelopes of records: one JSON object each, hashed or sealed (section 10 of the specification).
//!
//! Each writing of a record draws a nonce. A sealed record's key comes from its object key and that nonce, so no key
//! seals two messages; and two writers of one object key can tell whose record the bucket kept.

use aws_lc_rs::aead::{Aad, Nonce as GcmNonce};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    FormatError,
    crypto::Sealer,
    hashes::Purpose,
    ids::{KeyId, Nonce},
    limits::{FORMAT, check_format, check_requires},
};

const LABEL: &[u8] = b"stockpot record 1";
const HASH_START: &str = ",\"hash\":\"";
const SEALED_START: &str = ",\"sealed\":\"";
const END: &str = "\"}\n";
const UNSEALED_TAIL: usize = HASH_START.len() + 64 + END.len();

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// A committed snapshot.
    Manifest,
    /// The end of a snapshot id.
    Tombstone,
    /// An upload under way.
    Intent,
    /// A prune under way.
    Condemned,
    /// Bad frames that a verify met.
    Mark,
    /// The snapshots that a prune saw.
    Seen,
}

impl RecordKind {
    /// The word in errors.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Tombstone => "tombstone",
            Self::Intent => "intent",
            Self::Condemned => "condemned list",
            Self::Mark => "marks",
            Self::Seen => "list of snapshots seen",
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Tombstone => "tombstone",
            Self::Intent => "intent",
            Self::Condemned => "condemned",
            Self::Mark => "mark",
            Self::Seen => "seen",
        }
    }
}

/// A body that goes into an envelope.
pub trait Record: Serialize + DeserializeOwned {
    /// What it is.
    const KIND: RecordKind;
    /// Largest object in bytes.
    const OBJECT_MAX: usize;

    /// Checks the content, before it is written and after it was read: limits, and that it belongs under this key.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    fn check(&self, object_key: &str) -> Result<(), FormatError>;
}

/// A record ready to be put.
#[derive(Debug, Clone)]
pub struct WrittenRecord {
    /// The object.
    pub bytes: Vec<u8>,
    /// What tells it from another writer's.
    pub nonce: Nonce,
}

/// What an envelope shows without any key. Not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// What it says it is.
    pub kind: RecordKind,
    /// Its nonce.
    pub nonce: Nonce,
    /// Whether its body is encrypted, and with which key.
    pub key_id: Option<KeyId>,
}

#[derive(Deserialize)]
struct AnyFormat {
    #[serde(default)]
    format: u32,
}

#[derive(Deserialize)]
struct Envelope {
    stockpot: RecordKind,
    nonce: Nonce,
    #[serde(default)]
    key_id: Option<KeyId>,
}

#[derive(Deserialize)]
struct Requires {
    #[serde(default)]
    requires: Vec<String>,
}

/// Reads what an envelope shows to anybody.
///
/// # Errors
/// [`FormatError::Json`], [`FormatError::Newer`].
pub fn peek(object: &[u8]) -> Result<RecordHead, FormatError> {
    let json = |source| FormatError::Json {
        what: "record",
        source,
    };
    let any: AnyFormat = serde_json::from_slice(object).map_err(json)?;
    check_format("record", any.format)?;
    let envelope: Envelope = serde_json::from_slice(object).map_err(json)?;
    Ok(RecordHead {
        kind: envelope.stockpot,
        nonce: envelope.nonce,
        key_id: envelope.key_id,
    })
}

impl Sealer {
    /// Puts a record into its envelope, with a fresh nonce. Writing the same content again means calling this again,
    /// but a request that is repeated sends the same bytes.
    ///
    /// # Errors
    /// [`FormatError::Limit`] and whatever [`Record::check`] says.
    pub fn seal_record<R: Record>(
        &self,
        object_key: &str,
        record: &R,
    ) -> Result<WrittenRecord, FormatError> {
        self.seal_record_with(object_key, record, Nonce::generate()?)
    }

    /// As [`Self::seal_record`] with a given nonce: for vectors that have to come out the same.
    pub(super) fn seal_record_with<R: Record>(
        &self,
        object_key: &str,
        record: &R,
        nonce: Nonce,
    ) -> Result<WrittenRecord, FormatError> {
        let what = R::KIND.word();
        record.check(object_key)?;
        let body =
            serde_json::to_string(record).map_err(|source| FormatError::Json { what, source })?;
        let head = format!(
            "{{\"stockpot\":\"{}\",\"format\":{FORMAT},\"nonce\":\"{nonce}\"",
            R::KIND.field()
        );
        let object = match self.record_key(object_key, nonce) {
            None => {
                let head = format!("{head},\"body\":{body}");
                let hash = record_hash(object_key, head.as_bytes());
                format!("{head}{HASH_START}{hash}{END}")
            }
            Some(key) => {
                let head = format!("{head},\"key_id\":\"{}\"", self.key_id());
                let aad = self.record_aad(object_key, head.as_bytes());
                let mut sealed = body.into_bytes();
                key.seal_in_place_append_tag(zero_nonce(), Aad::from(aad), &mut sealed)
                    .map_err(|_| FormatError::Library {
                        what: "sealing a record",
                    })?;
                format!("{head}{SEALED_START}{}{END}", BASE64.encode(sealed))
            }
        };
        FormatError::check_limit(
            "the size of the record",
            object.len() as u64,
            R::OBJECT_MAX as u64,
        )?;
        Ok(WrittenRecord {
            bytes: object.into_bytes(),
            nonce,
        })
    }

    /// Checks and opens a record that was read from `object_key`.
    ///
    /// # Errors
    /// [`FormatError::Newer`] when a newer version wrote it; [`FormatError::Damaged`], [`FormatError::Malformed`],
    /// [`FormatError::Json`] when it is not what was written there.
    pub fn open_record<R: Record>(
        &self,
        object_key: &str,
        object: &[u8],
    ) -> Result<(R, Nonce), FormatError> {
        let what = R::KIND.word();
        FormatError::check_limit(
            "the size of the record",
            object.len() as u64,
            R::OBJECT_MAX as u64,
        )?;
        let head = peek(object)?;
        if head.kind != R::KIND {
            return Err(FormatError::malformed(
                what,
                format!("this is a {} instead", head.kind.word()),
            ));
        }
        let body = match (head.key_id, self.is_sealed()) {
            (None, false) => unsealed_body(what, object_key, object)?,
            (Some(_), true) => self.sealed_body(what, object_key, object, head.nonce)?,
            (found, _) => {
                let word = |sealed: bool| if sealed { "sealed" } else { "not sealed" };
                let (found, expected) = (word(found.is_some()), word(self.is_sealed()));
                return Err(FormatError::Sealing {
                    what,
                    found,
                    expected,
                });
            }
        };
        let json = |source| FormatError::Json { what, source };
        let requires: Requires = serde_json::from_slice(&body).map_err(json)?;
        check_requires(what, &requires.requires)?;
        let record: R = serde_json::from_slice(&body).map_err(json)?;
        record.check(object_key)?;
        Ok((record, head.nonce))
    }

    fn sealed_body(
        &self,
        what: &'static str,
        object_key: &str,
        object: &[u8],
        nonce: Nonce,
    ) -> Result<Vec<u8>, FormatError> {
        let cut_off = || FormatError::malformed(what, "it does not end as a sealed record does");
        let text = std::str::from_utf8(object).map_err(|_| cut_off())?;
        let (head, sealed) = text
            .strip_suffix(END)
            .and_then(|text| text.rsplit_once(SEALED_START))
            .ok_or_else(cut_off)?;
        let mut bytes = BASE64.decode(sealed).map_err(|_| cut_off())?;
        let key = self.record_key(object_key, nonce).ok_or_else(cut_off)?;
        let aad = self.record_aad(object_key, head.as_bytes());
        let length = key
            .open_in_place(zero_nonce(), Aad::from(aad), &mut bytes)
            .map_err(|_| FormatError::Damaged {
                what,
                check: "authentication tag",
            })?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }

    fn record_aad(&self, object_key: &str, head: &[u8]) -> Vec<u8> {
        let length = u16::try_from(object_key.len()).expect("record keys are made of ids");
        [
            LABEL,
            &self.repository().0,
            &length.to_le_bytes(),
            object_key.as_bytes(),
            head,
        ]
        .concat()
    }
}

/// Each record key seals one message, so its nonce is fixed.
fn zero_nonce() -> GcmNonce {
    GcmNonce::assume_unique_for_key([0; 12])
}

fn record_hash(object_key: &str, head: &[u8]) -> String {
    hex::encode(Purpose::RecordHash.derive(&[object_key.as_bytes(), &[0], head]))
}

/// The body of an unsealed record whose hash fits.
fn unsealed_body(
    what: &'static str,
    object_key: &str,
    object: &[u8],
) -> Result<Vec<u8>, FormatError> {
    let cut_off = || FormatError::malformed(what, "it does not end as a record does");
    let at = object
        .len()
        .checked_sub(UNSEALED_TAIL)
        .ok_or_else(cut_off)?;
    let (head, tail) = object.split_at(at);
    let expected = format!("{HASH_START}{}{END}", record_hash(object_key, head));
    if tail != expected.as_bytes() {
        return Err(FormatError::Damaged {
            what,
            check: "hash",
        });
    }
    // The hash vouches for the head; what lies between the start and the body was read by `peek` already.
    let text = std::str::from_utf8(head).map_err(|_| cut_off())?;
    let (_, body) = text.split_once(",\"body\":").ok_or_else(cut_off)?;
    Ok(body.as_bytes().to_vec())
}

#[cfg(test)]
mod tests;

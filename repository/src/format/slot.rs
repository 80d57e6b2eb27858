//! Key slots: the repository key, wrapped by a passphrase or a secret file (section 6 of the specification).

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{Aad, Nonce as GcmNonce};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    FormatError,
    crypto::gcm_key,
    hashes::{Purpose, random},
    ids::{ObjectId, RepositoryId, slot_key},
    keys::{KeySource, RepositoryKey, Secret},
    limits::{FORMAT, SMALL_OBJECT_MAX, check_format},
    manifest::{check_key, now},
};

const WHAT: &str = "key slot";
const LABEL: &[u8] = b"stockpot key slot 1";
const WRAPPED_START: &str = ",\"wrapped\":\"";
const END: &str = "\"}\n";

/// What unwraps a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    /// A passphrase, by argon2id.
    Passphrase,
    /// A secret file.
    Secret,
}

/// What a passphrase costs to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KdfCost {
    /// Memory, KiB.
    pub m_kib: u32,
    /// Passes over it.
    pub t: u32,
    /// Lanes.
    pub p: u32,
}

impl Default for KdfCost {
    /// The second recommendation of RFC 9106, section 4.
    fn default() -> Self {
        Self {
            m_kib: 64 << 10,
            t: 3,
            p: 4,
        }
    }
}

impl KdfCost {
    /// Bounds what a bucket can make a reader spend.
    fn check(self) -> Result<(), FormatError> {
        FormatError::check_limit(
            "the memory of a passphrase slot in KiB",
            self.m_kib.into(),
            1 << 20,
        )?;
        FormatError::check_limit("the passes of a passphrase slot", self.t.into(), 16)?;
        FormatError::check_limit("the lanes of a passphrase slot", self.p.into(), 16)?;
        let work = u64::from(self.m_kib) * u64::from(self.t);
        FormatError::check_limit("the work of a passphrase slot in KiB", work, 4 << 20)?;
        if self.t == 0 || self.p == 0 || self.m_kib < 8 * self.p {
            return Err(FormatError::malformed(
                WHAT,
                "its argon2id parameters cannot be",
            ));
        }
        Ok(())
    }
}

/// A slot as it lies in the bucket. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    stockpot: String,
    format: u32,
    repository: RepositoryId,
    /// Its id.
    pub slot: ObjectId,
    /// What unwraps it.
    pub kind: SlotKind,
    /// When it was made.
    pub created_at: Timestamp,
    kdf: Option<KdfCost>,
    salt: String,
    check: String,
    nonce: String,
    #[serde(skip_serializing, default)]
    wrapped: String,
}

/// What trying a key on a slot came to.
#[derive(Debug)]
pub enum Opened {
    /// The repository key.
    Key(RepositoryKey),
    /// The slot is of the other kind, or for another passphrase or secret.
    NotThisKey,
}

impl Slot {
    /// Wraps a repository key and returns the object to put under [`slot_key`].
    ///
    /// # Errors
    /// [`FormatError::Library`], [`FormatError::Limit`] for a cost outside the format's limits.
    pub fn seal(
        slot: &ObjectId,
        repository: RepositoryId,
        source: &KeySource,
        key: &RepositoryKey,
        cost: KdfCost,
    ) -> Result<Vec<u8>, FormatError> {
        Self::seal_with(
            slot,
            repository,
            source,
            key,
            cost,
            now(),
            random()?,
            random()?,
        )
    }

    /// As [`Self::seal`] with given time, salt and nonce: for vectors that have to come out the same.
    #[expect(
        clippy::too_many_arguments,
        reason = "the random parts are given by the caller for the sake of vectors"
    )]
    pub(super) fn seal_with(
        slot: &ObjectId,
        repository: RepositoryId,
        source: &KeySource,
        key: &RepositoryKey,
        cost: KdfCost,
        created_at: Timestamp,
        salt: [u8; 32],
        nonce: [u8; 12],
    ) -> Result<Vec<u8>, FormatError> {
        let (kind, kdf) = match source.secret() {
            Secret::File(_) => (SlotKind::Secret, None),
            Secret::Passphrase(_) => (SlotKind::Passphrase, Some(cost)),
            Secret::Exported(_) => {
                return Err(FormatError::malformed(
                    WHAT,
                    "an exported key is what slots wrap, and opens none",
                ));
            }
        };
        let base = stretch(source, kdf, &salt)?;
        let head = Self {
            stockpot: WHAT.to_owned(),
            format: FORMAT,
            repository,
            slot: slot.clone(),
            kind,
            created_at,
            kdf,
            salt: BASE64.encode(salt),
            check: hex::encode(Purpose::SlotCheck.derive(&[&*base])),
            nonce: BASE64.encode(nonce),
            wrapped: String::new(),
        };
        let json = serde_json::to_string(&head)
            .map_err(|source| FormatError::Json { what: WHAT, source })?;
        let head = json.strip_suffix('}').unwrap_or(&json);
        let kek = Zeroizing::new(Purpose::SlotKek.derive(&[&*base]));
        let mut wrapped = Vec::with_capacity(48);
        wrapped.extend_from_slice(key.expose());
        let aad = [LABEL, head.as_bytes()].concat();
        gcm_key(&kek)
            .seal_in_place_append_tag(
                GcmNonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut wrapped,
            )
            .map_err(|_| FormatError::Library {
                what: "wrapping the repository key",
            })?;
        Ok(format!("{head}{WRAPPED_START}{}{END}", BASE64.encode(wrapped)).into_bytes())
    }

    /// Reads a slot of `repository` that lay under `object_key`.
    ///
    /// # Errors
    /// [`FormatError::Newer`], [`FormatError::Malformed`], [`FormatError::Json`], [`FormatError::Limit`].
    pub fn parse(
        object_key: &str,
        repository: RepositoryId,
        object: &[u8],
    ) -> Result<Self, FormatError> {
        FormatError::check_limit(
            "the size of a key slot",
            object.len() as u64,
            SMALL_OBJECT_MAX as u64,
        )?;
        let slot: Self = serde_json::from_slice(object)
            .map_err(|source| FormatError::Json { what: WHAT, source })?;
        check_format(WHAT, slot.format)?;
        if slot.stockpot != WHAT {
            return Err(FormatError::malformed(WHAT, "this is no key slot"));
        }
        if slot.repository != repository {
            return Err(FormatError::malformed(
                WHAT,
                "it belongs to another repository",
            ));
        }
        check_key(WHAT, object_key, &slot_key(&slot.slot))?;
        match (slot.kind, slot.kdf) {
            (SlotKind::Passphrase, Some(cost)) => cost.check()?,
            (SlotKind::Secret, None) => {}
            _ => {
                return Err(FormatError::malformed(
                    WHAT,
                    "its parameters are not those of its kind",
                ));
            }
        }
        Ok(slot)
    }

    /// What trying a passphrase on it takes: memory in KiB, times passes. 0 for a secret file.
    #[must_use]
    pub fn work_kib(&self) -> u64 {
        self.kdf
            .map_or(0, |cost| u64::from(cost.m_kib) * u64::from(cost.t))
    }

    /// Whether it is of the kind that the source may open.
    #[must_use]
    pub fn is_for(&self, source: &KeySource) -> bool {
        match source.secret() {
            Secret::File(_) => self.kind == SlotKind::Secret,
            Secret::Passphrase(_) => self.kind == SlotKind::Passphrase,
            Secret::Exported(_) => false,
        }
    }

    /// Tries a passphrase or secret. A passphrase takes the time and memory that the slot says: call it where blocking is fine.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] when it is the right key but the slot was changed.
    pub fn open(&self, object: &[u8], source: &KeySource) -> Result<Opened, FormatError> {
        let malformed = || FormatError::malformed(WHAT, "a field is not as long as it should be");
        if !self.is_for(source) {
            return Ok(Opened::NotThisKey);
        }
        let salt: [u8; 32] = fixed(&self.salt).ok_or_else(malformed)?;
        let nonce: [u8; 12] = fixed(&self.nonce).ok_or_else(malformed)?;
        let mut wrapped = Zeroizing::new(fixed::<48>(&self.wrapped).ok_or_else(malformed)?);
        let base = stretch(source, self.kdf, &salt)?;
        if hex::encode(Purpose::SlotCheck.derive(&[&*base])) != self.check {
            return Ok(Opened::NotThisKey);
        }
        let tail = format!("{WRAPPED_START}{}{END}", self.wrapped);
        let head = object.strip_suffix(tail.as_bytes()).ok_or_else(malformed)?;
        let kek = Zeroizing::new(Purpose::SlotKek.derive(&[&*base]));
        let aad = [LABEL, head].concat();
        let plain = gcm_key(&kek)
            .open_in_place(
                GcmNonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut *wrapped,
            )
            .map_err(|_| FormatError::Damaged {
                what: WHAT,
                check: "authentication tag",
            })?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(plain);
        Ok(Opened::Key(RepositoryKey::from_bytes(key)))
    }
}

/// Base64 of exactly `N` bytes.
fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// The 32 bytes from which check and wrapping key come.
fn stretch(
    source: &KeySource,
    kdf: Option<KdfCost>,
    salt: &[u8],
) -> Result<Zeroizing<[u8; 32]>, FormatError> {
    let failed = || FormatError::Library {
        what: "deriving a key from the passphrase",
    };
    let mut base = Zeroizing::new([0; 32]);
    match kdf {
        None => *base = Purpose::SlotSecret.derive(&[salt, source.bytes()]),
        Some(cost) => {
            cost.check()?;
            let params = Params::new(cost.m_kib, cost.t, cost.p, Some(32)).map_err(|_| failed())?;
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(source.bytes(), salt, &mut *base)
                .map_err(|_| failed())?;
        }
    }
    Ok(base)
}

#[cfg(test)]
mod tests;

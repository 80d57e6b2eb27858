//! Everything that depends on the repository's id and key: hashes, and the ciphers of packs and records.

use std::{fmt, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as GcmNonce, UnboundKey};
use zeroize::Zeroizing;

pub use super::hashes::Hash;
use super::{
    FormatError,
    crc32c::crc32c_of,
    frame::FrameHeader,
    hashes::{HashMode, Purpose},
    ids::{KeyId, Nonce, PackName, RepositoryId},
    keys::RepositoryKey,
};

/// Bytes of an AES-GCM tag: the trailer of a sealed frame.
pub(super) const TAG_SIZE: usize = 16;
/// Bytes of the trailer of an unsealed frame.
pub(super) const CRC_SIZE: usize = 4;

const FRAME_LABEL: &[u8] = b"stockpot frame 1";
/// Label, repository id, key id, length, the longest object key of a pack.
const AAD_PREFIX_MAX: usize = 16 + 16 + 16 + 2 + 177;

/// Seals and opens for one repository; in an unsealed one it hashes and checks only. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<Inner>);

struct Inner {
    repository: RepositoryId,
    key: Option<RepositoryKey>,
    key_id: KeyId,
    chunk: HashMode,
    page: HashMode,
    manifest: HashMode,
}

impl Sealer {
    /// For a repository with or without a key.
    #[must_use]
    pub fn new(repository: RepositoryId, key: Option<RepositoryKey>) -> Self {
        let bytes = key.as_ref().map(RepositoryKey::expose);
        let mode = |purpose| HashMode::new(purpose, bytes);
        let (chunk, page, manifest) = (
            mode(Purpose::ChunkHash),
            mode(Purpose::PageHash),
            mode(Purpose::ManifestHash),
        );
        let key_id = key.as_ref().map_or(KeyId([0; 16]), RepositoryKey::id);
        Self(Arc::new(Inner {
            repository,
            key,
            key_id,
            chunk,
            page,
            manifest,
        }))
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.0.repository
    }

    /// Whether there is a key.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.0.key.is_some()
    }

    /// The key's public name; all zero when unsealed.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.0.key_id
    }

    /// Hash of a plain chunk, filled up to the chunk size.
    #[must_use]
    pub fn chunk_hash(&self, plain: &[u8]) -> Hash {
        self.0.chunk.hash(&[plain])
    }

    /// Hash of a plain page of either tree.
    #[must_use]
    pub fn page_hash(&self, plain: &[u8]) -> Hash {
        self.0.page.hash(&[plain])
    }

    /// Hash of a whole manifest object as it lies in the bucket.
    #[must_use]
    pub fn manifest_hash(&self, object: &[u8]) -> Hash {
        self.0.manifest.hash(&[object])
    }

    /// The cipher of one pack. A pack is sealed by one process once: its name has the run's random bits.
    #[must_use]
    pub fn pack(&self, name: &PackName) -> PackCipher {
        let object_key = name.object_key();
        let mut aad_prefix = Vec::with_capacity(AAD_PREFIX_MAX);
        aad_prefix.extend_from_slice(FRAME_LABEL);
        aad_prefix.extend_from_slice(&self.0.repository.0);
        aad_prefix.extend_from_slice(&self.0.key_id.0);
        let length = u16::try_from(object_key.len()).expect("ids bound a pack's key to 177 bytes");
        aad_prefix.extend_from_slice(&length.to_le_bytes());
        aad_prefix.extend_from_slice(object_key.as_bytes());
        let key = self.0.key.as_ref().map(|key| {
            let derived =
                Zeroizing::new(Purpose::PackKey.derive(&[key.expose(), object_key.as_bytes()]));
            Arc::new(gcm_key(&derived))
        });
        PackCipher {
            aad_prefix: Arc::from(aad_prefix),
            key,
        }
    }

    /// The marker's MAC over its head.
    pub(super) fn marker_mac(&self, head: &[u8]) -> Hash {
        HashMode::new(
            Purpose::MarkerMac,
            self.0.key.as_ref().map(RepositoryKey::expose),
        )
        .hash(&[head])
    }

    /// The key of one writing of a record; `None` when unsealed.
    pub(super) fn record_key(&self, object_key: &str, nonce: Nonce) -> Option<LessSafeKey> {
        let key = self.0.key.as_ref()?;
        let derived = Zeroizing::new(Purpose::RecordKey.derive(&[
            key.expose(),
            object_key.as_bytes(),
            &[0],
            &nonce.0,
        ]));
        Some(gcm_key(&derived))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("repository", &self.0.repository)
            .field("sealed", &self.is_sealed())
            .finish_non_exhaustive()
    }
}

/// An AES-256-GCM key.
pub(super) fn gcm_key(bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are the key size of AES-256"),
    )
}

/// Protects the frames of one pack: AES-256-GCM, or a CRC when unsealed. Cheap to clone.
#[derive(Clone)]
pub struct PackCipher {
    aad_prefix: Arc<[u8]>,
    key: Option<Arc<LessSafeKey>>,
}

impl PackCipher {
    /// Bytes that follow the payload of each frame.
    #[must_use]
    pub fn trailer_size(&self) -> usize {
        if self.key.is_some() {
            TAG_SIZE
        } else {
            CRC_SIZE
        }
    }

    /// Whether frames are encrypted.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.key.is_some()
    }

    /// Seals `out[payload_start..]` in place and appends the trailer.
    pub(super) fn seal_tail(
        &self,
        header: &FrameHeader,
        out: &mut Vec<u8>,
        payload_start: usize,
    ) -> Result<(), FormatError> {
        let aad = Associated::new(&self.aad_prefix, header);
        let payload = &mut out[payload_start..];
        match &self.key {
            Some(key) => {
                let tag = key
                    .seal_in_place_separate_tag(
                        frame_nonce(header),
                        Aad::from(aad.bytes()),
                        payload,
                    )
                    .map_err(|_| FormatError::Library {
                        what: "sealing a frame",
                    })?;
                out.extend_from_slice(tag.as_ref());
            }
            None => {
                let crc = crc32c_of(&[aad.bytes(), payload]);
                out.extend_from_slice(&crc.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Checks `stored` (payload and trailer) and puts the payload into `out`, which has its exact length.
    pub(super) fn open_to(
        &self,
        header: &FrameHeader,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<(), FormatError> {
        let damaged = |check| FormatError::Damaged {
            what: "frame",
            check,
        };
        let (payload, trailer) = stored
            .split_at_checked(out.len())
            .ok_or(damaged("length"))?;
        let aad = Associated::new(&self.aad_prefix, header);
        match &self.key {
            Some(key) => key
                .open_separate_gather(
                    frame_nonce(header),
                    Aad::from(aad.bytes()),
                    payload,
                    trailer,
                    out,
                )
                .map_err(|_| damaged("authentication tag")),
            None if crc32c_of(&[aad.bytes(), payload]).to_le_bytes() == trailer => {
                out.copy_from_slice(payload);
                Ok(())
            }
            None => Err(damaged("checksum")),
        }
    }

    /// Checks `stored` of an unsealed pack and returns the payload without copying it.
    pub(super) fn check_unsealed<'a>(
        &self,
        header: &FrameHeader,
        stored: &'a [u8],
    ) -> Result<&'a [u8], FormatError> {
        let damaged = |check| FormatError::Damaged {
            what: "frame",
            check,
        };
        let length = stored
            .len()
            .checked_sub(CRC_SIZE)
            .ok_or(damaged("length"))?;
        let (payload, trailer) = stored.split_at(length);
        let aad = Associated::new(&self.aad_prefix, header);
        if crc32c_of(&[aad.bytes(), payload]).to_le_bytes() != trailer {
            return Err(damaged("checksum"));
        }
        Ok(payload)
    }
}

impl fmt::Debug for PackCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackCipher")
            .field("sealed", &self.is_sealed())
            .finish_non_exhaustive()
    }
}

/// The frame's number as 96-bit nonce.
fn frame_nonce(header: &FrameHeader) -> GcmNonce {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&header.number.to_le_bytes());
    GcmNonce::assume_unique_for_key(nonce)
}

/// Associated data of a frame, on the stack.
struct Associated {
    buffer: [u8; AAD_PREFIX_MAX + FrameHeader::SIZE],
    length: usize,
}

impl Associated {
    fn new(prefix: &[u8], header: &FrameHeader) -> Self {
        let mut buffer = [0; AAD_PREFIX_MAX + FrameHeader::SIZE];
        let length = prefix.len() + FrameHeader::SIZE;
        buffer[..prefix.len()].copy_from_slice(prefix);
        buffer[prefix.len()..length].copy_from_slice(&header.encode());
        Self { buffer, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

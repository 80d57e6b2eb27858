//! Manifest and tombstone: what lies under a snapshot's key (section 10 of the specification).

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    FormatError,
    crypto::{Hash, Sealer},
    frame::FrameKind,
    ids::{Nonce, PackName, Run, SnapshotId, VolumeId, snapshot_key},
    limits::{
        FEATURES_MAX, LEVELS_MAX, METADATA_KEY_MAX, METADATA_KEYS_MAX, METADATA_MAX,
        SMALL_OBJECT_MAX, TEXT_MAX, check_chunk_size, chunk_count,
    },
    location::{Location, check_place},
    map_page::levels,
    record::{Record, RecordKind, peek},
};
use crate::store::versions::{LockMode, Retention};

/// The time, cut to the microseconds that records hold.
#[must_use]
pub fn now() -> Timestamp {
    to_microseconds(Timestamp::now())
}

/// A time, cut to the microseconds that records hold.
#[must_use]
pub fn to_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// What writes records, for their `tool` field.
#[must_use]
pub fn tool() -> String {
    concat!("stockpot ", env!("CARGO_PKG_VERSION")).to_owned()
}

/// A committed snapshot that an upload builds on: this very manifest, not another one under its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its volume.
    pub volume_id: VolumeId,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The nonce of its manifest.
    pub nonce: Nonce,
}

/// How the upload knew what to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Everything that is no hole.
    Full,
    /// Everything was read, what equals the base was referred to.
    Compared,
    /// Only what was said to have changed was read.
    Incremental,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::Full => "full",
            Reason::Compared => "compared",
            Reason::Incremental => "incremental",
        })
    }
}

/// The root page of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRef {
    /// Level of the page.
    pub level: u8,
    /// Object key of its pack.
    pub pack: PackName,
    /// Offset of its frame, bytes.
    pub offset: u32,
    /// Length of its frame, bytes.
    pub length: u32,
    /// Page hash.
    pub hash: Hash,
}

impl RootRef {
    /// From the location that a sink gave the root page.
    #[must_use]
    pub fn new(level: u8, location: &Location) -> Self {
        let Location {
            pack,
            offset,
            length,
            hash,
        } = location;
        Self {
            level,
            pack: (**pack).clone(),
            offset: *offset,
            length: *length,
            hash: *hash,
        }
    }

    /// As a location.
    #[must_use]
    pub fn location(&self) -> Location {
        Location {
            pack: Arc::new(self.pack.clone()),
            offset: self.offset,
            length: self.length,
            hash: self.hash,
        }
    }
}

/// Numbers of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkCounts {
    /// Of the volume.
    pub total: u64,
    /// Those that are no holes: entries of the map's leaves.
    pub mapped: u64,
    /// Put by this upload.
    pub stored: u64,
}

/// What a snapshot is, whole and by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The volume's name for people.
    pub volume_name: String,
    /// Exact size of the volume, bytes.
    pub size_bytes: u64,
    /// The repository's chunk size.
    pub chunk_size_bytes: u32,
    /// What the upload built on; for information.
    pub base: Option<Base>,
    /// How the upload knew what to store.
    pub reason: Reason,
    /// Why it was not done with less, or how it was made sure of, in words for people; empty in old manifests.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The upload's run.
    pub run: Run,
    /// The moment the content is of.
    pub cut_at: Timestamp,
    /// When the upload began.
    pub started_at: Timestamp,
    /// When this manifest was made.
    pub committed_at: Timestamp,
    /// Root of the map; `None` when all of it is a hole.
    pub map: Option<RootRef>,
    /// Root of the pack list; `None` with the map.
    pub pack_list: Option<RootRef>,
    /// Plain bytes in mapped chunks.
    pub data_bytes: u64,
    /// Bytes of the packs that this upload put.
    pub stored_bytes: u64,
    /// Numbers of chunks.
    pub chunks: ChunkCounts,
    /// The volume's own: file system, claim, labels, profile.
    pub metadata: BTreeMap<String, String>,
    /// What wrote it.
    pub tool: String,
    /// Features that a reader must know.
    pub requires: Vec<String>,
    /// Until when all that the snapshot needs is locked, if the upload did that; for information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<ManifestLock>,
}

/// The lock that an upload put on all that its snapshot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestLock {
    /// How strong it is.
    pub mode: LockMode,
    /// When it ends, by the store's clock.
    pub until: Timestamp,
}

impl ManifestLock {
    /// From what the store was asked for.
    ///
    /// # Errors
    /// For a moment that is in no calendar.
    pub fn new(retention: Retention) -> Result<Self, jiff::Error> {
        Ok(Self {
            mode: retention.mode,
            until: Timestamp::from_second(retention.until_s)?,
        })
    }

    /// What the store is asked for.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            mode: self.mode,
            until_s: self.until.as_second(),
        }
    }
}

impl Manifest {
    /// Its object key.
    #[must_use]
    pub fn object_key(&self) -> String {
        snapshot_key(&self.volume_id, &self.snapshot_id)
    }

    /// As a base for another upload; `nonce` is that of this manifest's envelope.
    #[must_use]
    pub fn as_base(&self, nonce: Nonce) -> Base {
        Base {
            volume_id: self.volume_id.clone(),
            snapshot_id: self.snapshot_id.clone(),
            nonce,
        }
    }

    fn check_numbers(&self) -> Result<(), FormatError> {
        let wrong = |problem: &str| Err(FormatError::malformed("manifest", problem));
        check_chunk_size(self.chunk_size_bytes.into())?;
        let total = chunk_count(self.size_bytes, self.chunk_size_bytes)?;
        if self.chunks.total != total
            || self.chunks.mapped > total
            || self.chunks.stored > self.chunks.mapped
        {
            return wrong("its numbers of chunks do not fit its size");
        }
        if self.data_bytes != self.chunks.mapped * u64::from(self.chunk_size_bytes) {
            return wrong("its data size does not fit its number of chunks");
        }
        if self.map.is_none() != (self.chunks.mapped == 0)
            || self.map.is_none() != self.pack_list.is_none()
        {
            return wrong("it has data but no map, or a map but no data");
        }
        if self
            .map
            .as_ref()
            .is_some_and(|root| root.level != levels(total) - 1)
        {
            return wrong("its map has a wrong number of levels");
        }
        if self
            .pack_list
            .as_ref()
            .is_some_and(|root| root.level >= LEVELS_MAX)
        {
            return wrong("its pack list has too many levels");
        }
        let roots = [
            (FrameKind::MapPage, &self.map),
            (FrameKind::ListPage, &self.pack_list),
        ];
        for (kind, root) in roots {
            if let Some(root) = root {
                check_place("manifest", kind, &root.location())?;
            }
        }
        Ok(())
    }
}

impl Record for Manifest {
    const KIND: RecordKind = RecordKind::Manifest;
    const OBJECT_MAX: usize = SMALL_OBJECT_MAX;

    fn check(&self, object_key: &str) -> Result<(), FormatError> {
        check_key("manifest", object_key, &self.object_key())?;
        check_text("the length of the volume's name", &self.volume_name)?;
        check_text("the length of the tool's name", &self.tool)?;
        check_text("the length of the reason's text", &self.why)?;
        check_metadata(&self.metadata)?;
        FormatError::check_limit(
            "the number of features",
            self.requires.len() as u64,
            FEATURES_MAX as u64,
        )?;
        self.check_numbers()
    }
}

/// The end of a snapshot id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Its volume.
    pub volume_id: VolumeId,
    /// When it ended.
    pub deleted_at: Timestamp,
    /// `deleted`, `cancelled` or `given up`.
    pub reason: String,
    /// The pack list of the manifest that it replaced, so that a prune can still spare what an upload that builds on
    /// it refers to; `None` where there was none, or it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_list: Option<RootRef>,
    /// What wrote it.
    pub tool: String,
}

impl Record for Tombstone {
    const KIND: RecordKind = RecordKind::Tombstone;
    const OBJECT_MAX: usize = SMALL_OBJECT_MAX;

    fn check(&self, object_key: &str) -> Result<(), FormatError> {
        check_key(
            "tombstone",
            object_key,
            &snapshot_key(&self.volume_id, &self.snapshot_id),
        )?;
        check_text("the length of the reason", &self.reason)?;
        if let Some(root) = &self.pack_list {
            FormatError::check_limit(
                "the level of the pack list",
                root.level.into(),
                u64::from(LEVELS_MAX) - 1,
            )?;
            check_place("tombstone", FrameKind::ListPage, &root.location())?;
        }
        check_text("the length of the tool's name", &self.tool)
    }
}

/// What lies under a snapshot's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotRecord {
    /// The snapshot is committed.
    Manifest(Box<Manifest>, Nonce),
    /// The snapshot is gone.
    Tombstone(Box<Tombstone>, Nonce),
}

impl SnapshotRecord {
    /// Checks and opens what was read from a snapshot's key.
    ///
    /// # Errors
    /// As [`Sealer::open_record`].
    pub fn open(sealer: &Sealer, object_key: &str, object: &[u8]) -> Result<Self, FormatError> {
        FormatError::check_limit(
            "the size of the record",
            object.len() as u64,
            SMALL_OBJECT_MAX as u64,
        )?;
        Ok(match peek(object)?.kind {
            RecordKind::Tombstone => {
                let (tombstone, nonce) = sealer.open_record(object_key, object)?;
                Self::Tombstone(Box::new(tombstone), nonce)
            }
            _ => {
                let (manifest, nonce) = sealer.open_record(object_key, object)?;
                Self::Manifest(Box::new(manifest), nonce)
            }
        })
    }
}

/// Key of a manifest's metadata: what a restore shows, as `file-system`, `unused` or `crash`.
pub const CONSISTENCY_KEY: &str = "stockpot.consistency";
/// Key of a manifest's metadata: why it shows no more than that, for people.
pub const CONSISTENCY_TEXT_KEY: &str = "stockpot.consistency_text";

/// Refuses metadata that a manifest cannot hold, so that a caller learns of it before an upload.
///
/// # Errors
/// [`FormatError::Limit`] or [`FormatError::Malformed`] naming the limit.
pub fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), FormatError> {
    FormatError::check_limit(
        "the number of metadata keys",
        metadata.len() as u64,
        METADATA_KEYS_MAX as u64,
    )?;
    // What JSON makes of it counts: a control character takes six bytes.
    let json = serde_json::to_string(metadata);
    let bytes = json.map_or(usize::MAX, |json| json.len());
    FormatError::check_limit(
        "the size of the metadata",
        bytes as u64,
        METADATA_MAX as u64,
    )?;
    if metadata
        .keys()
        .any(|key| key.is_empty() || key.len() > METADATA_KEY_MAX)
    {
        return Err(FormatError::malformed(
            "metadata",
            "a key is empty or longer than 128 bytes",
        ));
    }
    Ok(())
}

pub(super) fn check_text(what: &'static str, text: &str) -> Result<(), FormatError> {
    FormatError::check_limit(what, text.len() as u64, TEXT_MAX as u64)
}

pub(super) fn check_key(
    what: &'static str,
    found: &str,
    expected: &str,
) -> Result<(), FormatError> {
    if found == expected {
        return Ok(());
    }
    Err(FormatError::malformed(
        what,
        format!("its content belongs under {expected}"),
    ))
}

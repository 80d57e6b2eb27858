//! What lies beside an image: which volume or snapshot it is.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::store::fail;
use crate::{DriverError, SnapshotId, VolumeId, name::Name, origin::Origin};

/// Longest `meta.json` that is read; ours are a tenth of it.
const META_LIMIT_BYTES: u64 = 4096;
const META_VERSION: u32 = 1;

/// What `meta.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Meta {
    /// A volume.
    Volume {
        id: VolumeId,
        from: Origin,
        /// The size it was made with.
        made_bytes: u64,
        /// It is this volume as soon as it lies in its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        becomes: Option<VolumeId>,
        /// It was made as this volume, and has taken the place of another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<VolumeId>,
    },
    /// A snapshot.
    Snapshot {
        id: SnapshotId,
        source: VolumeId,
        created_at_us: i64,
    },
}

impl Meta {
    pub(super) fn name(&self) -> Name {
        match self {
            Meta::Volume { id, .. } => Name::Volume(id.clone()),
            Meta::Snapshot { id, .. } => Name::Snapshot(id.clone()),
        }
    }

    /// What it says of what lies in the place of this name; `None` if that is something else.
    pub(super) fn in_place_of(self, name: &Name) -> Option<Self> {
        match (self, name) {
            (
                Meta::Volume {
                    id,
                    from,
                    made_bytes,
                    becomes: Some(becomes),
                    ..
                },
                Name::Volume(wanted),
            ) if becomes == *wanted => Some(Meta::Volume {
                id: becomes,
                from,
                made_bytes,
                becomes: None,
                replaced: Some(id),
            }),
            (meta, name) => (meta.name() == *name).then_some(meta),
        }
    }

    /// The same, to be another volume as soon as it lies in its place.
    pub(super) fn becoming(self, other: &VolumeId) -> Self {
        match self {
            Meta::Volume {
                id,
                from,
                made_bytes,
                replaced,
                ..
            } => Meta::Volume {
                id,
                from,
                made_bytes,
                becomes: Some(other.clone()),
                replaced,
            },
            snapshot @ Meta::Snapshot { .. } => snapshot,
        }
    }

    /// As which volume it was made, if it has taken another one's place.
    pub(super) fn replaced(&self) -> Option<&VolumeId> {
        match self {
            Meta::Volume { replaced, .. } => replaced.as_ref(),
            Meta::Snapshot { .. } => None,
        }
    }

    /// What is written to a `meta.json`.
    pub(super) fn to_text(&self) -> io::Result<Vec<u8>> {
        let document = Document {
            stockpot: META_VERSION,
            meta: self.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&document)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads a `meta.json`; `None` if it is not there or not ours.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, DriverError> {
        let mut text = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(META_LIMIT_BYTES).read_to_end(&mut text));
        match read {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(fail("cannot read", path)(error)),
            Ok(_) => Ok(Self::parse(&text)),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(text).ok()?;
        (document.stockpot == META_VERSION).then_some(document.meta)
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    stockpot: u32,
    #[serde(flatten)]
    meta: Meta,
}

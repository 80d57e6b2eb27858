//! What the tests of this module share: fixed sealers, and packs in memory that pages go into and come from.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{
    FormatError,
    crypto::Sealer,
    frame::{FrameDecoder, FrameEncoder, FrameKind},
    ids::{PackName, RepositoryId, Run, SnapshotId, VolumeId},
    keys::RepositoryKey,
    location::Location,
    map::{PageInfo, PageSink, PageSource, Place},
    pack_builder::{FrameInfo, PackBuilder},
};

/// The key of vectors: bytes 0 to 31.
pub(super) fn key() -> RepositoryKey {
    RepositoryKey::from_bytes(Zeroizing::new(std::array::from_fn(|i| {
        u8::try_from(i).unwrap()
    })))
}

/// The repository of vectors, with or without the key.
pub(super) fn sealer(sealed: bool) -> Sealer {
    Sealer::new(RepositoryId([0x11; 16]), sealed.then(key))
}

pub(super) fn pack_name(number: u32) -> PackName {
    PackName {
        volume: VolumeId::new("vol-1").unwrap(),
        snapshot: SnapshotId::new("snap-1").unwrap(),
        run: Run([0x22; 16]),
        number,
    }
}

/// Packs of pages in memory: a sink and a source.
pub(super) struct MemoryPages {
    sealer: Sealer,
    encoder: FrameEncoder,
    open: Option<(PackBuilder, Vec<u8>)>,
    frames_per_pack: u32,
    pub(super) packs: Arc<Mutex<BTreeMap<PackName, Vec<u8>>>>,
    /// Pages written.
    pub(super) written: usize,
}

impl MemoryPages {
    pub(super) fn new(sealer: &Sealer, frames_per_pack: u32) -> Self {
        Self {
            sealer: sealer.clone(),
            encoder: FrameEncoder::new(1).unwrap(),
            open: None,
            frames_per_pack,
            packs: Arc::default(),
            written: 0,
        }
    }

    /// Closes the open pack and gives what reads them all.
    pub(super) fn source(&mut self) -> MemorySource {
        self.close();
        MemorySource {
            sealer: self.sealer.clone(),
            packs: Arc::clone(&self.packs),
        }
    }

    fn close(&mut self) {
        if let Some((builder, mut bytes)) = self.open.take() {
            let name = (**builder.name()).clone();
            builder.finish(&mut self.encoder, &mut bytes).unwrap();
            self.packs.lock().unwrap().insert(name, bytes);
        }
    }
}

impl PageSink for MemoryPages {
    type Error = FormatError;

    fn write(&mut self, info: PageInfo, plain: &[u8]) -> Result<Place, FormatError> {
        if self
            .open
            .as_ref()
            .is_some_and(|(builder, _)| builder.frames() >= self.frames_per_pack)
        {
            self.close();
        }
        self.written += 1;
        let number = u32::try_from(self.packs.lock().unwrap().len()).unwrap();
        let sealer = &self.sealer;
        let (builder, bytes) = self.open.get_or_insert_with(|| {
            let mut bytes = Vec::new();
            (
                PackBuilder::new(sealer, pack_name(number), 0, None, &mut bytes),
                bytes,
            )
        });
        let PageInfo {
            kind,
            level,
            first_chunk,
            hash,
        } = info;
        let info = FrameInfo {
            kind,
            level,
            position: first_chunk,
            hash,
        };
        let Location {
            pack,
            offset,
            length,
            ..
        } = builder.append(&mut self.encoder, bytes, info, plain)?;
        Ok(Place {
            pack,
            offset,
            length,
        })
    }
}

/// Reads the pages of [`MemoryPages`].
pub(super) struct MemorySource {
    pub(super) sealer: Sealer,
    pub(super) packs: Arc<Mutex<BTreeMap<PackName, Vec<u8>>>>,
}

#[async_trait]
impl PageSource for MemorySource {
    type Error = FormatError;

    async fn pages(
        &self,
        kind: FrameKind,
        wanted: &[Location],
    ) -> Vec<Result<Vec<u8>, FormatError>> {
        let packs = self.packs.lock().unwrap();
        let mut decoder = FrameDecoder::new().unwrap();
        let page = |location: &Location| {
            let missing = || FormatError::malformed("pack", "it is missing");
            let bytes = packs.get(&location.pack).ok_or_else(missing)?;
            let range = location.range();
            let frame = bytes
                .get(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
                .ok_or_else(missing)?;
            decoder.decode(&self.sealer.pack(&location.pack), frame, kind)
        };
        wanted.iter().map(page).collect()
    }
}

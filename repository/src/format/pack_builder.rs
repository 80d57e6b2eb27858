//! Builds one pack, frame by frame, into buffers that the caller sends off as parts.

use std::sync::Arc;

use super::{
    FormatError,
    crypto::{Hash, PackCipher, Sealer},
    frame::{FrameEncoder, FrameHeader, FrameKind},
    ids::PackName,
    limits::{PACK_FRAMES_MAX, PACK_SIZE_MAX, SCANNED_RANGES_MAX},
    location::Location,
    manifest::Base,
    pack::{FOOTER_SIZE, Footer, HEADER_SIZE, encode_header},
    pack_index::{IndexEntry, PackIndex, ScannedRange},
};

/// What a frame is, for the pack's index.
#[derive(Debug, Clone, Copy)]
pub struct FrameInfo {
    /// What it holds.
    pub kind: FrameKind,
    /// Level of a page; 0 for a chunk.
    pub level: u8,
    /// Chunk number, or first chunk of a map page; 0 for a list page.
    pub position: u64,
    /// Hash of the plain bytes, computed by the caller, who needed it anyway.
    pub hash: Hash,
}

/// A pack under construction. Bytes are appended to the buffer given to each call; the caller may take what is in it and
/// go on with another one at any time. Bytes that were made once are sent as they are, also when a part is tried again.
#[derive(Debug)]
pub struct PackBuilder {
    pack: Arc<PackName>,
    cipher: PackCipher,
    size_bytes: u64,
    index: PackIndex,
}

impl PackBuilder {
    /// Starts a pack and writes its header. `volume_size_bytes` and `base` are for packs of chunks; 0 and `None` else.
    #[must_use]
    pub fn new(
        sealer: &Sealer,
        pack: PackName,
        volume_size_bytes: u64,
        base: Option<Base>,
        out: &mut Vec<u8>,
    ) -> Self {
        let cipher = sealer.pack(&pack);
        out.extend_from_slice(&encode_header(cipher.is_sealed()));
        let index = PackIndex {
            pack: pack.clone(),
            volume_size_bytes,
            base,
            scanned: Vec::new(),
            entries: Vec::new(),
        };
        Self {
            pack: Arc::new(pack),
            cipher,
            size_bytes: HEADER_SIZE.into(),
            index,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Arc<PackName> {
        &self.pack
    }

    /// Bytes made so far, without index and footer.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Frames made so far.
    #[must_use]
    pub fn frames(&self) -> u32 {
        u32::try_from(self.index.entries.len()).expect("bounded by PACK_FRAMES_MAX")
    }

    /// Whether the pack has to be closed before another frame: `target_bytes` or a limit of the format is reached.
    #[must_use]
    pub fn is_full(&self, target_bytes: u64) -> bool {
        self.size_bytes >= target_bytes
            || self.frames() >= PACK_FRAMES_MAX
            || self.index.scanned.len() as u64 >= u64::from(SCANNED_RANGES_MAX)
    }

    /// Appends a frame and says where it lies.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when the pack is full.
    pub fn append(
        &mut self,
        encoder: &mut FrameEncoder,
        out: &mut Vec<u8>,
        info: FrameInfo,
        plain: &[u8],
    ) -> Result<Location, FormatError> {
        let number = self.frames();
        FormatError::check_limit(
            "the number of frames",
            u64::from(number) + 1,
            PACK_FRAMES_MAX.into(),
        )?;
        // Room for this frame and, with a margin, for the index and footer.
        let index_size =
            4096 + 48 * (u64::from(number) + 1) + 16 * (self.index.scanned.len() as u64 + 1);
        let frame_max = plain.len() as u64 + FrameHeader::SIZE as u64 + 16;
        FormatError::check_limit(
            "the size of a pack",
            self.size_bytes + frame_max + index_size,
            PACK_SIZE_MAX,
        )?;
        let length = encoder.encode(&self.cipher, out, info.kind, number, plain)?;
        let offset = u32::try_from(self.size_bytes).expect("checked against PACK_SIZE_MAX");
        self.size_bytes += u64::from(length);
        let FrameInfo {
            kind,
            level,
            position,
            hash,
        } = info;
        self.index.entries.push(IndexEntry {
            kind,
            level,
            length,
            position,
            hash,
        });
        Ok(Location {
            pack: Arc::clone(&self.pack),
            offset,
            length,
            hash,
        })
    }

    /// Says that chunks were looked at: those not appended are holes or equal to the base. Calls may come in any order
    /// but must not overlap.
    pub fn scanned(&mut self, range: ScannedRange) {
        // What is not claimed is looked at again, no more.
        let is_full = self.index.scanned.len() as u64 >= u64::from(SCANNED_RANGES_MAX);
        if range.count == 0 || is_full {
            return;
        }
        let ranges = &mut self.index.scanned;
        let at = ranges.partition_point(|known| known.first < range.first);
        ranges.insert(at, range);
        if at + 1 < ranges.len() && ranges[at].first + ranges[at].count == ranges[at + 1].first {
            ranges[at].count += ranges.remove(at + 1).count;
        }
        if at > 0 && ranges[at - 1].first + ranges[at - 1].count == ranges[at].first {
            ranges[at - 1].count += ranges.remove(at).count;
        }
    }

    /// Appends index and footer and returns the size of the whole pack.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when there are too many scanned ranges.
    pub fn finish(
        mut self,
        encoder: &mut FrameEncoder,
        out: &mut Vec<u8>,
    ) -> Result<u64, FormatError> {
        let ranges = self.index.scanned.len() as u64;
        FormatError::check_limit(
            "the number of scanned ranges",
            ranges,
            SCANNED_RANGES_MAX.into(),
        )?;
        let frames = self.frames();
        let plain = self.index.encode();
        let index_length = encoder.encode(&self.cipher, out, FrameKind::Index, frames, &plain)?;
        let footer = Footer {
            index_offset: self.size_bytes,
            index_length,
            frames,
        };
        out.extend_from_slice(&footer.encode());
        self.size_bytes += u64::from(index_length) + u64::from(FOOTER_SIZE);
        Ok(self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        frame::FrameDecoder,
        pack::check_header,
        testing::{pack_name, sealer},
    };
    use proptest::prelude::*;

    fn pack_of(sealed: bool, chunks: &[Vec<u8>]) -> (Vec<u8>, Vec<Location>) {
        let sealer = sealer(sealed);
        let mut encoder = FrameEncoder::new(1).unwrap();
        let mut out = Vec::new();
        let mut pack = PackBuilder::new(&sealer, pack_name(0), 1 << 30, None, &mut out);
        let mut locations = Vec::new();
        for (chunk, plain) in (0..).zip(chunks) {
            let hash = sealer.chunk_hash(plain);
            let info = FrameInfo {
                kind: FrameKind::Chunk,
                level: 0,
                position: chunk,
                hash,
            };
            locations.push(pack.append(&mut encoder, &mut out, info, plain).unwrap());
        }
        pack.scanned(ScannedRange { first: 5, count: 5 });
        pack.scanned(ScannedRange { first: 0, count: 4 });
        pack.scanned(ScannedRange { first: 4, count: 1 });
        pack.scanned(ScannedRange {
            first: 20,
            count: 1,
        });
        let size = pack.finish(&mut encoder, &mut out).unwrap();
        assert_eq!(size, out.len() as u64);
        (out, locations)
    }

    fn read(sealed: bool, bytes: &[u8]) -> Result<PackIndex, FormatError> {
        let short = || FormatError::malformed("pack", "short");
        let (_, footer) = bytes.split_last_chunk::<32>().ok_or_else(short)?;
        let footer = Footer::decode(footer, bytes.len() as u64)?;
        let start = usize::try_from(footer.index_offset).unwrap();
        let frame = &bytes[start..start + footer.index_length as usize];
        check_header(&bytes[..16], sealed)?;
        let mut decoder = FrameDecoder::new()?;
        let index = PackIndex::open(&sealer(sealed), &mut decoder, &pack_name(0), &footer, frame)?;
        let cipher = sealer(sealed).pack(&pack_name(0));
        for (offset, entry) in index.with_offsets() {
            let start = usize::try_from(offset).unwrap();
            let frame = &bytes[start..start + entry.length as usize];
            let plain = decoder.decode(&cipher, frame, entry.kind)?;
            if sealer(sealed).chunk_hash(&plain) != entry.hash {
                return Err(FormatError::Damaged {
                    what: "chunk",
                    check: "hash",
                });
            }
        }
        Ok(index)
    }

    proptest! {
        #[test]
        fn packs_come_back_and_any_change_is_found(
            sealed: bool,
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..6),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let (mut bytes, locations) = pack_of(sealed, &chunks);
            let index = read(sealed, &bytes).unwrap();
            prop_assert_eq!(index.scanned.clone(), vec![
                ScannedRange { first: 0, count: 10 },
                ScannedRange { first: 20, count: 1 },
            ]);
            for ((offset, entry), location) in index.with_offsets().zip(&locations) {
                prop_assert_eq!((offset, entry.length, entry.hash), (location.offset.into(), location.length, location.hash));
            }
            let at = at.index(bytes.len());
            prop_assert!(read(sealed, &bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(read(sealed, &bytes).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_an_index_or_footer_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(PackIndex::decode(&bytes, &pack_name(0)).is_err());
            prop_assert!(Footer::decode(&bytes, 400).is_err());
            let mut index = PackIndex {
                pack: pack_name(0),
                volume_size_bytes: 0,
                base: None,
                scanned: Vec::new(),
                entries: Vec::new(),
            }
            .encode();
            index.truncate(index.len() - 8);
            index.extend(&bytes);
            // Whatever it makes of this, it does not panic.
            let _ = PackIndex::decode(&index, &pack_name(0));
        }
    }

    #[test]
    fn a_pack_is_full_by_size() {
        let mut out = Vec::new();
        let pack = PackBuilder::new(&sealer(true), pack_name(0), 0, None, &mut out);
        assert!(pack.is_full(16) && !pack.is_full(17));
    }
}

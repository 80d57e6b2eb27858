//! The index of a pack: what is in it, and which part of the volume was scanned for it (section 7 of the specification).

use super::{
    FormatError,
    bytes::{Fields, put_text},
    crypto::{Hash, Sealer},
    frame::{FrameDecoder, FrameHeader, FrameKind},
    ids::{Nonce, PackName, SnapshotId, VolumeId},
    limits::{
        CHUNKS_MAX, LEVELS_MAX, PACK_FRAMES_MAX, PACK_SIZE_MAX, SCANNED_RANGES_MAX, VOLUME_SIZE_MAX,
    },
    manifest::Base,
    pack::{Footer, HEADER_SIZE},
};

const WHAT: &str = "pack index";

/// Size of an entry in bytes.
pub const ENTRY_SIZE: u32 = 48;

/// One frame of the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// What it holds; never an index.
    pub kind: FrameKind,
    /// Level of a page; 0 for a chunk.
    pub level: u8,
    /// Length of the whole frame, bytes.
    pub length: u32,
    /// Chunk number, or first chunk of a map page; 0 for a list page.
    pub position: u64,
    /// Hash of the plain bytes.
    pub hash: Hash,
}

/// A run of chunks that were looked at: what of it is not in the index is a hole, or equal to the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedRange {
    /// First chunk.
    pub first: u64,
    /// Number of chunks, at least 1.
    pub count: u64,
}

/// The index of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    /// The pack's own name.
    pub pack: PackName,
    /// Size of the volume in bytes; 0 in packs of pages.
    pub volume_size_bytes: u64,
    /// What the upload built on.
    pub base: Option<Base>,
    /// Ascending, not touching each other.
    pub scanned: Vec<ScannedRange>,
    /// The frames, in order.
    pub entries: Vec<IndexEntry>,
}

impl PackIndex {
    /// The plain bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            256 + self.scanned.len() * 16 + self.entries.len() * ENTRY_SIZE as usize,
        );
        self.pack.encode(&mut out);
        out.extend_from_slice(&self.volume_size_bytes.to_le_bytes());
        match &self.base {
            None => out.push(0),
            Some(base) => {
                out.push(1);
                put_text(&mut out, base.volume_id.as_str());
                put_text(&mut out, base.snapshot_id.as_str());
                out.extend_from_slice(&base.nonce.0);
            }
        }
        let count = |length: usize| u32::try_from(length).expect("the builder keeps the limits");
        out.extend_from_slice(&count(self.scanned.len()).to_le_bytes());
        for range in &self.scanned {
            out.extend_from_slice(&range.first.to_le_bytes());
            out.extend_from_slice(&range.count.to_le_bytes());
        }
        out.extend_from_slice(&count(self.entries.len()).to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&[entry.kind.code(), entry.level, 0, 0]);
            out.extend_from_slice(&entry.length.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.hash.0);
        }
        out
    }

    /// Reads an index and checks that it is that of `pack`.
    ///
    /// # Errors
    /// [`FormatError::Malformed`], [`FormatError::Limit`].
    pub fn decode(plain: &[u8], pack: &PackName) -> Result<Self, FormatError> {
        let mut fields = Fields::new(WHAT, plain);
        let found = PackName::decode(&mut fields)?;
        if found != *pack {
            return Err(FormatError::malformed(
                WHAT,
                format!("it is the index of {found}"),
            ));
        }
        let volume_size_bytes = fields.u64()?;
        FormatError::check_limit("the volume's size", volume_size_bytes, VOLUME_SIZE_MAX)?;
        let base = match fields.u8()? {
            0 => None,
            1 => Some(Base {
                volume_id: VolumeId::new(fields.text()?)?,
                snapshot_id: SnapshotId::new(fields.text()?)?,
                nonce: Nonce(fields.array()?),
            }),
            _ => {
                return Err(FormatError::malformed(
                    WHAT,
                    "its base is neither there nor absent",
                ));
            }
        };
        let scanned = decode_ranges(&mut fields)?;
        let entries = decode_entries(&mut fields)?;
        fields.end()?;
        Ok(Self {
            pack: found,
            volume_size_bytes,
            base,
            scanned,
            entries,
        })
    }

    /// Opens the index frame that a footer points to, and checks that index and footer agree.
    ///
    /// # Errors
    /// [`FormatError::Malformed`], [`FormatError::Damaged`], [`FormatError::Limit`].
    pub fn open(
        sealer: &Sealer,
        decoder: &mut FrameDecoder,
        pack: &PackName,
        footer: &Footer,
        frame: &[u8],
    ) -> Result<Self, FormatError> {
        let plain = decoder.decode(&sealer.pack(pack), frame, FrameKind::Index)?;
        let index = Self::decode(&plain, pack)?;
        let number = FrameHeader::decode(&frame[..FrameHeader::SIZE])?.number;
        let length: u64 = index
            .entries
            .iter()
            .map(|entry| u64::from(entry.length))
            .sum();
        let agree = index.entries.len() as u64 == u64::from(footer.frames)
            && number == footer.frames
            && u64::from(HEADER_SIZE) + length == footer.index_offset;
        if !agree {
            return Err(FormatError::malformed(WHAT, "it does not fit the footer"));
        }
        Ok(index)
    }

    /// Each entry with the offset of its frame in the pack.
    pub fn with_offsets(&self) -> impl Iterator<Item = (u64, &IndexEntry)> {
        self.entries
            .iter()
            .scan(u64::from(HEADER_SIZE), |offset, entry| {
                let start = *offset;
                *offset += u64::from(entry.length);
                Some((start, entry))
            })
    }
}

fn decode_ranges(fields: &mut Fields<'_>) -> Result<Vec<ScannedRange>, FormatError> {
    let count = fields.u32()?;
    FormatError::check_limit(
        "the number of scanned ranges",
        count.into(),
        SCANNED_RANGES_MAX.into(),
    )?;
    let mut ranges = Vec::with_capacity(count as usize);
    let mut free_from = 0;
    for _ in 0..count {
        let range = ScannedRange {
            first: fields.u64()?,
            count: fields.u64()?,
        };
        let end = range
            .first
            .checked_add(range.count)
            .filter(|end| *end <= CHUNKS_MAX);
        match end {
            Some(end) if range.count > 0 && range.first >= free_from => free_from = end + 1,
            _ => {
                return Err(FormatError::malformed(
                    WHAT,
                    "its scanned ranges are not in order",
                ));
            }
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn decode_entries(fields: &mut Fields<'_>) -> Result<Vec<IndexEntry>, FormatError> {
    let count = fields.u32()?;
    FormatError::check_limit("the number of frames", count.into(), PACK_FRAMES_MAX.into())?;
    let mut entries = Vec::with_capacity(count as usize);
    let mut end = u64::from(HEADER_SIZE);
    for _ in 0..count {
        let kind = FrameKind::from_code(fields.u8()?)?;
        let level = fields.u8()?;
        fields.zeroes(2)?;
        let entry = IndexEntry {
            kind,
            level,
            length: fields.u32()?,
            position: fields.u64()?,
            hash: Hash(fields.array()?),
        };
        end += u64::from(entry.length);
        let level_max = if kind == FrameKind::Chunk {
            0
        } else {
            LEVELS_MAX - 1
        };
        let sound = kind != FrameKind::Index
            && level <= level_max
            && entry.position < CHUNKS_MAX
            && entry.length > FrameHeader::LENGTH
            && entry.length <= kind.frame_max()
            && end <= PACK_SIZE_MAX;
        if !sound {
            return Err(FormatError::malformed(
                WHAT,
                "an entry cannot be a frame of this pack",
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

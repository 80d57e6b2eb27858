//! A page of the map as bytes (section 8 of the specification).

use super::{
    FormatError,
    bytes::Fields,
    frame::{FrameHeader, FrameKind},
    limits::{FAN_OUT, LEVELS_MAX, PAGE_SIZE_MAX},
    location::{Location, PackTable, check_length, decode_entry, decode_table, encode_entry},
};

const WHAT: &str = "map page";

/// Chunks that one slot of a page covers: 1 on level 0.
#[must_use]
pub const fn slot_span(level: u8) -> u64 {
    FAN_OUT.pow(level as u32)
}

/// Chunks that a page covers: 64 on level 0.
#[must_use]
pub const fn page_span(level: u8) -> u64 {
    FAN_OUT.pow(level as u32 + 1)
}

/// Levels of the map of a volume with that many chunks; the root has this level less one.
#[must_use]
pub fn levels(chunk_count: u64) -> u8 {
    (1..LEVELS_MAX)
        .find(|levels| page_span(levels - 1) >= chunk_count)
        .unwrap_or(LEVELS_MAX)
}

/// The page of `level` that covers a chunk: its first chunk.
#[must_use]
pub const fn page_first(level: u8, chunk: u64) -> u64 {
    chunk - chunk % page_span(level)
}

/// A page of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapPage {
    /// 0 where the entries are chunks.
    pub level: u8,
    /// The first chunk that the page covers.
    pub first_chunk: u64,
    /// Slots (0 to 63, ascending) that are not holes.
    pub entries: Vec<(u8, Location)>,
}

impl MapPage {
    /// An empty page to be filled.
    #[must_use]
    pub fn new(level: u8, first_chunk: u64) -> Self {
        Self {
            level,
            first_chunk,
            entries: Vec::new(),
        }
    }

    /// The chunk at which a slot starts.
    #[must_use]
    pub fn slot_chunk(&self, slot: u8) -> u64 {
        self.first_chunk + u64::from(slot) * slot_span(self.level)
    }

    /// The entry that covers a chunk, if it is not a hole.
    #[must_use]
    pub fn entry_for(&self, chunk: u64) -> Option<&Location> {
        let offset = chunk.checked_sub(self.first_chunk)? / slot_span(self.level);
        let slot = u8::try_from(offset)
            .ok()
            .filter(|slot| u64::from(*slot) < FAN_OUT)?;
        let at = self
            .entries
            .binary_search_by_key(&slot, |(slot, _)| *slot)
            .ok()?;
        Some(&self.entries[at].1)
    }

    /// The plain bytes. Equal pages give equal bytes.
    ///
    /// # Panics
    /// If slots are not ascending below 64; [`super::map::MapBuilder`] sees to that.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bitmap = 0_u64;
        let mut table = PackTable::default();
        let mut entries = Vec::with_capacity(self.entries.len() * 42);
        let mut last = None;
        for (slot, location) in &self.entries {
            assert!(
                u64::from(*slot) < FAN_OUT && last < Some(*slot),
                "slots ascend below 64"
            );
            last = Some(*slot);
            bitmap |= 1 << slot;
            encode_entry(&mut entries, table.index_of(&location.pack), location);
        }
        let mut out = Vec::with_capacity(entries.len() + 256);
        out.extend_from_slice(&[self.level, 0]);
        out.extend_from_slice(&table.len().to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.first_chunk.to_le_bytes());
        out.extend_from_slice(&bitmap.to_le_bytes());
        table.encode(&mut out);
        out.extend_from_slice(&entries);
        out
    }

    /// Reads a page whose hash was checked, and checks that it is the one that belongs at this place.
    ///
    /// # Errors
    /// [`FormatError::Malformed`], [`FormatError::Limit`].
    pub fn decode(
        plain: &[u8],
        level: u8,
        first_chunk: u64,
        chunk_count: u64,
    ) -> Result<Self, FormatError> {
        FormatError::check_limit(
            "the size of a map page",
            plain.len() as u64,
            PAGE_SIZE_MAX.into(),
        )?;
        let mut fields = Fields::new(WHAT, plain);
        let found_level = fields.u8()?;
        fields.zeroes(1)?;
        let packs = fields.u16()?;
        fields.zeroes(4)?;
        let found_first = fields.u64()?;
        if (found_level, found_first) != (level, first_chunk) {
            let problem = format!(
                "it is of level {found_level} and chunk {found_first}, not of level {level} and chunk {first_chunk}"
            );
            return Err(FormatError::malformed(WHAT, problem));
        }
        let bitmap = fields.u64()?;
        if bitmap == 0 {
            return Err(FormatError::malformed(WHAT, "it has no entries"));
        }
        let table = decode_table(WHAT, &mut fields, packs)?;
        let mut page = Self {
            level,
            first_chunk,
            entries: Vec::with_capacity(bitmap.count_ones() as usize),
        };
        let kind = match level {
            0 => FrameKind::Chunk,
            _ => FrameKind::MapPage,
        };
        let mut used = 0;
        for slot in (0..64_u8).filter(|slot| bitmap >> slot & 1 == 1) {
            if page.slot_chunk(slot) >= chunk_count {
                return Err(FormatError::malformed(
                    WHAT,
                    "it has entries past the end of the volume",
                ));
            }
            let location = decode_entry(WHAT, kind, &mut fields, &table, &mut used)?;
            page.entries.push((slot, location));
        }
        fields.end()?;
        if used != table.len() {
            return Err(FormatError::malformed(
                WHAT,
                "it names a pack that no entry uses",
            ));
        }
        Ok(page)
    }

    /// Checks that no entry of a leaf is longer than the frame of a chunk can be.
    ///
    /// # Errors
    /// [`FormatError::Limit`].
    pub fn check_chunks(&self, chunk_size_bytes: u32) -> Result<(), FormatError> {
        let length_max = FrameHeader::length_max(chunk_size_bytes);
        let mut chunks = self.entries.iter().filter(|_| self.level == 0);
        chunks.try_for_each(|(_, location)| check_length(location, length_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_levels() {
        assert_eq!((slot_span(0), page_span(0), page_span(4)), (1, 64, 1 << 30));
        for (chunks, expected) in [
            (1, 1),
            (64, 1),
            (65, 2),
            (4096, 2),
            (4097, 3),
            ((1 << 24) + 1, 5),
            (1 << 30, 5),
        ] {
            assert_eq!(levels(chunks), expected, "{chunks}");
        }
        assert_eq!(page_first(0, 127), 64);
        assert_eq!(page_first(1, 5000), 4096);
    }
}

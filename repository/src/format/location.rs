//! Where a chunk or page lies, and what its plain bytes hash to.

use std::sync::Arc;

use super::{
    FormatError,
    bytes::Fields,
    crypto::Hash,
    frame::{FrameHeader, FrameKind},
    ids::PackName,
    limits::{FAN_OUT, PACK_SIZE_MAX},
};

/// A frame in a pack and the hash of its plain bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The pack. Shared, since many locations name the same one.
    pub pack: Arc<PackName>,
    /// Offset of the frame's header in the pack, bytes.
    pub offset: u32,
    /// Length of the whole frame with its header, bytes.
    pub length: u32,
    /// Hash of the plain bytes.
    pub hash: Hash,
}

impl Location {
    /// The bytes of the pack that hold the frame.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.offset);
        start..start + u64::from(self.length)
    }
}

/// The packs that a page names, in the order of first use.
#[derive(Default)]
pub(super) struct PackTable {
    packs: Vec<Arc<PackName>>,
}

impl PackTable {
    /// The index of a pack, which is added if it is new.
    pub(super) fn index_of(&mut self, pack: &Arc<PackName>) -> u16 {
        // Pages are written in order, so the pack is mostly the one used last.
        let found = self
            .packs
            .iter()
            .rposition(|known| Arc::ptr_eq(known, pack) || known == pack);
        let index = found.unwrap_or_else(|| {
            self.packs.push(Arc::clone(pack));
            self.packs.len() - 1
        });
        u16::try_from(index).expect("a page has at most 64 entries")
    }

    pub(super) fn len(&self) -> u16 {
        u16::try_from(self.packs.len()).expect("a page has at most 64 entries")
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for pack in &self.packs {
            pack.encode(out);
        }
    }
}

/// Reads a table of `count` packs.
pub(super) fn decode_table(
    what: &'static str,
    fields: &mut Fields<'_>,
    count: u16,
) -> Result<Vec<Arc<PackName>>, FormatError> {
    FormatError::check_limit("the number of packs in a page", count.into(), FAN_OUT)?;
    let mut packs: Vec<Arc<PackName>> = Vec::with_capacity(count.into());
    for _ in 0..count {
        let pack = PackName::decode(fields)?;
        if packs.iter().any(|known| **known == pack) {
            return Err(FormatError::malformed(what, "it names a pack twice"));
        }
        packs.push(Arc::new(pack));
    }
    Ok(packs)
}

/// Appends an entry.
pub(super) fn encode_entry(out: &mut Vec<u8>, table_index: u16, location: &Location) {
    out.extend_from_slice(&table_index.to_le_bytes());
    out.extend_from_slice(&location.offset.to_le_bytes());
    out.extend_from_slice(&location.length.to_le_bytes());
    out.extend_from_slice(&location.hash.0);
}

/// Reads an entry for a frame of a `kind`. `used` counts the packs met so far: a pack's first use is in the table's order.
pub(super) fn decode_entry(
    what: &'static str,
    kind: FrameKind,
    fields: &mut Fields<'_>,
    table: &[Arc<PackName>],
    used: &mut usize,
) -> Result<Location, FormatError> {
    let index = usize::from(fields.u16()?);
    let Some(pack) = table.get(index).filter(|_| index <= *used) else {
        return Err(FormatError::malformed(
            what,
            "an entry names its pack by a wrong number",
        ));
    };
    *used = (*used).max(index + 1);
    let location = Location {
        pack: Arc::clone(pack),
        offset: fields.u32()?,
        length: fields.u32()?,
        hash: Hash(fields.array()?),
    };
    check_place(what, kind, &location)?;
    Ok(location)
}

/// Checks that a place can be one: after a pack's header, long enough for a frame, no longer than one of its kind, inside
/// a pack. Whoever fetches it relies on the length: it is the size of a request.
pub(super) fn check_place(
    what: &'static str,
    kind: FrameKind,
    location: &Location,
) -> Result<(), FormatError> {
    check_length(location, kind.frame_max())?;
    let fits = location.range().end <= PACK_SIZE_MAX
        && location.offset >= super::pack::HEADER_SIZE
        && location.length > FrameHeader::LENGTH;
    if fits {
        return Ok(());
    }
    let problem = format!(
        "offset {} and length {} cannot be in a pack",
        location.offset, location.length
    );
    Err(FormatError::malformed(what, problem))
}

/// Refuses a frame that is longer than it can be.
pub(super) fn check_length(location: &Location, length_max: u32) -> Result<(), FormatError> {
    FormatError::check_limit(
        "the length of a frame",
        location.length.into(),
        length_max.into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        limits::{CHUNK_SIZE_MAX, PAGE_SIZE_MAX},
        testing::pack_name,
    };

    /// A forged length would be asked for in one request, and held in memory.
    #[test]
    fn a_place_is_no_longer_than_its_kind() {
        let place = |length| Location {
            pack: Arc::new(pack_name(0)),
            offset: 16,
            length,
            hash: Hash([0; 32]),
        };
        for (kind, plain_max) in [
            (FrameKind::Chunk, CHUNK_SIZE_MAX),
            (FrameKind::MapPage, PAGE_SIZE_MAX),
            (FrameKind::ListPage, PAGE_SIZE_MAX),
        ] {
            check_place("test", kind, &place(plain_max + 32)).unwrap();
            for length in [plain_max + 33, u32::MAX - 16] {
                let error = check_place("test", kind, &place(length)).unwrap_err();
                assert!(matches!(error, FormatError::Limit { .. }), "{error:?}");
            }
        }
    }
}

//! A page of the pack list as bytes (section 9 of the specification).

use std::sync::Arc;

use super::{
    FormatError,
    bytes::Fields,
    frame::FrameKind,
    ids::PackName,
    limits::{FAN_OUT, LEVELS_MAX, PACK_SIZE_MAX, PAGE_SIZE_MAX},
    location::{Location, PackTable, decode_entry, decode_table, encode_entry},
};

const WHAT: &str = "pack list page";

/// A pack that a snapshot needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// Its name.
    pub pack: Arc<PackName>,
    /// Size of the whole object, bytes.
    pub size_bytes: u64,
    /// CRC32C of the whole object.
    pub crc32c: u32,
    /// Frames that the snapshot's map reaches in it.
    pub live_frames: u32,
    /// Sum of the whole lengths of those frames, bytes.
    pub live_bytes: u64,
}

/// A page below another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListChild {
    /// Name of the first pack below it.
    pub first: Arc<PackName>,
    /// Where the page lies.
    pub location: Location,
}

/// A page of the pack list: 1 to 64 entries, ascending by pack name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListPage {
    /// Level 0.
    Leaf(Vec<PackEntry>),
    /// Level 1 and up.
    Upper {
        /// The level.
        level: u8,
        /// The pages of the level below.
        children: Vec<ListChild>,
    },
}

impl ListPage {
    /// Name of the first pack in it or below it.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<PackName>> {
        match self {
            Self::Leaf(entries) => entries.first().map(|entry| &entry.pack),
            Self::Upper { children, .. } => children.first().map(|child| &child.first),
        }
    }

    /// The plain bytes.
    ///
    /// # Panics
    /// If there are more than 64 entries; [`super::list::build_pack_list`] sees to that.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (level, count) = match self {
            Self::Leaf(entries) => (0, entries.len()),
            Self::Upper { level, children } => (*level, children.len()),
        };
        assert!((1..=64).contains(&count), "a page has 1 to 64 entries");
        let count = u8::try_from(count).expect("64 at most");
        let mut body = Vec::with_capacity(usize::from(count) * 192);
        let mut table = PackTable::default();
        match self {
            Self::Leaf(entries) => entries
                .iter()
                .for_each(|entry| encode_leaf(&mut body, entry)),
            Self::Upper { children, .. } => {
                for child in children {
                    child.first.encode(&mut body);
                    let index = table.index_of(&child.location.pack);
                    encode_entry(&mut body, index, &child.location);
                }
            }
        }
        let mut out = Vec::with_capacity(body.len() + 256);
        out.extend_from_slice(&[level, count]);
        out.extend_from_slice(&table.len().to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        table.encode(&mut out);
        out.extend_from_slice(&body);
        out
    }

    /// Reads a page whose hash was checked, and checks its level and the order of its entries.
    ///
    /// # Errors
    /// [`FormatError::Malformed`], [`FormatError::Limit`].
    pub fn decode(plain: &[u8], level: u8) -> Result<Self, FormatError> {
        FormatError::check_limit(
            "the size of a pack list page",
            plain.len() as u64,
            PAGE_SIZE_MAX.into(),
        )?;
        FormatError::check_limit(
            "the level of a pack list page",
            level.into(),
            u64::from(LEVELS_MAX) - 1,
        )?;
        let mut fields = Fields::new(WHAT, plain);
        let found_level = fields.u8()?;
        if found_level != level {
            return Err(FormatError::malformed(
                WHAT,
                format!("it is of level {found_level}, not {level}"),
            ));
        }
        let count = fields.u8()?;
        if count == 0 || u64::from(count) > FAN_OUT {
            return Err(FormatError::malformed(
                WHAT,
                format!("it has {count} entries"),
            ));
        }
        let packs = fields.u16()?;
        fields.zeroes(4)?;
        let table = decode_table(WHAT, &mut fields, packs)?;
        let mut used = 0;
        let page = if level == 0 {
            let entries = (0..count)
                .map(|_| decode_leaf(&mut fields))
                .collect::<Result<_, _>>()?;
            Self::Leaf(entries)
        } else {
            let child = |_| {
                let first = Arc::new(PackName::decode(&mut fields)?);
                let location =
                    decode_entry(WHAT, FrameKind::ListPage, &mut fields, &table, &mut used)?;
                Ok::<_, FormatError>(ListChild { first, location })
            };
            Self::Upper {
                level,
                children: (0..count).map(child).collect::<Result<_, _>>()?,
            }
        };
        fields.end()?;
        if used != table.len() {
            return Err(FormatError::malformed(
                WHAT,
                "it names a pack that no entry uses",
            ));
        }
        page.check_order()?;
        Ok(page)
    }

    fn check_order(&self) -> Result<(), FormatError> {
        let sorted = match self {
            Self::Leaf(entries) => entries.is_sorted_by(|a, b| a.pack < b.pack),
            Self::Upper { children, .. } => children.is_sorted_by(|a, b| a.first < b.first),
        };
        if sorted {
            return Ok(());
        }
        Err(FormatError::malformed(WHAT, "its entries are not in order"))
    }
}

fn encode_leaf(out: &mut Vec<u8>, entry: &PackEntry) {
    entry.pack.encode(out);
    out.extend_from_slice(&entry.size_bytes.to_le_bytes());
    out.extend_from_slice(&entry.crc32c.to_le_bytes());
    out.extend_from_slice(&entry.live_frames.to_le_bytes());
    out.extend_from_slice(&entry.live_bytes.to_le_bytes());
}

fn decode_leaf(fields: &mut Fields<'_>) -> Result<PackEntry, FormatError> {
    let entry = PackEntry {
        pack: Arc::new(PackName::decode(fields)?),
        size_bytes: fields.u64()?,
        crc32c: fields.u32()?,
        live_frames: fields.u32()?,
        live_bytes: fields.u64()?,
    };
    FormatError::check_limit("the size of a pack", entry.size_bytes, PACK_SIZE_MAX)?;
    if entry.live_bytes > entry.size_bytes {
        return Err(FormatError::malformed(
            WHAT,
            "more of a pack is live than there is of it",
        ));
    }
    Ok(entry)
}

//! Header and footer of a pack (section 7 of the specification).

use super::{
    FormatError,
    bytes::Fields,
    crc32c::crc32c,
    frame::FrameHeader,
    limits::{FORMAT, INDEX_SIZE_MAX, PACK_FRAMES_MAX, check_format},
};

/// Length of the header, bytes: the offset of the first frame.
pub const HEADER_SIZE: u32 = 16;
/// Length of the footer, bytes.
pub const FOOTER_SIZE: u32 = 32;

const HEADER_MAGIC: &[u8; 8] = b"STKPPACK";
const FOOTER_MAGIC: &[u8; 8] = b"STKPFOOT";
const FLAG_SEALED: u32 = 1;

/// The header.
#[must_use]
pub fn encode_header(sealed: bool) -> [u8; HEADER_SIZE as usize] {
    let mut out = [0; HEADER_SIZE as usize];
    out[..8].copy_from_slice(HEADER_MAGIC);
    out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    out[12..].copy_from_slice(&(if sealed { FLAG_SEALED } else { 0 }).to_le_bytes());
    out
}

/// Checks a header.
///
/// # Errors
/// [`FormatError::Malformed`], [`FormatError::Newer`], [`FormatError::Sealing`] if it is sealed and should not be, or the reverse.
pub fn check_header(bytes: &[u8], sealed: bool) -> Result<(), FormatError> {
    let mut fields = Fields::new("pack header", bytes);
    if fields.array::<8>()? != *HEADER_MAGIC {
        return Err(FormatError::malformed("pack header", "this is not a pack"));
    }
    check_format("pack", fields.u32()?)?;
    let flags = fields.u32()?;
    fields.end()?;
    if flags > FLAG_SEALED {
        return Err(FormatError::malformed("pack header", "unknown flags"));
    }
    let word = |sealed| if sealed { "sealed" } else { "not sealed" };
    let found = flags == FLAG_SEALED;
    if found != sealed {
        return Err(FormatError::Sealing {
            what: "pack",
            found: word(found),
            expected: word(sealed),
        });
    }
    Ok(())
}

/// The last 32 bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Offset of the index frame, bytes.
    pub index_offset: u64,
    /// Length of the index frame with its header, bytes.
    pub index_length: u32,
    /// Frames before the index.
    pub frames: u32,
}

impl Footer {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FOOTER_SIZE as usize] {
        let mut out = [0; FOOTER_SIZE as usize];
        out[..8].copy_from_slice(FOOTER_MAGIC);
        out[8..16].copy_from_slice(&self.index_offset.to_le_bytes());
        out[16..20].copy_from_slice(&self.index_length.to_le_bytes());
        out[20..24].copy_from_slice(&self.frames.to_le_bytes());
        out[24..28].copy_from_slice(&FORMAT.to_le_bytes());
        let crc = crc32c(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the footer of a pack of `pack_size` bytes; the index lies between the header and the footer, right before it.
    ///
    /// # Errors
    /// [`FormatError::Malformed`], [`FormatError::Damaged`], [`FormatError::Newer`].
    pub fn decode(bytes: &[u8], pack_size: u64) -> Result<Self, FormatError> {
        let mut fields = Fields::new("pack footer", bytes);
        if fields.array::<8>()? != *FOOTER_MAGIC {
            return Err(FormatError::malformed(
                "pack footer",
                "it is missing: the pack is cut off",
            ));
        }
        let footer = Self {
            index_offset: fields.u64()?,
            index_length: fields.u32()?,
            frames: fields.u32()?,
        };
        let format = fields.u32()?;
        let crc = fields.u32()?;
        fields.end()?;
        if crc32c(&bytes[..28]) != crc {
            return Err(FormatError::Damaged {
                what: "pack footer",
                check: "checksum",
            });
        }
        check_format("pack", format)?;
        let end = footer
            .index_offset
            .checked_add(u64::from(footer.index_length) + u64::from(FOOTER_SIZE));
        let index_max = INDEX_SIZE_MAX + FrameHeader::LENGTH + 16;
        let fits = end == Some(pack_size)
            && footer.index_offset >= u64::from(HEADER_SIZE)
            && footer.index_length <= index_max
            && footer.frames <= PACK_FRAMES_MAX;
        if !fits {
            return Err(FormatError::malformed(
                "pack footer",
                "it does not fit the size of the pack",
            ));
        }
        Ok(footer)
    }
}

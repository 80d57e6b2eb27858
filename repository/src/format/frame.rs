//! Frames: one chunk, page or index, compressed and sealed (section 7 of the specification).

use std::io::Cursor;

use super::{
    FormatError,
    bytes::Fields,
    crypto::PackCipher,
    limits::{CHUNK_SIZE_MAX, INDEX_SIZE_MAX, PAGE_SIZE_MAX},
};

/// Longest trailer of a frame, bytes: the tag of a sealed one.
const TRAILER_MAX: u32 = 16;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameKind {
    /// A chunk of a volume.
    Chunk,
    /// A page of a map.
    MapPage,
    /// A page of a pack list.
    ListPage,
    /// The index of the pack.
    Index,
}

impl FrameKind {
    /// The byte in header and index.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::MapPage => 2,
            Self::ListPage => 3,
            Self::Index => 4,
        }
    }

    /// The kind of a byte.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] for an unknown one.
    pub fn from_code(code: u8) -> Result<Self, FormatError> {
        Ok(match code {
            1 => Self::Chunk,
            2 => Self::MapPage,
            3 => Self::ListPage,
            4 => Self::Index,
            _ => {
                return Err(FormatError::malformed(
                    "frame header",
                    format!("unknown kind {code}"),
                ));
            }
        })
    }

    /// Largest plain length of a frame of this kind, bytes.
    #[must_use]
    pub const fn plain_max(self) -> u32 {
        match self {
            Self::Chunk => CHUNK_SIZE_MAX,
            Self::MapPage | Self::ListPage => PAGE_SIZE_MAX,
            Self::Index => INDEX_SIZE_MAX,
        }
    }

    /// Largest length of a whole frame of this kind, bytes.
    #[must_use]
    pub const fn frame_max(self) -> u32 {
        FrameHeader::length_max(self.plain_max())
    }
}

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As one zstd frame.
    Zstd,
}

/// The 16 bytes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it holds.
    pub kind: FrameKind,
    /// How it is compressed.
    pub compression: Compression,
    /// Number in the pack, from 0.
    pub number: u32,
    /// Length of the plain bytes.
    pub plain_len: u32,
    /// Length of what follows the header: payload and trailer.
    pub stored_len: u32,
}

impl FrameHeader {
    /// Length of a header, bytes.
    pub const SIZE: usize = 16;
    /// The same where offsets in packs are reckoned.
    pub const LENGTH: u32 = 16;

    /// Largest length of a whole frame of that many plain bytes: header, plain bytes as they are, longest trailer.
    #[must_use]
    pub const fn length_max(plain_len: u32) -> u32 {
        Self::LENGTH + plain_len + TRAILER_MAX
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[0] = self.kind.code();
        out[1] = match self.compression {
            Compression::None => 0,
            Compression::Zstd => 1,
        };
        out[4..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..12].copy_from_slice(&self.plain_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.stored_len.to_le_bytes());
        out
    }

    /// Reads a header and checks its lengths against the kind's limit.
    ///
    /// # Errors
    /// [`FormatError::Malformed`], [`FormatError::Limit`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::new("frame header", bytes);
        let kind = FrameKind::from_code(fields.u8()?)?;
        let compression = match fields.u8()? {
            0 => Compression::None,
            1 => Compression::Zstd,
            other => {
                return Err(FormatError::malformed(
                    "frame header",
                    format!("unknown compression {other}"),
                ));
            }
        };
        fields.zeroes(2)?;
        let header = Self {
            kind,
            compression,
            number: fields.u32()?,
            plain_len: fields.u32()?,
            stored_len: fields.u32()?,
        };
        fields.end()?;
        FormatError::check_limit(
            "the plain length of a frame",
            header.plain_len.into(),
            kind.plain_max().into(),
        )?;
        let longest = u64::from(header.plain_len) + u64::from(TRAILER_MAX);
        FormatError::check_limit(
            "the stored length of a frame",
            header.stored_len.into(),
            longest,
        )?;
        if header.plain_len == 0 {
            return Err(FormatError::malformed("frame header", "a frame of nothing"));
        }
        Ok(header)
    }

    /// Length of the whole frame, bytes.
    #[must_use]
    pub const fn frame_len(&self) -> u32 {
        self.stored_len + Self::LENGTH
    }
}

/// Makes frames; keeps the compressor, which is dear to set up. One per worker.
pub struct FrameEncoder {
    compressor: zstd::bulk::Compressor<'static>,
}

impl FrameEncoder {
    /// With a zstd level, from -7 (fastest) over 1 to 19.
    ///
    /// # Errors
    /// [`FormatError::Library`] when zstd refuses the level or has no memory.
    pub fn new(level: i32) -> Result<Self, FormatError> {
        let failed = |_| FormatError::Library {
            what: "setting up zstd",
        };
        let mut compressor = zstd::bulk::Compressor::new(level).map_err(failed)?;
        if level == 1 {
            // Twice zstd's own choice for pieces this short: half a percent smaller, as fast within what can be measured.
            compressor
                .set_parameter(zstd::zstd_safe::CParameter::HashLog(14))
                .map_err(failed)?;
        }
        Ok(Self { compressor })
    }

    /// Appends a frame to `out` and returns its whole length. Nothing is copied when it compresses.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when `plain` is too long for its kind.
    pub fn encode(
        &mut self,
        cipher: &PackCipher,
        out: &mut Vec<u8>,
        kind: FrameKind,
        number: u32,
        plain: &[u8],
    ) -> Result<u32, FormatError> {
        FormatError::check_limit(
            "the plain length of a frame",
            plain.len() as u64,
            kind.plain_max().into(),
        )?;
        let start = out.len();
        let payload_start = start + FrameHeader::SIZE;
        out.reserve(
            FrameHeader::SIZE
                + zstd::zstd_safe::compress_bound(plain.len())
                + cipher.trailer_size(),
        );
        out.resize(payload_start, 0);
        let mut cursor = Cursor::new(&mut *out);
        cursor.set_position(payload_start as u64);
        let packed = self.compressor.compress_to_buffer(plain, &mut cursor);
        let compression = match packed {
            Ok(length) if length < plain.len() => Compression::Zstd,
            _ => {
                out.truncate(payload_start);
                out.extend_from_slice(plain);
                Compression::None
            }
        };
        let small = |length: usize| u32::try_from(length).expect("bounded by the kind's limit");
        let header = FrameHeader {
            kind,
            compression,
            number,
            plain_len: small(plain.len()),
            stored_len: small(out.len() - payload_start + cipher.trailer_size()),
        };
        out[start..payload_start].copy_from_slice(&header.encode());
        cipher.seal_tail(&header, out, payload_start)?;
        Ok(header.frame_len())
    }
}

/// Reads frames; keeps the decompressor and a scratch buffer. One per worker.
pub struct FrameDecoder {
    decompressor: zstd::bulk::Decompressor<'static>,
    scratch: Vec<u8>,
}

impl FrameDecoder {
    /// A new one.
    ///
    /// # Errors
    /// [`FormatError::Library`] when zstd has no memory.
    pub fn new() -> Result<Self, FormatError> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(|_| FormatError::Library {
            what: "setting up zstd",
        })?;
        Ok(Self {
            decompressor,
            scratch: Vec::new(),
        })
    }

    /// Opens and decompresses a whole frame (with its header) into `out`, whose length is the plain length expected: the
    /// chunk size for a chunk. The hash is still to be checked by the caller, who knows it.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] or [`FormatError::Damaged`]; `out` then holds nothing of use.
    pub fn decode_into(
        &mut self,
        cipher: &PackCipher,
        frame: &[u8],
        expected: FrameKind,
        out: &mut [u8],
    ) -> Result<FrameHeader, FormatError> {
        let (header, stored) = split(frame, expected)?;
        if header.plain_len as usize != out.len() {
            let problem = format!(
                "its plain length is {}, not {}",
                header.plain_len,
                out.len()
            );
            return Err(FormatError::malformed("frame", problem));
        }
        self.open(cipher, &header, stored, out)?;
        Ok(header)
    }

    /// Like [`Self::decode_into`] for frames of any length within the kind's limit.
    ///
    /// # Errors
    /// As [`Self::decode_into`].
    pub fn decode(
        &mut self,
        cipher: &PackCipher,
        frame: &[u8],
        expected: FrameKind,
    ) -> Result<Vec<u8>, FormatError> {
        let (header, stored) = split(frame, expected)?;
        let mut out = vec![0; header.plain_len as usize];
        self.open(cipher, &header, stored, &mut out)?;
        Ok(out)
    }

    fn open(
        &mut self,
        cipher: &PackCipher,
        header: &FrameHeader,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<(), FormatError> {
        let payload_len =
            stored
                .len()
                .checked_sub(cipher.trailer_size())
                .ok_or(FormatError::Damaged {
                    what: "frame",
                    check: "length",
                })?;
        if header.compression == Compression::None {
            if payload_len != out.len() {
                return Err(FormatError::malformed(
                    "frame",
                    "it is not compressed, but its lengths differ",
                ));
            }
            return cipher.open_to(header, stored, out);
        }
        if payload_len >= out.len() {
            return Err(FormatError::malformed(
                "frame",
                "it is compressed, but not smaller",
            ));
        }
        let compressed = if cipher.is_sealed() {
            self.scratch.resize(payload_len, 0);
            cipher.open_to(header, stored, &mut self.scratch)?;
            self.scratch.as_slice()
        } else {
            cipher.check_unsealed(header, stored)?
        };
        match self.decompressor.decompress_to_buffer(compressed, out) {
            Ok(length) if length == out.len() => Ok(()),
            Ok(length) => {
                let problem = format!("it decompresses to {length} bytes instead of {}", out.len());
                Err(FormatError::malformed("frame", problem))
            }
            Err(source) => Err(FormatError::malformed(
                "frame",
                format!("it does not decompress: {source}"),
            )),
        }
    }
}

/// Header and stored bytes of a whole frame.
fn split(frame: &[u8], expected: FrameKind) -> Result<(FrameHeader, &[u8]), FormatError> {
    let (head, stored) = frame
        .split_at_checked(FrameHeader::SIZE)
        .ok_or_else(|| FormatError::malformed("frame", "it is shorter than a header"))?;
    let header = FrameHeader::decode(head)?;
    if header.kind != expected {
        let problem = format!("it is a {:?}, not a {expected:?}", header.kind);
        return Err(FormatError::malformed("frame", problem));
    }
    if header.stored_len as usize != stored.len() {
        let problem = format!(
            "its stored length is {}, not {}",
            header.stored_len,
            stored.len()
        );
        return Err(FormatError::malformed("frame", problem));
    }
    Ok((header, stored))
}

#[cfg(test)]
mod tests;

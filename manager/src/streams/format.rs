//! The bytes of a stream: how large the content is, the content with its holes left out, a checksum. All numbers little-endian.
//!
//! ```text
//! header   8 bytes "STKPTSTR" | u32 version, 1 | u32 zero | u64 size of the content in bytes
//! frames   u32 kind | u32 zero | u64 length, then
//!            kind 1, data: so many bytes of the content, at most 1 MiB
//!            kind 2, hole: nothing; so many bytes of the content are zero
//!            kind 3, end:  32 bytes, the BLAKE3 hash of everything before this frame; its length is 32
//! ```
//!
//! The frames follow each other through the content without gaps. After the end frame comes nothing.

use std::io::{self, Read, Write};

use stockpot_repository::device::is_zero;

/// Most data of one frame, in bytes.
pub(super) const DATA_SIZE_MAX: usize = 1 << 20;
/// Zeroes are left out in pieces of this size, in bytes.
const HOLE_STEP_SIZE: usize = 16 << 10;
/// Bytes of the header.
pub(super) const HEADER_SIZE: usize = 24;
/// Bytes at the head of each frame.
const FRAME_HEAD_SIZE: usize = 16;
/// Bytes of the checksum.
const HASH_SIZE: usize = blake3::OUT_LEN;

const MAGIC: [u8; 8] = *b"STKPTSTR";
const VERSION: u32 = 1;
const DATA: u32 = 1;
const HOLE: u32 = 2;
const END: u32 = 3;

/// What is wrong with bytes that are read.
#[derive(Debug)]
pub(super) enum FormatError {
    /// They could not be read.
    Read(io::Error),
    /// They are something else.
    Foreign(String),
    /// They are not as they were written.
    Damaged(String),
}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends too early".to_owned()),
            _ => Self::Read(error),
        }
    }
}

/// Writes a content piece by piece.
#[derive(Debug)]
pub(super) struct Encoder<W> {
    sink: W,
    hasher: blake3::Hasher,
    size_bytes: u64,
    at: u64,
    hole: u64,
}

impl<W: Write> Encoder<W> {
    /// Begins with the header.
    pub(super) fn new(sink: W, size_bytes: u64) -> io::Result<Self> {
        let mut encoder = Self {
            sink,
            hasher: blake3::Hasher::new(),
            size_bytes,
            at: 0,
            hole: 0,
        };
        let mut header = Vec::with_capacity(HEADER_SIZE);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(0_u32.to_le_bytes());
        header.extend(size_bytes.to_le_bytes());
        encoder.put(&header)?;
        Ok(encoder)
    }

    /// The next bytes of the content, at most [`DATA_SIZE_MAX`]; rows of zeroes become holes.
    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len_while = |bytes: &[u8], zero: bool| -> usize {
            let steps = bytes.chunks(HOLE_STEP_SIZE);
            let steps = steps.take_while(|step| is_zero(step) == zero);
            steps.map(<[u8]>::len).sum()
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeroes = len_while(rest, true);
            self.hole(zeroes as u64);
            rest = &rest[zeroes..];
            let (data, after) = rest.split_at(len_while(rest, false));
            if !data.is_empty() {
                self.frame(data)?;
            }
            rest = after;
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.close_hole()?;
        let mut frame = Vec::with_capacity(FRAME_HEAD_SIZE + bytes.len());
        frame.extend(head(DATA, bytes.len() as u64));
        frame.extend(bytes);
        self.at += bytes.len() as u64;
        self.put(&frame)
    }

    /// So many zeroes follow.
    pub(super) fn hole(&mut self, len: u64) {
        self.hole += len;
        self.at += len;
    }

    /// What comes last, to be written when all before it is known to be right.
    pub(super) fn end(mut self) -> io::Result<Vec<u8>> {
        self.close_hole()?;
        assert!(
            self.at == self.size_bytes,
            "{} of {} bytes were written",
            self.at,
            self.size_bytes
        );
        let mut frame = Vec::with_capacity(FRAME_HEAD_SIZE + HASH_SIZE);
        frame.extend(head(END, HASH_SIZE as u64));
        frame.extend(self.hasher.finalize().as_bytes());
        Ok(frame)
    }

    fn close_hole(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            len => self.put(&head(HOLE, len)),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.sink.write_all(bytes)
    }
}

fn head(kind: u32, len: u64) -> [u8; FRAME_HEAD_SIZE] {
    let mut head = [0; FRAME_HEAD_SIZE];
    head[..4].copy_from_slice(&kind.to_le_bytes());
    head[8..].copy_from_slice(&len.to_le_bytes());
    head
}

/// The size of the content that a header begins.
pub(super) fn read_header(header: &[u8; HEADER_SIZE]) -> Result<u64, FormatError> {
    if header[..8] != MAGIC {
        return Err(FormatError::Foreign(
            "it begins with other bytes".to_owned(),
        ));
    }
    let version = number(&header[8..12]);
    if version != u64::from(VERSION) || number(&header[12..16]) != 0 {
        return Err(FormatError::Foreign(format!(
            "its format is version {version}, and this program knows {VERSION}"
        )));
    }
    match number(&header[16..]) {
        0 => Err(FormatError::Damaged("its content has no bytes".to_owned())),
        size_bytes => Ok(size_bytes),
    }
}

/// Little-endian, up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// One piece of a content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Bytes at an offset.
    Data(u64, &'a [u8]),
    /// Zeroes from an offset on.
    Hole(u64, u64),
}

/// Reads what follows `header`, gives each piece to `take`, and makes sure of the end.
pub(super) fn read_content<E: From<FormatError>>(
    header: &[u8; HEADER_SIZE],
    mut source: impl Read,
    mut take: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let size_bytes = read_header(header)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    let mut buffer = Vec::new();
    let mut at = 0;
    loop {
        let mut head = [0; FRAME_HEAD_SIZE];
        read(&mut source, &mut head)?;
        let (kind, zero, len) = (number(&head[..4]), number(&head[4..8]), number(&head[8..]));
        let left = size_bytes - at;
        if zero != 0 {
            return Err(damaged(format!("the frame at {at} is malformed")));
        }
        match u32::try_from(kind) {
            Ok(DATA) if len <= DATA_SIZE_MAX as u64 && (1..=left).contains(&len) => {
                let len = usize::try_from(len).expect("at most a frame");
                hasher.update(&head);
                buffer.resize(len, 0);
                read(&mut source, &mut buffer)?;
                hasher.update(&buffer);
                take(Piece::Data(at, &buffer))?;
                at += len as u64;
            }
            Ok(HOLE) if (1..=left).contains(&len) => {
                hasher.update(&head);
                take(Piece::Hole(at, len))?;
                at += len;
            }
            Ok(END) if len == HASH_SIZE as u64 => {
                if left != 0 {
                    return Err(damaged(format!(
                        "it has {at} bytes, and {size_bytes} were announced"
                    )));
                }
                return check_end(source, &hasher).map_err(E::from);
            }
            Ok(DATA | HOLE) if len > left => {
                return Err(damaged(format!(
                    "it has more bytes than the {size_bytes} that were announced"
                )));
            }
            _ => return Err(damaged(format!("the frame at {at} is malformed"))),
        }
    }
}

fn check_end(mut source: impl Read, hasher: &blake3::Hasher) -> Result<(), FormatError> {
    let mut hash = [0; HASH_SIZE];
    source.read_exact(&mut hash)?;
    if hasher.finalize() != hash {
        return Err(FormatError::Damaged(
            "its checksum is another one".to_owned(),
        ));
    }
    match source.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(FormatError::Damaged("something follows its end".to_owned())),
        Err(error) => Err(error.into()),
    }
}

fn read(mut source: impl Read, into: &mut [u8]) -> Result<(), FormatError> {
    Ok(source.read_exact(into)?)
}

fn damaged<E: From<FormatError>>(why: String) -> E {
    FormatError::Damaged(why).into()
}

#[cfg(test)]
mod tests;

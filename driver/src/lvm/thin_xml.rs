//! What `thin_dump` and `thin_delta` print, read as it comes.
//!
//! Positions are counted in blocks of the pool; the size of a block stands at the top, in sectors of 512 bytes. A
//! volume that was made smaller and larger again may still have blocks that lay behind its end for a while: both
//! tools show them, and what both sides share there is no part of the smaller one.
//!
//! An answer that is not understood as a whole is an error: half a list of changes would be a broken backup.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use tokio::io::AsyncBufRead;

use crate::{ByteRange, ranges::Ranges};

const SECTOR_BYTES: u64 = 512;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The blocks that a thin device has.
    Mapped {
        /// Its number in the pool.
        device: u32,
    },
    /// Where `right` may differ from `left`.
    Changed {
        left: u32,
        right: u32,
        /// Size of `left` in bytes.
        left_bytes: u64,
    },
}

/// Where the reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Superblock,
    /// In the device or the comparison.
    Body,
    AfterBody,
    End,
}

/// Reads a whole answer; `size_bytes` is the size of the (newer) device. `Err` with what could not be understood.
pub(super) async fn read(
    input: impl AsyncBufRead + Unpin,
    wanted: Wanted,
    size_bytes: u64,
) -> Result<Vec<ByteRange>, String> {
    let mut reader = Reader::from_reader(input);
    let mut answer = Answer {
        wanted,
        place: Place::Start,
        block_bytes: 0,
        next_block: 0,
        ranges: Ranges::within(size_bytes),
    };
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = reader.read_event_into_async(&mut buffer).await;
        match event.map_err(|error| error.to_string())? {
            Event::Start(element) => answer.open(&element)?,
            Event::Empty(element) => {
                answer.open(&element)?;
                answer.close(element.name().as_ref())?;
            }
            Event::End(element) => answer.close(element.name().as_ref())?,
            Event::Text(text) if text.iter().all(u8::is_ascii_whitespace) => {}
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Eof if answer.place == Place::End => return Ok(answer.ranges.finish()),
            Event::Eof => return Err("it ends too early".into()),
            other => return Err(format!("{other:?} is not expected")),
        }
    }
}

struct Answer {
    wanted: Wanted,
    place: Place,
    block_bytes: u64,
    /// The first block that has not been spoken of.
    next_block: u64,
    ranges: Ranges,
}

impl Answer {
    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let name = element.name();
        match (self.place, name.as_ref(), self.wanted) {
            (Place::Start, b"superblock", _) => {
                let sectors = number(element, "data_block_size")?;
                self.block_bytes = sectors
                    .checked_mul(SECTOR_BYTES)
                    .filter(|bytes| *bytes > 0)
                    .ok_or_else(|| format!("data_block_size is {sectors}"))?;
                self.place = Place::Superblock;
            }
            (Place::Superblock, b"device", Wanted::Mapped { device }) => {
                expect(element, "dev_id", device)?;
                self.place = Place::Body;
            }
            (Place::Superblock, b"diff", Wanted::Changed { left, right, .. }) => {
                expect(element, "left", left)?;
                expect(element, "right", right)?;
                self.place = Place::Body;
            }
            (Place::Body, b"single_mapping", Wanted::Mapped { .. }) => {
                self.add(number(element, "origin_block")?, 1, None)?;
            }
            (Place::Body, b"range_mapping", Wanted::Mapped { .. }) => {
                let begin = number(element, "origin_begin")?;
                self.add(begin, number(element, "length")?, None)?;
            }
            (Place::Body, kind, Wanted::Changed { left_bytes, .. }) => {
                let same_until = match kind {
                    b"same" => Some(left_bytes),
                    b"different" | b"left_only" | b"right_only" => None,
                    _ => return Err(unexpected(element)),
                };
                let begin = number(element, "begin")?;
                self.add(begin, number(element, "length")?, same_until)?;
            }
            _ => return Err(unexpected(element)),
        }
        Ok(())
    }

    fn close(&mut self, name: &[u8]) -> Result<(), String> {
        self.place = match (self.place, name) {
            (Place::Body, b"device" | b"diff") => Place::AfterBody,
            (Place::AfterBody, b"superblock") => Place::End,
            (Place::Superblock, b"superblock") => {
                return Err("the device is not in it".into());
            }
            (place, _) => place,
        };
        Ok(())
    }

    /// Takes blocks in, but for the bytes below `same_until`.
    fn add(&mut self, begin: u64, length: u64, same_until: Option<u64>) -> Result<(), String> {
        let bytes = |block: u64| block.checked_mul(self.block_bytes);
        let end = begin.checked_add(length);
        let (Some(start), Some(stop)) = (bytes(begin), end.and_then(bytes)) else {
            return Err(format!("{length} blocks at {begin} are beyond any device"));
        };
        if begin < self.next_block {
            return Err(format!("block {begin} comes after {}", self.next_block));
        }
        self.next_block = begin + length;
        let start = same_until.map_or(start, |until| start.max(until));
        self.ranges
            .add(start, stop)
            .map_err(|_| format!("block {begin} is out of order"))
    }
}

fn expect(element: &BytesStart<'_>, attribute: &str, value: u32) -> Result<(), String> {
    let found = number(element, attribute)?;
    if found == u64::from(value) {
        return Ok(());
    }
    Err(format!("{attribute} is {found}, not {value}"))
}

fn number(element: &BytesStart<'_>, attribute: &str) -> Result<u64, String> {
    let found = element.try_get_attribute(attribute);
    let found = found.map_err(|error| error.to_string())?;
    let found = found.ok_or_else(|| format!("{attribute} is missing"))?;
    let text = String::from_utf8_lossy(&found.value);
    let parsed = text.parse();
    parsed.map_err(|_| format!("{attribute} is {text:?}"))
}

fn unexpected(element: &BytesStart<'_>) -> String {
    let name = element.name();
    format!(
        "<{}> is not expected",
        String::from_utf8_lossy(name.as_ref())
    )
}

#[cfg(test)]
mod tests;

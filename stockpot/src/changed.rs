//! `--changed FILE`: which bytes of a volume changed, as another program wrote it down.

use std::{fmt, fs::File, io::Read as _, ops::Range, path::Path};

use anyhow::Context as _;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::usage::Usage;

/// A file of ranges is no longer than this, in bytes: some millions of them.
const SIZE_MAX: u64 = 256 << 20;

/// Read at a time, in bytes: what is no text is found out before much of it is in memory.
const PIECE_BYTES: u64 = 64 << 10;

/// What a list in JSON has to look like.
const ENTRY: &str = "{\"offset\": BYTES, \"length\": BYTES} or [OFFSET, LENGTH]";

/// One range in JSON.
#[derive(Debug)]
struct Entry {
    offset: u64,
    length: u64,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

/// Both forms of an entry; by hand, because what serde derives does not say what is wrong.
struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ENTRY)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Entry, A::Error> {
        let mut next = |at| {
            let number = numbers.next_element()?;
            number.ok_or_else(|| A::Error::invalid_length(at, &self))
        };
        let (offset, length) = (next(0)?, next(1)?);
        match numbers.next_element::<IgnoredAny>()? {
            None => Ok(Entry { offset, length }),
            Some(_) => Err(A::Error::invalid_length(3, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Entry, A::Error> {
        let (mut offset, mut length) = (None, None);
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "offset" if offset.is_some() => return Err(A::Error::duplicate_field("offset")),
                "length" if length.is_some() => return Err(A::Error::duplicate_field("length")),
                "offset" => offset = Some(fields.next_value()?),
                "length" => length = Some(fields.next_value()?),
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        match (offset, length) {
            (Some(offset), Some(length)) => Ok(Entry { offset, length }),
            (None, _) => Err(A::Error::missing_field("offset")),
            (_, None) => Err(A::Error::missing_field("length")),
        }
    }
}

/// The list, which says which of its entries is wrong.
struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EntriesVisitor).map(Self)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {ENTRY}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Entry>, A::Error> {
        let mut entries = Vec::new();
        loop {
            let number = entries.len() + 1;
            let entry = list.next_element();
            match entry.map_err(|error| A::Error::custom(format!("entry {number}: {error}")))? {
                Some(entry) => entries.push(entry),
                None => return Ok(entries),
            }
        }
    }
}

/// Reads ranges of bytes: a JSON list of `{"offset":…,"length":…}` or `[offset, length]`, or lines of `offset length`. None
/// in it, or only empty ones: nothing changed.
///
/// # Errors
/// [`Usage`] with the line of what is not a range.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Range<u64>>> {
    let cannot = || format!("cannot read --changed {}", path.display());
    let wrong =
        |problem: &str| Usage::new(format!("--changed {}: {problem}", path.display())).into();
    let mut file = File::open(path).with_context(cannot)?;
    let mut text = Vec::new();
    // A device or FIFO tells no length, and some have no end.
    while text.len() as u64 <= SIZE_MAX {
        let before = text.len();
        let mut piece = file.by_ref().take(PIECE_BYTES);
        piece.read_to_end(&mut text).with_context(cannot)?;
        if text.len() == before {
            let text = String::from_utf8(text).map_err(|_| wrong("it is no text"))?;
            return parse(&text).map_err(|problem| wrong(&problem));
        }
        if text[before..].contains(&0) {
            return Err(wrong("it is no text"));
        }
    }
    Err(wrong(&format!(
        "it has more than {SIZE_MAX} bytes; a list of ranges has fewer"
    )))
}

fn parse(text: &str) -> Result<Vec<Range<u64>>, String> {
    if text.trim_start().starts_with('[') {
        let entries: Entries = serde_json::from_str(text).map_err(|error| {
            format!("not a list of ranges: {error}; each is {ENTRY}, in whole bytes")
        })?;
        let numbered = (1..).zip(entries.0);
        return numbered
            .map(|(number, Entry { offset, length })| {
                range(offset, length).map_err(|error| format!("entry {number}: {error}"))
            })
            .collect();
    }
    let mut ranges = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let Ok([offset, length]) = numbers.as_deref() else {
            return Err(format!(
                "line {number} is {line:?}; each line has an offset and a length in bytes"
            ));
        };
        ranges.push(range(*offset, *length).map_err(|error| format!("line {number}: {error}"))?);
    }
    Ok(ranges)
}

fn range(offset: u64, length: u64) -> Result<Range<u64>, String> {
    match offset.checked_add(length) {
        Some(end) => Ok(offset..end),
        None => Err(format!(
            "offset {offset} and length {length} are too large together"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_lines_are_read() {
        let expected = vec![0..512, 4096..8192];
        for text in [
            "0 512\n4096 4096\n",
            "# from a tool\n\n  0\t512\n4096 4096",
            r#"[{"offset":0,"length":512},{"offset":4096,"length":4096}]"#,
            " [[0, 512], [4096, 4096]]",
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("[]").unwrap(), []);
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_line() {
        assert!(parse("0 512\n7\n").unwrap_err().starts_with("line 2 "));
        assert!(parse("0 -1").is_err());
        for (text, words) in [
            ("[1, 2]", "entry 1"),
            ("[[0, 512], [5, -1]]", "entry 2"),
            (r#"[{"offset":0,"length":512},{"offset":7}]"#, "entry 2"),
            (r#"[{"offset":0,"length":512,"offset":4096}]"#, "entry 1"),
            ("[[0, 512, 3]]", "entry 1"),
            ("[[0, 512], [4096, 1.5]]", "entry 2"),
            ("[[0, 512], [18446744073709551615, 2]]", "entry 2"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = parse("[\"5\"]").unwrap_err();
        assert!(
            error.contains("entry 1") && error.contains("[OFFSET, LENGTH]"),
            "{error}"
        );
        assert!(parse(r#"[{"offset":0,"length":512,"note":"x"}]"#).is_ok());
        assert!(parse(&format!("{} 1", u64::MAX)).is_err());
    }
}

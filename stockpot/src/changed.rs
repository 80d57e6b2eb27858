//! `--changed FILE`: which bytes of a volume changed, as another program wrote it down.

use std::{fs::File, io::Read as _, ops::Range, path::Path};

use anyhow::Context as _;
use serde::Deserialize;

use crate::usage::Usage;

/// A file of ranges is no longer than this, in bytes: some millions of them.
const SIZE_MAX: u64 = 256 << 20;

/// Read at a time, in bytes: what is no text is found out before much of it is in memory.
const PIECE_BYTES: u64 = 64 << 10;

/// One range in JSON.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Named { offset: u64, length: u64 },
    Pair(u64, u64),
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
        let entries: Vec<Entry> =
            serde_json::from_str(text).map_err(|error| format!("not a list of ranges: {error}"))?;
        return entries
            .into_iter()
            .map(|entry| match entry {
                Entry::Named { offset, length } | Entry::Pair(offset, length) => {
                    range(offset, length)
                }
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
        assert!(parse("[1, 2]").is_err());
        assert!(parse(&format!("{} 1", u64::MAX)).is_err());
    }
}

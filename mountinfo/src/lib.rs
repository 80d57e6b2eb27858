//! The kernel's table of mounts, `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
//!
//! ```no_run
//! # fn f() -> std::io::Result<()> {
//! let table = std::fs::read(stockpot_mountinfo::OWN)?;
//! for mount in stockpot_mountinfo::parse(&table).flatten() {
//!     println!("{} at {}", mount.source, mount.point.display());
//! }
//! # Ok(())
//! # }
//! ```

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// The table that this process sees.
pub const OWN: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number among all mounts.
    pub id: u64,
    /// Major and minor number of the file system's device; the kernel makes up one (major 0) where it has none.
    pub number: (u32, u32),
    /// What of the file system is mounted: `/` or a part of it.
    pub root: PathBuf,
    /// Where it is mounted, as seen by that process. Any bytes but zero.
    pub point: PathBuf,
    /// Options of the mount, separated by commas.
    pub options: String,
    /// The kind of the file system: `ext4`.
    pub kind: String,
    /// The file system's own word for what it lies on: a device, or anything else. Invalid UTF-8 is replaced.
    pub source: String,
    /// Options of the file system, separated by commas.
    pub super_options: String,
}

impl Mount {
    /// Whether the mount itself is read-only. The file system below it may be so in any case.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        has(&self.options, "ro")
    }

    /// Whether the file system is read-only, however it is mounted.
    #[must_use]
    pub fn is_read_only_below(&self) -> bool {
        has(&self.super_options, "ro")
    }

    /// Whether it may be a device's node: those lie on devtmpfs, or on a tmpfs that stands in for it.
    #[must_use]
    pub fn lies_among_nodes(&self) -> bool {
        matches!(self.kind.as_str(), "devtmpfs" | "tmpfs")
    }
}

fn has(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

/// A line that is none of such a table. Invalid UTF-8 is replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {0:?} of the mount table cannot be read")]
pub struct Malformed(pub String);

/// The mounts of a table, in the order in which they were made.
pub fn parse(table: &[u8]) -> impl Iterator<Item = Result<Mount, Malformed>> {
    let lines = table.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| parse_line(line).ok_or_else(|| Malformed(text(line))))
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/x rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let _parent = fields.next()?;
    let number = text(fields.next()?);
    let (major, minor) = number.split_once(':')?;
    let root = path(fields.next()?);
    let point = path(fields.next()?);
    let options = text(fields.next()?);
    // Optional fields end with a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    Some(Mount {
        id,
        number: (major.parse().ok()?, minor.parse().ok()?),
        root,
        point,
        options,
        kind: text(fields.next()?),
        source: text(&unescape(fields.next()?)),
        super_options: fields.next().map(text).unwrap_or_default(),
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

/// A field of this table, or of others of the kernel's that name files (proc_swaps(5)), as it was before the kernel wrote it: blank,
/// tab, newline and backslash stand there as `\` and three octal digits.
#[must_use]
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 8).ok()
            });
        match octal {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn tables_are_read_as_the_kernel_writes_them() {
        let table = b"22 27 0:20 / /proc rw shared:13 - proc proc rw\n\
            36 27 254:4 / /mnt/a\\040b ro,relatime shared:1 master:2 - ext4 /dev/mapper/x rw\n\
            37 27 0:45 /sub /mnt/c rw,x - btrfs /dev/loop0 ro,ssd\n\
            38 27 8:1 / /mnt/\xff rw propagate_from:2 - xfs /dev/sda1 rw\n";
        let mounts: Vec<Mount> = parse(table).collect::<Result<_, _>>().unwrap();
        assert_eq!(mounts.len(), 4);
        assert_eq!((mounts[1].id, mounts[1].number), (36, (254, 4)));
        assert_eq!(mounts[1].point, Path::new("/mnt/a b"));
        assert!(mounts[1].is_read_only() && !mounts[1].is_read_only_below());
        assert!(!mounts[2].is_read_only() && mounts[2].is_read_only_below());
        assert_eq!(mounts[2].root, Path::new("/sub"));
        assert_eq!(
            (mounts[2].kind.as_str(), mounts[2].source.as_str()),
            ("btrfs", "/dev/loop0")
        );
        assert_eq!(mounts[3].point.as_os_str().len(), 6);
    }

    #[test]
    fn what_is_no_line_is_told() {
        for bad in [
            "x",
            "1 2 3",
            "1 2 x:y / / rw - a b c",
            "1 2 0:1 / / rw a b c",
        ] {
            let found: Vec<_> = parse(bad.as_bytes()).collect();
            assert_eq!(found, [Err(Malformed(bad.to_owned()))]);
        }
        assert_eq!(parse(b"").count(), 0);
    }

    #[test]
    fn the_table_of_this_machine_is_read() {
        let table = std::fs::read(OWN).unwrap();
        let mounts: Vec<Mount> = parse(&table).collect::<Result<_, _>>().unwrap();
        assert!(mounts.iter().any(|mount| mount.point == Path::new("/")));
    }

    #[test]
    fn escapes_are_octal() {
        assert_eq!(unescape(br"a\040b\134c\011"), b"a b\\c\t");
        for odd in [r"\", r"\04", r"\999", r"a\"] {
            assert_eq!(unescape(odd.as_bytes()), odd.as_bytes(), "{odd}");
        }
    }
}

//! Who holds a block device, in words for an error message.

use std::{path::Path, time::Duration};

/// How long a device that somebody has open is watched, unless it is said otherwise, before it counts as in use.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What is seen to hold the device: mounts, and devices made on top of it.
pub(crate) fn holders((major, minor): (u32, u32)) -> String {
    let mut by: Vec<String> = mounts((major, minor))
        .into_iter()
        .map(|point| format!("mounted at {point}"))
        .collect();
    let above = Path::new("/sys/dev/block").join(format!("{major}:{minor}/holders"));
    if let Ok(entries) = std::fs::read_dir(above) {
        by.extend(
            entries
                .flatten()
                .map(|entry| format!("held by {}", entry.file_name().to_string_lossy())),
        );
    }
    if by.is_empty() {
        by.push("open".into());
    }
    by.join(", ")
}

/// Where a device is mounted.
pub(crate) fn mounts((major, minor): (u32, u32)) -> Vec<String> {
    std::fs::read_to_string("/proc/self/mountinfo")
        .map(|table| mount_points(&table, &format!("{major}:{minor}")))
        .unwrap_or_default()
}

/// Where a device is mounted, by `/proc/self/mountinfo` (proc(5)): the third field is its number, the fifth the place.
fn mount_points(table: &str, number: &str) -> Vec<String> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            (fields.next()? == number).then(|| fields.nth(1))?
        })
        .map(unescape)
        .collect()
}

/// Blanks and the like are written as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number() {
        let table = "22 27 0:20 / /proc rw shared:13 - proc proc rw\n\
                     36 27 254:4 / /mnt/a\\040b rw,relatime shared:1 - ext4 /dev/mapper/x rw\n\
                     37 27 254:4 /sub /mnt/c rw - ext4 /dev/mapper/x rw\nbroken\n";
        assert_eq!(mount_points(table, "254:4"), ["/mnt/a b", "/mnt/c"]);
        assert_eq!(mount_points(table, "254:5"), [""; 0]);
        assert_eq!(unescape("\\04"), "\\04");
    }
}

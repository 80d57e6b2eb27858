//! Who holds a block device, in words for an error message.
//!
//! Mounts and devices on top claim a device, so that nobody else can open it exclusively. A loop device over it and a bind
//! mount of its node (as a container gets a raw device) do not: these have to be looked for.

mod elsewhere;
mod openers;

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::OsStringExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use stockpot_mountinfo::{self as mountinfo, Mount};

pub use self::elsewhere::Elsewhere;
pub(crate) use self::openers::{Opened, openers};

/// A device's major and minor number.
pub type Number = (u32, u32);

/// How long a device that somebody has open is watched, unless it is said otherwise, before it counts as in use.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The number of the block device at this path; `None` if there is none.
#[must_use]
pub fn number_of(path: &Path) -> Option<Number> {
    let metadata = fs::metadata(path).ok()?;
    metadata
        .file_type()
        .is_block_device()
        .then(|| split(metadata.rdev()))?
}

/// The number of the block device that a loop device is over, by its `loop/backing_file` in sysfs; `None` if it is over a file, or over
/// something that lies elsewhere, which is not touched.
#[must_use]
pub fn behind_loop(backing_file: &str, elsewhere: &Elsewhere) -> Option<Number> {
    let path = Path::new(backing_file.trim_end_matches('\n'));
    match elsewhere.has(path) {
        true => None,
        false => number_of(path),
    }
}

/// A number as `stat(2)` has it.
pub(crate) fn split(number: u64) -> Option<Number> {
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    Some((major.try_into().ok()?, minor.try_into().ok()?))
}

/// What uses the device, or a partition of it, without claiming it: loop devices over it, and bind mounts of its node.
///
/// # Errors
/// If the kernel's lists cannot be read.
pub fn unclaimed((major, minor): Number) -> io::Result<Vec<String>> {
    let mut numbers = vec![(major, minor)];
    let directory = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    for entry in entries(&directory)? {
        let part = directory.join(entry);
        if part.join("partition").exists() {
            let text = fs::read_to_string(part.join("dev")).unwrap_or_default();
            numbers.extend(parse_number(&text));
        }
    }
    let elsewhere = Elsewhere::here()?;
    let mut by = Vec::new();
    for name in entries(Path::new("/sys/block"))? {
        let behind = Path::new("/sys/block")
            .join(&name)
            .join("loop/backing_file");
        // Most are bound to nothing.
        let Ok(behind) = fs::read_to_string(behind) else {
            continue;
        };
        let number = behind_loop(&behind, &elsewhere);
        if number.is_some_and(|number| numbers.contains(&number)) {
            by.push(format!("loop device /dev/{name} is over it"));
        }
    }
    for point in node_mounts(&fs::read(mountinfo::OWN)?) {
        let number = number_of(&point);
        if number.is_some_and(|number| numbers.contains(&number)) {
            by.push(format!("its node is mounted at {}", point.display()));
        }
    }
    Ok(by)
}

/// The names in a directory; none if it is not there.
fn entries(directory: &Path) -> io::Result<Vec<String>> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let names = listing.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

/// As sysfs writes it: `8:16`.
#[must_use]
pub fn parse_number(text: &str) -> Option<Number> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Where something out of `/dev` is mounted.
fn node_mounts(table: &[u8]) -> Vec<PathBuf> {
    let is_node = |mount: &Mount| mount.lies_among_nodes() && mount.root != Path::new("/");
    let mounts = mountinfo::parse(table).flatten();
    mounts.filter(is_node).map(|mount| mount.point).collect()
}

/// What is seen to hold the device: mounts, and devices made on top of it.
#[must_use]
pub fn holders((major, minor): Number) -> String {
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

/// Whether this host swaps to the device.
pub(crate) fn is_swap(device: Number) -> bool {
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let places = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    places
        .map(|place| PathBuf::from(OsString::from_vec(mountinfo::unescape(place.as_bytes()))))
        .any(|place| number_of(&place) == Some(device))
}

/// A logical volume that was made on top of the device.
pub(crate) fn lvm_on_top((major, minor): Number) -> Option<String> {
    let above = Path::new("/sys/dev/block").join(format!("{major}:{minor}/holders"));
    let mut holders = entries(&above).unwrap_or_default().into_iter();
    holders.find_map(|holder| {
        let dm = Path::new("/sys/block").join(&holder).join("dm");
        let uuid = fs::read_to_string(dm.join("uuid")).ok()?;
        let name = fs::read_to_string(dm.join("name")).unwrap_or(holder);
        uuid.starts_with("LVM-").then(|| name.trim().to_owned())
    })
}

/// Where a device is mounted. Names of others' mount points may be any bytes: what is no UTF-8 is replaced.
pub(crate) fn mounts(device: Number) -> Vec<String> {
    let table = fs::read(mountinfo::OWN).unwrap_or_default();
    let mounts = mountinfo::parse(&table).flatten();
    mounts
        .filter(|mount| mount.number == device)
        .map(|mount| mount.point.to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_block_devices() {
        assert_eq!(number_of(Path::new("/dev/null")), None);
        assert_eq!(number_of(Path::new("/nowhere")), None);
        assert_eq!(parse_number("8:16\n"), Some((8, 16)));
        assert_eq!(parse_number("8"), None);
        // No device has this number.
        assert_eq!(unclaimed((511, 1 << 19)).unwrap(), [""; 0]);
    }

    #[test]
    fn nodes_are_found_where_they_are_mounted() {
        let table = b"22 27 0:5 / /dev rw shared:13 - devtmpfs udev rw\n\
            36 27 0:5 /sdb /pub/a\\040b rw shared:1 master:2 - devtmpfs udev rw\n\
            37 27 8:16 /sdb /mnt/c rw - ext4 /dev/sdb rw\n\
            38 27 0:6 /sdc /pub/c rw - tmpfs tmpfs rw\nbroken - devtmpfs\n";
        assert_eq!(
            node_mounts(table),
            [Path::new("/pub/a b"), Path::new("/pub/c")]
        );
    }

    #[test]
    fn mounts_are_found_by_number() {
        let proc = fs::metadata("/proc").unwrap();
        let found = mounts(split(proc.dev()).unwrap());
        assert!(found.iter().any(|point| point == "/proc"), "{found:?}");
        // No device has this number.
        assert_eq!(mounts((511, 1 << 19)), [""; 0]);
    }
}

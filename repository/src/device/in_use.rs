//! Who else uses a device or file, as the kernel tells it.
//!
//! The decision for block devices is `O_EXCL` at open: the kernel refuses it while the device (or a partition
//! of it) is mounted, swapped on, or part of a mapping. What is here finds the writers that this does not see,
//! and the words for the message.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// How much of a name found in /proc or /sys goes into a message, in bytes.
const NAME_LIMIT_BYTES: usize = 200;

/// What holds a block device that refused an exclusive open, in words.
pub(super) fn block_device_holder(rdev: u64) -> String {
    let (major, minor) = (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev));
    if let Some(place) = mounted_at(&format!("{major}:{minor}")) {
        return format!("it is mounted at {place}");
    }
    let sysfs = format!("/sys/dev/block/{major}:{minor}");
    let names = |sub: &str| -> Vec<String> {
        fs::read_dir(format!("{sysfs}/{sub}"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let holders = names("holders");
    if !holders.is_empty() {
        return format!("it is part of {}", holders.join(", "));
    }
    for name in names("") {
        let partition = fs::read_to_string(format!("{sysfs}/{name}/dev")).unwrap_or_default();
        if let Some(place) = mounted_at(partition.trim()) {
            return format!("its partition {name} is mounted at {place}");
        }
    }
    "another program or the kernel has claimed it (mounted, swap, or part of a mapping)".to_owned()
}

/// Where a device, given as `major:minor`, is mounted (proc_pid_mountinfo(5): field 3 is the device, field 5 the place).
fn mounted_at(device: &str) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let matches = fields.next()? == device;
        let place = fields.nth(1)?;
        matches.then(|| place.to_owned())
    })
}

/// Which process has the device or file of `meta` open for writing, in words. Processes that cannot be
/// looked at are passed over.
pub(super) fn writer(meta: &fs::Metadata) -> Option<String> {
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        for fd in fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let info = process.path().join("fdinfo").join(fd.file_name());
            if same(meta, &fd.path()).unwrap_or(false) && opened_for_writing(&info).unwrap_or(false)
            {
                let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(format!(
                    "{} (pid {pid}) has it open for writing",
                    command.trim()
                ));
            }
        }
    }
    None
}

fn same(meta: &fs::Metadata, path: &Path) -> io::Result<bool> {
    let other = fs::metadata(path)?;
    if meta.file_type().is_block_device() {
        return Ok(other.file_type().is_block_device() && other.rdev() == meta.rdev());
    }
    Ok(other.dev() == meta.dev() && other.ino() == meta.ino())
}

/// Reads the octal `flags:` of /proc/PID/fdinfo/FD (proc_pid_fdinfo(5)).
fn opened_for_writing(info: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(info)?;
    let flags = text
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    Ok(flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY))
}

/// Which loop device stands on the file of `meta`, in words; only those that can be written to if `writable_only`.
pub(super) fn loop_device(meta: &fs::Metadata, writable_only: bool) -> Option<String> {
    for device in fs::read_dir("/sys/block").ok()?.flatten() {
        let Ok(backing) = fs::read_to_string(device.path().join("loop/backing_file")) else {
            continue;
        };
        if !same(meta, Path::new(backing.trim_end_matches('\n'))).unwrap_or(false) {
            continue;
        }
        let read_only =
            fs::read_to_string(device.path().join("ro")).is_ok_and(|ro| ro.trim() == "1");
        if !(writable_only && read_only) {
            let mut name = device.file_name().to_string_lossy().into_owned();
            name.truncate(NAME_LIMIT_BYTES);
            return Some(format!("/dev/{name} stands on it"));
        }
    }
    None
}

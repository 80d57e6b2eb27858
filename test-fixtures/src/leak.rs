//! What a test left behind: loop devices, SCSI disks, device-mapper nodes, mounts, logical volumes, iSCSI targets, sessions
//! and node records, files. Kinds of things that the machine does not have are empty, so the check works anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::exec;

/// How long things may take to go away: the kernel frees a loop device after its last user has closed it.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

/// Compares the machine before and after.
///
/// Tests that run at the same time see each other's things, so a program with such checks runs its tests one by one.
#[derive(Debug)]
pub struct LeakCheck {
    directories: Vec<PathBuf>,
    before: BTreeSet<String>,
}

impl LeakCheck {
    /// Notes what is there now.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Notes what is there now, files below `directories` included.
    #[must_use]
    pub fn start_with(directories: &[&Path]) -> Self {
        let directories: Vec<PathBuf> = directories.iter().map(|path| path.to_path_buf()).collect();
        let before = things(&directories);
        Self {
            directories,
            before,
        }
    }

    /// What is there at this moment and was not there before, a line each.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        things(&self.directories)
            .difference(&self.before)
            .cloned()
            .collect()
    }

    /// What stays of [`differences`](Self::differences) after a while: some things take time to go away.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let deadline = Instant::now() + SETTLE_DEADLINE;
        loop {
            let left = self.differences();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Fails the test if anything was left behind.
    ///
    /// # Panics
    /// If so, naming each thing.
    pub fn assert_clean(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    }
}

fn things(directories: &[PathBuf]) -> BTreeSet<String> {
    let mut things = BTreeSet::new();
    block_devices(&mut things);
    mounts(&mut things);
    logical_volumes(&mut things);
    let target = Path::new("/sys/kernel/config/target");
    tree(&target.join("core"), 2, "target backstore", &mut things);
    tree(&target.join("iscsi"), 6, "target", &mut things);
    tree(
        Path::new("/sys/class/iscsi_session"),
        1,
        "iSCSI session",
        &mut things,
    );
    for state in ["/etc/iscsi", "/var/lib/iscsi"] {
        tree(&Path::new(state).join("nodes"), 3, "file", &mut things);
        // Unfinished records lie beside the database.
        let unfinished = entries(Path::new(state)).into_iter().filter(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(".stockpot")
        });
        things.extend(unfinished.map(|path| format!("file {}", path.display())));
    }
    for directory in directories {
        tree(directory, 64, "file", &mut things);
    }
    things
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn block_devices(things: &mut BTreeSet<String>) {
    for device in entries(Path::new("/sys/block")) {
        let name = device
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if device.join("device/vendor").exists() {
            things.insert(format!("SCSI disk {name}"));
        }
        if let Ok(file) = fs::read_to_string(device.join("loop/backing_file")) {
            things.insert(format!("loop device {name}: {}", file.trim()));
        }
        if let Ok(mapped) = fs::read_to_string(device.join("dm/name")) {
            things.insert(format!("device-mapper node {name}: {}", mapped.trim()));
        }
    }
}

/// Mount points and what is mounted there: fields 5 and after the dash of `/proc/self/mountinfo`, see proc(5).
fn mounts(things: &mut BTreeSet<String>) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let point = left.split(' ').nth(4).unwrap_or_default();
        things.insert(format!("mount {point}: {right}"));
    }
}

#[derive(Deserialize)]
struct LvsReport {
    report: Vec<LvsSection>,
}

#[derive(Deserialize)]
struct LvsSection {
    lv: Vec<LvsRow>,
}

#[derive(Deserialize)]
struct LvsRow {
    vg_name: String,
    lv_name: String,
}

fn logical_volumes(things: &mut BTreeSet<String>) {
    if !Path::new("/dev/mapper/control").exists() {
        return;
    }
    // Without lvm there are no logical volumes.
    let Ok(text) = exec::run("lvs", &["--reportformat", "json", "-o", "vg_name,lv_name"]) else {
        return;
    };
    let Ok(report) = serde_json::from_str::<LvsReport>(&text) else {
        return;
    };
    for row in report.report.into_iter().flat_map(|section| section.lv) {
        things.insert(format!("logical volume {}/{}", row.vg_name, row.lv_name));
    }
}

/// What is below `directory`, down to `depth`. In configfs, attributes are files that come and go with their
/// directory, so only directories and links count there.
fn tree(directory: &Path, depth: usize, kind: &str, things: &mut BTreeSet<String>) {
    for path in entries(directory) {
        // The kernel's own: it comes with the fabric, and is nobody's target.
        if path.ends_with("iscsi/discovery_auth") {
            continue;
        }
        let file_type = fs::symlink_metadata(&path).map(|metadata| metadata.file_type());
        let Ok(file_type) = file_type else { continue };
        if kind == "file" || !file_type.is_file() {
            things.insert(format!("{kind} {}", path.display()));
        }
        if file_type.is_dir() && depth > 1 {
            tree(&path, depth - 1, kind, things);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_stay_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        fs::write(&kept, "").unwrap();
        let mut check = LeakCheck::start_with(&[directory.path()]);
        check.before.retain(|thing| thing.starts_with("file"));
        assert_eq!(check.before.len(), 1);
        fs::create_dir(directory.path().join("dir")).unwrap();
        fs::write(directory.path().join("dir/left"), "").unwrap();
        let now = things(&check.directories);
        let left: Vec<_> = now
            .difference(&check.before)
            .filter(|thing| thing.starts_with("file"))
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[1].ends_with("/dir/left"));
    }

    #[test]
    fn mounts_are_seen() {
        let mut found = BTreeSet::new();
        mounts(&mut found);
        assert!(
            found.iter().any(|mount| mount.starts_with("mount /")),
            "{found:?}"
        );
    }
}

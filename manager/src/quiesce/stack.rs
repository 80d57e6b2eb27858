//! What lies on top of a block device: partitions, devices of the device mapper (LUKS, LVM, multipath), RAID, loop devices.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use stockpot_driver::in_use::{Elsewhere, Number, behind_loop, parse_number};

/// Most devices on top of one.
const DEVICES_MAX: usize = 1024;

/// A device with all that lies on it.
#[derive(Debug)]
pub(super) struct Stack {
    /// The device itself, too.
    pub(super) devices: BTreeSet<Number>,
    /// The devices of each btrfs that has one of these.
    btrfs: Vec<BTreeSet<Number>>,
}

impl Stack {
    /// Asks the kernel.
    ///
    /// # Errors
    /// If its lists cannot be read.
    pub(super) fn of(device: Number) -> io::Result<Self> {
        Self::below(Path::new("/sys"), device)
    }

    fn below(sys: &Path, device: Number) -> io::Result<Self> {
        let loops = loops(sys)?;
        let mut devices = BTreeSet::from([device]);
        let mut next = vec![device];
        while let Some(device) = next.pop() {
            let (major, minor) = device;
            let dir = sys.join(format!("dev/block/{major}:{minor}"));
            let mut above: Vec<Number> = numbers_in(&dir.join("holders"))?;
            for entry in entries(&dir)? {
                if entry.join("partition").exists() {
                    above.extend(number_in(&entry));
                }
            }
            above.extend(
                loops
                    .iter()
                    .filter(|(_, behind)| *behind == device)
                    .map(|(own, _)| *own),
            );
            for number in above {
                if devices.len() < DEVICES_MAX && devices.insert(number) {
                    next.push(number);
                }
            }
        }
        let btrfs = entries(&sys.join("fs/btrfs"))?
            .iter()
            .map(|file_system| {
                Ok(numbers_in(&file_system.join("devices"))?
                    .into_iter()
                    .collect())
            })
            .collect::<io::Result<Vec<BTreeSet<Number>>>>()?
            .into_iter()
            .filter(|of| !of.is_disjoint(&devices))
            .collect();
        Ok(Self { devices, btrfs })
    }

    /// Whether a device belongs to a btrfs that lies on one of these.
    pub(super) fn shares_btrfs(&self, device: Number) -> bool {
        self.btrfs.iter().any(|of| of.contains(&device))
    }
}

/// Loop devices over devices: their own number, and that of what is behind.
fn loops(sys: &Path) -> io::Result<Vec<(Number, Number)>> {
    let elsewhere = Elsewhere::here()?;
    let mut loops = Vec::new();
    for entry in entries(&sys.join("block"))? {
        // Most devices are none, or bound to nothing.
        let Ok(behind) = fs::read_to_string(entry.join("loop/backing_file")) else {
            continue;
        };
        loops.extend(number_in(&entry).zip(behind_loop(&behind, &elsewhere)));
    }
    Ok(loops)
}

/// The numbers of the devices that a directory names.
fn numbers_in(dir: &Path) -> io::Result<Vec<Number>> {
    Ok(entries(dir)?
        .iter()
        .filter_map(|entry| number_in(entry))
        .collect())
}

fn number_in(device: &Path) -> Option<Number> {
    parse_number(&fs::read_to_string(device.join("dev")).ok()?)
}

/// What a directory holds; nothing if it is not there.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listing => listing?.map(|entry| Ok(entry?.path())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(sys: &Path, path: &str, number: &str) {
        let dir = sys.join(path);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
    }

    #[test]
    fn all_that_lies_on_a_device_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        // A disk with a partition, LUKS on that, LVM on that; another disk beside it.
        device(sys, "dev/block/8:0", "8:0");
        device(sys, "dev/block/8:0/sda1", "8:1");
        fs::write(sys.join("dev/block/8:0/sda1/partition"), "1").unwrap();
        device(sys, "dev/block/8:1/holders/dm-0", "253:0");
        device(sys, "dev/block/253:0/holders/dm-1", "253:1");
        device(sys, "dev/block/8:16/holders/dm-2", "253:2");
        // A btrfs over the last one and another disk, and one that has nothing to do with it.
        device(sys, "fs/btrfs/1/devices/dm-1", "253:1");
        device(sys, "fs/btrfs/1/devices/sdc", "8:32");
        device(sys, "fs/btrfs/2/devices/sdd", "8:48");
        let stack = Stack::below(sys, (8, 0)).unwrap();
        let expected = BTreeSet::from([(8, 0), (8, 1), (253, 0), (253, 1)]);
        assert_eq!(stack.devices, expected);
        assert!(stack.shares_btrfs((8, 32)) && !stack.shares_btrfs((8, 48)));
        assert_eq!(Stack::below(sys, (9, 9)).unwrap().devices.len(), 1);
    }
}

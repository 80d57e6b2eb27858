//! Which programs have a file or a block device open, by `/proc`: for devices whose open count the kernel does not tell, as those
//! of loop devices.
//!
//! Root sees every program of its own and of deeper process namespaces. What only the kernel itself holds (a mount, a loop
//! device over it) is not among them.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{Elsewhere, Number, split};

/// What may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A block device, by whatever node it is opened.
    Device(Number),
    /// A file, by its file system and inode.
    File(u64, u64),
}

impl Opened {
    /// A file as it was looked at.
    pub(crate) fn file(metadata: &fs::Metadata) -> Self {
        Self::File(metadata.dev(), metadata.ino())
    }

    /// The file system of a file.
    fn file_system(&self) -> Option<Number> {
        match self {
            Self::Device(_) => None,
            Self::File(device, _) => split(*device),
        }
    }

    fn is(&self, metadata: &fs::Metadata) -> bool {
        match self {
            Self::Device(number) => {
                metadata.file_type().is_block_device() && split(metadata.rdev()) == Some(*number)
            }
            Self::File(device, inode) => (metadata.dev(), metadata.ino()) == (*device, *inode),
        }
    }
}

/// The programs that have one of these open or mapped, in words: `open in postgres (812)`. That this one looks into a file is no use
/// of it.
pub(crate) fn openers(wanted: &[Opened]) -> Vec<String> {
    let own = std::process::id();
    let devices: Vec<_> = wanted
        .iter()
        .filter(|one| matches!(one, Opened::Device(_)))
        .cloned()
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut namespaces = Namespaces::of(wanted);
    let mut by = Vec::new();
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may end meanwhile, and then has nothing open.
        let wanted = if number == own { &devices[..] } else { wanted };
        if has_open(&process.path(), wanted, &mut namespaces) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            by.push(format!("open in {} ({number})", command.trim_end()));
        }
    }
    by
}

/// What lies elsewhere, by mount namespace: hardly any process has one of its own.
#[derive(Debug)]
struct Namespaces {
    ours: Vec<Number>,
    known: HashMap<PathBuf, Elsewhere>,
}

impl Namespaces {
    /// Where these are looked for: the file systems that they lie on are ours.
    fn of(wanted: &[Opened]) -> Self {
        let ours = wanted.iter().filter_map(Opened::file_system).collect();
        let mut namespaces = Self {
            ours,
            known: HashMap::new(),
        };
        // First, as a process whose root is another one sees only a part of the mounts.
        namespaces.that_of(Path::new("/proc/self"));
        namespaces
    }

    /// That of a process; `None` once it has ended.
    fn that_of(&mut self, process: &Path) -> Option<&Elsewhere> {
        let namespace = fs::read_link(process.join("ns/mnt")).ok()?;
        match self.known.entry(namespace) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(new) => {
                let table = fs::read(process.join("mountinfo")).ok()?;
                Some(new.insert(Elsewhere::of(&table, &self.ours)))
            }
        }
    }
}

fn has_open(process: &Path, wanted: &[Opened], namespaces: &mut Namespaces) -> bool {
    let Some(elsewhere) = namespaces.that_of(process) else {
        return false;
    };
    let is_elsewhere = |link: &Path| {
        !elsewhere.is_empty() && fs::read_link(link).is_ok_and(|path| elsewhere.has(&path))
    };
    let is_wanted = |path: &Path| {
        if is_elsewhere(path) {
            return false;
        }
        // Through the link, to what is open and not to what has its name now.
        fs::metadata(path).is_ok_and(|metadata| wanted.iter().any(|one| one.is(&metadata)))
    };
    // A mapping outlives the descriptor that it was made with.
    ["fd", "map_files"].iter().any(|listing| {
        let entries = fs::read_dir(process.join(listing));
        entries.is_ok_and(|entries| entries.flatten().any(|entry| is_wanted(&entry.path())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(wanted: &[Opened]) -> bool {
        let mut namespaces = Namespaces::of(wanted);
        has_open(Path::new("/proc/self"), wanted, &mut namespaces)
    }

    #[test]
    fn only_others_count_and_what_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        fs::write(&path, "x").unwrap();
        let wanted = [Opened::file(&fs::metadata(&path).unwrap())];
        let own = fs::File::open(&path).unwrap();
        assert!(here(&wanted));
        assert_eq!(openers(&wanted), [""; 0]);
        drop(own);
        assert!(!here(&wanted));
        // A name is nothing: another file that is moved there is another one.
        let held = fs::File::open(&path).unwrap();
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        fs::write(&path, "y").unwrap();
        let other = [Opened::file(&fs::metadata(&path).unwrap())];
        assert!(here(&wanted));
        assert!(!here(&other));
        drop(held);
        let none = [Opened::Device((511, 1 << 19))];
        assert_eq!(openers(&none), [""; 0]);
        assert!(!has_open(
            Path::new("/proc/0"),
            &wanted,
            &mut Namespaces::of(&wanted)
        ));
    }

    #[test]
    fn processes_of_one_namespace_are_looked_up_once() {
        let mut namespaces = Namespaces::of(&[]);
        assert_eq!(namespaces.known.len(), 1);
        let own = format!("/proc/{}", std::process::id());
        assert!(namespaces.that_of(Path::new(&own)).is_some());
        assert_eq!(namespaces.known.len(), 1);
        assert!(namespaces.that_of(Path::new("/proc/0")).is_none());
    }
}

//! Which file systems lie on a device, wherever they are mounted.
//!
//! `/proc/PID/mountinfo` (proc(5)) names the device of every mount that a process sees. Containers see mounts that this process
//! does not, so the table of one process of each mount namespace is read; such a mount is reached through `/proc/PID/root`.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::libc::{O_NONBLOCK, O_PATH};
use stockpot_driver::in_use::{Number, number_of};
use stockpot_mountinfo::{self as mountinfo, Mount};

use super::stack::Stack;

/// Most mount namespaces that are looked into.
const NAMESPACES_MAX: usize = 4096;

/// A file system that is mounted, and something on it that is open.
#[derive(Debug)]
pub(super) struct FileSystem {
    pub(super) number: Number,
    pub(super) kind: String,
    /// Where it is mounted, as seen by those who mounted it.
    pub(super) point: PathBuf,
    /// How this process gets there.
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// The file systems on a device and on what is stacked on it, each once.
///
/// # Errors
/// If the kernel's lists cannot be read, or a file system is there and cannot be opened.
pub(super) fn file_systems(stack: &Stack) -> io::Result<Vec<FileSystem>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut unopened = None;
    for (root, table) in tables(Path::new("/proc"))? {
        let mut mounts: Vec<Mount> = parse(&table)
            .filter(|mount| lies_on(mount, stack))
            .collect();
        // Through one that is read-only it cannot be watched.
        mounts.sort_by_key(Mount::is_read_only);
        for mount in mounts {
            if seen.contains(&mount.number) {
                continue;
            }
            let path = below(&root, &mount.point);
            match open(&path, mount.id) {
                Ok(file) => {
                    seen.insert(mount.number);
                    found.push(FileSystem {
                        number: mount.number,
                        kind: mount.kind,
                        point: mount.point,
                        path,
                        file,
                    });
                }
                Err(error) => unopened = Some((mount, error)),
            }
        }
    }
    match unopened {
        Some((mount, error)) if !seen.contains(&mount.number) => Err(io::Error::new(
            error.kind(),
            format!("cannot open {}: {error}", mount.point.display()),
        )),
        _ => Ok(found),
    }
}

/// Whether a mount is one of a file system on these devices.
fn lies_on(mount: &Mount, stack: &Stack) -> bool {
    if stack.devices.contains(&mount.number) {
        return true;
    }
    // Its own number says nothing of the devices it lies on.
    mount.kind == "btrfs"
        && number_of(Path::new(&mount.source)).is_some_and(|source| stack.shares_btrfs(source))
}

/// Opens a mount point, and makes sure that nothing else was mounted over it.
fn open(path: &Path, mount_id: u64) -> io::Result<File> {
    let is_it = |file: &File| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        let lies_in = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
        Ok(lies_in == Some(mount_id))
    };
    open_if(path, is_it)
}

/// Opens a folder or a file for reading if it is the one that is meant. Whoever may change what the path leads to (a container does,
/// in its mount namespace) does not get anything else opened: that may set something off, as a device's does.
pub(super) fn open_if(path: &Path, is_it: impl Fn(&File) -> io::Result<bool>) -> io::Result<File> {
    // Names it, and opens nothing (open(2)).
    let named = OpenOptions::new()
        .read(true)
        .custom_flags(O_PATH)
        .open(path)?;
    if !is_it(&named)? {
        return Err(io::Error::other("something else is mounted over it"));
    }
    let kind = named.metadata()?.file_type();
    if !(kind.is_dir() || kind.is_file()) {
        return Err(io::Error::other("it is neither a folder nor a file"));
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", named.as_raw_fd()))
}

/// The table of one process of each mount namespace, this one first, with what its paths start from.
fn tables(proc: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let own = proc.join("self");
    let mut namespaces = BTreeSet::from([fs::read_link(own.join("ns/mnt"))?]);
    let mut tables = vec![(PathBuf::from("/"), fs::read(own.join("mountinfo"))?)];
    for entry in fs::read_dir(proc)?.flatten() {
        let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        if !entry.file_name().to_str().is_some_and(is_process) {
            continue;
        }
        let process = entry.path();
        // Processes end, and kernel threads have none.
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else {
            continue;
        };
        if namespaces.contains(&namespace) || namespaces.len() >= NAMESPACES_MAX {
            continue;
        }
        if let Ok(table) = fs::read(process.join("mountinfo")) {
            namespaces.insert(namespace);
            tables.push((process.join("root"), table));
        }
    }
    Ok(tables)
}

fn below(root: &Path, point: &Path) -> PathBuf {
    root.join(point.strip_prefix("/").unwrap_or(point))
}

/// What cannot be read is left out.
fn parse(table: &[u8]) -> impl Iterator<Item = Mount> {
    mountinfo::parse(table).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_namespaces_are_reached_through_their_root() {
        assert_eq!(
            below(Path::new("/proc/7/root"), Path::new("/mnt")),
            Path::new("/proc/7/root/mnt")
        );
    }

    #[test]
    fn a_mount_is_opened_only_if_it_is_the_one() {
        let tables = tables(Path::new("/proc")).unwrap();
        let (root, own) = &tables[0];
        assert_eq!(root, Path::new("/"));
        let proc = parse(own).filter(|m| m.point == Path::new("/proc"));
        let proc = proc.last().unwrap();
        assert!(open(&proc.point, proc.id).is_ok());
        let error = open(&proc.point, proc.id + 1_000_000).unwrap_err();
        assert!(error.to_string().contains("mounted over"), "{error}");
    }

    #[test]
    fn only_folders_and_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [&fifo, &link] {
            let error = open_if(path, |_| Ok(true)).unwrap_err();
            assert!(error.to_string().contains("neither"), "{error}");
        }
        let file = dir.path().join("file");
        fs::write(&file, "content").unwrap();
        let opened = open_if(&file, |_| Ok(true)).unwrap();
        assert_eq!(io::read_to_string(opened).unwrap(), "content");
        assert!(open_if(dir.path(), |_| Ok(true)).is_ok());
        let error = open_if(&file, |_| Ok(false)).unwrap_err();
        assert!(error.to_string().contains("mounted over"), "{error}");
    }

    #[test]
    fn a_device_that_nothing_lies_on() {
        let stack = Stack::of((511, 1 << 19)).unwrap();
        assert!(file_systems(&stack).unwrap().is_empty());
    }
}

//! The directory: what is in it, and how things come and go.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde::{Deserialize, Serialize};

use crate::{DriverError, SnapshotId, VolumeId, origin::Origin};

/// Longest `meta.json` that is read; ours are a tenth of it.
const META_LIMIT_BYTES: u64 = 4096;
const META_VERSION: u32 = 1;
/// What is in a directory that was prepared.
const DIRECTORIES: [&str; 2] = ["volumes", "snapshots"];
/// How long another process may hold the lock: as long as a volume group's.
const LOCK_PATIENCE: Duration = Duration::from_secs(600);
const LOCK_POLL: Duration = Duration::from_millis(25);

/// A volume's or a snapshot's id, and with it its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Volume(VolumeId),
    Snapshot(SnapshotId),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Volume(id) => write!(f, "volume {id}"),
            Name::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

impl Name {
    pub(super) fn not_found(&self) -> DriverError {
        DriverError::NotFound {
            what: self.to_string(),
        }
    }

    /// Which of [`DIRECTORIES`] it lies in.
    fn directory(&self) -> &'static str {
        match self {
            Name::Volume(_) => "volumes",
            Name::Snapshot(_) => "snapshots",
        }
    }
}

/// What `meta.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Meta {
    /// A volume.
    Volume {
        id: VolumeId,
        from: Origin,
        /// The size it was made with.
        made_bytes: u64,
    },
    /// A snapshot.
    Snapshot {
        id: SnapshotId,
        source: VolumeId,
        created_at_us: i64,
    },
}

impl Meta {
    pub(super) fn name(&self) -> Name {
        match self {
            Meta::Volume { id, .. } => Name::Volume(id.clone()),
            Meta::Snapshot { id, .. } => Name::Snapshot(id.clone()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    stockpot: u32,
    #[serde(flatten)]
    meta: Meta,
}

/// One of our volumes or snapshots.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) meta: Meta,
    pub(super) image: PathBuf,
    pub(super) size_bytes: u64,
}

/// The directory. All calls block.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
    lock_patience: Duration,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            lock_patience: LOCK_PATIENCE,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Waits for this process's turn, not for ever; released when dropped, and by the kernel when the process dies.
    pub(super) fn lock(&self) -> Result<Flock<File>, DriverError> {
        let path = self.root.join(".lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| self.missing_or("cannot open", &path, error))?;
        let started = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(locked),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR))
                    if started.elapsed() < self.lock_patience =>
                {
                    file = back;
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(DriverError::InUse {
                        what: format!("directory {}", self.root.display()),
                        by: format!("another process that holds {}", path.display()),
                    });
                }
                Err((_, errno)) => return Err(fail("cannot lock", &path)(errno.into())),
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    /// Makes the directories, and removes what a crash left half-made or half-removed. Under the lock.
    pub(super) fn prepare(&self) -> Result<(), DriverError> {
        for directory in DIRECTORIES {
            make_directory(&self.root.join(directory))?;
        }
        let entries = std::fs::read_dir(&self.root).map_err(fail("cannot list", &self.root))?;
        for entry in entries {
            let entry = entry.map_err(fail("cannot list", &self.root))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".new-") || name.starts_with(".gone-") {
                let path = entry.path();
                tracing::info!(path = %path.display(), "removing what a crash left");
                std::fs::remove_dir_all(&path).map_err(fail("cannot remove", &path))?;
            }
        }
        sync_directory(&self.root)
    }

    /// Refuses a directory in which nothing was ever prepared: what belongs there may not be mounted.
    pub(super) fn check_prepared(&self) -> Result<(), DriverError> {
        for directory in DIRECTORIES {
            self.check_mounted(directory)?;
        }
        Ok(())
    }

    /// Nothing is ever taken for gone because the file system that it lies on is not mounted.
    fn check_mounted(&self, directory: &str) -> Result<(), DriverError> {
        let path = self.root.join(directory);
        match path.metadata() {
            Ok(data) if data.is_dir() => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(fail("cannot stat", &path)(error))
            }
            _ => Err(DriverError::Host(format!(
                "{} is not there: mount the file system that holds the pool",
                path.display()
            ))),
        }
    }

    /// Makes the root directory; before the lock, which lies in it.
    pub(super) fn make_root(&self) -> Result<(), DriverError> {
        make_directory(&self.root)
    }

    /// One of ours, or `None` if nothing of ours has that name.
    pub(super) fn find(&self, name: &Name) -> Result<Option<Entry>, DriverError> {
        let place = self.place(name);
        let image = place.join("image");
        let Some(meta) = read_meta(&place.join("meta.json"))? else {
            self.check_mounted(name.directory())?;
            return Ok(None);
        };
        if meta.name() != *name {
            return Ok(None);
        }
        match image.metadata() {
            Ok(data) => Ok(Some(Entry {
                meta,
                size_bytes: data.len(),
                image,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_mounted(name.directory())?;
                Ok(None)
            }
            Err(error) => Err(fail("cannot stat", &image)(error)),
        }
    }

    /// All that is ours.
    pub(super) fn list(&self) -> Result<Vec<Entry>, DriverError> {
        let mut found = Vec::new();
        self.check_prepared()?;
        for directory in DIRECTORIES {
            let path = self.root.join(directory);
            let entries = std::fs::read_dir(&path)
                .map_err(|error| self.missing_or("cannot list", &path, error))?;
            for entry in entries {
                let entry = entry.map_err(fail("cannot list", &path))?;
                let text = entry.file_name().to_string_lossy().into_owned();
                let name = match directory {
                    "volumes" => text.parse().map(Name::Volume),
                    _ => text.parse().map(Name::Snapshot),
                };
                if let Ok(name) = name {
                    found.extend(self.find(&name)?);
                }
            }
        }
        Ok(found)
    }

    /// Makes one: `fill` gets the empty image and gives it its content and size. It exists when this returns, or not
    /// at all. Under the lock.
    pub(super) fn make(
        &self,
        meta: &Meta,
        fill: impl FnOnce(&File) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let name = meta.name();
        let place = self.place(&name);
        if place.symlink_metadata().is_ok() {
            return Err(DriverError::AlreadyExists {
                what: place.display().to_string(),
                difference: "it was made by somebody else".into(),
            });
        }
        let new = self.root.join(format!(".new-{}", ulid::Ulid::generate()));
        DirBuilder::new()
            .mode(0o700)
            .create(&new)
            .map_err(|error| self.missing_or("cannot make", &new, error))?;
        let made = write_new(&new, meta, fill)
            .and_then(|()| std::fs::rename(&new, &place).map_err(fail("cannot make", &place)));
        if let Err(error) = made {
            // What cannot be removed now is debris, and removed later.
            let _ = std::fs::remove_dir_all(&new);
            return Err(error);
        }
        self.sync_parents(&place)
    }

    /// Removes one of ours; nothing of that name is success. Under the lock.
    pub(super) fn remove(&self, name: &Name) -> Result<(), DriverError> {
        if self.find(name)?.is_none() {
            return Ok(());
        }
        let place = self.place(name);
        let gone = self.root.join(format!(".gone-{}", ulid::Ulid::generate()));
        std::fs::rename(&place, &gone).map_err(fail("cannot remove", &place))?;
        self.sync_parents(&place)?;
        std::fs::remove_dir_all(&gone).map_err(fail("cannot remove", &gone))
    }

    fn place(&self, name: &Name) -> PathBuf {
        let id = match name {
            Name::Volume(id) => id.as_str(),
            Name::Snapshot(id) => id.as_str(),
        };
        self.root.join(name.directory()).join(id)
    }

    /// A rename is on disk when both directories are.
    fn sync_parents(&self, place: &Path) -> Result<(), DriverError> {
        sync_directory(&self.root)?;
        sync_directory(place.parent().unwrap_or(&self.root))
    }

    fn missing_or(&self, doing: &'static str, path: &Path, error: io::Error) -> DriverError {
        if error.kind() == io::ErrorKind::NotFound && !self.root.is_dir() {
            return DriverError::Host(format!(
                "directory {} does not exist; mount or make it, or name another one",
                self.root.display()
            ));
        }
        fail(doing, path)(error)
    }
}

fn write_new(
    new: &Path,
    meta: &Meta,
    fill: impl FnOnce(&File) -> Result<(), DriverError>,
) -> Result<(), DriverError> {
    let create = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(fail("cannot make", path))
    };
    let path = new.join("image");
    let image = create(&path)?;
    fill(&image)?;
    image.sync_all().map_err(fail("cannot write", &path))?;
    let path = new.join("meta.json");
    let document = Document {
        stockpot: META_VERSION,
        meta: meta.clone(),
    };
    let mut text = serde_json::to_vec_pretty(&document)
        .map_err(|error| fail("cannot write", &path)(error.into()))?;
    text.push(b'\n');
    let mut file = create(&path)?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(fail("cannot write", &path))?;
    sync_directory(new)
}

/// Reads a `meta.json`; `None` if it is not there or not ours.
fn read_meta(path: &Path) -> Result<Option<Meta>, DriverError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(META_LIMIT_BYTES).read_to_end(&mut text));
    match read {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(fail("cannot read", path)(error)),
        Ok(_) => Ok(parse_meta(&text)),
    }
}

fn parse_meta(text: &[u8]) -> Option<Meta> {
    let document: Document = serde_json::from_slice(text).ok()?;
    (document.stockpot == META_VERSION).then_some(document.meta)
}

fn make_directory(path: &Path) -> Result<(), DriverError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fail("cannot make", path))
}

fn sync_directory(path: &Path) -> Result<(), DriverError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(fail("cannot write", path))
}

/// A full disk is its own error; the caller adds the figures.
pub(super) fn fail(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DriverError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            DriverError::ResourceExhausted(format!("{doing} {}: the disk is full", path.display()))
        }
        io::ErrorKind::FileTooLarge => DriverError::OutOfRange(format!(
            "{doing} {}: the file system has no files of that size",
            path.display()
        )),
        _ => DriverError::Io {
            doing,
            path,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("root"));
        store.make_root().unwrap();
        store.prepare().unwrap();
        (directory, store)
    }

    fn volume(id: &str) -> Meta {
        Meta::Volume {
            id: id.parse().unwrap(),
            from: Origin::Volume("other".parse().unwrap()),
            made_bytes: 8192,
        }
    }

    fn fill(image: &File) -> Result<(), DriverError> {
        image
            .set_len(8192)
            .map_err(fail("cannot size", Path::new("image")))
    }

    #[test]
    fn what_is_made_is_found_and_removed() {
        let (_directory, store) = store();
        let snapshot = Meta::Snapshot {
            id: "a".parse().unwrap(),
            source: "a".parse().unwrap(),
            created_at_us: -1,
        };
        for meta in [volume("a"), snapshot] {
            store.make(&meta, fill).unwrap();
            let entry = store.find(&meta.name()).unwrap().unwrap();
            assert_eq!((entry.meta, entry.size_bytes), (meta.clone(), 8192));
        }
        assert_eq!(store.list().unwrap().len(), 2);
        for _ in 0..2 {
            store.remove(&volume("a").name()).unwrap();
        }
        assert_eq!(store.list().unwrap().len(), 1);
    }

    /// Without the file system that holds the pool nobody can say what is there.
    #[test]
    fn nothing_is_gone_because_it_is_not_mounted() {
        let (directory, store) = store();
        store.make(&volume("a"), fill).unwrap();
        let away = directory.path().join("away");
        std::fs::rename(store.root(), &away).unwrap();
        std::fs::create_dir(store.root()).unwrap();
        let name = volume("a").name();
        for error in [
            store.find(&name).unwrap_err(),
            store.remove(&name).unwrap_err(),
            store.list().unwrap_err(),
            store.check_prepared().unwrap_err(),
        ] {
            assert!(matches!(error, DriverError::Host(_)), "{error}");
        }
        std::fs::remove_dir(store.root()).unwrap();
        std::fs::rename(&away, store.root()).unwrap();
        store.check_prepared().unwrap();
        store.remove(&name).unwrap();
        assert!(store.find(&name).unwrap().is_none());
    }

    #[test]
    fn the_lock_is_not_waited_for_for_ever() {
        let (_directory, mut store) = store();
        let held = store.lock().unwrap();
        store.lock_patience = Duration::from_millis(60);
        let error = store.lock().unwrap_err();
        assert!(matches!(error, DriverError::InUse { .. }), "{error}");
        drop(held);
        store.lock().unwrap();
    }

    #[test]
    fn a_failed_or_cut_off_making_leaves_nothing() {
        let (_directory, store) = store();
        let error = store
            .make(&volume("a"), |_| Err(volume("a").name().not_found()))
            .unwrap_err();
        assert!(matches!(error, DriverError::NotFound { .. }));
        for debris in [".new-1", ".gone-2"] {
            std::fs::create_dir(store.root().join(debris)).unwrap();
            std::fs::write(store.root().join(debris).join("image"), "x").unwrap();
        }
        store.prepare().unwrap();
        let mut left: Vec<_> = std::fs::read_dir(store.root())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["snapshots", "volumes"]);
    }

    #[test]
    fn what_others_made_is_neither_seen_nor_touched() {
        let (_directory, store) = store();
        let place = store.root().join("volumes/a");
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("image"), "theirs").unwrap();
        std::fs::write(store.root().join("volumes/b"), "a file").unwrap();
        for meta in [
            "",
            "{}",
            r#"{"stockpot":2,"kind":"volume","id":"a","from":"empty","made_bytes":1}"#,
            r#"{"stockpot":1,"kind":"volume","id":"other","from":"empty","made_bytes":1}"#,
        ] {
            std::fs::write(place.join("meta.json"), meta).unwrap();
            for id in ["a", "b"] {
                let name = volume(id).name();
                assert!(store.find(&name).unwrap().is_none());
                store.remove(&name).unwrap();
                let error = store.make(&volume(id), fill).unwrap_err();
                assert!(
                    matches!(error, DriverError::AlreadyExists { .. }),
                    "{error}"
                );
            }
        }
        assert!(store.list().unwrap().is_empty());
        assert_eq!(std::fs::read(place.join("image")).unwrap(), b"theirs");
    }
}

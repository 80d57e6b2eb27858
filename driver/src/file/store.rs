//! The directory: what is in it, and how things come and go.

mod replace;

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::meta::Meta;
use crate::{DriverError, name::Name};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Beside each image: what it is.
const META: &str = "meta.json";
/// What is in a directory that was prepared.
const DIRECTORIES: [&str; 2] = ["volumes", "snapshots"];
/// How long others may hold the lock, calls of this process and other processes together: as long as a volume group's.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(600);
const LOCK_POLL: Duration = Duration::from_millis(25);

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
        self.lock_since(Instant::now())
    }

    /// The same for one who has waited since then already.
    pub(super) fn lock_since(&self, started: Instant) -> Result<Flock<File>, DriverError> {
        let path = self.root.join(".lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| self.missing_or("cannot open", &path, error))?;
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
        self.clear_replaced()?;
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
        let Some(meta) = Meta::read(&place.join(META))? else {
            self.check_mounted(directory_of(name))?;
            return Ok(None);
        };
        let Some(meta) = meta.in_place_of(name) else {
            return Ok(None);
        };
        match image.metadata() {
            Ok(data) => Ok(Some(Entry {
                meta,
                size_bytes: data.len(),
                image,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_mounted(directory_of(name))?;
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
        self.discard(&self.place(name))
    }

    /// Removes what lies there, whatever it is.
    fn discard(&self, place: &Path) -> Result<(), DriverError> {
        let gone = self.root.join(format!(".gone-{}", ulid::Ulid::generate()));
        std::fs::rename(place, &gone).map_err(fail("cannot remove", place))?;
        self.sync_parents(place)?;
        std::fs::remove_dir_all(&gone).map_err(fail("cannot remove", &gone))
    }

    fn place(&self, name: &Name) -> PathBuf {
        let id = match name {
            Name::Volume(id) => id.as_str(),
            Name::Snapshot(id) => id.as_str(),
        };
        self.root.join(directory_of(name)).join(id)
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

/// Which of [`DIRECTORIES`] it lies in.
fn directory_of(name: &Name) -> &'static str {
    match name {
        Name::Volume(_) => "volumes",
        Name::Snapshot(_) => "snapshots",
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
    let path = new.join(META);
    let text = meta.to_text().map_err(fail("cannot write", &path))?;
    let mut file = create(&path)?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(fail("cannot write", &path))?;
    sync_directory(new)
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
mod tests;

//! What the driver's calls do. Everything here blocks; what changes something runs under the store's lock.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statvfs::statvfs;

use super::{
    changes::{self, Answer},
    driver::FileConfig,
    loopdev,
    meta::Meta,
    sharing::{self, Copied},
    store::{Entry, Store, fail},
};
use crate::{
    AccessMode, ByteRange, Capacity, ConnectionInfo, DriverError, LocalConnection, SnapshotId,
    SnapshotInfo, VolumeId, VolumeInfo, model, name::Name, origin::Origin, sizes::Bytes,
};

/// A volume's size is a multiple of this: a page, and the sector size of the largest kind of disk.
const GRANULARITY_BYTES: u64 = 4096;

/// The directory and its rules.
#[derive(Debug, Clone)]
pub(super) struct Images {
    config: FileConfig,
    store: Store,
}

/// Room on the file system below.
struct Room {
    available_bytes: u64,
    total_bytes: u64,
}

impl Images {
    pub(super) fn new(config: FileConfig) -> Self {
        let store = Store::new(config.directory.clone());
        Self { config, store }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// How long a device that somebody has open is watched before it counts as in use.
    pub(super) fn close_patience(&self) -> Duration {
        self.config.close_patience
    }

    pub(super) fn check_in_use(&self) -> Result<(), DriverError> {
        self.store.check_prepared()?;
        self.check()
    }

    pub(super) fn check(&self) -> Result<(), DriverError> {
        self.store.make_root()?;
        let _lock = self.store.lock()?;
        self.store.prepare()?;
        let control = Path::new("/dev/loop-control");
        if !control.exists() {
            return Err(DriverError::Host(format!(
                "{} is not there: load the module `loop`",
                control.display()
            )));
        }
        self.try_sharing()
    }

    /// Shares one block between two files that are gone at once.
    fn try_sharing(&self) -> Result<(), DriverError> {
        let root = self.store.root();
        let nameless = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, nix::libc::O_TMPFILE);
            options
                .open(root)
                .map_err(fail("cannot make a file in", root))
        };
        let (source, target) = (nameless()?, nameless()?);
        source
            .set_len(GRANULARITY_BYTES)
            .map_err(fail("cannot write in", root))?;
        match self.copy(&target, &source)? {
            Copied::Shared => {}
            Copied::Bytewise => tracing::warn!(
                directory = %root.display(),
                "this file system cannot share blocks between files: every snapshot copies all data, and one of a \
                 volume that is written to meanwhile is not of one moment"
            ),
        }
        Ok(())
    }

    pub(super) fn create_volume(
        &self,
        id: &VolumeId,
        size_bytes: u64,
        from: &Origin,
    ) -> Result<VolumeInfo, DriverError> {
        let size = round_up(size_bytes)?;
        let name = Name::Volume(id.clone());
        if self.store.find(&name)?.is_none() {
            self.make_volume(id, size, from)?;
        }
        let entry = self.get(&name)?;
        let differs = match &entry.meta {
            Meta::Volume { from: found, .. } if found != from => {
                Some("it has another source".into())
            }
            Meta::Volume { made_bytes, .. } if *made_bytes != size && entry.size_bytes != size => {
                Some(format!("it has {} bytes", entry.size_bytes))
            }
            _ => None,
        };
        match differs {
            Some(difference) => Err(DriverError::AlreadyExists {
                what: name.to_string(),
                difference,
            }),
            None => Ok(volume_info(id, &entry)),
        }
    }

    fn make_volume(&self, id: &VolumeId, size: u64, from: &Origin) -> Result<(), DriverError> {
        let source = match from {
            Origin::Empty => None,
            Origin::Snapshot(id) => Some(self.get(&Name::Snapshot(id.clone()))?),
            Origin::Volume(id) => Some(self.get(&Name::Volume(id.clone()))?),
        };
        if let Some(source) = source.as_ref().filter(|source| source.size_bytes > size) {
            return Err(DriverError::OutOfRange(format!(
                "{size} bytes are less than the {} bytes of the source",
                source.size_bytes
            )));
        }
        self.admit(size)?;
        let meta = Meta::Volume {
            id: id.clone(),
            from: from.clone(),
            made_bytes: size,
            becomes: None,
            replaced: None,
        };
        self.store.make(&meta, |image| {
            if let Some(source) = &source {
                self.copy_from(image, source)?;
            }
            image
                .set_len(size)
                .map_err(fail("cannot size", &self.config.directory))
        })
    }

    pub(super) fn delete(&self, name: &Name) -> Result<(), DriverError> {
        self.detach(name)?;
        self.store.remove(name)
    }

    pub(super) fn extend_volume(
        &self,
        id: &VolumeId,
        size: u64,
    ) -> Result<VolumeInfo, DriverError> {
        let size = round_up(size)?;
        let name = Name::Volume(id.clone());
        let entry = self.get(&name)?;
        if entry.size_bytes < size {
            self.admit(size - entry.size_bytes)?;
            OpenOptions::new()
                .write(true)
                .open(&entry.image)
                .and_then(|image| {
                    image.set_len(size)?;
                    image.sync_all()
                })
                .map_err(fail("cannot extend", &entry.image))?;
        }
        // Also when a call that was cut off had grown the file already.
        loopdev::update_size(&entry.image)?;
        Ok(volume_info(id, &self.get(&name)?))
    }

    pub(super) fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.get(&Name::Volume(id.clone())).map(drop)
    }

    pub(super) fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        let name = Name::Volume(id.clone());
        for name in [&name, &Name::Volume(with.clone())] {
            self.detach(name)?;
        }
        self.store.replace(id, with)?;
        Ok(volume_info(id, &self.get(&name)?))
    }

    pub(super) fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        let name = Name::Snapshot(id.clone());
        if self.store.find(&name)?.is_none() {
            let source = self.get(&Name::Volume(volume.clone()))?;
            self.admit(0)?;
            loopdev::flush(&source.image)?;
            let meta = Meta::Snapshot {
                id: id.clone(),
                source: volume.clone(),
                created_at_us: model::now_us(),
            };
            self.store
                .make(&meta, |image| self.copy_from(image, &source))?;
        }
        let info = self
            .get(&name)
            .and_then(|entry| snapshot_info(&entry).ok_or_else(|| name.not_found()))?;
        if info.volume_id == *volume {
            return Ok(info);
        }
        Err(DriverError::AlreadyExists {
            what: name.to_string(),
            difference: format!("it is of volume {}", info.volume_id),
        })
    }

    pub(super) fn capacity(&self) -> Result<Capacity, DriverError> {
        let room = self.room()?;
        let unpromised = self.promise_limit(&room).saturating_sub(self.promised()?);
        Ok(Capacity {
            available_bytes: room
                .available_bytes
                .saturating_sub(self.config.reserve_bytes),
            total_bytes: room.total_bytes,
            maximum_volume_bytes: unpromised / GRANULARITY_BYTES * GRANULARITY_BYTES,
            granularity_bytes: GRANULARITY_BYTES,
        })
    }

    /// Attaches a loop device, or finds the one that is.
    pub(super) fn connection(
        &self,
        name: &Name,
        access_mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        let entry = self.get(name)?;
        let read_only = access_mode == AccessMode::ReadOnly;
        let patience = self.config.close_patience;
        let device = loopdev::attach(&entry.image, read_only, name, patience)?;
        Ok(ConnectionInfo::Local(LocalConnection {
            device_path: device.path,
            access_mode,
            size_bytes: entry.size_bytes,
        }))
    }

    pub(super) fn terminate(&self, name: &Name, force: bool) -> Result<(), DriverError> {
        let Some(entry) = self.store.find(name)?.filter(|_| !force) else {
            return Ok(());
        };
        match loopdev::holder(&entry.image)? {
            None => Ok(()),
            Some(by) => Err(DriverError::InUse {
                what: name.to_string(),
                by,
            }),
        }
    }

    pub(super) fn detach(&self, name: &Name) -> Result<(), DriverError> {
        match self.store.find(name)? {
            Some(entry) => loopdev::detach(&entry.image, name, self.config.close_patience),
            None => Ok(()),
        }
    }

    pub(super) fn allocated_ranges(&self, id: &SnapshotId) -> Result<Vec<ByteRange>, DriverError> {
        let entry = self.get(&Name::Snapshot(id.clone()))?;
        File::open(&entry.image)
            .and_then(|image| sharing::data_ranges(&image, entry.size_bytes))
            .map_err(fail("cannot read the holes of", &entry.image))
    }

    /// `None` where the file system does not say where blocks lie.
    pub(super) fn changed_ranges(
        &self,
        base: &SnapshotId,
        snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        let old = self.get(&Name::Snapshot(base.clone()))?;
        let new = self.get(&Name::Snapshot(snapshot.clone()))?;
        if base == snapshot {
            // Its blocks need not be shared with anything else, which is what is looked for below.
            return Ok(Some(Vec::new()));
        }
        let open =
            |entry: &Entry| File::open(&entry.image).map_err(fail("cannot open", &entry.image));
        let (old_file, new_file) = (open(&old)?, open(&new)?);
        let old_side = changes::Side::new(&old_file, old.size_bytes);
        let new_side = changes::Side::new(&new_file, new.size_bytes);
        let found = changes::changed(&old_side, &new_side)
            .map_err(fail("cannot read the blocks of", &new.image))?;
        match found {
            Answer::Ranges(ranges) => return Ok(Some(ranges)),
            Answer::Unsupported => tracing::warn!(
                directory = %self.config.directory.display(),
                "the file system does not say where the blocks of a file lie, so what changed is not known"
            ),
            Answer::Moving => tracing::warn!(
                image = %old.image.display(),
                "its blocks are being moved while they are compared, so what changed is not known"
            ),
        }
        Ok(None)
    }

    pub(super) fn get(&self, name: &Name) -> Result<Entry, DriverError> {
        self.store.find(name)?.ok_or_else(|| name.not_found())
    }

    fn copy_from(&self, image: &File, source: &Entry) -> Result<(), DriverError> {
        let file = File::open(&source.image).map_err(fail("cannot open", &source.image))?;
        self.copy(image, &file).map(drop)
    }

    fn copy(&self, target: &File, source: &File) -> Result<Copied, DriverError> {
        let directory = &self.config.directory;
        sharing::copy(target, source, self.config.allow_copy).map_err(|error| {
            if error.kind() == std::io::ErrorKind::Unsupported {
                return DriverError::Host(format!(
                    "the file system of {} cannot share blocks between files: is the right one mounted? If it is, put the folder on \
                     XFS (mkfs.xfs -m reflink=1) or Btrfs, or allow copies (`allowCopy`) and accept that each snapshot copies all data",
                    directory.display()
                ));
            }
            fail("cannot copy an image in", directory)(error)
        })
    }

    fn room(&self) -> Result<Room, DriverError> {
        let directory: &PathBuf = &self.config.directory;
        let found = statvfs(directory)
            .map_err(|errno| fail("cannot ask for the room in", directory)(errno.into()))?;
        let block = found.fragment_size();
        Ok(Room {
            available_bytes: found.blocks_available().saturating_mul(block),
            total_bytes: found.blocks().saturating_mul(block),
        })
    }

    fn promise_limit(&self, room: &Room) -> u64 {
        room.total_bytes
            .saturating_mul(self.config.overcommit_factor)
    }

    fn promised(&self) -> Result<u64, DriverError> {
        let entries = self.store.list()?;
        let volumes = entries
            .iter()
            .filter(|e| matches!(e.meta, Meta::Volume { .. }));
        Ok(volumes.fold(0, |sum: u64, entry| sum.saturating_add(entry.size_bytes)))
    }

    /// Refuses what the file system cannot take: `more_bytes` is what volumes are promised in addition (0 for a snapshot).
    fn admit(&self, more_bytes: u64) -> Result<(), DriverError> {
        let room = self.room()?;
        let place = format!(
            "{} of {}",
            self.config.directory.display(),
            Bytes(room.total_bytes)
        );
        let limit = self.promise_limit(&room);
        if more_bytes > limit {
            return Err(DriverError::OutOfRange(format!(
                "{} are more than {place} can ever promise: {}",
                Bytes(more_bytes),
                Bytes(limit)
            )));
        }
        if room.available_bytes <= self.config.reserve_bytes {
            return Err(DriverError::ResourceExhausted(format!(
                "{place} has {} left, {} are kept in reserve",
                Bytes(room.available_bytes),
                Bytes(self.config.reserve_bytes)
            )));
        }
        let promised = self.promised()?;
        if promised.saturating_add(more_bytes) > limit {
            return Err(DriverError::ResourceExhausted(format!(
                "{place} has promised {promised} of {} to volumes, {} more do not fit",
                Bytes(limit),
                Bytes(more_bytes)
            )));
        }
        Ok(())
    }
}

fn round_up(size_bytes: u64) -> Result<u64, DriverError> {
    if size_bytes == 0 {
        return Err(DriverError::InvalidArgument(
            "a volume has at least one byte".into(),
        ));
    }
    size_bytes
        .checked_next_multiple_of(GRANULARITY_BYTES)
        .ok_or_else(|| DriverError::OutOfRange(format!("{size_bytes} bytes are too many")))
}

pub(super) fn volume_info(id: &VolumeId, entry: &Entry) -> VolumeInfo {
    VolumeInfo {
        id: id.clone(),
        size_bytes: entry.size_bytes,
    }
}

/// `None` if it is no snapshot.
pub(super) fn snapshot_info(entry: &Entry) -> Option<SnapshotInfo> {
    match &entry.meta {
        Meta::Snapshot {
            id,
            source,
            created_at_us,
        } => Some(SnapshotInfo {
            id: id.clone(),
            volume_id: source.clone(),
            size_bytes: entry.size_bytes,
            created_at_us: *created_at_us,
        }),
        Meta::Volume { .. } => None,
    }
}

//! The seam between Stockpot and its storage.

use std::fmt;

use async_trait::async_trait;

use crate::{
    AccessMode, Adoptable, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError,
    Headroom, Remembered, SnapshotId, SnapshotInfo, VolumeId, VolumeInfo, lvm::LvName,
};

/// Makes volumes and snapshots on one pool of storage and exports them.
///
/// Every call is idempotent by the id it names. A call that was cut off (its future dropped, the process
/// killed) leaves either nothing or something that the same call finishes and the opposite call removes.
///
/// Attaching a volume or a snapshot is four steps, each undone by its opposite in reverse order:
///
/// ```text
/// create_export_snapshot → initialize_connection_snapshot → connector.connect
///     … read …
/// connector.disconnect → terminate_connection_snapshot → remove_export_snapshot
/// ```
#[async_trait]
pub trait VolumeDriver: Send + Sync + fmt::Debug {
    /// The driver's name in configuration and reports (`lvm-thin`, `file`).
    fn name(&self) -> &'static str;

    /// Checks that the host has what the driver needs: programs, modules, the pool.
    ///
    /// # Errors
    /// [`DriverError::Host`], saying what is missing and what to do.
    async fn check(&self) -> Result<(), DriverError>;

    /// The same for storage that is known to hold something: none is made anew where it is missing.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    async fn check_in_use(&self) -> Result<(), DriverError> {
        self.check().await
    }

    /// Makes an empty volume of at least `size_bytes`, which reads as zeroes.
    ///
    /// # Errors
    /// `AlreadyExists` if the id is taken by a volume of another size or one made by somebody else;
    /// `OutOfRange`, `ResourceExhausted`.
    async fn create_volume(
        &self,
        id: &VolumeId,
        size_bytes: u64,
    ) -> Result<VolumeInfo, DriverError>;

    /// Makes a volume with a local snapshot's content; it may be larger, never smaller.
    ///
    /// # Errors
    /// As [`create_volume`](Self::create_volume); `NotFound` if the snapshot is gone; `OutOfRange` if smaller.
    async fn create_volume_from_snapshot(
        &self,
        id: &VolumeId,
        size_bytes: u64,
        snapshot: &SnapshotId,
    ) -> Result<VolumeInfo, DriverError>;

    /// Makes a volume with another volume's content as of now; it may be larger, never smaller.
    ///
    /// # Errors
    /// As [`create_volume_from_snapshot`](Self::create_volume_from_snapshot).
    async fn create_cloned_volume(
        &self,
        id: &VolumeId,
        size_bytes: u64,
        source: &VolumeId,
    ) -> Result<VolumeInfo, DriverError>;

    /// Removes a volume; its snapshots stay. A volume that is not there is success.
    ///
    /// # Errors
    /// `InUse` if it is open, mounted or connected to; an export that nobody holds open goes with it.
    async fn delete_volume(&self, id: &VolumeId) -> Result<(), DriverError>;

    /// Grows a volume to at least `size_bytes`, also while it is attached. A volume that is that large is success.
    ///
    /// # Errors
    /// `NotFound`, `ResourceExhausted`, `OutOfRange`.
    async fn extend_volume(
        &self,
        id: &VolumeId,
        size_bytes: u64,
    ) -> Result<VolumeInfo, DriverError>;

    /// Whether [`replace_volume`](Self::replace_volume) can be done with the volume as it is now: asked before what is to take its
    /// place is filled.
    ///
    /// The default is for storage that cannot do it at all.
    ///
    /// # Errors
    /// `Unsupported`; `NotFound`; `InUse` if it has something that would go with its content.
    async fn check_replace(&self, _id: &VolumeId) -> Result<(), DriverError> {
        Err(cannot_replace())
    }

    /// Lets the volume `with` take the place of the volume `id`, whole or not at all: `id` names the new content from then on, and
    /// `with` and the old content are gone. Snapshots that were cut of `id` stay, and show what it held. Where it was done
    /// before, with the same two, that is success.
    ///
    /// # Errors
    /// `Unsupported`; `NotFound` if either is gone; `InUse` if either is open or connected to, or has something that would go with
    /// it; `OutOfRange` if `with` is the smaller one.
    async fn replace_volume(
        &self,
        _id: &VolumeId,
        _with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        Err(cannot_replace())
    }

    /// Cuts a snapshot. If the id exists already with the same source, that one is returned.
    ///
    /// # Errors
    /// `NotFound` if the volume is gone; `AlreadyExists` if the id is one of another volume; `ResourceExhausted`.
    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError>;

    /// Removes a snapshot. One that is not there is success.
    ///
    /// # Errors
    /// `InUse` if it is open; an export that nobody holds open goes with it.
    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError>;

    /// The volume, or `None`.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError>;

    /// Who has the volume's device open on the host where its storage is, in words; `None` if nobody has, or there is no device.
    ///
    /// The default is for storage that cannot tell.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn volume_in_use(&self, _id: &VolumeId) -> Result<Option<String>, DriverError> {
        Ok(None)
    }

    /// Whether cutting a snapshot flushes and freezes a file system that lies directly on the volume's device, as the kernel does
    /// where it suspends a device of its device mapper. Whoever froze it before that may keep older kernels from cutting.
    fn cut_freezes(&self) -> bool {
        false
    }

    /// Major and minor number of the volume's device on this host; `None` if there is none now, or that cannot be told.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn volume_device(&self, _id: &VolumeId) -> Result<Option<(u32, u32)>, DriverError> {
        Ok(None)
    }

    /// The snapshot, or `None`.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError>;

    /// Every volume of ours in this pool, temporary ones included.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError>;

    /// Every snapshot of ours in this pool.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError>;

    /// What people call a volume or snapshot that is about to be made: kept beside it, where the storage has a place for that. Asks
    /// nothing, and fails in nothing.
    fn name_is(&self, _id: &str, _name: &str) {}

    /// What the storage itself knows of what it holds: a catalog that was lost is made again from it.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn remember(&self) -> Result<Remembered, DriverError> {
        let (volumes, snapshots) = (self.list_volumes().await?, self.list_snapshots().await?);
        Ok(Remembered {
            volumes: volumes.into_iter().map(Into::into).collect(),
            snapshots: snapshots.into_iter().map(Into::into).collect(),
        })
    }

    /// Looks whether a logical volume can become a volume of this storage; `None` if it is not in it. One that has become a
    /// volume is found by the name that it had, too.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn adoptable(&self, _lv: &LvName) -> Result<Option<Adoptable>, DriverError> {
        Ok(None)
    }

    /// Makes a logical volume that somebody else made a volume of ours, called `name`. No byte of it is read or written, and it
    /// may be in use meanwhile. Called again for one that is this volume, it makes sure of its name.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` if it is another volume of ours; `InUse`, with the reason, if it cannot become one.
    async fn adopt_volume(
        &self,
        _id: &VolumeId,
        _lv: &LvName,
        _name: &str,
    ) -> Result<VolumeInfo, DriverError> {
        Err(DriverError::Unsupported("adopting a volume".into()))
    }

    /// Lets a volume go: it keeps its bytes and is ours no more. It gets this name, else the one that it had before it was ours,
    /// else it keeps its own. How it is called now; `None` if there is no such volume of ours.
    ///
    /// # Errors
    /// `InUse` if it has snapshots of ours, or other hosts are connected to it; `AlreadyExists` if the name is taken;
    /// `InvalidArgument` if it is none.
    async fn release_volume(
        &self,
        _id: &VolumeId,
        _lv_name: Option<&str>,
    ) -> Result<Option<LvName>, DriverError> {
        Err(DriverError::Unsupported("letting a volume go".into()))
    }

    /// Room in the pool.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn capacity(&self) -> Result<Capacity, DriverError>;

    /// What is left of a pool that can run full while volumes are written to; quick, and waits for nothing. `None`
    /// where that cannot happen, or nothing can be written to now.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        Ok(None)
    }

    /// Makes the pool larger if its headroom is low and there is room for that; what was done in words, `None` if
    /// nothing.
    ///
    /// # Errors
    /// When there is room and it cannot be used.
    async fn grow_pool(&self) -> Result<Option<String>, DriverError> {
        Ok(None)
    }

    /// Prepares a volume to be connected to.
    ///
    /// # Errors
    /// `NotFound`, or why it cannot be exported.
    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError>;

    /// Lets one host connect to an exported volume and says how.
    ///
    /// # Errors
    /// `NotFound`, or why the host cannot connect.
    async fn initialize_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError>;

    /// Takes one host's access away; `force` also when it seems to be in use. No connection is success.
    ///
    /// # Errors
    /// `InUse` without `force`.
    async fn terminate_connection(
        &self,
        id: &VolumeId,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError>;

    /// Undoes [`create_export`](Self::create_export). No export is success. Of one that several hosts are let in to, it stays
    /// for the others, and goes when the last one calls this.
    ///
    /// # Errors
    /// `InUse` while the device is open on this host.
    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError>;

    /// Prepares a snapshot to be connected to.
    ///
    /// The default makes a temporary volume from the snapshot ([`temporary_volume`]) and exports that.
    ///
    /// # Errors
    /// As [`create_export`](Self::create_export).
    async fn create_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let snapshot = self.snapshot(id).await?.ok_or_else(|| not_found(id))?;
        let temporary = temporary_volume(id);
        self.create_volume_from_snapshot(&temporary, snapshot.size_bytes, id)
            .await?;
        self.create_export(&temporary).await
    }

    /// Lets one host connect read-only to an exported snapshot and says how.
    ///
    /// # Errors
    /// As [`initialize_connection`](Self::initialize_connection).
    async fn initialize_connection_snapshot(
        &self,
        id: &SnapshotId,
        properties: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        self.initialize_connection(&temporary_volume(id), properties, AccessMode::ReadOnly)
            .await
    }

    /// Takes one host's access to a snapshot away; `force` also when it seems to be in use.
    ///
    /// # Errors
    /// As [`terminate_connection`](Self::terminate_connection).
    async fn terminate_connection_snapshot(
        &self,
        id: &SnapshotId,
        properties: &ConnectorProperties,
        force: bool,
    ) -> Result<(), DriverError> {
        self.terminate_connection(&temporary_volume(id), properties, force)
            .await
    }

    /// Undoes [`create_export_snapshot`](Self::create_export_snapshot). No export is success.
    ///
    /// # Errors
    /// As [`remove_export`](Self::remove_export).
    async fn remove_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        let temporary = temporary_volume(id);
        self.remove_export(&temporary).await?;
        self.delete_volume(&temporary).await
    }

    /// Checks that a snapshot still holds what was cut. Whoever reads one asks before the first read and again after the
    /// last: only what was read between two good answers is the snapshot's content.
    ///
    /// The default is for storage whose snapshots last as long as they are there.
    ///
    /// # Errors
    /// [`DriverError::Void`] if its content is lost; `NotFound`; when the storage cannot be asked.
    async fn check_snapshot(&self, _id: &SnapshotId) -> Result<(), DriverError> {
        Ok(())
    }

    /// Which bytes of a snapshot hold data; `None` where the driver cannot tell and all has to be read.
    ///
    /// Ranges ascend and do not overlap; everything outside them reads as zeroes.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn allocated_ranges(
        &self,
        _snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        Ok(None)
    }

    /// Which bytes of `snapshot` may differ from `base`; `None` where the driver cannot tell.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    async fn changed_ranges(
        &self,
        _base: &SnapshotId,
        _snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        Ok(None)
    }
}

/// The id of the temporary volume through which a snapshot is attached by default: `tmp-` and the snapshot's
/// id, shortened so that it stays an id. Unique because the unique part of an id is its end.
#[must_use]
pub fn temporary_volume(snapshot: &SnapshotId) -> VolumeId {
    let id = snapshot.as_str();
    let tail = &id[id.len().saturating_sub(crate::model::MAX_ID_LEN - 4)..];
    format!("tmp-{tail}")
        .parse()
        .expect("an id's tail after a letter is an id")
}

fn cannot_replace() -> DriverError {
    DriverError::Unsupported("giving a volume another content".into())
}

fn not_found(id: &SnapshotId) -> DriverError {
    DriverError::NotFound {
        what: format!("snapshot {id}"),
    }
}

//! The first stage: all that can be refused is refused, the rows are written, the snapshot is cut.

use std::sync::Arc;

use stockpot_proto::stockpot::v1 as api;

use crate::{
    Manager, ManagerError,
    catalog::{
        AttachmentKind, BackupRow, BackupSource, BackupStatus, Consistency, CopyState, Metadata,
        Purpose, SnapshotRow, VolumeRow, VolumeStatus, status,
    },
    codes, ids,
    locks::Subject,
    manager::now_us,
    profile::Profile,
    quiesce::NOT_OPEN,
    request,
    snapshots::check_cloud_metadata,
};

impl Manager {
    /// Begins a backup, or finds the one of this name however it went.
    pub(crate) async fn create_backup(
        self: Arc<Self>,
        request: api::CreateBackupRequest,
    ) -> Result<BackupRow, ManagerError> {
        request::check_metadata(&request.metadata)?;
        let id = ids::new_backup_id(&self.node);
        let mut request = request;
        if request.name.is_empty() {
            request.name.clone_from(&id);
        }
        request::check_name(&request.name)?;
        let _name = self
            .locks
            .hold(Subject::BackupName(request.name.clone()))
            .await?;
        if let Some(row) = self.catalog.backup_by_name(&request.name).await? {
            return again(row, &request);
        }
        if self.catalog.backup(&request.name).await?.is_some() {
            return Err(ManagerError::InvalidArgument(format!(
                "{:?} is the id of another backup, which could not be told from this one: give it another name",
                request.name
            )));
        }
        let profile = self.backup_profile(&request.profile).await?;
        let short_id = self.clouds.short_id(&profile).await?;
        let volume = self.volume_of_that_name(&request.volume).await?;
        let _volume = self.hold_volume(&volume.id).await?;
        // It may have changed while its turn was waited for.
        let volume = self.volume_row(volume.id.as_str()).await?;
        status::ask(volume.id.as_str(), volume.status, VolumeStatus::BackingUp)?;
        let user = self.user_of(&volume).await?;
        if let (Some(user), false) = (&user, request.force) {
            return Err(ManagerError::FailedPrecondition(format!(
                "volume {} is in use ({user}): with force, a temporary snapshot of it is backed up",
                volume.id
            )));
        }
        let source = match user {
            Some(_) => BackupSource::Snapshot,
            None => BackupSource::Volume,
        };
        let (backup, snapshot) = rows(id, request, &profile, &short_id, &volume, source);
        check_cloud_metadata(&snapshot)?;
        self.cut_backup(backup, snapshot, volume.status).await
    }

    /// Writes the rows and cuts. The caller holds the volume.
    async fn cut_backup(
        self: &Arc<Self>,
        backup: BackupRow,
        snapshot: SnapshotRow,
        from: VolumeStatus,
    ) -> Result<BackupRow, ManagerError> {
        if backup.source == BackupSource::Snapshot {
            self.make_room(&snapshot.pool).await;
        }
        // As soon as they are on record somebody may want to cancel or delete them.
        let held = self.locks.hold(Subject::Backup(backup.id.clone())).await?;
        let _snapshot = self.hold_snapshot(&snapshot.id).await?;
        let id = backup.id.clone();
        tracing::info!(backup_id = id, snapshot_id = %snapshot.id, source = %backup.source, "a backup begins");
        if !self.catalog.begin_backup(backup.clone(), from).await? {
            return Err(ManagerError::Busy(format!(
                "volume {} has just changed: ask again",
                backup.volume_id
            )));
        }
        self.notify();
        let cut = self.begin_reading(&backup, snapshot).await;
        let noted = match &cut {
            Ok(()) => Ok(true),
            Err(error) => {
                let (from, to) = (BackupStatus::Creating, BackupStatus::Error);
                let failure = Some(codes::record(error));
                self.catalog.end_backup(&id, from, to, failure).await
            }
        };
        drop(held);
        // Also after a failure, and where that could not be written down: what it left is cleaned up behind.
        self.follow_backup(&id);
        self.notify();
        noted?;
        cut?;
        self.backup_row(&id).await
    }

    /// From here on there is something to read, and it is being uploaded.
    async fn begin_reading(
        self: &Arc<Self>,
        backup: &BackupRow,
        snapshot: SnapshotRow,
    ) -> Result<(), ManagerError> {
        let id = snapshot.id.clone();
        self.catalog.insert_snapshot(snapshot.clone()).await?;
        if backup.source == BackupSource::Volume {
            self.catalog
                .backup_shows(&id, Consistency::Unused, NOT_OPEN, 0)
                .await?;
            self.start_upload(&id).await;
            return Ok(());
        }
        let row = self.cut(snapshot).await?;
        self.backup_was_cut(&backup.id, &row).await
    }

    /// Lets go of the volume, whose snapshot is cut.
    pub(super) async fn backup_was_cut(
        &self,
        id: &str,
        snapshot: &SnapshotRow,
    ) -> Result<(), ManagerError> {
        let size_bytes = snapshot.size_bytes.unwrap_or_default();
        let cut_at_us = snapshot.cut_at_us.unwrap_or(snapshot.created_at_us);
        self.catalog.backup_cut(id, size_bytes, cut_at_us).await?;
        Ok(())
    }

    /// Who uses a volume, in words: on record, or seen by the kernel.
    async fn user_of(&self, volume: &VolumeRow) -> Result<Option<String>, ManagerError> {
        let id = &volume.id;
        let attachment = self.catalog.attachment(AttachmentKind::Volume, id.as_str());
        let attached = attachment
            .await?
            .is_some_and(|row| row.purpose == Purpose::Node);
        if attached || volume.status == VolumeStatus::InUse {
            return Ok(Some("attached to this node".to_owned()));
        }
        Ok(self.driver(&volume.pool)?.volume_in_use(id).await?)
    }

    /// The profile of a name; without one the only one that leads to a repository.
    async fn backup_profile(&self, name: &str) -> Result<Arc<Profile>, ManagerError> {
        if !name.is_empty() {
            return self.clouds.profile(name).await;
        }
        let mut all = self.clouds.all_profiles().await?;
        all.retain(|profile| profile.topology().is_ok());
        match &all[..] {
            [one] => Ok(one.clone()),
            [] => Err(ManagerError::InvalidArgument(
                "no profile leads to a repository".to_owned(),
            )),
            several => {
                let names: Vec<&str> = several.iter().map(|p| p.name.as_str()).collect();
                Err(ManagerError::InvalidArgument(format!(
                    "there are several profiles; name one of {}",
                    names.join(", ")
                )))
            }
        }
    }

    /// The volume of an id or name.
    async fn volume_of_that_name(&self, name: &str) -> Result<VolumeRow, ManagerError> {
        match self.volume_row(name).await {
            Err(ManagerError::NotFound(what)) => {
                let named = self.catalog.volume_by_name(name).await?;
                named.ok_or(ManagerError::NotFound(what))
            }
            found => found,
        }
    }
}

/// What is written before anything is done.
fn rows(
    id: String,
    request: api::CreateBackupRequest,
    profile: &Profile,
    short_id: &str,
    volume: &VolumeRow,
    source: BackupSource,
) -> (BackupRow, SnapshotRow) {
    let snapshot_id = ids::new_snapshot_id(Some(short_id));
    let now = now_us();
    let is_cut = source == BackupSource::Snapshot;
    let metadata: Metadata = request.metadata.into_iter().collect();
    let snapshot = SnapshotRow {
        id: snapshot_id.clone(),
        name: id.clone(),
        volume_id: volume.id.clone(),
        volume_name: volume.name.clone(),
        pool: volume.pool.clone(),
        size_bytes: (!is_cut).then_some(volume.size_bytes),
        cut_at_us: (!is_cut).then_some(now),
        profile: profile.name.clone(),
        local: if is_cut {
            CopyState::Pending
        } else {
            CopyState::None
        },
        cloud: CopyState::Pending,
        location: None,
        sent: None,
        reason: None,
        kept_as_base: false,
        metadata: metadata.clone(),
        error: None,
        error_reported: false,
        deleting: None,
        created_at_us: now,
    };
    let backup = BackupRow {
        id,
        name: request.name,
        volume_id: volume.id.clone(),
        volume_name: volume.name.clone(),
        snapshot_id: snapshot_id.clone(),
        profile: profile.name.clone(),
        status: BackupStatus::Creating,
        source,
        holds_volume: true,
        temp_snapshot_id: is_cut.then_some(snapshot_id),
        temp_volume_id: None,
        parent: None,
        phase: if is_cut { "cutting" } else { "starting" }.to_owned(),
        bytes_done: 0,
        bytes_total: snapshot.size_bytes.unwrap_or_default(),
        reason: None,
        sent: None,
        location: None,
        failure: None,
        cleaned: false,
        metadata,
        created_at_us: now,
        cut_at_us: snapshot.cut_at_us,
        ended_at_us: None,
        paused: false,
        is_full: request.full,
        schedule: None,
        consistency: None,
        frozen_us: 0,
    };
    (backup, snapshot)
}

/// The backup of a name that was used before.
fn again(row: BackupRow, request: &api::CreateBackupRequest) -> Result<BackupRow, ManagerError> {
    let is_same_volume =
        request.volume == row.volume_id.as_str() || request.volume == row.volume_name;
    let is_same_profile = request.profile.is_empty() || request.profile == row.profile;
    let difference = match (is_same_volume, is_same_profile) {
        (true, true) => return Ok(row),
        (false, _) => "volume",
        (true, false) => "profile",
    };
    Err(ManagerError::AlreadyExists {
        what: format!("backup {} named {:?}", row.id, row.name),
        difference,
    })
}

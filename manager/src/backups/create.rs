//! The first stage: all that can be refused is refused, the rows are written, the snapshot is cut.

use std::sync::Arc;

use stockpot_driver::VolumeId;
use stockpot_proto::stockpot::v1 as api;

use crate::{
    Manager, ManagerError,
    catalog::{
        AttachmentKind, BackupRow, BackupSource, BackupStatus, Consistency, CopyState, Metadata,
        Purpose, SnapshotRow, VolumeRow, VolumeStatus, status,
    },
    codes, fault, ids,
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
        self.create_backup_for(request, None).await
    }

    /// The same, on record as asked for by a schedule.
    pub(crate) async fn create_backup_for(
        self: Arc<Self>,
        request: api::CreateBackupRequest,
        schedule: Option<String>,
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
            return self.backup_again(row, &request).await;
        }
        if self.catalog.backup(&request.name).await?.is_some() {
            return Err(ManagerError::InvalidArgument(format!(
                "{:?} is the id of another backup, which could not be told from this one: give it another name",
                request.name
            )));
        }
        let profile = self.backup_profile(&request.profile).await?;
        let short_id = self.clouds.short_id(&profile).await?;
        if !request.snapshot_id.is_empty() {
            return self.back_up_kept(id, request, &profile, &short_id).await;
        }
        let volume = self.volume_of_that_name(&request.volume).await?;
        let _volume = self.hold_volume(&volume.id).await?;
        // It may have changed while its turn was waited for.
        let volume = self.volume_row(volume.id.as_str()).await?;
        self.refuse_spare(&volume.id).await?;
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
        let what = What::volume(&volume, source);
        let (mut backup, mut snapshot) = rows(id, request, &profile, &short_id, what);
        backup.schedule = schedule;
        self.date(&mut backup, &mut snapshot);
        check_cloud_metadata(&snapshot, Some(&backup.name))?;
        self.cut_backup(backup, snapshot, volume.status).await
    }

    /// By the clock that schedules go by: what they keep depends on these times.
    fn date(&self, backup: &mut BackupRow, snapshot: &mut SnapshotRow) {
        let now = self.clock.now().as_microsecond();
        (backup.created_at_us, snapshot.created_at_us) = (now, now);
        backup.cut_at_us = backup.cut_at_us.map(|_| now);
        snapshot.cut_at_us = snapshot.cut_at_us.map(|_| now);
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
        fault::reached("backup.row");
        self.notify();
        let cut = self.begin_reading(&backup, snapshot).await;
        let noted = match &cut {
            Ok(()) => Ok(true),
            // The storage may still cut it: whoever follows the backup asks again, and nothing is cleaned up before that.
            Err(error) if may_go_on(error) => Ok(false),
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
    pub(super) async fn begin_reading(
        self: &Arc<Self>,
        backup: &BackupRow,
        snapshot: SnapshotRow,
    ) -> Result<(), ManagerError> {
        let id = snapshot.id.clone();
        self.catalog.insert_snapshot(snapshot.clone()).await?;
        fault::reached("backup.snapshot-row");
        if backup.source != BackupSource::Snapshot {
            self.start_upload(&id).await;
            return Ok(());
        }
        self.cut_of_backup(&backup.id, snapshot, false).await
    }

    /// Cuts the temporary snapshot, or finds that it is cut, and lets go of the volume. The caller holds all three.
    pub(super) async fn cut_of_backup(
        self: &Arc<Self>,
        id: &str,
        snapshot: SnapshotRow,
        again: bool,
    ) -> Result<(), ManagerError> {
        let row = self.cut(snapshot, again).await?;
        self.backup_was_cut(id, &row).await
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
        fault::reached("backup.volume-released");
        Ok(())
    }

    /// Who uses a volume, in words: on record, or seen by the kernel.
    pub(crate) async fn user_of(&self, volume: &VolumeRow) -> Result<Option<String>, ManagerError> {
        let id = &volume.id;
        let attachment = self.catalog.attachment(AttachmentKind::Volume, id.as_str());
        let attached = attachment.await?.filter(|row| row.purpose == Purpose::Node);
        if let Some(path) = attached.as_ref().and_then(|row| row.device_path.as_ref()) {
            return Ok(Some(format!("attached to this node as {}", path.display())));
        }
        if attached.is_some() || volume.status == VolumeStatus::InUse {
            return Ok(Some("attached to this node".to_owned()));
        }
        Ok(self.driver(&volume.pool)?.volume_in_use(id).await?)
    }

    /// The profile of a name; without one the only one that leads to a repository.
    pub(crate) async fn backup_profile(&self, name: &str) -> Result<Arc<Profile>, ManagerError> {
        if !name.is_empty() {
            return self.clouds.profile(name).await;
        }
        let mut all = self.clouds.all_profiles().await?;
        all.retain(|profile| profile.topology().is_ok());
        match &all[..] {
            [one] => Ok(one.clone()),
            [] => Err(ManagerError::InvalidArgument(
                "no profile leads to a repository: make one (`stockpot profile create FILE`), or look in the log for those that \
                 cannot be read"
                    .to_owned(),
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

    /// The backup of a name that was used before.
    async fn backup_again(
        &self,
        row: BackupRow,
        request: &api::CreateBackupRequest,
    ) -> Result<BackupRow, ManagerError> {
        let source = match row.source {
            BackupSource::Kept => self.catalog.kept_source(&row.snapshot_id).await?,
            BackupSource::Volume | BackupSource::Snapshot => None,
        };
        let source = source.map(|id| id.to_string()).unwrap_or_default();
        let is_same_volume = request.volume == row.volume_id.as_str()
            || request.volume == row.volume_name
            // A snapshot says of which volume it is.
            || (request.volume.is_empty() && !request.snapshot_id.is_empty());
        let is_same_profile = request.profile.is_empty() || request.profile == row.profile;
        let difference = match (is_same_volume, is_same_profile) {
            (true, true) if request.snapshot_id == source => return Ok(row),
            (true, true) => "snapshot",
            (false, _) => "volume",
            (true, false) => "profile",
        };
        Err(ManagerError::AlreadyExists {
            what: format!("backup {} named {:?}", row.id, row.name),
            difference,
        })
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

/// What is backed up.
pub(super) struct What<'a> {
    pub(super) volume_id: &'a VolumeId,
    pub(super) volume_name: &'a str,
    pub(super) pool: &'a str,
    pub(super) source: BackupSource,
    /// Unknown before the cut, as is when it was cut.
    pub(super) size_bytes: Option<u64>,
    pub(super) cut_at_us: Option<i64>,
    /// What a restore shows, and why; unknown before the cut.
    pub(super) consistency: Option<(Consistency, String)>,
}

impl<'a> What<'a> {
    fn volume(volume: &'a VolumeRow, source: BackupSource) -> Self {
        let is_there = source == BackupSource::Volume;
        Self {
            volume_id: &volume.id,
            volume_name: &volume.name,
            pool: &volume.pool,
            source,
            size_bytes: is_there.then_some(volume.size_bytes),
            cut_at_us: is_there.then(now_us),
            consistency: is_there.then(|| (Consistency::Unused, NOT_OPEN.to_owned())),
        }
    }
}

/// What is written before anything is done.
pub(super) fn rows(
    id: String,
    request: api::CreateBackupRequest,
    profile: &Profile,
    short_id: &str,
    what: What<'_>,
) -> (BackupRow, SnapshotRow) {
    let snapshot_id = ids::new_snapshot_id(Some(short_id));
    let now = now_us();
    let is_cut = what.source == BackupSource::Snapshot;
    let metadata: Metadata = request.metadata.into_iter().collect();
    let snapshot = SnapshotRow {
        id: snapshot_id.clone(),
        name: id.clone(),
        volume_id: what.volume_id.clone(),
        volume_name: what.volume_name.to_owned(),
        pool: what.pool.to_owned(),
        size_bytes: what.size_bytes,
        cut_at_us: what.cut_at_us,
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
        consistency: what.consistency.clone(),
        metadata: metadata.clone(),
        error: None,
        error_reported: false,
        deleting: None,
        created_at_us: now,
    };
    let backup = BackupRow {
        id,
        name: request.name,
        volume_id: what.volume_id.clone(),
        volume_name: what.volume_name.to_owned(),
        snapshot_id: snapshot_id.clone(),
        profile: profile.name.clone(),
        status: BackupStatus::Creating,
        source: what.source,
        holds_volume: what.source != BackupSource::Kept,
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
        consistency: what.consistency,
        frozen_us: 0,
    };
    (backup, snapshot)
}

/// Whether the storage may still do what it gave no answer to.
pub(super) fn may_go_on(error: &ManagerError) -> bool {
    matches!(error, ManagerError::Driver(error) if error.may_go_on())
}

//! Volumes that people have already: brought under management, and let go again. No byte of them is touched.
//!
//! The storage does either in one step, and what counts is whether it is done: what a crash leaves of an adoption that the storage
//! has done is finished at the next start, and forgotten otherwise; of a release the same, the other way round.
//! So is what the storage has not answered, when it is asked for again.

use std::sync::Arc;

use stockpot_driver::{Adoptable, Standing, VolumeDriver, VolumeId, VolumeInfo, lvm::LvName};
use stockpot_proto::stockpot::v1 as api;

use crate::{
    Manager, ManagerError,
    catalog::{
        Adoption, AttachmentKind, BackupStatus, CopyState, VolumeRow, VolumeSource, VolumeStatus,
        Way,
    },
    error::chain,
    ids,
    locks::Subject,
    manager::now_us,
    request,
    volumes::create::may_go_on,
};

/// What was found under the name that was asked for.
struct Found {
    lv: LvName,
    pool: String,
    what: Adoptable,
}

impl Manager {
    /// Brings a logical volume under management, or finds the volume that it is.
    pub(crate) async fn adopt_volume(
        self: Arc<Self>,
        request: api::AdoptVolumeRequest,
    ) -> Result<VolumeRow, ManagerError> {
        request::check_metadata(&request.metadata)?;
        let lv = LvName::of(&request.source)?;
        let name = match request.name.as_str() {
            "" => lv.lv().to_owned(),
            name => name.to_owned(),
        };
        request::check_name(&name)?;
        let _name = self.locks.hold(Subject::VolumeName(name.clone())).await?;
        let found = self.find_adoptable(lv).await?;
        let (id, is_new) = match &found.what.standing {
            Standing::Refused(why) => {
                return Err(ManagerError::FailedPrecondition(format!(
                    "{} cannot be adopted: {why}",
                    found.lv
                )));
            }
            Standing::Ours(id) => match self.catalog.volume(id).await? {
                Some(row) if request.name.is_empty() || request.name == row.name => return Ok(row),
                Some(row) => {
                    return Err(ManagerError::AlreadyExists {
                        what: format!("volume {} of {}", row.id, found.lv),
                        difference: "name",
                    });
                }
                // The catalog was lost: it has its id already.
                None if ids::is_volume_of_other(id, &self.node) => {
                    return Err(ManagerError::FailedPrecondition(format!(
                        "{} is volume {id} of another node, and on that node's record",
                        found.lv
                    )));
                }
                None => {
                    self.refuse_beside(id).await?;
                    (id.clone(), false)
                }
            },
            Standing::Free => (ids::new_volume_id(&self.node), true),
        };
        if let Some(row) = self.catalog.volume_by_name(&name).await? {
            return Err(ManagerError::AlreadyExists {
                what: format!("volume {} named {name:?}", row.id),
                difference: "device; give this one another name",
            });
        }
        if !found.what.foreign_tags.is_empty() {
            tracing::warn!(
                lv = %found.lv,
                tags = found.what.foreign_tags.join(", "),
                "it carries tags of other programs; those must let it go, or they may change it"
            );
        }
        let adoption = Adoption {
            volume_id: id,
            way: Way::Adopt,
            source: found.lv.to_string(),
            pool: found.pool,
            name,
            metadata: request.metadata.into_iter().collect(),
            created_at_us: now_us(),
        };
        self.adopt(adoption, &found.lv, is_new).await
    }

    /// Lets the storage do it, and writes it down. The caller holds the name.
    async fn adopt(
        &self,
        adoption: Adoption,
        lv: &LvName,
        is_new: bool,
    ) -> Result<VolumeRow, ManagerError> {
        let id = adoption.volume_id.clone();
        let _held = self.hold_volume(&id).await?;
        let driver = self.driver(&adoption.pool)?.clone();
        self.settle_earlier(&id).await?;
        if let Some(row) = self.catalog.volume(&id).await? {
            return match row.name == adoption.name {
                true => Ok(row),
                false => Err(ManagerError::AlreadyExists {
                    what: format!("volume {id} of {lv}, named {:?}", row.name),
                    difference: "name",
                }),
            };
        }
        self.catalog.begin_adoption(adoption.clone()).await?;
        match driver.adopt_volume(&id, lv, &adoption.name).await {
            Ok(info) => {
                let row = self.adopted(adoption, &info).await?;
                tracing::info!(volume_id = %id, %lv, name = row.name, size_bytes = info.size_bytes, "a volume was adopted");
                self.notify();
                Ok(row)
            }
            Err(error) => {
                let error = ManagerError::from(error);
                if !may_go_on(&error) {
                    self.undo_adoption(&driver, &id, lv, is_new).await;
                }
                Err(error)
            }
        }
    }

    /// Finishes or forgets what an earlier try left on record, which the storage had not answered. The caller holds the volume, so
    /// nobody is at it here.
    async fn settle_earlier(&self, id: &VolumeId) -> Result<(), ManagerError> {
        let earlier = async || {
            let all = self.catalog.adoptions().await?;
            Ok::<_, ManagerError>(all.into_iter().find(|one| one.volume_id == *id))
        };
        let Some(adoption) = earlier().await? else {
            return Ok(());
        };
        self.recover_adoption(adoption).await?;
        match earlier().await? {
            None => Ok(()),
            Some(_) => Err(ManagerError::Busy(format!(
                "volume {id} is being adopted or let go, and the storage does not say how far that is: ask again"
            ))),
        }
    }

    /// Takes back what was done before it failed. What resists is dealt with at the next try or start.
    async fn undo_adoption(
        &self,
        driver: &Arc<dyn VolumeDriver>,
        id: &VolumeId,
        lv: &LvName,
        is_new: bool,
    ) {
        let undone = async {
            if is_new {
                driver.release_volume(id, Some(lv.lv())).await?;
            }
            self.catalog.forget_adoption(id).await?;
            Ok::<_, ManagerError>(())
        };
        if let Err(error) = undone.await {
            tracing::error!(volume_id = %id, %lv, error = chain(&error), "an adoption that failed could not be undone; the next try or start looks at it");
        }
    }

    /// The volume is ours: from here on it is on record as such.
    async fn adopted(
        &self,
        adoption: Adoption,
        info: &VolumeInfo,
    ) -> Result<VolumeRow, ManagerError> {
        let mut row = VolumeRow {
            id: adoption.volume_id,
            name: adoption.name,
            size_bytes: info.size_bytes,
            pool: adoption.pool,
            status: VolumeStatus::Available,
            previous_status: None,
            source: VolumeSource::Adopted,
            metadata: adoption.metadata,
            error: None,
            error_reported: false,
            created_at_us: adoption.created_at_us,
        };
        match self.catalog.end_adoption(row.clone()).await {
            // Somebody got the name while nobody held it, before a start.
            Err(error) if error.is_taken() => {
                tracing::warn!(volume_id = %row.id, name = row.name, "its name is another volume's now: it gets its id as a name");
                row.name = row.id.to_string();
                self.catalog.end_adoption(row.clone()).await?;
            }
            done => done?,
        }
        Ok(row)
    }

    /// The pool that a logical volume lies in, and whether it can become a volume.
    async fn find_adoptable(&self, lv: LvName) -> Result<Found, ManagerError> {
        let mut unusable = None;
        for pool in self.config.pools.iter().filter(|pool| !pool.is_remote()) {
            let pool = pool.name();
            let looked = match self.driver(pool) {
                Ok(driver) => driver.adoptable(&lv).await.map_err(ManagerError::from),
                Err(error) => Err(error),
            };
            match looked {
                Ok(Some(what)) => {
                    return Ok(Found {
                        lv,
                        pool: pool.to_owned(),
                        what,
                    });
                }
                Ok(None) => {}
                // It matters only if no other pool has it.
                Err(error) => unusable = Some(error),
            }
        }
        if let Some(error) = unusable {
            return Err(error);
        }
        Err(ManagerError::FailedPrecondition(format!(
            "{lv} is not there, or in no pool of this node: a pool with driver lvm-thick has the plain logical volumes of its volume \
             group, one with lvm-thin those of one thin pool; what lies on another node is adopted there"
        )))
    }

    /// Lets a volume go; `VG/LV` as it is called from then on.
    pub(crate) async fn release_volume(
        self: Arc<Self>,
        request: api::ReleaseVolumeRequest,
    ) -> Result<String, ManagerError> {
        let lv_name = Some(request.lv_name.as_str()).filter(|name| !name.is_empty());
        if let Some(name) = lv_name {
            // Of any volume group: the storage knows its own.
            LvName::new("vg", name)?;
        }
        let row = match self.volume_row(&request.volume_id).await {
            Err(ManagerError::NotFound(what)) => {
                let named = self.catalog.volume_by_name(&request.volume_id).await?;
                named.ok_or(ManagerError::NotFound(what))?
            }
            found => found?,
        };
        let _held = self.hold_volume(&row.id).await?;
        self.settle_earlier(&row.id).await?;
        let row = self.volume_row(row.id.as_str()).await?;
        let id = &row.id;
        self.refuse_spare(id).await?;
        self.check_released(&row).await?;
        let driver = self.driver(&row.pool)?.clone();
        self.give_back_bases_of(id, "its volume is let go").await?;
        let release = Adoption {
            volume_id: id.clone(),
            way: Way::Release,
            source: request.lv_name.clone(),
            pool: row.pool.clone(),
            name: row.name.clone(),
            metadata: row.metadata.clone(),
            created_at_us: now_us(),
        };
        self.catalog.begin_adoption(release).await?;
        match driver.release_volume(id, lv_name).await {
            Ok(Some(lv)) => {
                self.catalog.end_release(id).await?;
                tracing::info!(volume_id = %id, %lv, "a volume was let go");
                self.notify();
                Ok(lv.to_string())
            }
            Ok(None) => {
                self.catalog.forget_adoption(id).await?;
                Err(ManagerError::FailedPrecondition(format!(
                    "pool {} does not have volume {id} any more: there is nothing to let go; delete the volume",
                    row.pool
                )))
            }
            Err(error) => {
                let error = ManagerError::from(error);
                if !may_go_on(&error) {
                    self.settle_release(&driver, id).await;
                }
                Err(error)
            }
        }
    }

    /// Refuses to let a volume go that something is under way with, or that something depends on.
    async fn check_released(&self, row: &VolumeRow) -> Result<(), ManagerError> {
        let id = &row.id;
        let refused = |why: String| Err(ManagerError::FailedPrecondition(why));
        let pool = self.config.pools.iter().find(|p| p.name() == row.pool);
        if pool.is_some_and(crate::config::PoolConfig::is_remote) {
            return refused(format!(
                "volume {id} lies on another node, which alone can let it go"
            ));
        }
        let attachment = self.catalog.attachment(AttachmentKind::Volume, id.as_str());
        if row.status == VolumeStatus::InUse || attachment.await?.is_some() {
            return refused(format!("volume {id} is attached: detach it first"));
        }
        if row.status != VolumeStatus::Available {
            return refused(format!("volume {id} is {}, not available", row.status));
        }
        let is_under_way =
            |status| matches!(status, BackupStatus::Creating | BackupStatus::Cancelling);
        let backups = self.catalog.backups().await?;
        if let Some(backup) = backups
            .iter()
            .find(|b| b.volume_id == *id && is_under_way(b.status))
        {
            return refused(format!(
                "backup {} of volume {id} is under way: wait for it, or cancel it",
                backup.id
            ));
        }
        let snapshots = self.catalog.snapshots().await?;
        let mut held = snapshots.iter().filter(|s| s.volume_id == *id).filter(|s| {
            matches!(s.local, CopyState::Present | CopyState::Pending)
                || s.cloud == CopyState::Pending
        });
        if let Some(snapshot) = held.next() {
            return refused(format!(
                "volume {id} has snapshot {} on this node{}: delete its local copy first; copies in the cloud stay",
                snapshot.id,
                match held.count() {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                }
            ));
        }
        Ok(())
    }

    /// After a release that failed, now or before a crash: the volume is ours with the name of ours, or gone.
    async fn settle_release(&self, driver: &Arc<dyn VolumeDriver>, id: &VolumeId) {
        let settled = async {
            if driver.volume(id).await?.is_none() {
                tracing::info!(volume_id = %id, "a volume was let go after all");
                return Ok(self.catalog.end_release(id).await?);
            }
            if let Some(lv) = self.own_name(id).await? {
                let name = self.catalog.volume(id).await?.map(|row| row.name);
                let name = name.unwrap_or_else(|| id.to_string());
                driver.adopt_volume(id, &lv, &name).await?;
            }
            tracing::warn!(volume_id = %id, "a volume was not let go, and stays");
            Ok::<_, ManagerError>(self.catalog.forget_adoption(id).await?)
        };
        if let Err(error) = settled.await {
            tracing::error!(volume_id = %id, error = chain(&error), "whether a volume was let go cannot be told now; the next try or start looks again");
        }
    }

    /// The name that the volume has, or had, in LVM: only its id is looked for.
    async fn own_name(&self, id: &VolumeId) -> Result<Option<LvName>, ManagerError> {
        let row = self.catalog.volume(id).await?;
        let pool = row.and_then(|row| {
            let mut pools = self.config.pools.iter();
            pools.find(|pool| pool.name() == row.pool)
        });
        let Some(vg) = pool.and_then(crate::config::PoolConfig::volume_group) else {
            return Ok(None);
        };
        Ok(Some(LvName::new(vg, id.as_str())?))
    }

    /// At start: each adoption or release that is on record is finished if the storage did it, and forgotten otherwise.
    pub(crate) async fn recover_adoptions(&self) -> Result<(), ManagerError> {
        for adoption in self.catalog.adoptions().await? {
            let id = adoption.volume_id.clone();
            if let Err(error) = self.recover_adoption(adoption).await {
                tracing::error!(volume_id = %id, error = chain(&error), "an adoption or release that was broken off resists; the next start tries again");
            }
        }
        Ok(())
    }

    async fn recover_adoption(&self, adoption: Adoption) -> Result<(), ManagerError> {
        let (id, driver) = (
            adoption.volume_id.clone(),
            self.driver(&adoption.pool)?.clone(),
        );
        if adoption.way == Way::Release {
            self.settle_release(&driver, &id).await;
            return Ok(());
        }
        if driver.volume(&id).await?.is_none() {
            tracing::warn!(volume_id = %id, source = adoption.source, "an adoption was broken off before anything was done");
            return Ok(self.catalog.forget_adoption(&id).await?);
        }
        let lv: LvName = adoption.source.parse()?;
        let info = driver.adopt_volume(&id, &lv, &adoption.name).await?;
        let row = self.adopted(adoption, &info).await?;
        tracing::warn!(volume_id = %row.id, %lv, "an adoption that was broken off is finished");
        Ok(())
    }
}

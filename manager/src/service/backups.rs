//! The calls about backups.

use std::sync::Arc;

use stockpot_proto::stockpot::v1::{self as api, backups_server::Backups};
use tonic::{Request, Response};
use tracing::{Instrument, info_span};

use super::{Answer, Service, watch};
use crate::{Manager, ManagerError};

#[tonic::async_trait]
impl Backups for Service {
    async fn create_backup(
        &self,
        request: Request<api::CreateBackupRequest>,
    ) -> Answer<api::Backup> {
        let request = request.into_inner();
        let span = info_span!(
            "create_backup",
            name = request.name,
            volume = request.volume
        );
        let manager = self.manager()?;
        let work = manager.clone().create_backup(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_backup(&row).await?))
    }

    async fn get_backup(&self, request: Request<api::GetBackupRequest>) -> Answer<api::Backup> {
        let manager = self.manager()?;
        let (backup, _) = backup_now(&manager, &request.into_inner().backup_id).await?;
        Ok(Response::new(backup))
    }

    async fn list_backups(
        &self,
        request: Request<api::ListBackupsRequest>,
    ) -> Answer<api::ListBackupsResponse> {
        let (manager, request) = (self.manager()?, request.into_inner());
        let times = match request.volume.as_str() {
            "" => None,
            volume => manager.freeze_times(volume).await?,
        };
        let page = manager.list_backups(request).await?;
        Ok(Response::new(api::ListBackupsResponse {
            backups: page.entries,
            next_token: page.next_token,
            freeze_times: times.map(|times| api::FreezeTimes {
                count: times.count,
                median_us: times.median_us,
                worst_us: times.worst_us,
            }),
        }))
    }

    type WatchBackupStream = watch::Changes<api::Backup>;

    async fn watch_backup(
        &self,
        request: Request<api::GetBackupRequest>,
    ) -> Answer<Self::WatchBackupStream> {
        let manager = self.manager()?;
        let id = request.into_inner().backup_id;
        let look = move |manager: Arc<Manager>| {
            let id = id.clone();
            async move { backup_now(&manager, &id).await }
        };
        Ok(Response::new(watch::stream(manager, look)))
    }

    async fn cancel_backup(&self, request: Request<api::GetBackupRequest>) -> Answer<api::Backup> {
        let id = request.into_inner().backup_id;
        let span = info_span!("cancel_backup", backup_id = id);
        let manager = self.manager()?;
        let work = manager.clone().cancel_backup(id);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_backup(&row).await?))
    }

    async fn pause_backup(&self, request: Request<api::GetBackupRequest>) -> Answer<api::Backup> {
        let id = request.into_inner().backup_id;
        let span = info_span!("pause_backup", backup_id = id);
        let manager = self.manager()?;
        let work = manager.clone().pause_backup(id);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_backup(&row).await?))
    }

    async fn resume_backup(&self, request: Request<api::GetBackupRequest>) -> Answer<api::Backup> {
        let id = request.into_inner().backup_id;
        let span = info_span!("resume_backup", backup_id = id);
        let manager = self.manager()?;
        let work = manager.clone().resume_backup(id);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_backup(&row).await?))
    }

    async fn delete_backup(
        &self,
        request: Request<api::GetBackupRequest>,
    ) -> Answer<api::DeleteBackupResponse> {
        let id = request.into_inner().backup_id;
        let span = info_span!("delete_backup", backup_id = id);
        let manager = self.manager()?;
        let work = manager.clone().delete_backup(id);
        manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(api::DeleteBackupResponse {}))
    }

    async fn import_backup(
        &self,
        request: Request<api::ImportBackupRequest>,
    ) -> Answer<api::Backup> {
        let request = request.into_inner();
        let span = info_span!(
            "import_backup",
            backup_id = request.backup_id,
            snapshot_id = request.snapshot_id
        );
        let manager = self.manager()?;
        let work = manager.clone().import_backup(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_backup(&row).await?))
    }

    async fn update_backup(
        &self,
        request: Request<api::UpdateBackupRequest>,
    ) -> Answer<api::Backup> {
        let request = request.into_inner();
        let span = info_span!("update_backup", backup_id = request.backup_id);
        let manager = self.manager()?;
        let work = manager.clone().update_backup(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_backup(&row).await?))
    }
}

/// A backup, and whether it stays like that.
async fn backup_now(manager: &Manager, id: &str) -> Result<(api::Backup, bool), ManagerError> {
    let row = manager.backup_row(id).await?;
    Ok((manager.describe_backup(&row).await?, row.is_final()))
}

//! The calls of the `Volumes` service.

use stockpot_proto::stockpot::v1::{self as api, volumes_server::Volumes as Calls};
use tonic::{Request, Response};
use tracing::{Instrument, info_span};

use super::{Answer, Service};

#[tonic::async_trait]
impl Calls for Service {
    async fn adopt_volume(&self, request: Request<api::AdoptVolumeRequest>) -> Answer<api::Volume> {
        let request = request.into_inner();
        let span = info_span!("adopt_volume", source = request.source);
        let manager = self.manager()?;
        let work = manager.clone().adopt_volume(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_volume(&row)))
    }

    async fn release_volume(
        &self,
        request: Request<api::ReleaseVolumeRequest>,
    ) -> Answer<api::ReleaseVolumeResponse> {
        let request = request.into_inner();
        let span = info_span!("release_volume", volume_id = request.volume_id);
        let manager = self.manager()?;
        let work = manager.clone().release_volume(request);
        let released = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(api::ReleaseVolumeResponse { released }))
    }

    async fn restore_volume(
        &self,
        request: Request<api::RestoreVolumeRequest>,
    ) -> Answer<api::Volume> {
        let request = request.into_inner();
        let span = info_span!("restore_volume", volume_id = request.volume_id);
        let manager = self.manager()?;
        let work = manager.clone().restore_volume(request);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_volume(&row)))
    }

    async fn cancel_restore(&self, request: Request<api::GetVolumeRequest>) -> Answer<api::Volume> {
        let id = request.into_inner().volume_id;
        let span = info_span!("cancel_restore", volume_id = id);
        let manager = self.manager()?;
        let work = manager.clone().cancel_restore(id);
        let row = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(manager.describe_volume(&row)))
    }
}

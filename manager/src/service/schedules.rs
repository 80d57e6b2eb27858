//! The calls about schedules.

use stockpot_proto::stockpot::v1::{self as api, schedules_server::Schedules};
use tonic::{Request, Response};
use tracing::{Instrument, info_span};

use super::{Answer, Service};

#[tonic::async_trait]
impl Schedules for Service {
    async fn create_schedule(&self, request: Request<api::Schedule>) -> Answer<api::Schedule> {
        let request = request.into_inner();
        let span = info_span!("create_schedule", name = request.name);
        let manager = self.manager()?;
        let work = manager.clone().create_schedule(request);
        let row = work.instrument(span).await?;
        Ok(Response::new(manager.show_schedule(&row.name, None).await?))
    }

    async fn get_schedule(
        &self,
        request: Request<api::GetScheduleRequest>,
    ) -> Answer<api::Schedule> {
        let manager = self.manager()?;
        let api::GetScheduleRequest { name, run_id } = request.into_inner();
        let run_id = (run_id != 0).then_some(run_id);
        Ok(Response::new(manager.show_schedule(&name, run_id).await?))
    }

    async fn list_schedules(
        &self,
        _: Request<api::ListSchedulesRequest>,
    ) -> Answer<api::ListSchedulesResponse> {
        let manager = self.manager()?;
        let schedules = manager.show_schedules().await?;
        Ok(Response::new(api::ListSchedulesResponse { schedules }))
    }

    async fn update_schedule(&self, request: Request<api::Schedule>) -> Answer<api::Schedule> {
        let request = request.into_inner();
        let span = info_span!("update_schedule", name = request.name);
        let manager = self.manager()?;
        let work = manager.clone().update_schedule(request);
        let row = work.instrument(span).await?;
        Ok(Response::new(manager.show_schedule(&row.name, None).await?))
    }

    async fn delete_schedule(
        &self,
        request: Request<api::GetScheduleRequest>,
    ) -> Answer<api::DeleteScheduleResponse> {
        let manager = self.manager()?;
        manager.delete_schedule(&request.into_inner().name).await?;
        Ok(Response::new(api::DeleteScheduleResponse {}))
    }

    async fn run_schedule(
        &self,
        request: Request<api::GetScheduleRequest>,
    ) -> Answer<api::Schedule> {
        let manager = self.manager()?;
        let name = request.into_inner().name;
        let run_id = manager.run_schedule(&name).await?;
        let shown = manager.show_schedule(&name, Some(run_id)).await?;
        Ok(Response::new(shown))
    }

    async fn apply_retention(
        &self,
        request: Request<api::ApplyRetentionRequest>,
    ) -> Answer<api::ApplyRetentionResponse> {
        let request = request.into_inner();
        let span = info_span!("apply_retention", schedule = request.schedule);
        let manager = self.manager()?;
        let work = manager.clone().apply_retention(request);
        let items = manager.to_the_end(work).instrument(span).await?;
        Ok(Response::new(api::ApplyRetentionResponse { items }))
    }
}

//! The calls of the `CatalogService` service.

use stockpot_proto::stockpot::v1::{self as api, catalog_service_server::CatalogService as Calls};
use tonic::{Request, Response};
use tracing::{Instrument, info_span};

use super::{Answer, Service};

#[tonic::async_trait]
impl Calls for Service {
    async fn check_catalog(
        &self,
        request: Request<api::CheckCatalogRequest>,
    ) -> Answer<api::CheckCatalogResponse> {
        let local_only = request.into_inner().local_only;
        let manager = self.manager()?;
        let check = manager.check_catalog(local_only);
        let checked = check.instrument(info_span!("check_catalog")).await?;
        Ok(Response::new(checked))
    }
}

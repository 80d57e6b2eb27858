//! The calls about profiles.

use stockpot_proto::stockpot::v1::{self as api, profiles_server::Profiles as Calls};
use tonic::Request;
use tracing::{Instrument, info_span};

use super::{Answer, Service};
use crate::{
    ManagerError,
    profile::{ProfileText, Topology},
};

#[tonic::async_trait]
impl Calls for Service {
    async fn create_profile(
        &self,
        request: Request<api::WriteProfileRequest>,
    ) -> Answer<api::ProfileDocument> {
        let request = request.into_inner();
        let manager = self.manager()?;
        if !request.profile.is_empty() {
            let problem = "profile: is for updates; a new profile's name stands in the document";
            return Err(ManagerError::InvalidArgument(problem.to_owned()).into());
        }
        let work = async move { manager.create_profile(request.document).await };
        let span = info_span!("create_profile");
        let made = self.0.to_the_end(work).instrument(span).await?;
        Ok(document(&made).into())
    }

    async fn get_profile(
        &self,
        request: Request<api::GetProfileRequest>,
    ) -> Answer<api::ProfileDocument> {
        let manager = self.manager()?;
        let found = manager.profile_text(request.into_inner().profile).await?;
        Ok(document(&found).into())
    }

    async fn list_profile_documents(
        &self,
        _: Request<api::ListProfilesRequest>,
    ) -> Answer<api::ListProfileDocumentsResponse> {
        let manager = self.manager()?;
        let texts = manager.profile_texts().await?;
        let profiles = texts.iter().map(document).collect();
        Ok(api::ListProfileDocumentsResponse { profiles }.into())
    }

    async fn update_profile(
        &self,
        request: Request<api::WriteProfileRequest>,
    ) -> Answer<api::ProfileDocument> {
        let request = request.into_inner();
        let manager = self.manager()?;
        let span = info_span!("update_profile", profile = request.profile);
        let work = async move {
            let (which, replaces) = (request.profile, request.replaces);
            let changed = manager.update_profile(which, request.document, &replaces);
            changed.await
        };
        let changed = self.0.to_the_end(work).instrument(span).await?;
        Ok(document(&changed).into())
    }

    async fn delete_profile(
        &self,
        request: Request<api::DeleteProfileRequest>,
    ) -> Answer<api::DeleteProfileResponse> {
        let request = request.into_inner();
        let manager = self.manager()?;
        let span = info_span!("delete_profile", profile = request.profile);
        let work = async move { manager.delete_profile(request.profile, request.force).await };
        self.0.to_the_end(work).instrument(span).await?;
        Ok(api::DeleteProfileResponse {}.into())
    }
}

fn document(text: &ProfileText) -> api::ProfileDocument {
    api::ProfileDocument {
        id: text.id.clone(),
        name: text.profile.name.clone(),
        document: text.document(),
        location: text
            .profile
            .topology()
            .map(Topology::location)
            .unwrap_or_default(),
    }
}

//! The calls about profiles.

use std::collections::BTreeSet;

use serde_json::Value;
use stockpot_driver::SnapshotId;
use stockpot_proto::stockpot::v1::{self as api, profiles_server::Profiles as Calls};
use tonic::Request;
use tracing::{Instrument, info_span};

use super::{Answer, Service};
use crate::{
    Manager, ManagerError,
    catalog::{BackupStatus, CopyState},
    ids,
    profile::{Profile, ProfileError, ProfileText},
    schedules::spec::{self, Spec},
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
        let work = async move {
            let made = manager
                .clouds
                .read(move |profiles| profiles.create(&request.document));
            let made = made.await?;
            tracing::info!(
                profile = made.profile.name,
                id = made.id,
                "a profile is there"
            );
            // It may say when.
            manager.notify();
            Ok(document(&made))
        };
        let span = info_span!("create_profile");
        let made = self.0.to_the_end(work).instrument(span).await?;
        Ok(made.into())
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
        let texts = manager.clouds.read(crate::profile::Profiles::texts).await?;
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
        let work = async move { manager.update_profile(request).await };
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
        let work = async move { manager.delete_profile(request).await };
        self.0.to_the_end(work).instrument(span).await?;
        Ok(api::DeleteProfileResponse {}.into())
    }
}

impl Manager {
    async fn profile_text(&self, which: String) -> Result<ProfileText, ManagerError> {
        let name = which.clone();
        let found = self
            .clouds
            .read(move |profiles| profiles.text(&which))
            .await?;
        found.ok_or_else(|| ManagerError::NotFound(format!("profile {name}")))
    }

    async fn update_profile(
        &self,
        request: api::WriteProfileRequest,
    ) -> Result<ProfileText, ManagerError> {
        let (which, content) = (request.profile.clone(), request.document);
        let planned = self
            .clouds
            .read(move |profiles| profiles.plan(&which, &content));
        let Some(change) = planned.await? else {
            return Err(ManagerError::NotFound(format!(
                "profile {}",
                request.profile
            )));
        };
        if !request.replaces.is_empty() && request.replaces != document(&change.before).document {
            let name = change.before.profile.name;
            return Err(ProfileError::Changed { name }.into());
        }
        let (before, after) = (&change.before.profile, &change.after.profile);
        // What goes on under that name has to find its repository.
        if before.name != after.name || place(before) != place(after) {
            let doing = "get another name or place";
            self.refuse_while_needed(&before.name, doing).await?;
            self.refuse_while_scheduled(&before.name, doing).await?;
        }
        let changed = self
            .clouds
            .read(move |profiles| profiles.carry_out(change))
            .await?;
        tracing::info!(
            profile = changed.profile.name,
            id = changed.id,
            "a profile was changed"
        );
        self.notify();
        Ok(changed)
    }

    async fn delete_profile(&self, request: api::DeleteProfileRequest) -> Result<(), ManagerError> {
        let which = request.profile;
        let found = self
            .clouds
            .read(move |profiles| profiles.text(&which))
            .await?;
        let Some(found) = found else {
            return Ok(());
        };
        let name = found.profile.name.clone();
        self.refuse_while_needed(&name, "be deleted").await?;
        self.refuse_while_scheduled(&name, "be deleted").await?;
        if !request.force {
            self.refuse_while_it_alone_leads(&found.profile).await?;
        }
        self.clouds
            .read(move |profiles| profiles.remove(&found))
            .await?;
        // A file that is only away for a moment keeps its schedule; this one was let go.
        let left = self.clouds.all_profiles().await?;
        if !left.iter().any(|profile| profile.name == name) {
            let schedule = spec::name_of_profile(&name);
            self.catalog.remove_schedule(&schedule).await?;
        }
        tracing::info!(profile = name, "a profile was deleted");
        self.notify();
        Ok(())
    }

    /// Refuses what would take a profile away from those who go on with it.
    async fn refuse_while_needed(&self, name: &str, doing: &str) -> Result<(), ManagerError> {
        let refused = |who: String| {
            Err(ManagerError::FailedPrecondition(format!(
                "profile {name} cannot {doing}: {who} needs it"
            )))
        };
        let snapshots = self.catalog.snapshots().await?;
        let uploading = snapshots.iter().find(|row| {
            row.profile == name && (row.cloud == CopyState::Pending || row.deleting.is_some())
        });
        if let Some(row) = uploading {
            return refused(format!("snapshot {}, whose upload has not ended,", row.id));
        }
        let backups = self.catalog.backups().await?;
        let needing: BTreeSet<&str> = backups
            .iter()
            .filter(|row| row.profile == name && !row.is_final())
            .map(|row| row.id.as_str())
            .collect();
        match needing.first() {
            Some(id) => refused(format!("backup {id}, which has not ended,")),
            None => Ok(()),
        }
    }

    /// Refuses what would leave cloud copies on record where no profile leads any more.
    async fn refuse_while_it_alone_leads(&self, profile: &Profile) -> Result<(), ManagerError> {
        let known = self.catalog.repositories().await?;
        let leads = |profile: &Profile| place(profile).and_then(|place| known.get(&place));
        let mut reached = BTreeSet::new();
        for other in self.clouds.all_profiles().await? {
            if other.name != profile.name {
                reached.extend(leads(&other));
            }
        }
        let own = leads(profile);
        let is_lost = |id: &SnapshotId, sent_with: &str| {
            let Some(lies_in) = ids::repository_of(id).map(str::to_owned) else {
                return false;
            };
            // Where nobody has looked what it leads to, it leads to what was sent with it.
            let is_its = own.map_or(sent_with == profile.name, |own| *own == lies_in);
            is_its && !reached.contains(&lies_in)
        };
        let snapshots = self.catalog.snapshots().await?;
        let mut lost: BTreeSet<&str> = snapshots
            .iter()
            .filter(|row| row.cloud == CopyState::Present && is_lost(&row.id, &row.profile))
            .map(|row| row.id.as_str())
            .collect();
        // One that was imported has no other row.
        let backups = self.catalog.backups().await?;
        let available = backups
            .iter()
            .filter(|row| row.status == BackupStatus::Available)
            .filter(|row| is_lost(&row.snapshot_id, &row.profile));
        lost.extend(available.map(|row| row.snapshot_id.as_str()));
        match lost.len() {
            0 => Ok(()),
            count => Err(ManagerError::FailedPrecondition(format!(
                "profile {} cannot be deleted: {count} cloud cop{} on record {} where no other profile leads, and without one nobody could \
                 restore or delete {}. Delete what is not needed, let another profile lead there, or force it",
                profile.name,
                if count == 1 { "y" } else { "ies" },
                if count == 1 { "lies" } else { "lie" },
                if count == 1 { "it" } else { "them" },
            ))),
        }
    }

    /// Refuses what would leave a schedule without its profile; the one that the profile itself says goes with it.
    async fn refuse_while_scheduled(&self, name: &str, doing: &str) -> Result<(), ManagerError> {
        for row in self.catalog.schedules().await? {
            let spec = Spec::of_json(&row.spec)?;
            if spec.profile == name && !spec.of_profile {
                return Err(ManagerError::FailedPrecondition(format!(
                    "profile {name} cannot {doing}: schedule {} needs it; delete that, or let it name another profile",
                    row.name
                )));
            }
        }
        Ok(())
    }
}

fn place(profile: &Profile) -> Option<String> {
    profile.topology().ok().map(crate::profile::Topology::place)
}

fn document(text: &ProfileText) -> api::ProfileDocument {
    api::ProfileDocument {
        id: text.id.clone(),
        name: text.profile.name.clone(),
        document: Value::Object(text.fields.clone()).to_string(),
        location: text
            .profile
            .topology()
            .map(crate::profile::Topology::location)
            .unwrap_or_default(),
    }
}

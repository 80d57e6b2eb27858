//! Profiles made, changed and deleted by calls: the files are [`Profiles`]' part, who goes on with a profile is asked here.

mod needed;

use crate::{
    Manager, ManagerError,
    profile::{Profile, ProfileError, ProfileText, Profiles, Topology},
    schedules::spec,
};

impl Manager {
    /// Makes a profile of a document.
    pub(crate) async fn create_profile(
        &self,
        document: String,
    ) -> Result<ProfileText, ManagerError> {
        let made = self
            .clouds
            .read(move |profiles| profiles.create(&document))
            .await?;
        tracing::info!(
            profile = made.profile.name,
            id = made.id,
            "a profile is there"
        );
        // It may say when.
        self.notify();
        Ok(made)
    }

    /// Every profile that can be read, by name.
    pub(crate) async fn profile_texts(&self) -> Result<Vec<ProfileText>, ManagerError> {
        self.clouds.read(Profiles::texts).await
    }

    /// The profile of an id or a name.
    pub(crate) async fn profile_text(&self, which: String) -> Result<ProfileText, ManagerError> {
        let name = which.clone();
        let found = self
            .clouds
            .read(move |profiles| profiles.text(&which))
            .await?;
        found.ok_or_else(|| ManagerError::NotFound(format!("profile {name}")))
    }

    /// Gives a profile another document. `replaces` is the one that the caller read; empty: whatever is there.
    pub(crate) async fn update_profile(
        &self,
        which: String,
        document: String,
        replaces: &str,
    ) -> Result<ProfileText, ManagerError> {
        let name = which.clone();
        let planned = self
            .clouds
            .read(move |profiles| profiles.plan(&which, &document));
        let Some(change) = planned.await? else {
            return Err(ManagerError::NotFound(format!("profile {name}")));
        };
        if !replaces.is_empty() && replaces != change.before.document() {
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

    /// Deletes a profile; one that is not there is success. With `force` also where it alone leads to cloud copies.
    pub(crate) async fn delete_profile(
        &self,
        which: String,
        force: bool,
    ) -> Result<(), ManagerError> {
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
        if !force {
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
}

/// Where a profile leads; `None` for one without a repository.
fn place(profile: &Profile) -> Option<String> {
    profile.topology().ok().map(Topology::place)
}

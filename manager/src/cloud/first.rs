//! A repository as it was first written: for restores, after somebody deleted or overwrote what is in it.
//!
//! Nothing of this is kept open: whoever is robbed wants to see the bucket as it is now.

use std::sync::Arc;

use stockpot_repository::{Repository, RepositoryError, store::StoreError};

use super::{Clouds, is_same, secrets, two_show, within};
use crate::{
    ManagerError,
    profile::{Profile, Topology},
};

impl Clouds {
    /// The repository that a short id names, seen through whatever was put or deleted on top of it; `None` where no
    /// profile's bucket has it, or keeps versions. Where the place of the profile that a copy was sent with is on record
    /// as that repository, no other is asked.
    ///
    /// # Errors
    /// The first failure, if a bucket could not be asked and none of the others has it; `FailedPrecondition` where two show
    /// the short id and are not the same.
    pub(crate) async fn first_versions(
        &self,
        short_id: &str,
        sent_with: Option<&str>,
    ) -> Result<Option<Repository>, ManagerError> {
        let known = self.catalog.repositories().await?;
        let is_named = |profile: &Arc<Profile>| {
            let place = profile.topology().map(Topology::place);
            place.is_ok_and(|place| known.get(&place).is_some_and(|id| id == short_id))
        };
        let mut profiles = self.all_profiles().await?;
        // What is on record first; the others too, since a place may have been made anew over what was deleted.
        profiles.sort_by_key(|profile| !is_named(profile));
        let own = |profile: &Arc<Profile>| sent_with == Some(&*profile.name) && is_named(profile);
        let place_of = |profile: &Arc<Profile>| profile.topology().map(Topology::place).ok();
        if let Some(place) = profiles
            .iter()
            .find(|profile| own(profile))
            .and_then(place_of)
        {
            profiles.retain(|profile| place_of(profile).is_some_and(|other| other == place));
        }
        let mut failure = None;
        let mut found: Option<(Arc<Profile>, Repository)> = None;
        for profile in profiles {
            let Ok(topology) = profile.topology() else {
                continue;
            };
            let opening = async {
                let key = secrets::key(topology.key.as_ref()).await?;
                let store = self.stores.open(topology).await?;
                Ok(Repository::open_first(store, key).await?)
            };
            match within(&topology.location(), self.answer_within, opening).await {
                Ok(repository) if repository.short_id() == short_id => match &found {
                    Some((first, other)) if !is_same(other, &repository) => {
                        return Err(two_show(short_id, first, &profile));
                    }
                    Some(_) => {}
                    None => found = Some((profile, repository)),
                },
                Ok(_)
                | Err(ManagerError::Repository(
                    RepositoryError::NoVersions { .. }
                    | RepositoryError::NoRepository { .. }
                    | RepositoryError::Store(StoreError::Unsupported { .. }),
                )) => {}
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match (found, failure) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found.map(|(_, repository)| repository)),
        }
    }
}

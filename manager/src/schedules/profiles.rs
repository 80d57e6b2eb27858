//! The schedules that profiles say: rows like any other, kept as the profiles are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::spec::{Spec, name_of_profile, profile_of_name};
use crate::{
    Manager, ManagerError,
    catalog::ScheduleRow,
    error::chain,
    profile::{Profile, ProfileError},
};

impl Manager {
    /// Brings the rows up to date with the profiles, and tells which of them cannot run now. What only cannot be read is
    /// not forgotten: somebody may be editing it.
    pub(super) async fn follow_profiles(
        &self,
        now: Timestamp,
    ) -> Result<BTreeSet<String>, ManagerError> {
        let rows = self.catalog.schedules().await?;
        let mut left: BTreeMap<String, ScheduleRow> = rows
            .into_iter()
            .filter(|row| profile_of_name(&row.name).is_some())
            .map(|row| (row.name.clone(), row))
            .collect();
        let profiles = match self.clouds.all_profiles().await {
            Ok(profiles) => profiles,
            Err(error) => {
                tracing::error!(error = chain(&error), "profiles cannot be listed");
                return Ok(left.into_keys().collect());
            }
        };
        let mut idle = BTreeSet::new();
        for profile in &profiles {
            let twice = profiles.iter().filter(|other| other.name == profile.name);
            let Some(spec) = Spec::of_profile(profile).filter(|_| twice.count() == 1) else {
                continue;
            };
            let name = name_of_profile(&profile.name);
            let row = left.remove(&name);
            if !self.follow_profile(profile, &spec, row, now).await? {
                idle.insert(name);
            }
        }
        for (name, row) in left {
            self.follow_missing(row).await?;
            idle.insert(name);
        }
        Ok(idle)
    }

    /// Whether its schedule can run.
    async fn follow_profile(
        &self,
        profile: &Profile,
        spec: &Spec,
        row: Option<ScheduleRow>,
        now: Timestamp,
    ) -> Result<bool, ManagerError> {
        let error = match (profile.topology(), spec.times()) {
            (Err(error), _) => Some(error.to_string()),
            (_, Err(error)) => Some(error.to_string()),
            _ => None,
        };
        let can_run = error.is_none();
        let Some(before) = row else {
            let row = ScheduleRow {
                name: name_of_profile(&profile.name),
                spec: spec.to_json(),
                paused: false,
                seen_us: now.as_microsecond(),
                error,
                created_at_us: now.as_microsecond(),
            };
            self.catalog.insert_schedule(row).await?;
            return Ok(can_run);
        };
        let is_same_time = Spec::of_json(&before.spec).is_ok_and(|old| !old.differs_in_time(spec));
        let after = ScheduleRow {
            spec: spec.to_json(),
            // Times that it did not say before were not missed.
            seen_us: match is_same_time {
                true => before.seen_us,
                false => now.as_microsecond(),
            },
            error,
            ..before.clone()
        };
        if after != before {
            self.catalog.update_schedule(before, after).await?;
        }
        Ok(can_run)
    }

    /// A profile that is gone, or says no time any more, has no schedule.
    async fn follow_missing(&self, row: ScheduleRow) -> Result<(), ManagerError> {
        let profile = profile_of_name(&row.name).unwrap_or_default();
        let error = match self.clouds.profile(profile).await {
            // Written a moment ago: the next look finds it.
            Ok(found) if Spec::of_profile(&found).is_some() => return Ok(()),
            Ok(_) | Err(ManagerError::Profile(ProfileError::Unknown { unreadable: 0, .. })) => {
                tracing::info!(schedule = row.name, "the profile says no time any more");
                return Ok(self.catalog.remove_schedule(&row.name).await?);
            }
            Err(error) => chain(&error),
        };
        if row.error.as_ref() != Some(&error) {
            let after = ScheduleRow {
                error: Some(error),
                ..row.clone()
            };
            self.catalog.update_schedule(row, after).await?;
        }
        Ok(())
    }
}

//! The schedules that profiles say: rows like any other, kept as the profiles are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use jiff::{SignedDuration, Timestamp};

use super::spec::{Spec, name_of_profile, profile_of_name};
use crate::{
    Manager, ManagerError,
    catalog::ScheduleRow,
    error::chain,
    profile::{Profile, ProfileError},
};

/// How long the schedule of a profile that is gone stays. An editor, or whoever brings the files, may have taken it away for a
/// moment, and a schedule that was made anew would not know the backups before it as its own.
const MISSED_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

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
        self.missing_since(|missing| missing.retain(|name, _| left.contains_key(name)));
        for (name, row) in left {
            self.follow_missing(row, now).await?;
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

    /// A profile that says no time any more has no schedule, and one that has been gone for long neither.
    async fn follow_missing(&self, row: ScheduleRow, now: Timestamp) -> Result<(), ManagerError> {
        let profile = profile_of_name(&row.name).unwrap_or_default();
        let error = match self.clouds.profile(profile).await {
            Ok(found) if Spec::of_profile(&found).is_none() => {
                tracing::info!(schedule = row.name, "the profile says no time any more");
                return Ok(self.catalog.remove_schedule(&row.name).await?);
            }
            // Written a moment ago: the next look finds it.
            Ok(_) => return Ok(()),
            Err(error) if is_gone(&error) => {
                // Since this process knows of it: a start begins to count again.
                let name = row.name.clone();
                let since = self.missing_since(|missing| *missing.entry(name).or_insert(now));
                if now.duration_since(since) >= MISSED_FOR {
                    tracing::warn!(
                        schedule = row.name,
                        "the profile has been gone for days: its schedule is forgotten, its backups stay"
                    );
                    return Ok(self.catalog.remove_schedule(&row.name).await?);
                }
                format!(
                    "profile {profile:?} is gone: its schedule rests, and is forgotten when it has been gone for {} days; to forget it \
                     now, delete the schedule",
                    MISSED_FOR.as_hours() / 24
                )
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

    /// Does something with the times since when profiles are missing.
    fn missing_since<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Timestamp>) -> T) -> T {
        let missing = self.schedules.missing.lock();
        work(&mut missing.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether there is no such profile, and no file that may be it.
pub(super) fn is_gone(error: &ManagerError) -> bool {
    let is_unknown =
        |error: &ProfileError| matches!(error, ProfileError::Unknown { unreadable: 0, .. });
    matches!(error, ManagerError::Profile(error) if is_unknown(error))
}

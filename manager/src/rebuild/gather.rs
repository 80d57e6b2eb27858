//! What pools and buckets know.

use std::collections::BTreeMap;

use stockpot_driver::Remembered;
use stockpot_repository::{
    Repository,
    format::manifest::Manifest,
    snapshots::{SnapshotSummary, Status},
};

use crate::{
    ManagerError, Parts,
    cloud::{self, Clouds},
    config::Config,
    error::chain,
    profile::Profile,
};

/// A cloud copy that is committed.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) manifest: Manifest,
    pub(super) location: String,
    /// The profile by which it is reached.
    pub(super) profile: String,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// What the pools remember, by their names.
    pub(super) pools: BTreeMap<String, Remembered>,
    /// Cloud copies, by the snapshot's id.
    pub(super) copies: BTreeMap<String, Copy>,
    /// What was left out, and what cannot be read.
    pub(super) remarks: Vec<String>,
}

impl Gathered {
    pub(super) async fn ask(
        config: &Config,
        parts: &Parts,
        clouds: &Clouds,
        skip_unreachable: bool,
    ) -> Result<Self, ManagerError> {
        let mut gathered = Self::default();
        for (pool, driver) in &parts.pools {
            match driver.remember().await {
                Ok(remembered) => {
                    gathered.pools.insert(pool.clone(), remembered);
                }
                Err(error) if skip_unreachable => gathered.remarks.push(format!(
                    "pool {pool} was left out, which cannot be asked: {}; volumes in it are on no record",
                    chain(&error)
                )),
                Err(error) => {
                    return Err(ManagerError::FailedPrecondition(format!(
                        "pool {pool} cannot be asked: {}; bring it back, or leave it out with --skip-unreachable: volumes in it are \
                         on no record then",
                        chain(&error)
                    )));
                }
            }
        }
        gathered
            .ask_buckets(config, clouds, skip_unreachable)
            .await?;
        Ok(gathered)
    }

    async fn ask_buckets(
        &mut self,
        config: &Config,
        clouds: &Clouds,
        skip_unreachable: bool,
    ) -> Result<(), ManagerError> {
        if !config.profiles_dir.is_dir() {
            self.remarks.push(format!(
                "{} is not there: no bucket was looked at",
                config.profiles_dir.display()
            ));
            return Ok(());
        }
        let all = clouds.all_profiles().await?;
        let mut places = BTreeMap::new();
        for profile in &all {
            if let Ok(topology) = profile.topology() {
                places
                    .entry(topology.place())
                    .or_insert_with(Vec::new)
                    .push(profile.clone());
            }
        }
        for profiles in places.into_values() {
            let names: Vec<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
            match list(clouds, &profiles[0]).await {
                Ok(None) => {}
                Ok(Some((repository, summaries))) => {
                    for summary in summaries {
                        self.take(&repository, summary, &names);
                    }
                }
                Err(error) => {
                    let why = format!(
                        "the repository of profile {} cannot be asked: {}",
                        names[0],
                        chain(&error)
                    );
                    if !skip_unreachable {
                        return Err(ManagerError::FailedPrecondition(format!(
                            "{why}; bring it back, or leave it out with --skip-unreachable: the cloud copies in it are on no record \
                             then, and the next backups read everything"
                        )));
                    }
                    self.remarks
                        .push(format!("{why}; the cloud copies in it are on no record"));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, repository: &Repository, summary: SnapshotSummary, profiles: &[&str]) {
        let id = summary.snapshot_id.to_string();
        match (summary.status, summary.manifest) {
            (Status::Committed, Some(manifest)) => {
                // Of several profiles that lead there, the one that it was asked for with.
                let asked = manifest.metadata.get("profile").map(String::as_str);
                let profile = profiles.iter().find(|name| asked == Some(**name));
                let copy = Copy {
                    location: cloud::location_of(repository, &manifest),
                    profile: (*profile.unwrap_or(&profiles[0])).to_owned(),
                    manifest,
                };
                self.copies.insert(id, copy);
            }
            (Status::Unreadable(why), _) => self.remarks.push(format!(
                "cloud copy {id} in {} cannot be read and is on no record: {why}",
                repository.location()
            )),
            (Status::Uploading, _) => self.remarks.push(format!(
                "an upload of {id} to {} was broken off; `stockpot prune` gives it up after some time",
                repository.location()
            )),
            (Status::Committed | Status::Deleted, _) => {}
        }
    }
}

async fn list(
    clouds: &Clouds,
    profile: &Profile,
) -> Result<Option<(Repository, Vec<SnapshotSummary>)>, ManagerError> {
    let Some(repository) = clouds.for_reading(profile).await? else {
        return Ok(None);
    };
    let listed = clouds.list(profile, &repository).await?;
    Ok(Some((repository, listed)))
}

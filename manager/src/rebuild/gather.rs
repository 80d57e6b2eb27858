//! What pools and buckets know.

use std::collections::{BTreeMap, btree_map::Entry};

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
                self.keep(id, copy);
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

    /// Keeps one copy of each id: two places that show one, and not the same, are for people to decide on.
    fn keep(&mut self, id: String, copy: Copy) {
        match self.copies.entry(id) {
            Entry::Vacant(free) => drop(free.insert(copy)),
            Entry::Occupied(first) if first.get().manifest == copy.manifest => {}
            Entry::Occupied(first) => self.remarks.push(format!(
                "cloud copy {} in {} is not the one in {}, and on no record: take away the profile ({} or {}) that does not \
                 belong here, and rebuild again",
                first.key(),
                copy.location,
                first.get().location,
                first.get().profile,
                copy.profile
            )),
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

#[cfg(test)]
mod tests {
    use stockpot_repository::format::{
        ids,
        manifest::{ChunkCounts, Reason},
    };

    use super::*;

    fn copy(profile: &str, run: u8) -> Copy {
        let manifest = Manifest {
            snapshot_id: ids::SnapshotId::new("snap-1").unwrap(),
            volume_id: ids::VolumeId::new("vol-1").unwrap(),
            volume_name: "v".to_owned(),
            size_bytes: 4096,
            chunk_size_bytes: 65536,
            base: None,
            reason: Reason::Full,
            why: String::new(),
            run: ids::Run([run; 16]),
            cut_at: jiff::Timestamp::UNIX_EPOCH,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            committed_at: jiff::Timestamp::UNIX_EPOCH,
            map: None,
            pack_list: None,
            data_bytes: 0,
            stored_bytes: 0,
            chunks: ChunkCounts {
                total: 1,
                mapped: 0,
                stored: 0,
            },
            metadata: BTreeMap::new(),
            tool: "t".to_owned(),
            requires: Vec::new(),
            lock: None,
        };
        Copy {
            manifest,
            location: format!("s3://{profile}/x"),
            profile: profile.to_owned(),
        }
    }

    #[test]
    fn a_second_copy_of_one_id_is_refused_unless_it_is_the_same() {
        let mut gathered = Gathered::default();
        let id = || "snap-1".to_owned();
        gathered.keep(id(), copy("a", 1));
        gathered.keep(id(), copy("b", 1));
        assert!(gathered.remarks.is_empty(), "{:?}", gathered.remarks);
        gathered.keep(id(), copy("c", 2));
        assert_eq!(gathered.copies["snap-1"].profile, "a");
        let [said] = &gathered.remarks[..] else {
            panic!("{:?}", gathered.remarks)
        };
        assert!(said.contains("(a or c)"), "{said}");
    }
}

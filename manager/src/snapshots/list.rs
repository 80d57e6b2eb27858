//! Listing snapshots: those on record, and those that only a bucket knows. What a bucket says of its copies counts
//! for more than what is on record.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::join_all;
use stockpot_driver::SnapshotId;
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::{
    Repository,
    snapshots::{SnapshotSummary, Status},
};

use crate::{
    Manager, ManagerError,
    catalog::{CopyState, SnapshotRow},
    cloud::{self, Found},
    error::chain,
    ids,
    page::{self, Page},
    profile::{Profile, Topology},
    translate::{self, CloudTruth},
};

/// What the buckets say.
#[derive(Debug, Default)]
struct Seen {
    /// By the short id of the repository: what it holds.
    answered: BTreeMap<String, Held>,
    /// Short ids that several repositories show: what lies where nobody can tell by them.
    ambiguous: BTreeSet<String>,
    /// Which could not be listed, and why.
    warnings: Vec<String>,
}

/// What one repository holds.
#[derive(Debug)]
struct Held {
    profile: Arc<Profile>,
    repository: Repository,
    by_id: BTreeMap<String, Listed>,
}

#[derive(Debug)]
struct Listed {
    summary: SnapshotSummary,
    profile: String,
    location: String,
}

impl Manager {
    /// One page of the snapshots that fit the request, and which buckets could not be listed for it.
    pub(crate) async fn list_snapshots(
        self: Arc<Self>,
        request: api::ListSnapshotsRequest,
    ) -> Result<(Page<api::Snapshot>, Vec<String>), ManagerError> {
        let after = page::parse(&request.starting_token)?;
        let (mut found, warnings) = if request.on_record_only {
            (
                self.snapshots_on_record(&request.snapshot_id).await?,
                Vec::new(),
            )
        } else if request.snapshot_id.is_empty() {
            self.all_snapshots().await?
        } else {
            let found = self.one_snapshot(&request.snapshot_id).await?;
            (found.into_iter().collect(), Vec::new())
        };
        found.retain(|snapshot| {
            request.source_volume_id.is_empty()
                || snapshot.source_volume_id == request.source_volume_id
        });
        found.sort_by(|a, b| a.snapshot_id.cmp(&b.snapshot_id));
        let page = page::cut(found, after, request.max_entries, |snapshot| {
            &snapshot.snapshot_id
        });
        Ok((page, warnings))
    }

    /// Every snapshot on record, or the one of an id.
    async fn snapshots_on_record(&self, id: &str) -> Result<Vec<api::Snapshot>, ManagerError> {
        let mut found = Vec::new();
        for row in self.catalog.snapshots().await? {
            if id.is_empty() || id == row.id.as_str() {
                found.push(self.describe_snapshot(&row, CloudTruth::AsRecorded).await?);
            }
        }
        Ok(found)
    }

    /// One snapshot with the truth of its bucket, by whatever knows it.
    pub(crate) async fn one_snapshot(
        &self,
        id: &str,
    ) -> Result<Option<api::Snapshot>, ManagerError> {
        let Ok(id) = id.parse::<SnapshotId>() else {
            return Ok(None);
        };
        let row = self.catalog.snapshot(&id).await?;
        let Some(row) = row else {
            return self.snapshot_off_record(&id).await;
        };
        let truth = match row.cloud {
            CopyState::Present => self.truth_of(&row).await,
            _ => CloudTruth::AsRecorded,
        };
        Ok(Some(self.describe_snapshot(&row, truth).await?))
    }

    /// A snapshot on record in the words of the interface, with the progress of its upload.
    pub(crate) async fn describe_snapshot(
        &self,
        row: &SnapshotRow,
        truth: CloudTruth,
    ) -> Result<api::Snapshot, ManagerError> {
        let mut snapshot = translate::snapshot(row, truth);
        if row.cloud == CopyState::Pending {
            let kind = crate::catalog::JobKind::Upload;
            let id = row.id.as_str();
            snapshot.progress = self
                .transfers
                .how_far(kind, id)
                .as_ref()
                .map(translate::progress);
            let job = self.catalog.job(kind, id).await?;
            // What the last attempt met, while another one is to follow.
            snapshot.error = job.and_then(|job| job.error).unwrap_or_default();
        }
        Ok(snapshot)
    }

    async fn truth_of(&self, row: &SnapshotRow) -> CloudTruth {
        let asking = async {
            let (_, repository) = match self.repository_of_row(row).await {
                Err(ManagerError::NoProfileLeads { .. }) => return Ok(CloudTruth::Unknown),
                found => found?,
            };
            Ok::<_, ManagerError>(
                match cloud::look_up(&repository, Some(&row.volume_id), &row.id).await? {
                    Found::Committed(_) => CloudTruth::AsRecorded,
                    Found::Deleted => CloudTruth::Deleted,
                    Found::Uploading | Found::Absent => CloudTruth::Unknown,
                },
            )
        };
        asking.await.unwrap_or_else(|error| {
            tracing::warn!(snapshot_id = %row.id, error = chain(&error), "a bucket cannot be asked");
            CloudTruth::Unknown
        })
    }

    async fn snapshot_off_record(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<api::Snapshot>, ManagerError> {
        let Some(short_id) = ids::repository_of(id) else {
            return Ok(None);
        };
        let Some((profile, repository)) = self.clouds.by_short_id(short_id).await? else {
            return Ok(None);
        };
        Ok(match cloud::look_up(&repository, None, id).await? {
            Found::Committed(manifest) => Some(translate::snapshot_in_bucket(
                &manifest,
                &profile.name,
                cloud::location_of(&repository, &manifest),
            )),
            Found::Deleted | Found::Uploading | Found::Absent => None,
        })
    }

    async fn all_snapshots(&self) -> Result<(Vec<api::Snapshot>, Vec<String>), ManagerError> {
        let seen = self.ask_buckets().await?;
        // After the buckets: what was cut meanwhile is at worst told without its cloud copy.
        let rows = self.catalog.snapshots().await?;
        let mut found = BTreeMap::new();
        for row in rows.iter().filter(|row| row.cut_at_us.is_some()) {
            // Its profile tells which of those that show the short id is meant.
            let truth = match seen.is_ambiguous(row) {
                true => self.truth_of(row).await,
                false => seen.truth_of(row),
            };
            let snapshot = self.describe_snapshot(row, truth).await?;
            found.insert(row.id.to_string(), snapshot);
        }
        for (id, listed) in seen.answered.into_values().flat_map(|held| held.by_id) {
            if found.contains_key(&id) {
                continue;
            }
            if let Some(snapshot) =
                translate::snapshot_listed(&listed.summary, &listed.profile, &listed.location)
            {
                found.insert(id, snapshot);
            }
        }
        Ok((found.into_values().collect(), seen.warnings))
    }

    /// Lists every repository that a profile leads to, each once, all at the same time.
    async fn ask_buckets(&self) -> Result<Seen, ManagerError> {
        let mut profiles = BTreeMap::new();
        for profile in self.clouds.all_profiles().await? {
            if let Ok(topology) = profile.topology() {
                profiles.entry(topology.place()).or_insert(profile);
            }
        }
        self.clouds
            .keep_records_of(|place| profiles.contains_key(place));
        let asked = profiles.into_values().map(|profile| async move {
            let listed = async {
                let Some(repository) = self.clouds.for_reading(&profile).await? else {
                    return Ok(None);
                };
                let listed = self.clouds.list(&profile, &repository).await?;
                Ok::<_, ManagerError>(Some((repository, listed)))
            };
            let listed = listed.await;
            (profile, listed)
        });
        let mut seen = Seen::default();
        for (profile, listed) in join_all(asked).await {
            match listed {
                Ok(None) => {}
                Ok(Some((repository, summaries))) => {
                    seen.take(profile, repository, summaries);
                }
                Err(error) => {
                    tracing::warn!(
                        profile = profile.name,
                        error = chain(&error),
                        "a bucket cannot be listed; its snapshots are told as far as they are on record"
                    );
                    let place = profile
                        .topology()
                        .map(Topology::location)
                        .unwrap_or_default();
                    seen.warnings.push(format!(
                        "{place} of profile {} cannot be listed, so snapshots that only it knows are missing: {}",
                        profile.name,
                        chain(&error)
                    ));
                }
            }
        }
        Ok(seen)
    }
}

impl Seen {
    /// Takes what a repository holds, unless another one shows its short id: then neither counts.
    fn take(
        &mut self,
        profile: Arc<Profile>,
        repository: Repository,
        summaries: Vec<SnapshotSummary>,
    ) {
        let short_id = repository.short_id();
        if self.ambiguous.contains(&short_id) {
            return;
        }
        if let Some(held) = self.answered.get(&short_id)
            && !cloud::is_same(&held.repository, &repository)
        {
            let refused = cloud::two_show(&short_id, &held.profile, &profile);
            self.warnings.push(chain(&refused));
            self.answered.remove(&short_id);
            self.ambiguous.insert(short_id);
            return;
        }
        let location = repository.location();
        let name = profile.name.clone();
        let held = self.answered.entry(short_id).or_insert_with(|| Held {
            profile,
            repository,
            by_id: BTreeMap::new(),
        });
        for summary in summaries {
            let listed = Listed {
                summary,
                profile: name.clone(),
                location: location.clone(),
            };
            held.by_id
                .insert(listed.summary.snapshot_id.to_string(), listed);
        }
    }

    /// Whether a cloud copy on record cannot be told from others by its short id.
    fn is_ambiguous(&self, row: &SnapshotRow) -> bool {
        let short_id = ids::repository_of(&row.id);
        row.cloud == CopyState::Present && short_id.is_some_and(|id| self.ambiguous.contains(id))
    }

    /// What the buckets say of a cloud copy on record.
    fn truth_of(&self, row: &SnapshotRow) -> CloudTruth {
        if row.cloud != CopyState::Present {
            return CloudTruth::AsRecorded;
        }
        let repository = ids::repository_of(&row.id).and_then(|id| self.answered.get(id));
        let Some(repository) = repository else {
            return CloudTruth::Unknown;
        };
        let listed = repository.by_id.get(row.id.as_str());
        match listed.map(|listed| &listed.summary.status) {
            Some(Status::Committed) => CloudTruth::AsRecorded,
            Some(Status::Deleted) => CloudTruth::Deleted,
            // Absence proves nothing: it may be a list that came up short.
            Some(Status::Uploading | Status::Unreadable(_)) | None => CloudTruth::Unknown,
        }
    }
}

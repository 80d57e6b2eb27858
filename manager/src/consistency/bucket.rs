//! Cloud copies on record, and what the repositories of the profiles hold.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use stockpot_driver::VolumeId;
use stockpot_repository::{
    format::ids::PackName,
    snapshots::{SnapshotSummary, Status},
};

use super::{Kind, Place, Report, Rows};
use crate::{
    Manager, ManagerError,
    catalog::{CopyState, SnapshotRow},
    cloud,
    error::chain,
    ids,
    profile::{Profile, Topology},
};

/// How many repositories are listed at a time.
const LISTED_AT_A_TIME: usize = 8;

/// What a repository holds.
#[derive(Debug)]
struct Repository {
    location: String,
    snapshots: BTreeMap<String, SnapshotSummary>,
    /// Keys of multipart uploads that are open.
    open: Vec<String>,
}

/// What the buckets say.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By the short id of the repository.
    repositories: BTreeMap<String, Repository>,
    /// Short ids of those that cannot be asked now.
    silent: BTreeSet<String>,
}

/// Lists every repository that a profile leads to, each once, several at the same time.
pub(super) async fn look(manager: &Manager, report: &mut Report) -> Result<Seen, ManagerError> {
    let mut profiles = BTreeMap::new();
    let all = match manager.clouds.all_profiles().await {
        Ok(all) => all,
        Err(error) => {
            report
                .find(Place::Bucket, Kind::Different, "profiles", "")
                .say(
                    format!("they cannot be read: {}", chain(&error)),
                    "mend them; no bucket was looked at",
                )
                .passes_if(false);
            Vec::new()
        }
    };
    for profile in all {
        if let Ok(topology) = profile.topology() {
            profiles.entry(topology.place()).or_insert(profile);
        }
    }
    let known = manager.catalog.repositories().await?;
    let asked = profiles.into_iter().map(|(place, profile)| async move {
        let listed = list(manager, &profile).await;
        (place, profile, listed)
    });
    let asked: Vec<_> = asked.collect();
    let listing = stream::iter(asked).buffer_unordered(LISTED_AT_A_TIME);
    let mut all: Vec<_> = listing.collect().await;
    all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut seen = Seen::default();
    for (place, profile, listed) in all {
        match listed {
            Ok(None) => {}
            Ok(Some((short_id, repository))) => {
                report.looked_at(format!(
                    "{}: {} snapshots",
                    repository.location,
                    repository.snapshots.len()
                ));
                seen.repositories.insert(short_id, repository);
            }
            Err(error) => {
                let location = profile.topology().map(Topology::location);
                report
                    .find(
                        Place::Bucket,
                        Kind::Missing,
                        "repository",
                        &location.unwrap_or_default(),
                    )
                    .say(
                        format!(
                            "profile {} leads to it, and it cannot be asked: {}",
                            profile.name,
                            chain(&error)
                        ),
                        "cloud copies in it were not looked at; try again when it answers",
                    )
                    .passes_if(error.is_passing());
                seen.silent.extend(known.get(&place).cloned());
            }
        }
    }
    Ok(seen)
}

async fn list(
    manager: &Manager,
    profile: &Profile,
) -> Result<Option<(String, Repository)>, ManagerError> {
    let Some(repository) = manager.clouds.for_reading(profile).await? else {
        return Ok(None);
    };
    let listed = manager.clouds.list(profile, &repository).await?;
    let open = cloud::open_uploads(&repository).await?;
    let by_id = |summary: SnapshotSummary| (summary.snapshot_id.to_string(), summary);
    let found = Repository {
        location: repository.location(),
        snapshots: listed.into_iter().map(by_id).collect(),
        open,
    };
    Ok(Some((repository.short_id(), found)))
}

/// `rows` stood all the time, `after` is newer than what the buckets said.
pub(super) fn compare(
    manager: &Manager,
    rows: &Rows,
    after: &Rows,
    seen: &Seen,
    report: &mut Report,
) {
    let mut lost: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows
        .snapshots
        .iter()
        .filter(|row| row.cloud == CopyState::Present)
    {
        let short_id = ids::repository_of(&row.id).unwrap_or_default();
        match seen.repositories.get(short_id) {
            Some(repository) => copy(row, repository, report),
            None if seen.silent.contains(short_id) => {}
            None => *lost.entry(short_id).or_default() += 1,
        }
    }
    for (short_id, count) in lost {
        report
            .find(Place::Bucket, Kind::Missing, "repository", short_id)
            .say(
                format!("{count} cloud copies on record lie in it, and no profile leads to it"),
                "bring back a profile with its bucket and prefix",
            )
            .passes_if(false);
    }
    for repository in seen.repositories.values() {
        off_record(manager, repository, after, report);
    }
}

fn copy(row: &SnapshotRow, repository: &Repository, report: &mut Report) {
    let id = row.id.as_str();
    let place = &repository.location;
    let (kind, text, advice) = match repository.snapshots.get(id).map(|summary| &summary.status) {
        Some(Status::Committed) => return,
        Some(Status::Deleted) => (
            Kind::Missing,
            format!("its cloud copy was deleted in {place}"),
            "if that was meant, `stockpot snapshot delete ID --copy cloud` settles it here",
        ),
        Some(Status::Unreadable(why)) => (
            Kind::Different,
            format!("its cloud copy in {place} cannot be read: {why}"),
            "`stockpot verify` says more; where the bucket keeps versions, --first-versions reads what was first written",
        ),
        Some(Status::Uploading) | None => (
            Kind::Missing,
            format!("{place} does not show its cloud copy"),
            "somebody removed objects: see whether the bucket keeps versions; delete the snapshot, and upload another one",
        ),
    };
    report
        .find(Place::Bucket, kind, "cloud copy", id)
        .say(text, advice)
        .passes_if(row.deleting.is_some());
}

/// What lies there of this node's volumes, and is on no record.
fn off_record(manager: &Manager, repository: &Repository, after: &Rows, report: &mut Report) {
    let is_ours = |volume: &str| {
        let id = volume.parse::<VolumeId>();
        id.is_ok_and(|id| ids::is_volume_of(&id, &manager.node) || after.volume(volume).is_some())
    };
    let is_awaited = |snapshot: &str| {
        after
            .snapshot(snapshot)
            .is_some_and(|row| row.cloud == CopyState::Pending)
    };
    let mut unrecorded = 0_usize;
    for (id, summary) in &repository.snapshots {
        let volume = summary.volume_id.as_ref().map(|id| id.as_str());
        if !volume.is_some_and(is_ours)
            || after
                .snapshot(id)
                .is_some_and(|row| row.cloud == CopyState::Present)
        {
            continue;
        }
        match &summary.status {
            Status::Committed => unrecorded += 1,
            Status::Uploading if !is_awaited(id) => report
                .find(Place::Bucket, Kind::Unknown, "upload", id)
                .say(
                    format!(
                        "an upload was begun in {}, and none is under way here",
                        repository.location
                    ),
                    "if no other node sends it, `stockpot prune` gives it up after some time",
                )
                .passes_if(false),
            Status::Uploading | Status::Deleted | Status::Unreadable(_) => {}
        }
    }
    if unrecorded > 0 {
        report.looked_at(format!(
            "{unrecorded} cloud copies of this node's volumes in {} are on no record: they can be restored by their ids",
            repository.location
        ));
    }
    for key in &repository.open {
        let Ok(pack) = PackName::parse(key) else {
            continue;
        };
        let id = pack.snapshot.as_str();
        if is_ours(pack.volume.as_str()) && !is_awaited(id) {
            report
                .find(Place::Bucket, Kind::Unknown, "multipart upload", id)
                .say(
                    format!(
                        "{}/{key} is half-open, and no upload is under way here",
                        repository.location
                    ),
                    "if no other node sends it, `stockpot prune` aborts it after some time",
                )
                .passes_if(false);
        }
    }
}

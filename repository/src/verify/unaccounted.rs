//! Snapshots whose records somebody took away. They are in no listing, so that nothing else misses them; what tells of them is the
//! packs they left, an older version of the record, or the memory of a prune.
//!
//! An upload puts its intent before its first pack and removes it after the record, and records are never removed. So packs are
//! listed first, then intents, then records: whose packs are there by then and who is in neither of the two was robbed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Job, Problems, problems::Place};
use crate::{
    RepositoryError,
    format::{
        ids::{
            INTENTS_PREFIX, PACKS_PREFIX, PackName, SNAPSHOTS_PREFIX, SnapshotId, parse_intent_key,
            parse_snapshot_key, snapshot_key,
        },
        protocol::Intent,
        record::Record as _,
    },
    prune::seen,
    repository::{each_key, list_all, read_object},
    snapshots::{Below, below, chain},
    store::StoreError,
};

/// So many are looked at one by one: somebody may have put packs of any number of names here.
const LOOKED_AT_MAX: usize = 256;

/// Names of snapshots in memory at most, about 200 bytes each.
const NAMES_MAX: usize = 1 << 20;

/// What tells of a snapshot.
#[derive(Debug, Default)]
struct Traces {
    has_packs: bool,
    was_seen: bool,
}

type Suspects = BTreeMap<Place, Traces>;

/// Adds a problem for each snapshot that has neither a record nor an upload.
///
/// # Errors
/// A bucket that does not answer; [`RepositoryError::Cancelled`].
pub(super) async fn check(job: &Job<'_>, problems: &mut Problems) -> Result<(), RepositoryError> {
    let mut suspects = owners(job).await?;
    remembered(job, &mut suspects).await?;
    hidden(job, &mut suspects).await?;
    let store = job.repository.store();
    let mut uploads: BTreeMap<SnapshotId, Vec<String>> = BTreeMap::new();
    for meta in list_all(&**store, INTENTS_PREFIX).await?.ours {
        if let Ok((snapshot, _)) = parse_intent_key(&meta.key) {
            uploads.entry(snapshot).or_default().push(meta.key);
        }
    }
    for meta in list_all(&**store, SNAPSHOTS_PREFIX).await?.ours {
        if let Ok(place) = parse_snapshot_key(&meta.key) {
            suspects.remove(&place);
        }
    }
    let more = suspects.len().saturating_sub(LOOKED_AT_MAX);
    for (place, traces) in suspects.into_iter().take(LOOKED_AT_MAX) {
        job.check_cancelled()?;
        let intents = uploads.get(&place.1).map_or(&[][..], Vec::as_slice);
        look_at(job, place, &traces, intents, problems).await?;
    }
    if more > 0 {
        let what = format!(
            "there are traces of {more} more snapshots here that have neither a record nor an upload"
        );
        problems.add(PACKS_PREFIX, None, what, []);
    }
    Ok(())
}

/// Whose packs are there.
async fn owners(job: &Job<'_>) -> Result<Suspects, RepositoryError> {
    let mut owners = Suspects::new();
    let mut last = None;
    each_key(&**job.repository.store(), PACKS_PREFIX, |meta| {
        job.check_cancelled()?;
        let Ok(pack) = PackName::parse(&meta.key) else {
            return Ok(());
        };
        let place = (pack.volume, pack.snapshot);
        // A snapshot's packs follow each other.
        if last.as_ref() != Some(&place) && owners.len() < NAMES_MAX {
            owners.entry(place.clone()).or_default().has_packs = true;
            last = Some(place);
        }
        Ok(())
    })
    .await?;
    Ok(owners)
}

/// What prunes saw. Lists that cannot be read are told of by another check.
async fn remembered(job: &Job<'_>, suspects: &mut Suspects) -> Result<(), RepositoryError> {
    let known = match seen::known(job.repository).await {
        Ok(known) => known,
        Err(error) if error.is_of_one_object() => return Ok(()),
        Err(error) => return Err(error),
    };
    for place in known.keys().filter_map(|key| parse_snapshot_key(key).ok()) {
        suspects.entry(place).or_default().was_seen = true;
    }
    Ok(())
}

/// Records of which only older versions are left, where the bucket keeps versions and lets them be listed.
async fn hidden(job: &Job<'_>, suspects: &mut Suspects) -> Result<(), RepositoryError> {
    let Some(versions) = job.repository.store().versions() else {
        return Ok(());
    };
    let found = match versions.versions(SNAPSHOTS_PREFIX).await {
        Ok(found) => found,
        Err(
            StoreError::AccessDenied { .. }
            | StoreError::Refused { .. }
            | StoreError::Unsupported { .. },
        ) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (mut keys, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for version in found.into_iter().filter(|found| !found.is_delete_marker) {
        if version.is_latest {
            seen.insert(version.key);
        } else {
            keys.insert(version.key);
        }
    }
    for place in keys
        .difference(&seen)
        .filter_map(|key| parse_snapshot_key(key).ok())
    {
        suspects.entry(place).or_default();
    }
    Ok(())
}

async fn look_at(
    job: &Job<'_>,
    place: Place,
    traces: &Traces,
    intents: &[String],
    problems: &mut Problems,
) -> Result<(), RepositoryError> {
    if is_uploading(job, &place, intents).await? {
        return Ok(());
    }
    let key = snapshot_key(&place.0, &place.1);
    job.fetcher.progress.requested(1);
    match job.repository.store().head(&key).await {
        // Its upload has ended since intents were listed.
        Ok(_) if !intents.is_empty() => return Ok(()),
        Ok(_) => {
            let what = "it is there, and the store's listing leaves it out";
            problems.add(&key, None, what, [place]);
            return Ok(());
        }
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return problems.take(error.into(), &key, &[place]),
    }
    let before_each = || {
        job.fetcher.progress.requested(1);
        job.check_cancelled()
    };
    let below = match below(job.repository, &key, before_each).await {
        Ok(below) => below,
        // Whoever put so many wants to hide something.
        Err(error @ RepositoryError::TooMany { .. }) => {
            problems.add(&key, None, chain(&error), [place]);
            return Ok(());
        }
        Err(error) => return problems.take(error, &key, &[place]),
    };
    if let Some(what) = what(&place, traces, &below) {
        problems.add(&key, None, what, [place]);
    }
    Ok(())
}

/// What is to be said of a snapshot without a record in sight.
fn what((volume, snapshot): &Place, traces: &Traces, below: &Below) -> Option<String> {
    let robbed = match (traces.has_packs, traces.was_seen) {
        (true, _) => format!(
            "packs of {snapshot} (volume {volume}) are there, and neither a record nor an upload: somebody deleted its record"
        ),
        (false, true) => format!(
            "{snapshot} (volume {volume}) was seen by a prune, and there is no record of it any more: somebody deleted it"
        ),
        (false, false) => String::new(),
    };
    let back = format!("put it back, or say with `stockpot forget {snapshot}` that it was meant");
    match (below, robbed.as_str()) {
        (Below::Manifest, _) => Some(
            "its record was deleted by somebody, not by `stockpot forget`, and the bucket keeps it as an older version: \
             `stockpot restore --first-versions` reads it, and it is back when the delete marker above it is deleted"
                .to_owned(),
        ),
        // It has just been committed.
        (Below::InSight, _) => None,
        // An older version of a tombstone, or of what was never ours.
        (Below::Nothing, "") => None,
        (Below::Denied(error), "") => Some(format!(
            "it is out of sight, and the credentials may not read its older versions: whether somebody deleted it cannot be told ({})",
            chain(error)
        )),
        (Below::Nothing, robbed) => Some(format!("{robbed}; {back}")),
        (Below::Denied(error), robbed) => Some(format!(
            "{robbed}; {back} (whether the bucket keeps it as an older version cannot be seen: {})",
            chain(error)
        )),
    }
}

/// Whether an intent tells of it that is still there; what is wrong with one is told of by another check.
async fn is_uploading(
    job: &Job<'_>,
    place: &Place,
    intents: &[String],
) -> Result<bool, RepositoryError> {
    let store = job.repository.store();
    for key in intents {
        job.fetcher.progress.requested(1);
        let object = match read_object(&**store, key, Intent::OBJECT_MAX).await {
            Ok(Some(object)) => object,
            Ok(None) => continue,
            Err(error) if error.is_of_one_object() => return Ok(true),
            Err(error) => return Err(error),
        };
        match job.repository.sealer()?.open_record::<Intent>(key, &object) {
            Ok((intent, _)) if intent.volume_id != place.0 => {}
            Ok(_) | Err(_) => return Ok(true),
        }
    }
    Ok(false)
}

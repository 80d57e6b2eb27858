//! Uploads under way, dead ones, and what they left: judged by their intents, ended by their tombstones.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    PruneError, PruneSettings,
    below::{below, require_nothing_below},
    packs::RunKey,
    seen::LastSeen,
    survey::{Found, Place, Survey},
};
use crate::{
    format::ids::{PackName, packs_of, snapshot_key},
    repository::each_key,
    snapshots::{Below, tombstone},
    store::{Multipart, PutMode, StoreError},
};

/// What an intent is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UploadState {
    /// The upload may commit: what it may refer to is spared.
    UnderWay,
    /// Nothing was heard of it for the age at which uploads are given up: it is ended.
    Dead,
    /// Its snapshot is decided: it cannot commit, and its intent was left over.
    LeftOver,
}

/// The intents by what they are worth.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) under_way: Vec<Found>,
    /// Seconds without a sign of life.
    pub(super) dead: Vec<(Found, i64)>,
    pub(super) left_over: Vec<Found>,
}

/// Judges intents at a time of the store's clock. A snapshot is given up only when none of its attempts gave a sign of life
/// (its intent, a pack) for long enough.
pub(super) fn judge(
    survey: &Survey,
    found: Vec<Found>,
    settings: &PruneSettings,
    now_s: i64,
) -> Judged {
    let limit = i64::try_from(settings.give_up_after.as_secs()).unwrap_or(i64::MAX);
    let mut judged = Judged::default();
    let mut newest: BTreeMap<Place, i64> = BTreeMap::new();
    for intent in &found {
        let packs = survey.table().newest_s(&intent.run());
        let sign = intent.put_at_s.max(packs.unwrap_or(i64::MIN));
        let of_place = newest.entry(intent.place()).or_insert(i64::MIN);
        *of_place = sign.max(*of_place);
    }
    for intent in found {
        let place = intent.place();
        let idle_s = age_s(now_s, newest.get(&place).copied().unwrap_or(now_s));
        if survey.snapshots.contains_key(&place) {
            judged.left_over.push(intent);
        } else if idle_s >= limit {
            judged.dead.push((intent, idle_s));
        } else {
            judged.under_way.push(intent);
        }
    }
    judged
}

/// Gives dead uploads up: the tombstone first, then the intents, so that an upload that was only thought dead cannot
/// commit unseen. One that gave a sign of life meanwhile is under way after all.
pub(super) async fn give_up(
    survey: &Survey,
    judged: &mut Judged,
    settings: &PruneSettings,
    now_s: i64,
) -> Result<Vec<Place>, PruneError> {
    let mut places: BTreeMap<Place, Vec<Found>> = BTreeMap::new();
    for (intent, _) in std::mem::take(&mut judged.dead) {
        places.entry(intent.place()).or_default().push(intent);
    }
    let mut given_up = Vec::new();
    for (place, intents) in places {
        survey.check_cancelled()?;
        if is_alive(survey, &place, settings, now_s).await? {
            judged.under_way.extend(intents);
            continue;
        }
        match below(survey, &place).await? {
            Below::Nothing => {}
            // It has committed since the snapshots were listed: they are listed again after this.
            Below::InSight => {
                judged.left_over.extend(intents);
                continue;
            }
            Below::Manifest => {
                return Err(PruneError::Vanished {
                    volume: place.0.to_string(),
                    snapshot: place.1,
                });
            }
            // Uploads do die, and this one told of itself; where nothing did, that it died is not believed.
            Below::Denied(error) => tracing::warn!(
                snapshot = %place.1,
                error = crate::snapshots::chain(&error),
                "an upload is given up, without a look whether the bucket keeps its manifest as an old version"
            ),
        }
        end(survey, &place).await?;
        tracing::info!(snapshot = %place.1, volume = %place.0, "a dead upload was given up");
        remove(survey, &intents).await?;
        given_up.push(place);
    }
    Ok(given_up)
}

/// Whether a pack of a snapshot was put lately.
async fn is_alive(
    survey: &Survey,
    place: &Place,
    settings: &PruneSettings,
    now_s: i64,
) -> Result<bool, PruneError> {
    let limit = i64::try_from(settings.give_up_after.as_secs()).unwrap_or(i64::MAX);
    let mut newest = None;
    each_key(
        &**survey.repository.store(),
        &packs_of(&place.0, &place.1),
        |meta| {
            newest = newest.max(Some(meta.modified_at_s));
            Ok(())
        },
    )
    .await?;
    Ok(newest.is_some_and(|newest| age_s(now_s, newest) < limit))
}

/// How old something is. A server's date may be a moment behind what it stamps objects with.
pub(super) fn age_s(now_s: i64, put_at_s: i64) -> i64 {
    now_s.saturating_sub(put_at_s).max(0)
}

/// Puts a tombstone where nothing is yet. Refused is as good: the snapshot is decided, and the listing that follows
/// shows how.
pub(super) async fn end(survey: &Survey, place: &Place) -> Result<(), PruneError> {
    let body = tombstone(&survey.repository, &place.0, &place.1, "given up", None)?;
    let key = snapshot_key(&place.0, &place.1);
    let store = survey.repository.store();
    match store.put(&key, body, PutMode::IfAbsent).await {
        Ok(()) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes intents of decided snapshots.
pub(super) async fn remove(survey: &Survey, intents: &[Found]) -> Result<(), PruneError> {
    for intent in intents {
        survey.repository.store().delete(&intent.key).await?;
    }
    Ok(())
}

/// Spares what uploads under way may refer to: their own packs, the adopted ones, and what their bases reach. The
/// snapshots have to be known by now.
pub(super) async fn spare(survey: &Survey, under_way: &[Found]) -> Result<(), PruneError> {
    for intent in under_way {
        survey.table().spare_run(&intent.run());
        for adopted in &intent.intent.adopts {
            survey.table().spare_run(&RunKey {
                volume: adopted.volume_id.clone(),
                snapshot: adopted.snapshot_id.clone(),
                run: adopted.run,
            });
        }
        let Some(base) = &intent.intent.base else {
            continue;
        };
        let place = (base.volume_id.clone(), base.snapshot_id.clone());
        match survey.snapshots.get(&place) {
            // It reaches its packs itself.
            Some(LastSeen::Committed) => {}
            Some(LastSeen::Ended) => survey.spare_ended(&place).await?,
            None => {
                return Err(PruneError::Vanished {
                    volume: place.0.to_string(),
                    snapshot: place.1,
                });
            }
        }
    }
    Ok(())
}

/// Refuses where packs belong to a snapshot that has neither record nor intent. That does not happen by itself (an intent is there
/// before the first pack, and until the snapshot is decided): somebody took the record away, and what else it needs is not known.
/// However old the packs are, only a user's word ends it. Before that is believed the store is asked for the record by its name, and for
/// old versions of it.
pub(super) async fn require_accounted(
    survey: &Survey,
    intents: &[Found],
) -> Result<(), PruneError> {
    let uploads: BTreeSet<Place> = intents.iter().map(Found::place).collect();
    let mut unaccounted = Vec::new();
    let owners = survey.table().owners();
    for place in owners {
        if survey.snapshots.contains_key(&place) || uploads.contains(&place) {
            continue;
        }
        let key = snapshot_key(&place.0, &place.1);
        match survey.repository.store().head(&key).await {
            Ok(_) => return Err(PruneError::ListingIncomplete { object: key }),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        require_nothing_below(survey, &place).await?;
        unaccounted.push(place);
    }
    let others = unaccounted.len().saturating_sub(1);
    match unaccounted.into_iter().next() {
        None => Ok(()),
        Some((volume, snapshot)) => Err(PruneError::Unaccounted {
            volume: volume.to_string(),
            snapshot,
            others,
        }),
    }
}

/// Multipart uploads of ours that are open now, or why the store does not tell: packs can be pruned all the same.
pub(super) async fn open_multiparts(survey: &Survey) -> Result<Vec<(RunKey, Multipart)>, String> {
    let prefix = crate::format::ids::PACKS_PREFIX;
    let open = match survey.repository.store().multipart_list(prefix).await {
        Ok(open) => open,
        Err(StoreError::Unsupported { what, .. }) => {
            tracing::info!(
                what,
                "the store cannot do this; a lifecycle rule has to abort what crashes left open"
            );
            return Err(format!("the store does not support {what}"));
        }
        Err(error @ (StoreError::AccessDenied { .. } | StoreError::Refused { .. })) => {
            let why = crate::snapshots::chain(&error);
            tracing::warn!(
                error = why,
                "open multipart uploads cannot be listed, so none is aborted; the credentials need s3:ListBucketMultipartUploads"
            );
            return Err(why);
        }
        // Whatever keeps the store from telling: what is wrong with all of it shows itself with the next request.
        Err(error) => {
            let why = crate::snapshots::chain(&error);
            tracing::warn!(
                error = why,
                "open multipart uploads cannot be listed, so none is aborted; a later prune tries again"
            );
            return Err(why);
        }
    };
    let ours = open.into_iter().filter_map(|upload| {
        let name = PackName::parse(&upload.key).ok()?;
        let run = RunKey {
            volume: name.volume,
            snapshot: name.snapshot,
            run: name.run,
        };
        Some((run, upload))
    });
    Ok(ours.collect())
}

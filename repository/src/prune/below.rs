//! What lies below a record that is gone, in a bucket that keeps versions: somebody who has our credentials and not the key
//! can delete a manifest, and then its packs look like those of an upload that died.

use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::{
    PruneError,
    survey::{Place, Survey},
};
use crate::{
    format::ids::{SNAPSHOTS_PREFIX, parse_snapshot_key, snapshot_key},
    repository::too_many,
    snapshots::{self, Below, chain, newest_genuine},
    store::{StoreError, versions::ObjectVersion},
};

/// Records that are out of sight and whose versions are looked at.
const HIDDEN_MAX: usize = 1 << 16;

/// Records looked at at the same time.
const LOOKS_IN_FLIGHT: usize = 8;

/// Looks at the versions of a snapshot's record, which was not in sight.
///
/// # Errors
/// If the store does not answer, a version cannot be read, or there are more of them than anybody writes.
pub(super) async fn below(survey: &Survey, place: &Place) -> Result<Below, PruneError> {
    let key = snapshot_key(&place.0, &place.1);
    let below = snapshots::below(&survey.repository, &key, || survey.check_cancelled());
    below.await.map_err(PruneError::doubt)
}

/// Refuses where a manifest is kept as an old version only, though its snapshot was never ended. A snapshot of which nothing had changed has no pack of
/// its own, so nothing in sight tells of it, and what it needs would go with its base. To be called when the snapshots were just listed.
///
/// # Errors
/// [`PruneError::Vanished`]; [`PruneError::VersionsUnknown`] where versions may be listed and one may not be read; whatever the store says, but
/// that the credentials may not list versions at all, which is said aloud once.
pub(super) async fn require_none_hidden(survey: &mut Survey) -> Result<(), PruneError> {
    let store = survey.repository.store().clone();
    let Some(versions) = store.versions().filter(|_| !survey.is_denied_versions) else {
        return Ok(());
    };
    let listed = match versions.versions(SNAPSHOTS_PREFIX).await {
        Ok(listed) => listed,
        Err(error @ StoreError::AccessDenied { .. }) => {
            survey.is_denied_versions = true;
            warn_denied(&error);
            return Ok(());
        }
        Err(StoreError::Refused { .. } | StoreError::Unsupported { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut hidden = Vec::new();
    for history in listed.chunk_by(|a, b| a.key == b.key) {
        let in_sight = |version: &ObjectVersion| version.is_latest && !version.is_delete_marker;
        let is_hidden = !history.iter().any(in_sight)
            && history.iter().any(|version| !version.is_delete_marker);
        if let Some(first) = history.first().filter(|_| is_hidden)
            && let Ok(place) = parse_snapshot_key(&first.key)
            && !survey.snapshots.contains_key(&place)
        {
            hidden.push((place, history));
            too_many(
                SNAPSHOTS_PREFIX,
                "deleted records",
                hidden.len(),
                HIDDEN_MAX,
            )?;
        }
    }
    let seen: &Survey = survey;
    let looks: Vec<BoxFuture<'_, Result<(Place, Below), PruneError>>> = hidden
        .into_iter()
        .map(|(place, history)| {
            let look: BoxFuture<'_, _> = Box::pin(async move {
                let below = newest_genuine(&seen.repository, versions, history, || {
                    seen.check_cancelled()
                });
                Ok((place, below.await.map_err(PruneError::doubt)?))
            });
            look
        })
        .collect();
    let mut looks = stream::iter(looks).buffered(LOOKS_IN_FLIGHT);
    while let Some((place, below)) = looks.try_next().await? {
        match below {
            Below::Nothing | Below::InSight => {}
            Below::Manifest => {
                return Err(PruneError::Vanished {
                    volume: place.0.to_string(),
                    snapshot: place.1,
                });
            }
            Below::Denied(source) => {
                return Err(PruneError::VersionsUnknown {
                    volume: place.0.to_string(),
                    snapshot: place.1,
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(())
}

fn warn_denied(error: &StoreError) {
    tracing::warn!(
        error = chain(error),
        "whether somebody deleted manifests, which the bucket then keeps as old versions, cannot be seen: what only they need is not \
         spared. The credentials need s3:ListBucketVersions and s3:GetObjectVersion"
    );
}

/// Refuses to take a snapshot for an upload that died that was committed, or may have been.
///
/// # Errors
/// [`PruneError::Vanished`], [`PruneError::VersionsUnknown`]; [`PruneError::ListingIncomplete`] for a manifest that is there.
pub(super) async fn require_nothing_below(
    survey: &Survey,
    place: &Place,
) -> Result<(), PruneError> {
    let (volume, snapshot) = (place.0.to_string(), place.1.clone());
    match below(survey, place).await? {
        Below::Nothing => Ok(()),
        Below::Manifest => Err(PruneError::Vanished { volume, snapshot }),
        Below::InSight => Err(PruneError::ListingIncomplete {
            object: snapshot_key(&place.0, &place.1),
        }),
        Below::Denied(source) => Err(PruneError::VersionsUnknown {
            volume,
            snapshot,
            source: Box::new(source),
        }),
    }
}

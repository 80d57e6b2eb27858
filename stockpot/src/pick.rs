//! Which snapshot is meant: an id, the start of one, or `latest:VOLUME`.

use anyhow::bail;
use stockpot_repository::{
    Repository, forget,
    format::manifest::Manifest,
    snapshots::{self, Status},
};

/// The manifest of the snapshot that `text` names.
///
/// # Errors
/// When none or several fit, or it cannot be read.
pub(crate) async fn pick(repository: &Repository, text: &str) -> anyhow::Result<Manifest> {
    let Some(volume) = text.strip_prefix("latest:") else {
        return Ok(snapshots::find(repository, text).await?);
    };
    let mut unreadable = 0;
    let now = forget::now(repository).await?;
    // Whatever a wrong clock has cut in the future is the latest only if there is nothing else.
    let rank = |manifest: &Manifest| {
        let is_ahead = forget::is_ahead(manifest.cut_at, now);
        (!is_ahead, manifest.cut_at)
    };
    let mut newest: Option<Manifest> = None;
    for found in snapshots::list(repository).await? {
        let of_volume = found.volume() == Some(volume)
            || found
                .volume_id
                .as_ref()
                .is_some_and(|id| id.as_str() == volume);
        if !of_volume {
            continue;
        }
        match (found.status, found.manifest) {
            (Status::Committed, Some(manifest))
                if newest
                    .as_ref()
                    .is_none_or(|newest| rank(newest) <= rank(&manifest)) =>
            {
                newest = Some(manifest);
            }
            (Status::Unreadable(_), _) => unreadable += 1,
            _ => {}
        }
    }
    if unreadable > 0 {
        // The newest may be among them: choosing an older one must not happen quietly.
        bail!(
            "{unreadable} of the snapshots of volume {volume} cannot be read, so which one is the latest is not known; \
             `stockpot snapshots` shows them: name the one you want"
        );
    }
    match newest {
        Some(manifest) => Ok(manifest),
        None => bail!(
            "no snapshot of volume {volume} in {}",
            repository.location()
        ),
    }
}

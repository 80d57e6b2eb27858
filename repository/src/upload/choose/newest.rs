//! The snapshot of a volume that was committed last, among its records: most of them may be tombstones.
//!
//! The listing does not tell which is which, and a tombstone is younger than what it ended, so records are read from the
//! youngest on until a manifest turns up.

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::{super::BaseChoice, Attempt};
use crate::{
    RepositoryError,
    format::{
        ids::{Nonce, SNAPSHOTS_PREFIX, SnapshotId, parse_snapshot_key},
        manifest::{Base, Manifest, SnapshotRecord},
    },
    repository::list_keys,
    snapshots::{chain, record_at},
    store::ObjectMeta,
};

/// Records read at the same time, once the youngest was no manifest.
const READS_IN_FLIGHT: usize = 8;

/// Records that are read at most: a snapshot each minute for almost three days, all of them deleted.
const RECORDS_MAX: usize = 4096;

/// What there is to build on.
pub(super) struct Newest {
    /// When its upload began, and what it is.
    pub(super) found: Option<(Timestamp, Base)>,
    /// Why it may not be the newest, or why there is none.
    pub(super) passed: Option<String>,
}

/// The manifest that was committed last, among those that the store stamped in one second: its clock tells no more.
#[derive(Default)]
struct Search {
    found: Option<(i64, Box<Manifest>, Nonce)>,
    unreadable: Option<(SnapshotId, String)>,
}

impl Search {
    /// Whether a record as old as this one may be the newest manifest.
    fn wants(&self, meta: &ObjectMeta) -> bool {
        let found = self.found.as_ref();
        found.is_none_or(|(modified_at_s, ..)| *modified_at_s == meta.modified_at_s)
    }

    fn take(
        &mut self,
        meta: &ObjectMeta,
        record: Result<Option<SnapshotRecord>, RepositoryError>,
    ) -> Result<(), RepositoryError> {
        if !self.wants(meta) {
            return Ok(());
        }
        match record {
            Ok(Some(SnapshotRecord::Manifest(manifest, nonce))) => {
                let found = self.found.as_ref();
                if found.is_none_or(|(_, known, _)| known.committed_at < manifest.committed_at) {
                    self.found = Some((meta.modified_at_s, manifest, nonce));
                }
            }
            Ok(Some(SnapshotRecord::Tombstone(..)) | None) => {}
            Err(error) if error.is_of_one_object() => {
                let why = chain(&error);
                tracing::warn!(
                    object = meta.key,
                    error = why,
                    "a snapshot's record cannot be read, so it is not built on; `stockpot verify` tells more"
                );
                if let (None, Ok((_, snapshot))) = (&self.unreadable, parse_snapshot_key(&meta.key))
                {
                    self.unreadable = Some((snapshot, why));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Attempt<'_> {
    /// The snapshot of the volume that was committed last. A manifest that cannot be read is no base.
    pub(super) async fn newest(&self) -> Result<Newest, RepositoryError> {
        let prefix = format!("{SNAPSHOTS_PREFIX}{}/", self.request.volume_id);
        self.progress.requested(1);
        let mut keys = list_keys(&**self.repository.store(), &prefix).await?;
        keys.retain(|meta| parse_snapshot_key(&meta.key).is_ok());
        keys.sort_by_key(|meta| std::cmp::Reverse(meta.modified_at_s));
        let has_more = keys.len() > RECORDS_MAX;
        let mut left = keys.into_iter().take(RECORDS_MAX).peekable();
        let mut search = Search::default();
        // Mostly the first one is it.
        let mut width = 1;
        while left.peek().is_some_and(|meta| search.wants(meta)) {
            let mut next = Vec::with_capacity(width);
            while next.len() < width
                && let Some(meta) = left.next_if(|meta| search.wants(meta))
            {
                next.push(meta);
            }
            let mut read = stream::iter(next)
                .map(|meta| async move {
                    self.progress.requested(1);
                    let record = record_at(self.repository, &meta.key).await;
                    (meta, record)
                })
                .buffered(READS_IN_FLIGHT);
            while let Some((meta, record)) = read.next().await {
                search.take(&meta, record)?;
            }
            width = READS_IN_FLIGHT;
        }
        let Search { found, unreadable } = search;
        if let (Some((_, manifest, _)), BaseChoice::NewestFrom(source)) =
            (&found, &self.request.base)
        {
            require_source(manifest, source)?;
        }
        let passed = match (unreadable, &found) {
            (Some((snapshot, why)), _) => Some(format!("{snapshot} cannot be read: {why}")),
            (None, None) if has_more => {
                tracing::warn!(
                    volume = %self.request.volume_id,
                    records = RECORDS_MAX,
                    "none of the volume's youngest records is a snapshot that can be built on; older ones are not looked at"
                );
                Some(format!(
                    "none of the {RECORDS_MAX} youngest records of the volume is a snapshot that can be built on"
                ))
            }
            (None, _) => None,
        };
        let base = |(_, manifest, nonce): (i64, Box<Manifest>, Nonce)| {
            (manifest.started_at, manifest.as_base(nonce))
        };
        Ok(Newest {
            found: found.map(base),
            passed,
        })
    }
}

/// Two volumes under one name would take turns, and be forgotten for each other.
fn require_source(newest: &Manifest, source: &str) -> Result<(), RepositoryError> {
    match newest.metadata.get("source") {
        Some(found) if found != source && found.starts_with('/') => {
            Err(RepositoryError::OtherSource {
                volume: newest.volume_id.to_string(),
                found: found.clone(),
                source_path: source.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

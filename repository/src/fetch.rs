//! Getting frames out of packs with few requests.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    Progress, RepositoryError,
    format::{ids::PackName, location::Location},
    store::ObjectStore,
};

/// How frames are joined into requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    /// A request asks for no more than this, in bytes (one frame always fits).
    pub(crate) range_bytes: u64,
    /// What lies between two frames is read too if it is no longer than this, in bytes.
    pub(crate) gap_bytes: u64,
    /// Frames of a request, at most.
    pub(crate) frames: usize,
}

/// Frames that one request brings.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) pack: Arc<PackName>,
    /// Bytes of the pack.
    pub(crate) range: Range<u64>,
    /// By offset.
    pub(crate) frames: Vec<(Location, T)>,
}

impl<T> Batch<T> {
    /// A frame's bytes in the body of the request.
    pub(crate) fn slice<'a>(&self, body: &'a [u8], location: &Location) -> Option<&'a [u8]> {
        let start = usize::try_from(location.range().start.checked_sub(self.range.start)?).ok()?;
        body.get(start..start + location.length as usize)
    }
}

/// Joins frames into requests, which come out in the order of their lowest tags.
pub(crate) fn batches<T: Copy + Ord>(
    mut frames: Vec<(Location, T)>,
    limits: BatchLimits,
) -> Vec<Batch<T>> {
    frames.sort_unstable_by(|(a, x), (b, y)| (&a.pack, a.offset, x).cmp(&(&b.pack, b.offset, y)));
    let mut batches: Vec<Batch<T>> = Vec::new();
    for (location, tag) in frames {
        let range = location.range();
        if let Some(batch) = batches.last_mut()
            && batch.pack == location.pack
            && range.start <= batch.range.end + limits.gap_bytes
            && range.end.max(batch.range.end) - batch.range.start <= limits.range_bytes
            && batch.frames.len() < limits.frames
        {
            batch.range.end = batch.range.end.max(range.end);
            batch.frames.push((location, tag));
        } else {
            batches.push(Batch {
                pack: location.pack.clone(),
                range,
                frames: vec![(location, tag)],
            });
        }
    }
    batches.sort_by_key(|batch| batch.frames.iter().map(|(_, tag)| *tag).min());
    batches
}

/// Asks a store for ranges and counts what comes.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) progress: Arc<Progress>,
}

impl Fetcher {
    /// Bytes of a pack.
    pub(crate) async fn get(
        &self,
        pack: &PackName,
        range: Range<u64>,
    ) -> Result<Bytes, RepositoryError> {
        self.progress.requested(1);
        let body = self.store.get_range(&pack.object_key(), range).await?;
        self.progress.moved(body.len() as u64);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        crypto::Hash,
        ids::{Run, SnapshotId, VolumeId},
    };

    fn at(number: u32, offset: u32, length: u32) -> Location {
        let pack = PackName {
            volume: VolumeId::new("v").unwrap(),
            snapshot: SnapshotId::new("s").unwrap(),
            run: Run([1; 16]),
            number,
        };
        Location {
            pack: Arc::new(pack),
            offset,
            length,
            hash: Hash([0; 32]),
        }
    }

    #[test]
    fn near_frames_share_a_request() {
        let limits = BatchLimits {
            range_bytes: 1000,
            gap_bytes: 50,
            frames: 3,
        };
        let frames = vec![
            (at(1, 500, 100), 7),
            (at(0, 100, 100), 1),
            (at(0, 250, 100), 2),
            (at(0, 401, 10), 3),
            (at(0, 411, 2000), 0),
            (at(0, 411, 2000), 9),
        ];
        let found: Vec<_> = batches(frames, limits)
            .into_iter()
            .map(|b| (b.pack.number, b.range.clone(), b.frames.len()))
            .collect();
        assert_eq!(
            found,
            [
                (0, 411..2411, 1),
                (0, 100..350, 2),
                (0, 401..411, 1),
                (1, 500..600, 1),
                (0, 411..2411, 1),
            ]
        );
    }
}

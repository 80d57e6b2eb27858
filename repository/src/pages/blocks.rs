//! Packs of pages in blocks: pages that are visited one after the other mostly lie side by side, so a request brings more
//! than was asked for, and what it brought is kept a while.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};

use crate::{
    RepositoryError,
    fetch::Fetcher,
    format::{ids::PackName, location::Location},
    store::StoreError,
};

/// Bytes of a block: many small pages, and no great waste where only one of them is wanted.
const BLOCK_SIZE_BYTES: u64 = 512 << 10;

/// Blocks that are kept, 16 MiB.
const BLOCKS_KEPT: usize = 32;

/// Blocks fetched at the same time.
const BLOCKS_IN_FLIGHT: usize = 4;

/// A block: the pack, and its number in it.
type BlockId = (Arc<PackName>, u64);

/// Blocks of packs whose size is known.
#[derive(Debug)]
pub(super) struct Blocks {
    sizes: BTreeMap<Arc<PackName>, u64>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: HashMap<BlockId, Bytes>,
    order: VecDeque<BlockId>,
}

impl Blocks {
    pub(super) fn new(sizes: BTreeMap<Arc<PackName>, u64>) -> Self {
        Self {
            sizes,
            kept: Mutex::default(),
        }
    }

    /// The frames of those locations that can be had so; `None` for others, which are left to be fetched by themselves.
    ///
    /// # Errors
    /// Only of a bucket that does not answer. A pack that is missing or too short is found by whoever fetches the page.
    pub(super) async fn frames(
        &self,
        fetcher: &Fetcher,
        wanted: &[(Location, usize)],
    ) -> Result<Vec<Option<Bytes>>, RepositoryError> {
        let ids: BTreeSet<BlockId> = wanted
            .iter()
            .filter(|(at, _)| self.size(at).is_some())
            .flat_map(|(at, _)| numbers(at).map(|number| (at.pack.clone(), number)))
            .collect();
        let mut fetched = stream::iter(ids)
            .map(|id| self.block(fetcher, id))
            .buffer_unordered(BLOCKS_IN_FLIGHT);
        let mut blocks = HashMap::new();
        while let Some(block) = fetched.next().await {
            match block {
                Ok((id, block)) => {
                    blocks.insert(id, block);
                }
                Err(RepositoryError::Store(
                    StoreError::NotFound { .. } | StoreError::Integrity { .. },
                )) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted.iter().map(|(at, _)| cut(&blocks, at)).collect())
    }

    /// The size of a location's pack, if it is known and the location is inside.
    fn size(&self, at: &Location) -> Option<u64> {
        let size = self.sizes.get(&at.pack).copied()?;
        (at.range().end <= size).then_some(size)
    }

    async fn block(
        &self,
        fetcher: &Fetcher,
        id: BlockId,
    ) -> Result<(BlockId, Bytes), RepositoryError> {
        let known = self.kept().blocks.get(&id).cloned();
        if let Some(block) = known {
            return Ok((id, block));
        }
        let size = self.sizes.get(&id.0).copied().unwrap_or_default();
        let start = id.1 * BLOCK_SIZE_BYTES;
        let block = fetcher
            .get(&id.0, start..(start + BLOCK_SIZE_BYTES).min(size))
            .await?;
        let mut kept = self.kept();
        if kept.order.len() >= BLOCKS_KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.blocks.remove(&oldest);
        }
        if kept.blocks.insert(id.clone(), block.clone()).is_none() {
            kept.order.push_back(id.clone());
        }
        Ok((id, block))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocks that a location touches.
fn numbers(at: &Location) -> Range<u64> {
    let range = at.range();
    range.start / BLOCK_SIZE_BYTES..range.end.div_ceil(BLOCK_SIZE_BYTES)
}

/// A location's bytes out of its blocks.
fn cut(blocks: &HashMap<BlockId, Bytes>, at: &Location) -> Option<Bytes> {
    let range = at.range();
    let mut frame = BytesMut::with_capacity(at.length as usize);
    for number in numbers(at) {
        let block = blocks.get(&(at.pack.clone(), number))?;
        let start = number * BLOCK_SIZE_BYTES;
        let from = usize::try_from(range.start.saturating_sub(start)).ok()?;
        let to = usize::try_from(range.end - start).ok()?.min(block.len());
        let piece = block.slice(from.min(to)..to);
        if piece.len() == at.length as usize {
            return Some(piece);
        }
        frame.extend_from_slice(&piece);
    }
    (frame.len() == at.length as usize).then(|| frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        crypto::Hash,
        ids::{Run, SnapshotId, VolumeId},
    };

    #[test]
    fn frames_are_cut_from_one_block_or_two() {
        let pack = Arc::new(PackName {
            volume: VolumeId::new("v").unwrap(),
            snapshot: SnapshotId::new("s").unwrap(),
            run: Run([1; 16]),
            number: 0,
        });
        let size = usize::try_from(BLOCK_SIZE_BYTES).unwrap();
        let content: Vec<u8> = (0..=250).cycle().take(size + 1000).collect();
        let (first, second) = content.split_at(size);
        let blocks = HashMap::from([
            ((pack.clone(), 0), Bytes::copy_from_slice(first)),
            ((pack.clone(), 1), Bytes::copy_from_slice(second)),
        ]);
        for (offset, length) in [(0, 10), (size - 10, 10), (size - 10, 30), (size, 1000)] {
            let at = Location {
                pack: pack.clone(),
                offset: u32::try_from(offset).unwrap(),
                length: u32::try_from(length).unwrap(),
                hash: Hash([0; 32]),
            };
            let frame = cut(&blocks, &at).unwrap();
            assert_eq!(frame, content[offset..offset + length]);
        }
        let at = Location {
            pack,
            offset: u32::try_from(size + 990).unwrap(),
            length: 20,
            hash: Hash([0; 32]),
        };
        assert_eq!(cut(&blocks, &at), None, "past the end");
    }
}

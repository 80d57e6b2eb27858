//! Reading through what earlier attempts left, before it gets a lock: an index can be sound in front of frames that are not, and what is locked cannot be mended
//! for a long time.

use std::sync::Arc;

use super::PIECE;
use crate::{
    RepositoryError,
    fetch::{BatchLimits, Fetcher, batches},
    format::{
        crypto::Sealer,
        frame::{FrameDecoder, FrameKind},
        ids::PackName,
        location::Location,
        pack_index::PackIndex,
    },
    repository::blocking,
};

const LIMITS: BatchLimits = BatchLimits {
    range_bytes: PIECE,
    gap_bytes: 0,
    frames: usize::MAX,
};

/// Whether every chunk of a pack is what the pack's index says.
///
/// # Errors
/// Only if the store does not answer.
pub(super) async fn are_sound(
    fetcher: &Fetcher,
    sealer: &Sealer,
    name: &Arc<PackName>,
    index: &PackIndex,
) -> Result<bool, RepositoryError> {
    let mut frames = Vec::with_capacity(index.entries.len());
    for (offset, entry) in index.with_offsets() {
        let Ok(offset) = u32::try_from(offset) else {
            return Ok(false);
        };
        if entry.kind == FrameKind::Chunk {
            let location = Location {
                pack: name.clone(),
                offset,
                length: entry.length,
                hash: entry.hash,
            };
            frames.push((location, offset));
        }
    }
    for batch in batches(frames, LIMITS) {
        let body = match fetcher.get(name, batch.range.clone()).await {
            Ok(body) => body,
            Err(error) if error.is_of_one_object() => return Ok(false),
            Err(error) => return Err(error),
        };
        let (sealer, name) = (sealer.clone(), name.clone());
        let check = move || {
            let cipher = sealer.pack(&name);
            let mut decoder = FrameDecoder::new()?;
            Ok(batch.frames.iter().all(|(location, _)| {
                let frame = batch.slice(&body, location);
                let plain = frame.map(|frame| decoder.decode(&cipher, frame, FrameKind::Chunk));
                matches!(plain, Some(Ok(plain)) if sealer.chunk_hash(&plain) == location.hash)
            }))
        };
        let checked: Result<bool, crate::format::FormatError> = blocking(check).await?;
        if !checked.map_err(|error| RepositoryError::Internal(error.to_string()))? {
            return Ok(false);
        }
    }
    Ok(true)
}

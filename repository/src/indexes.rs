//! Reading the index at the end of a pack.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{
    RepositoryError,
    fetch::Fetcher,
    format::{
        FormatError,
        crypto::Sealer,
        frame::FrameDecoder,
        ids::PackName,
        pack::{FOOTER_SIZE, Footer, HEADER_SIZE},
        pack_index::PackIndex,
    },
};

/// Reads the index of a pack of that size.
///
/// # Errors
/// [`RepositoryError::Damaged`] if it is not what a whole pack ends with; whatever the store says.
pub(crate) async fn read_index(
    fetcher: &Fetcher,
    sealer: &Sealer,
    pack: &Arc<PackName>,
    size_bytes: u64,
) -> Result<PackIndex, RepositoryError> {
    read_index_with(
        |range| Box::pin(fetcher.get(pack, range)),
        sealer,
        pack,
        size_bytes,
    )
    .await
}

/// As [`read_index`], from whatever gives ranges of the pack.
///
/// # Errors
/// As [`read_index`].
pub(crate) async fn read_index_with<'f>(
    get: impl Fn(Range<u64>) -> BoxFuture<'f, Result<Bytes, RepositoryError>>,
    sealer: &Sealer,
    pack: &Arc<PackName>,
    size_bytes: u64,
) -> Result<PackIndex, RepositoryError> {
    let object = pack.object_key();
    let wrong = |offset: u64| {
        let object = object.clone();
        move |source: FormatError| RepositoryError::object(object.clone(), Some(offset), source)
    };
    let Some(footer_at) = size_bytes
        .checked_sub(FOOTER_SIZE.into())
        .filter(|at| *at >= u64::from(HEADER_SIZE))
    else {
        return Err(RepositoryError::Inconsistent {
            object,
            problem: format!("{size_bytes} bytes are too few for a pack"),
        });
    };
    let footer = get(footer_at..size_bytes).await?;
    let footer = Footer::decode(&footer, size_bytes).map_err(wrong(footer_at))?;
    let at = footer.index_offset;
    let frame = get(at..footer_at).await?;
    FrameDecoder::new()
        .and_then(|mut decoder| PackIndex::open(sealer, &mut decoder, pack, &footer, &frame))
        .map_err(wrong(at))
}

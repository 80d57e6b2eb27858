//! What an upload builds on, once its intent is there: the base is read and checked, with what must not be referred to.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, OnceLock},
};

use super::{
    adopt::Adopted,
    base::{BadFrames, BaseMap},
    changes::Changed,
    choose::Chosen,
    commit::Attempt,
    guard::Sampled,
};
use crate::{
    RepositoryError,
    fetch::Fetcher,
    format::{
        frame::FrameKind,
        ids::{MARKS_PREFIX, PackName, SnapshotId},
        limits::TEXT_MAX,
        manifest::{Base, Manifest, Reason, SnapshotRecord},
        protocol::Mark,
    },
    indexes::read_index,
    pages::Pages,
    snapshots::{chain, read_record},
};

/// Packs with marked frames whose indexes are read to learn which chunks these are; with more, all is compared.
const MARKED_PACKS_MAX: usize = 16;

/// A base that can be built on.
struct Opened {
    map: BaseMap,
    all_marks_known: bool,
    /// How many of its packs are not in the bucket.
    missing: usize,
}

/// What an upload builds on.
pub(super) struct Basis {
    pub(super) base: Option<Arc<BaseMap>>,
    /// What earlier attempts left.
    pub(super) adopted: Option<Arc<Adopted>>,
    /// What is to be read; `None`: everything.
    pub(super) changed: Option<Changed>,
    /// Why it is not less, or how it was made sure of.
    pub(super) why: String,
    /// What was read to make sure.
    pub(super) sampled: Sampled,
    /// A chunk that is said to be unchanged and turned out to have changed.
    pub(super) unsaid: Arc<OnceLock<u64>>,
}

impl Basis {
    fn full(why: impl Into<String>) -> Self {
        Self {
            base: None,
            adopted: None,
            changed: None,
            why: why.into(),
            sampled: Sampled::default(),
            unsaid: Arc::default(),
        }
    }

    /// How the upload knows what to store.
    pub(super) fn reason(&self) -> Reason {
        match (&self.base, &self.changed) {
            (None, _) => Reason::Full,
            (Some(_), None) => Reason::Compared,
            (Some(_), Some(_)) => Reason::Incremental,
        }
    }

    /// From here on everything is read.
    pub(super) fn compare(&mut self, why: impl Into<String>) {
        self.changed = None;
        self.why = why.into();
    }

    /// The same, for a reason besides what is said already.
    fn compare_also(&mut self, why: &str) {
        let why = match self.why.as_str() {
            "" => why.to_owned(),
            known => format!("{known}; {why}"),
        };
        self.compare(why);
    }

    /// What the sample says of the changes since a snapshot.
    pub(super) fn judge(&mut self, since: &SnapshotId) {
        let chunks = self.sampled.chunks;
        match self.sampled.wrong {
            None => {
                self.why = format!(
                    "what changed since {since} is known; {chunks} chunks said to be unchanged were checked"
                );
            }
            Some(chunk) => self.disbelieve(chunk, since),
        }
    }

    /// A chunk has changed though it was said that it had not.
    pub(super) fn disbelieve(&mut self, chunk: u64, since: &SnapshotId) {
        tracing::error!(
            chunk,
            base = %since,
            "a chunk that is said to be unchanged has changed: all is read and compared; whatever tells the changes is wrong"
        );
        self.compare(format!(
            "chunk {chunk} was said to be unchanged since {since}, and has changed"
        ));
    }

    /// The same of one that was met on the way.
    pub(super) fn disbelieve_unsaid(&mut self) {
        let since = self.base.as_ref().map(|base| base.base.snapshot_id.clone());
        if let (Some(since), Some(chunk)) = (since, self.unsaid.get().copied()) {
            self.disbelieve(chunk, &since);
        }
    }

    /// The reason's text as a manifest can hold it.
    pub(super) fn text(&self) -> String {
        let mut text = self.why.clone();
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text
    }
}

impl Attempt<'_> {
    /// The base, if it is still what it was and nothing of it is about to go; else the upload is a full one. Asked
    /// after the condemned lists were read.
    pub(super) async fn settle(
        &self,
        chosen: Chosen,
        condemned: Option<&HashSet<PackName>>,
        size_bytes: u64,
    ) -> Result<Basis, RepositoryError> {
        let Some(base) = chosen.base else {
            return Ok(Basis::full(chosen.why));
        };
        let Opened {
            mut map,
            all_marks_known,
            missing,
        } = match self.open_base(&base, condemned).await? {
            Ok(opened) => *opened,
            Err(problem) => {
                tracing::warn!(base = %base.snapshot_id, problem, "not building on the base: all data is sent");
                let why = format!("{} is not built on: {problem}", base.snapshot_id);
                return Ok(Basis::full(why));
            }
        };
        let mut basis = Basis::full(chosen.why);
        if chosen.told
            && let Some(changes) = &self.request.changes
        {
            let mut changed = Changed::new(
                &changes.ranges,
                map.manifest.size_bytes,
                size_bytes,
                self.repository.chunk_size_bytes(),
            )?;
            match self.marked_chunks(&map).await? {
                _ if !all_marks_known => {}
                Some(marked) => {
                    changed.add(
                        marked,
                        size_bytes.div_ceil(map.manifest.chunk_size_bytes.into()),
                    );
                    basis.changed = Some(changed);
                }
                None => {
                    tracing::warn!(base = %base.snapshot_id, "a verify found the base's map damaged: all is read and compared");
                    basis.compare("a verify found the map of the base damaged");
                }
            }
        }
        if !all_marks_known {
            tracing::warn!(
                base = %base.snapshot_id,
                "what a verify found to be bad cannot be read: all is read and compared"
            );
            basis.compare_also("a verify's list of bad chunks cannot be read");
        }
        if missing > 0 {
            tracing::error!(
                base = %base.snapshot_id,
                packs = missing,
                "packs of the base are not in the bucket as they were put: all is read and compared, and what was in them is sent again; \
                 `stockpot verify` names the snapshots that need them"
            );
            basis.compare_also(&format!(
                "packs of {} are not in the bucket",
                base.snapshot_id
            ));
        }
        self.leave_sparse_packs(&mut map, basis.changed.as_mut())
            .await?;
        basis.base = Some(Arc::new(map));
        Ok(basis)
    }

    /// The base, without what is missing of it; or why it is not built on.
    async fn open_base(
        &self,
        base: &Base,
        condemned: Option<&HashSet<PackName>>,
    ) -> Result<Result<Box<Opened>, String>, RepositoryError> {
        let dropped = |why: &str| Ok(Err(why.to_owned()));
        self.progress.requested(1);
        let record = read_record(self.repository, &base.volume_id, &base.snapshot_id).await;
        let manifest: Manifest = match record {
            Ok(Some(SnapshotRecord::Manifest(manifest, nonce))) if nonce == base.nonce => *manifest,
            Ok(_) => return dropped("it was deleted"),
            Err(error) if error.is_of_one_object() => return dropped(&chain(&error)),
            Err(error) => return Err(error),
        };
        let Some(condemned) = condemned else {
            return dropped("a prune's list cannot be read");
        };
        let pages = Pages::new(self.fetcher(), self.sealer.clone());
        let (bad, all_known) = self.bad_frames().await?;
        let map = BaseMap::open(base.clone(), manifest, pages, self.sealer.clone(), bad).await;
        match map {
            Ok(map)
                if map
                    .packs
                    .keys()
                    .chain(&map.list_packs)
                    .any(|pack| condemned.contains(&**pack)) =>
            {
                dropped("a prune is about to delete a pack of it")
            }
            Ok(mut map) => {
                let lost = self.missing_packs(&map).await?;
                let missing = lost.len();
                map.lose(lost);
                Ok(Ok(Box::new(Opened {
                    map,
                    all_marks_known: all_known,
                    missing,
                })))
            }
            Err(error) if error.is_of_one_object() => dropped(&chain(&error)),
            Err(error) => Err(error),
        }
    }

    pub(super) fn fetcher(&self) -> Fetcher {
        Fetcher {
            store: self.repository.store().clone(),
            progress: self.progress.clone(),
        }
    }

    /// The frames that marks name, and whether all marks could be read.
    pub(super) async fn bad_frames(&self) -> Result<(BadFrames, bool), RepositoryError> {
        let marks = self.records::<Mark>(MARKS_PREFIX).await?;
        let all_known = marks.iter().all(Option::is_some);
        let frames = marks.into_iter().flatten().flat_map(|mark| mark.bad);
        let frames = frames.map(|frame| (frame.pack, frame.offset));
        Ok((BadFrames(frames.collect()), all_known))
    }

    /// The chunks whose frames a verify found bad, as the packs' own indexes name them; `None` if a page of the map is
    /// among them, or if it cannot be known.
    async fn marked_chunks(&self, map: &BaseMap) -> Result<Option<Vec<u64>>, RepositoryError> {
        let mut marked: BTreeMap<Arc<PackName>, BTreeSet<u64>> = BTreeMap::new();
        for (pack, offset) in &map.bad.0 {
            if let Some((pack, _)) = map.packs.get_key_value(pack) {
                let offsets = marked.entry(pack.clone()).or_default();
                offsets.insert(u64::from(*offset));
            }
        }
        if marked.len() > MARKED_PACKS_MAX {
            return Ok(None);
        }
        let mut chunks = Vec::new();
        for (pack, offsets) in marked {
            let size = map.packs.get(&pack).map_or(0, |entry| entry.size_bytes);
            let index = match read_index(&self.fetcher(), self.sealer, &pack, size).await {
                Ok(index) => index,
                Err(error) if error.is_of_one_object() => return Ok(None),
                Err(error) => return Err(error),
            };
            for (offset, entry) in index.with_offsets() {
                if !offsets.contains(&offset) {
                    continue;
                }
                if entry.kind != FrameKind::Chunk {
                    return Ok(None);
                }
                chunks.push(entry.position);
            }
        }
        Ok(Some(chunks))
    }
}

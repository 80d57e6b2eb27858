//! Everything that leads to data: pack lists, packs and their indexes, maps.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Job, Problems,
    index::{Frames, IndexCache, contradiction, read_index},
    problems::{Place, place},
    unsound::Unsound,
};
use crate::{
    RepositoryError,
    format::{
        frame::FrameKind,
        ids::{PACKS_PREFIX, PackName},
        list_page::PackEntry,
        location::Location,
        manifest::Manifest,
    },
    pages::{broken_list_page, broken_page},
    repository::list_keys,
};

/// A pack that a snapshot needs.
#[derive(Debug, Default)]
pub(super) struct NeededPack {
    /// Its size in the bucket; `None` if it is missing.
    pub(super) size_bytes: Option<u64>,
    /// What the pack lists say; `None` for packs that hold a list's own pages.
    pub(super) entry: Option<PackEntry>,
    /// Who needs it.
    pub(super) snapshots: BTreeSet<Place>,
}

/// All packs that the snapshots need.
#[derive(Debug, Default)]
pub(super) struct NeededPacks(pub(super) BTreeMap<Arc<PackName>, NeededPack>);

impl NeededPacks {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.sizes().map(|(_, size_bytes)| size_bytes).sum()
    }

    /// The packs that are there, with their sizes in bytes.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (&PackName, u64)> {
        self.0
            .iter()
            .filter_map(|(pack, known)| Some((&**pack, known.size_bytes?)))
    }
}

/// Checks lists, packs and maps of the snapshots.
pub(super) async fn check(
    job: &Job<'_>,
    manifests: &[Manifest],
    problems: &mut Problems,
    unsound: &mut Unsound,
) -> Result<NeededPacks, RepositoryError> {
    let mut needed = NeededPacks::default();
    let mut lists = Vec::new();
    for manifest in manifests {
        lists.push(read_list(job, manifest, &mut needed, problems).await?);
    }
    find_packs(job, &mut needed, problems, unsound).await?;
    let mut indexes = IndexCache::default();
    for (manifest, listed) in manifests.iter().zip(&lists) {
        let mut check = MapCheck {
            job,
            manifest,
            needed: &needed,
            indexes: &mut indexes,
            problems,
            unsound,
            live: HashMap::new(),
        };
        let complete = check.walk().await?;
        let live = check.live;
        if complete && listed.complete {
            compare(manifest, &listed.entries, &live, problems);
        }
    }
    // Packs of list pages are reached by no map; their indexes are read here.
    for (pack, known) in &needed.0 {
        if let (None, Some(size_bytes)) = (&known.entry, known.size_bytes) {
            let sealer = job.repository.sealer()?;
            if let Err(error) = read_index(&job.fetcher, sealer, pack, size_bytes).await {
                problems.take(error, &pack.object_key(), &affected(known))?;
            }
        }
    }
    Ok(needed)
}

fn affected(pack: &NeededPack) -> Vec<Place> {
    pack.snapshots.iter().cloned().collect()
}

/// Frames and their bytes that a map reaches in each pack.
type LivePacks = HashMap<Arc<PackName>, (u32, u64)>;

/// A snapshot's pack list, as far as it can be read.
struct Listed {
    entries: Vec<PackEntry>,
    complete: bool,
}

async fn read_list(
    job: &Job<'_>,
    manifest: &Manifest,
    needed: &mut NeededPacks,
    problems: &mut Problems,
) -> Result<Listed, RepositoryError> {
    let snapshot = &place(manifest);
    let mut listed = Listed {
        entries: Vec::new(),
        complete: true,
    };
    let mut list = job.pages()?.pack_list(manifest.pack_list.as_ref());
    while let Some(entries) = list.next().await {
        job.check_cancelled()?;
        match entries {
            Ok(entries) => listed.entries.extend(entries),
            Err(broken) => {
                listed.complete = false;
                let at = broken.location.offset.into();
                let object = broken.location.pack.object_key();
                problems.take_at(
                    broken_list_page(broken),
                    &object,
                    Some(at),
                    std::slice::from_ref(snapshot),
                )?;
            }
        }
    }
    for pack in list.page_packs() {
        let known = needed.0.entry(pack.clone()).or_default();
        known.snapshots.insert(snapshot.clone());
    }
    for entry in &listed.entries {
        let known = needed.0.entry(entry.pack.clone()).or_default();
        known.snapshots.insert(snapshot.clone());
        match &known.entry {
            Some(other) if (other.size_bytes, other.crc32c) != (entry.size_bytes, entry.crc32c) => {
                let what = "two snapshots' pack lists say different things of it";
                problems.add(&entry.pack.object_key(), None, what, [snapshot.clone()]);
            }
            Some(_) => {}
            None => known.entry = Some(entry.clone()),
        }
    }
    Ok(listed)
}

/// Looks which packs are there, and whether they are as long as they should be.
async fn find_packs(
    job: &Job<'_>,
    needed: &mut NeededPacks,
    problems: &mut Problems,
    unsound: &mut Unsound,
) -> Result<(), RepositoryError> {
    let folder = |pack: &PackName| format!("{PACKS_PREFIX}{}/{}/", pack.volume, pack.snapshot);
    let folders: BTreeSet<String> = needed.0.keys().map(|pack| folder(pack)).collect();
    for folder in folders {
        job.check_cancelled()?;
        job.fetcher.progress.requested(1);
        for meta in list_keys(&**job.repository.store(), &folder).await? {
            if let Ok(pack) = PackName::parse(&meta.key)
                && let Some(known) = needed.0.get_mut(&pack)
            {
                known.size_bytes = Some(meta.size_bytes);
            }
        }
    }
    for (pack, known) in &needed.0 {
        let listed = known.entry.as_ref().map(|entry| entry.size_bytes);
        let what = match (known.size_bytes, listed) {
            (None, _) => "it is missing".to_owned(),
            (Some(found), Some(listed)) if found != listed => {
                format!("it has {found} bytes, the pack list says {listed}")
            }
            _ => continue,
        };
        unsound.pack(pack);
        problems.add(&pack.object_key(), None, what, affected(known));
    }
    Ok(())
}

struct MapCheck<'a, 'j> {
    job: &'a Job<'j>,
    manifest: &'a Manifest,
    needed: &'a NeededPacks,
    indexes: &'a mut IndexCache,
    problems: &'a mut Problems,
    unsound: &'a mut Unsound,
    live: LivePacks,
}

impl MapCheck<'_, '_> {
    /// Goes through the whole map; whether all of it could be read.
    async fn walk(&mut self) -> Result<bool, RepositoryError> {
        let snapshot = place(self.manifest);
        let sizes =
            |(pack, known): (&Arc<PackName>, &NeededPack)| Some((pack.clone(), known.size_bytes?));
        let sizes = self.needed.0.iter().filter_map(sizes).collect();
        let mut map = match self.job.pages()?.with_sizes(sizes).map(self.manifest) {
            Ok(map) => map,
            Err(error) => {
                let object = self.manifest.object_key();
                self.problems.take(error, &object, &[snapshot])?;
                return Ok(false);
            }
        };
        let (mut mapped, mut complete) = (0, true);
        while let Some(leaf) = map.next().await {
            self.job.check_cancelled()?;
            let leaf = match leaf {
                Ok(leaf) => leaf,
                Err(broken) => {
                    complete = false;
                    self.unsound.told_frame(&broken.location);
                    let at = Some(broken.location.offset.into());
                    let object = broken.location.pack.object_key();
                    let snapshot = std::slice::from_ref(&snapshot);
                    self.problems
                        .take_at(broken_page(broken), &object, at, snapshot)?;
                    continue;
                }
            };
            for page in &leaf.visited {
                self.location(&page.location, FrameKind::MapPage).await?;
            }
            for (_, location) in leaf.chunks() {
                mapped += 1;
                self.location(location, FrameKind::Chunk).await?;
            }
        }
        if complete && mapped != self.manifest.chunks.mapped {
            let what = format!(
                "it counts {} chunks, its map has {mapped}",
                self.manifest.chunks.mapped
            );
            self.problems
                .add(&self.manifest.object_key(), None, what, [snapshot]);
        }
        Ok(complete)
    }

    async fn location(
        &mut self,
        location: &Location,
        kind: FrameKind,
    ) -> Result<(), RepositoryError> {
        let live = self.live.entry(location.pack.clone()).or_default();
        live.0 += 1;
        live.1 += u64::from(location.length);
        let Some(frames) = self.frames(&location.pack).await? else {
            return Ok(());
        };
        if let Some(what) = contradiction(&frames, location, kind) {
            self.unsound.told_frame(location);
            let snapshot = place(self.manifest);
            let offset = Some(location.offset.into());
            self.problems
                .add(&location.pack.object_key(), offset, what, [snapshot]);
        }
        Ok(())
    }

    /// The frames of a pack; `None` if they cannot be known, which is a problem that was told.
    async fn frames(&mut self, pack: &Arc<PackName>) -> Result<Option<Frames>, RepositoryError> {
        if let Some(known) = self.indexes.get(pack) {
            return Ok(known);
        }
        let snapshot = place(self.manifest);
        let frames = match self.needed.0.get(pack) {
            None => {
                let what = "a map needs it, the pack list does not name it";
                self.problems
                    .add(&pack.object_key(), None, what, [snapshot]);
                None
            }
            Some(NeededPack {
                size_bytes: None, ..
            }) => None,
            Some(
                known @ NeededPack {
                    size_bytes: Some(size_bytes),
                    ..
                },
            ) => {
                let sealer = self.job.repository.sealer()?;
                match read_index(&self.job.fetcher, sealer, pack, *size_bytes).await {
                    Ok(frames) => Some(Arc::new(frames)),
                    Err(error) => {
                        self.unsound.pack(pack);
                        let object = pack.object_key();
                        self.problems.take(error, &object, &affected(known))?;
                        None
                    }
                }
            }
        };
        self.indexes.put(pack.clone(), frames.clone());
        Ok(frames)
    }
}

/// The pack list has to say what the map reaches: a prune believes it.
fn compare(manifest: &Manifest, listed: &[PackEntry], live: &LivePacks, problems: &mut Problems) {
    for entry in listed {
        let (frames, bytes) = live.get(&entry.pack).copied().unwrap_or_default();
        if (entry.live_frames, entry.live_bytes) != (frames, bytes) {
            let what = format!(
                "the pack list counts {} frames of {} bytes in use, the map {frames} of {bytes}",
                entry.live_frames, entry.live_bytes
            );
            let snapshot = place(manifest);
            problems.add(&entry.pack.object_key(), None, what, [snapshot]);
        }
    }
}

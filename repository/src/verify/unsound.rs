//! What turned out to be bad, whom it hurts, and the mark that keeps later uploads from referring to it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Job, Problems,
    problems::{Place, place},
    structure::NeededPacks,
};
use crate::{
    RepositoryError,
    format::{
        ids::{MARKS_PREFIX, ObjectId, PackName, marks_key},
        location::Location,
        manifest::{Manifest, now, tool},
        protocol::{BadFrame, Mark},
        record::Record as _,
    },
    repository::{list_keys, read_object},
    snapshots::chain,
    store::PutMode,
};

/// Frames in one mark: far below what the format allows for the whole object.
const FRAMES_PER_MARK: usize = 40_000;

/// Frames and whole packs that are not to be relied on.
#[derive(Debug, Default)]
pub(super) struct Unsound {
    /// Frames that do not hold what they should, and what is wrong; no text where that is told already.
    frames: BTreeMap<(Arc<PackName>, u64), Option<String>>,
    /// Packs that are missing, or of which it cannot be said which frames are good.
    packs: BTreeSet<Arc<PackName>>,
}

impl Unsound {
    /// A frame, with what is wrong with it, which is told if a snapshot needs it.
    pub(super) fn frame(&mut self, pack: &Arc<PackName>, offset: u64, what: String) {
        self.frames.insert((pack.clone(), offset), Some(what));
    }

    /// A frame whose problem was told.
    pub(super) fn told_frame(&mut self, location: &Location) {
        let place = (location.pack.clone(), location.offset.into());
        self.frames.entry(place).or_default();
    }

    /// A whole pack, whose problem was told.
    pub(super) fn pack(&mut self, pack: &Arc<PackName>) {
        self.packs.insert(pack.clone());
    }

    fn has(&self, location: &Location) -> bool {
        let place = (location.pack.clone(), u64::from(location.offset));
        self.packs.contains(&location.pack) || self.frames.contains_key(&place)
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.packs.is_empty()
    }

    fn touches(&self, pack: &Arc<PackName>) -> bool {
        let from = (pack.clone(), 0);
        self.packs.contains(pack)
            || self
                .frames
                .range(from..)
                .next()
                .is_some_and(|((other, _), _)| other == pack)
    }

    /// Tells what is wrong with frames that snapshots need, and returns them, and how many nobody needs.
    pub(super) async fn attribute(
        &self,
        job: &Job<'_>,
        needed: &NeededPacks,
        manifests: &[Manifest],
        problems: &mut Problems,
    ) -> Result<(Vec<BadFrame>, u64), RepositoryError> {
        if self.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let mut reached = Reached {
            unsound: self,
            frames: BTreeMap::new(),
            complete: true,
        };
        for manifest in manifests {
            let id = place(manifest);
            let concerns = needed
                .0
                .iter()
                .any(|(pack, known)| known.snapshots.contains(&id) && self.touches(pack));
            if concerns {
                reached.walk(job, manifest).await?;
            }
        }
        let mut unneeded = 0;
        for ((pack, offset), what) in &self.frames {
            let who = reached.frames.get(&(pack.clone(), *offset));
            // Below a page that cannot be read nobody knows who needs what.
            if who.is_none() && reached.complete {
                unneeded += 1;
                continue;
            }
            let snapshots = who.map(|(_, snapshots)| snapshots.clone());
            if let Some(what) = what {
                let object = pack.object_key();
                problems.add(
                    &object,
                    Some(*offset),
                    what,
                    snapshots.into_iter().flatten(),
                );
            }
        }
        let bad = reached.frames.into_values().map(|(frame, _)| frame);
        Ok((bad.collect(), unneeded))
    }
}

/// Bad frames that maps lead to, and the snapshots whose maps they are.
struct Reached<'a> {
    unsound: &'a Unsound,
    frames: BTreeMap<(Arc<PackName>, u64), (BadFrame, BTreeSet<Place>)>,
    complete: bool,
}

impl Reached<'_> {
    async fn walk(&mut self, job: &Job<'_>, manifest: &Manifest) -> Result<(), RepositoryError> {
        let Ok(mut map) = job.pages()?.map(manifest) else {
            self.complete = false;
            return Ok(());
        };
        let snapshot = place(manifest);
        while let Some(leaf) = map.next().await {
            job.check_cancelled()?;
            match leaf {
                Ok(leaf) => {
                    for page in &leaf.visited {
                        self.note(&page.location, &snapshot);
                    }
                    for (_, location) in leaf.chunks() {
                        self.note(location, &snapshot);
                    }
                }
                Err(broken) => {
                    self.complete = false;
                    self.add(&broken.location, &snapshot);
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, location: &Location, snapshot: &Place) {
        if self.unsound.has(location) {
            self.add(location, snapshot);
        }
    }

    fn add(&mut self, location: &Location, snapshot: &Place) {
        let frame = || BadFrame {
            pack: (*location.pack).clone(),
            offset: location.offset,
            hash: location.hash,
        };
        let place = (location.pack.clone(), location.offset.into());
        let (_, snapshots) = self
            .frames
            .entry(place)
            .or_insert_with(|| (frame(), BTreeSet::new()));
        snapshots.insert(snapshot.clone());
    }
}

/// Puts marks for frames that none has yet, and returns how many those are. What cannot be marked is no failure of the verify:
/// it has found what it has found.
pub(super) async fn mark(job: &Job<'_>, bad: Vec<BadFrame>) -> Result<u64, String> {
    let put = async {
        let known = marked(job).await?;
        let new: Vec<BadFrame> = bad
            .into_iter()
            .filter(|frame| !known.contains(&(frame.pack.clone(), frame.offset)))
            .collect();
        let sealer = job.repository.sealer_to_write()?;
        for part in new.chunks(FRAMES_PER_MARK) {
            let unstorable = |source| RepositoryError::Unstorable {
                what: "the marks".to_owned(),
                source,
            };
            let name = ulid::Ulid::generate().to_string().to_ascii_lowercase();
            let mark = Mark {
                verify_id: ObjectId::new(format!("verify-{name}")).map_err(unstorable)?,
                bad: part.to_vec(),
                found_at: now(),
                tool: tool(),
            };
            let key = marks_key(&mark.verify_id);
            let object = sealer.seal_record(&key, &mark).map_err(unstorable)?;
            let body = Bytes::from(object.bytes);
            job.fetcher.progress.requested(1);
            let store = job.repository.store();
            store.put(&key, body, PutMode::IfAbsent).await?;
        }
        Ok::<_, RepositoryError>(new.len() as u64)
    };
    put.await.map_err(|error| chain(&error))
}

/// Frames that are marked already.
async fn marked(job: &Job<'_>) -> Result<HashSet<(PackName, u32)>, RepositoryError> {
    let store = &**job.repository.store();
    let sealer = job.repository.sealer()?;
    let mut known = HashSet::new();
    for meta in list_keys(store, MARKS_PREFIX).await? {
        job.fetcher.progress.requested(1);
        let object = match read_object(store, &meta.key, Mark::OBJECT_MAX).await {
            Ok(Some(object)) => object,
            Ok(None) => continue,
            // Told by the check of the marks themselves.
            Err(error) if error.is_of_one_object() => continue,
            Err(error) => return Err(error),
        };
        if let Ok((mark, _)) = sealer.open_record::<Mark>(&meta.key, &object) {
            known.extend(mark.bad.into_iter().map(|frame| (frame.pack, frame.offset)));
        }
    }
    Ok(known)
}

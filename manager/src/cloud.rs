//! The repositories that profiles name: opened when first needed, kept open, found again by the short id in a
//! snapshot's id.
//!
//! This is the only part of the manager that calls the repository's verbs, and the place where their two id types
//! meet the driver's.

mod failures;
mod first;
mod records;
mod secrets;
mod stores;
#[cfg(test)]
mod tests;
mod uploads;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use stockpot_driver::{SnapshotId, VolumeId};
use stockpot_repository::{
    CreateOptions, DEFAULT_CHUNK_SIZE_BYTES, Opened, Repository, RepositoryError,
    format::{ids as format_ids, manifest::Manifest},
    lock as object_lock,
    snapshots::{self, SnapshotSummary},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::failures::is_not_there_any_more;
pub(crate) use self::failures::{cannot_be_opened, may_be_covered, may_be_credentials};
use self::records::Records;
pub use self::stores::{S3Stores, Stores};
pub(crate) use self::uploads::open_uploads;
use crate::{
    ManagerError,
    catalog::Catalog,
    joined::joined,
    profile::{Profile, ProfileError, Profiles, Topology},
};

/// How long a caller waits for a bucket before it is told that it does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What is kept of one place. Whoever opens its repository holds it.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// The repositories of the profiles.
#[derive(Debug)]
pub(crate) struct Clouds {
    profiles: Arc<Profiles>,
    stores: Arc<dyn Stores>,
    catalog: Catalog,
    // One slot per place, so that a slow bucket holds up nobody but its own callers.
    open: Mutex<HashMap<String, Slot>>,
    /// Places whose repository was found to be gone: what is on record of them does not count until one is opened there again.
    doubted: Arc<Mutex<BTreeSet<String>>>,
    /// What listings have read.
    records: Records,
    answer_within: Duration,
    /// Repositories being made; drained before the manager ends.
    tasks: TaskTracker,
}

/// An open repository, and what it was opened with.
#[derive(Debug, Clone)]
struct Kept {
    topology: Topology,
    repository: Repository,
}

/// What a repository says of one snapshot.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is committed.
    Committed(Box<Manifest>),
    /// It was deleted, or its upload cancelled.
    Deleted,
    /// Its upload is not complete.
    Uploading,
    /// It never was there.
    Absent,
}

impl Clouds {
    pub(crate) fn new(
        profiles: Arc<Profiles>,
        stores: Arc<dyn Stores>,
        catalog: Catalog,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            profiles,
            stores,
            catalog,
            open: Mutex::default(),
            doubted: Arc::default(),
            records: Records::default(),
            answer_within: ANSWER_WITHIN,
            tasks,
        }
    }

    /// The profile of a name.
    pub(crate) async fn profile(&self, name: &str) -> Result<Arc<Profile>, ManagerError> {
        let name = name.to_owned();
        self.read(move |profiles| profiles.get(&name)).await
    }

    /// Every profile that can be read.
    pub(crate) async fn all_profiles(&self) -> Result<Vec<Arc<Profile>>, ManagerError> {
        self.read(Profiles::all).await
    }

    /// Reads or writes the folder where blocking keeps nobody else waiting.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Profiles) -> Result<T, ProfileError> + Send + 'static,
    ) -> Result<T, ManagerError> {
        let profiles = self.profiles.clone();
        let reading = tokio::task::spawn_blocking(move || read(&profiles));
        Ok(joined(reading).await??)
    }

    /// The repository of a profile, made where nothing is.
    pub(crate) async fn for_writing(&self, profile: &Profile) -> Result<Repository, ManagerError> {
        self.repository(profile.topology()?, true).await
    }

    /// The repository of a profile, if there is one.
    pub(crate) async fn for_reading(
        &self,
        profile: &Profile,
    ) -> Result<Option<Repository>, ManagerError> {
        match self.repository(profile.topology()?, false).await {
            Ok(repository) => Ok(Some(repository)),
            Err(ManagerError::Repository(RepositoryError::NoRepository { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The short id of a profile's repository: from memory or the catalog where it was seen before, so that
    /// a bucket that does not answer does not keep a snapshot from being cut.
    pub(crate) async fn short_id(&self, profile: &Profile) -> Result<String, ManagerError> {
        let place = profile.topology()?.place();
        let known = self.catalog.repositories().await?.remove(&place);
        match known.filter(|_| !lock(&self.doubted).contains(&place)) {
            Some(known) => Ok(known),
            None => Ok(self.for_writing(profile).await?.short_id()),
        }
    }

    /// The repository that a short id names, with the profile that leads to it.
    ///
    /// Places that were seen to be other repositories are not asked again. Those that nobody has seen yet are asked also where
    /// one is found, all at once: eight digits are not an identity. One that does not answer keeps nobody from what was found.
    /// `None` when all answered and none has it.
    ///
    /// # Errors
    /// `FailedPrecondition` where two places show the short id and are not the same repository: anybody who can write to
    /// a bucket can make one that shows it.
    pub(crate) async fn by_short_id(
        &self,
        short_id: &str,
    ) -> Result<Option<(Arc<Profile>, Repository)>, ManagerError> {
        let known = self.catalog.repositories().await?;
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for profile in self.all_profiles().await? {
            let Ok(topology) = profile.topology() else {
                continue;
            };
            match known.get(&topology.place()) {
                Some(id) if id == short_id => named.push(profile),
                Some(_) => {}
                None => others.push(profile),
            }
        }
        let mut unanswered: Option<ManagerError> = None;
        let mut found: Option<(Arc<Profile>, Repository)> = None;
        for profiles in [named, others] {
            // A place that is known to be the one, and may answer later, is what a caller has to know.
            let later = unanswered.as_ref().is_some_and(|e| !cannot_be_opened(e));
            if later && found.is_none() {
                break;
            }
            let asked = profiles.iter().map(|profile| self.for_reading(profile));
            for (profile, answer) in profiles.iter().zip(join_all(asked).await) {
                match answer {
                    Ok(Some(repository)) if repository.short_id() == short_id => match &found {
                        Some((first, other)) if !is_same(other, &repository) => {
                            return Err(two_show(short_id, first, profile));
                        }
                        Some(_) => {}
                        None => found = Some((profile.clone(), repository)),
                    },
                    // A place that was emptied may be another repository now.
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(profile = profile.name, %error, "a repository cannot be asked");
                        // What may answer later counts for more than what will not.
                        if unanswered.as_ref().is_none_or(cannot_be_opened) {
                            unanswered = Some(error);
                        }
                    }
                }
            }
        }
        match (found, unanswered) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// Everything that a repository says of snapshots: committed, deleted, being uploaded, unreadable. What was read
    /// for an earlier listing is not read again.
    pub(crate) async fn list(
        &self,
        profile: &Profile,
        repository: &Repository,
    ) -> Result<Vec<SnapshotSummary>, ManagerError> {
        let records = self.records.of(&profile.topology()?.place(), repository);
        let asking = async { Ok(snapshots::list_with(repository, &records).await?) };
        within(&repository.location(), self.answer_within, asking).await
    }

    /// Forgets what was read of places that no profile leads to any more.
    pub(crate) fn keep_records_of(&self, is_named: impl Fn(&str) -> bool) {
        self.records.keep_only(is_named);
    }

    /// Forgets an open repository, so that changed credentials and keys are read again.
    pub(crate) fn forget(&self, profile: &Profile) {
        if let Ok(topology) = profile.topology() {
            self.slots().remove(&topology.place());
        }
    }

    /// Draws from a failure what to do before the repository is used again.
    pub(crate) fn heed(&self, profile: &Profile, error: &ManagerError) {
        let is_gone = is_not_there_any_more(error);
        if is_gone || may_be_credentials(error) {
            self.forget(profile);
        }
        if let (true, Ok(topology)) = (is_gone, profile.topology()) {
            lock(&self.doubted).insert(topology.place());
        }
    }

    async fn repository(
        &self,
        topology: &Topology,
        make: bool,
    ) -> Result<Repository, ManagerError> {
        let place = topology.place();
        let slot = self.slots().entry(place.clone()).or_default().clone();
        let opening = async {
            let kept = slot.lock_owned().await;
            if let Some(kept) = kept.as_ref().filter(|kept| kept.topology == *topology) {
                return Ok(kept.repository.clone());
            }
            let opening = open(self.stores.clone(), topology.clone(), make);
            let opening = keep(kept, opening, topology.clone(), self.catalog.clone());
            let doubted = self.doubted.clone();
            let opening = async move {
                let repository = opening.await?;
                lock(&doubted).remove(&place);
                Ok(repository)
            };
            if !make {
                return opening.await;
            }
            // To its end, whoever waits for it: what a new repository's endpoint is tried with has to go again, and
            // a slow one would never get to the end otherwise.
            joined(self.tasks.spawn(opening.in_current_span())).await?
        };
        within(&topology.location(), self.answer_within, opening).await
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        lock(&self.open)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether two places show the same repository, and not only its short id.
pub(crate) fn is_same(one: &Repository, other: &Repository) -> bool {
    one.id() == other.id() && one.is_sealed() == other.is_sealed()
}

pub(crate) fn two_show(short_id: &str, one: &Profile, other: &Profile) -> ManagerError {
    ManagerError::FailedPrecondition(format!(
        "profiles {} and {} lead to two repositories that both show the short id {short_id}: remove the profile that does not \
         belong here",
        one.name, other.name
    ))
}

/// Opens a repository, or makes it.
async fn open(
    stores: Arc<dyn Stores>,
    topology: Topology,
    make: bool,
) -> Result<Repository, ManagerError> {
    let key = secrets::key(topology.key.as_ref()).await?;
    let store = stores.open(&topology).await?;
    if !make {
        return Ok(Repository::open(store, key).await?);
    }
    if topology.lock.is_some() {
        // Before anything is written: what cannot be locked is not begun.
        object_lock::require(&*store).await?;
    }
    let options = CreateOptions {
        chunk_size_bytes: topology
            .chunk_size_bytes
            .unwrap_or(DEFAULT_CHUNK_SIZE_BYTES),
        key,
        endpoint: None,
    };
    let (repository, opened) = Repository::open_or_create(store, options).await?;
    if let Opened::Created(report) = opened {
        tracing::info!(location = topology.location(), %report, "a repository was made");
    }
    Ok(repository)
}

/// Keeps what is opened, in memory and on record, and lets go of its slot.
async fn keep(
    mut slot: OwnedMutexGuard<Option<Kept>>,
    opening: impl Future<Output = Result<Repository, ManagerError>>,
    topology: Topology,
    catalog: Catalog,
) -> Result<Repository, ManagerError> {
    let repository = opening.await?;
    let place = topology.place();
    catalog
        .put_repository(&place, &repository.short_id())
        .await?;
    *slot = Some(Kept {
        topology,
        repository: repository.clone(),
    });
    Ok(repository)
}

/// Gives up waiting for a bucket, with an error that names it.
async fn within<T>(
    location: &str,
    limit: Duration,
    asking: impl Future<Output = Result<T, ManagerError>>,
) -> Result<T, ManagerError> {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(ManagerError::NoAnswer {
            what: location.to_owned(),
            seconds: limit.as_secs(),
        }),
    }
}

/// Looks one snapshot up; by its volume too where that is known, which saves a listing.
pub(crate) async fn look_up(
    repository: &Repository,
    volume: Option<&VolumeId>,
    snapshot: &SnapshotId,
) -> Result<Found, ManagerError> {
    let asking = async {
        let found = match volume {
            Some(volume) => {
                let (volume, snapshot) = (format_volume(volume)?, format_snapshot(snapshot)?);
                snapshots::manifest(repository, &volume, &snapshot).await
            }
            None => snapshots::find(repository, snapshot.as_str()).await,
        };
        match found {
            // A prefix of an id finds others.
            Ok(manifest) if manifest.snapshot_id.as_str() != snapshot.as_str() => Ok(Found::Absent),
            Ok(manifest) => Ok(Found::Committed(Box::new(manifest))),
            Err(RepositoryError::Deleted { .. }) => Ok(Found::Deleted),
            Err(RepositoryError::NotCommitted { .. }) => Ok(Found::Uploading),
            Err(RepositoryError::UnknownSnapshot { .. }) => Ok(Found::Absent),
            Err(error) => Err(error.into()),
        }
    };
    within(&repository.location(), ANSWER_WITHIN, asking).await
}

/// The volume of a snapshot that is or was in a repository, or on its way there, from as few requests as that takes.
pub(crate) async fn volume_of(
    repository: &Repository,
    snapshot: &SnapshotId,
) -> Result<Option<VolumeId>, ManagerError> {
    let id = format_snapshot(snapshot)?;
    let asking = async {
        match snapshots::volumes_of(repository, &id).await?.pop() {
            Some(volume) => Ok(Some(volume)),
            None => Ok(snapshots::volume_uploading(repository, &id).await?),
        }
    };
    let volume = within(&repository.location(), ANSWER_WITHIN, asking).await?;
    match volume {
        None => Ok(None),
        Some(volume) => match volume.as_str().parse() {
            Ok(volume) => Ok(Some(volume)),
            Err(_) => Err(ManagerError::Internal(format!(
                "volume id {volume} in the bucket"
            ))),
        },
    }
}

/// Decides that a snapshot is not, or never will be, in the repository.
pub(crate) async fn delete(
    repository: &Repository,
    volume: &VolumeId,
    snapshot: &SnapshotId,
) -> Result<(), ManagerError> {
    let (volume, snapshot) = (format_volume(volume)?, format_snapshot(snapshot)?);
    let asking = async { Ok(snapshots::delete(repository, &volume, &snapshot).await?) };
    within(&repository.location(), ANSWER_WITHIN, asking).await
}

/// Where a committed snapshot lies.
pub(crate) fn location_of(repository: &Repository, manifest: &Manifest) -> String {
    format!("{}/{}", repository.location(), manifest.object_key())
}

/// The same id as the repository's type.
pub(crate) fn format_volume(id: &VolumeId) -> Result<format_ids::VolumeId, ManagerError> {
    format_ids::VolumeId::new(id.as_str())
        .map_err(|error| ManagerError::Internal(error.to_string()))
}

/// The same id as the repository's type.
pub(crate) fn format_snapshot(id: &SnapshotId) -> Result<format_ids::SnapshotId, ManagerError> {
    format_ids::SnapshotId::new(id.as_str())
        .map_err(|error| ManagerError::Internal(error.to_string()))
}

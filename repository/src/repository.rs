//! Making and opening a repository: marker, key slots, and what must not be mistaken for one.

mod first;
mod keys;
mod listing;
mod marker;
mod objects;
mod slots;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use jiff::Timestamp;

pub use self::keys::SlotSummary;
use self::objects::{read_marker, refuse_foreign, refuse_hidden};
pub(crate) use self::{
    listing::{Strays, each_key, list_all, list_keys, too_many},
    objects::read_object,
};
use crate::{
    RepositoryError,
    format::{
        crypto::Sealer,
        ids::{MARKER_KEY, RepositoryId, SnapshotId, slot_key},
        keys::{KeySource, RepositoryKey},
        marker::Marker,
    },
    joined,
    store::{EndpointReport, ObjectStore, PutMode, StoreError, first::FirstVersions},
};

/// Chunk size of a new repository when nothing else is said, in bytes. Smaller chunks make smaller increments and
/// faster restores; this is the smallest that the format has.
pub const DEFAULT_CHUNK_SIZE_BYTES: u32 = 64 << 10;

/// Trials of an endpoint lie below this while they run.
const PROBE_PREFIX: &str = "probe/";

/// How to make a repository.
#[derive(Debug)]
pub struct CreateOptions {
    /// Size of all its chunks: a power of two from 64 KiB to 4 MiB.
    pub chunk_size_bytes: u32,
    /// Seals it; without a key, whoever reads the bucket reads the volumes.
    pub key: Option<KeySource>,
    /// What the endpoint can, if that was found out already; else it is tried now.
    pub endpoint: Option<EndpointReport>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            chunk_size_bytes: DEFAULT_CHUNK_SIZE_BYTES,
            key: None,
            endpoint: None,
        }
    }
}

/// What goes into a marker beside the key.
struct NewMarker {
    chunk_size_bytes: u32,
    endpoint: Option<EndpointReport>,
}

impl CreateOptions {
    fn split(self) -> (Option<Arc<KeySource>>, NewMarker) {
        let marker = NewMarker {
            chunk_size_bytes: self.chunk_size_bytes,
            endpoint: self.endpoint,
        };
        (self.key.map(Arc::new), marker)
    }
}

/// How [`Repository::open_or_create`] came to its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It was there.
    Existing,
    /// It was made; this is what its endpoint can.
    Created(EndpointReport),
}

/// A bucket and prefix with everything that restoring needs. Cheap to clone.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    marker: Marker,
    /// The marker as it was read or put.
    marker_object: Bytes,
    /// `None`: sealed, and opened without a key.
    sealer: Option<Sealer>,
    key: Option<RepositoryKey>,
    /// What the key was in.
    slot: Option<slots::KnownSlot>,
    /// What it is read through, where its first versions are.
    first: OnceLock<FirstVersions>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("location", &self.location())
            .field("id", &self.0.marker.id)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Makes a repository in an empty prefix.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyThere`], [`RepositoryError::Foreign`] where something else is, [`RepositoryError::Hidden`]
    /// where a marker was deleted and is kept as an older version, and whatever the store says.
    pub async fn create(
        store: Arc<dyn ObjectStore>,
        options: CreateOptions,
    ) -> Result<(Self, EndpointReport), RepositoryError> {
        if read_marker(&*store).await?.is_some() {
            return Err(RepositoryError::AlreadyThere {
                location: store.location(),
            });
        }
        let (key, settings) = options.split();
        Self::create_unmarked(store, key, settings).await
    }

    /// Opens a repository: reads its marker, unwraps its key, and believes neither before they fit each other.
    ///
    /// # Errors
    /// [`RepositoryError::NoRepository`], [`RepositoryError::Foreign`], [`RepositoryError::KeyNeeded`],
    /// [`RepositoryError::WrongKey`], [`RepositoryError::NotSealed`], [`RepositoryError::Newer`],
    /// [`RepositoryError::Damaged`].
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        key: Option<KeySource>,
    ) -> Result<Self, RepositoryError> {
        Self::open_shared(store, key.map(Arc::new)).await
    }

    async fn open_shared(
        store: Arc<dyn ObjectStore>,
        key: Option<Arc<KeySource>>,
    ) -> Result<Self, RepositoryError> {
        let Some(object) = read_marker(&*store).await? else {
            refuse_foreign(&*store).await?;
            return Err(RepositoryError::NoRepository {
                location: store.location(),
            });
        };
        let marker = parse(&object)?;
        let location = store.location();
        let (key, slot) = match (marker.sealed, key) {
            (true, None) => return Err(RepositoryError::KeyNeeded { location }),
            (false, Some(_)) => return Err(RepositoryError::NotSealed { location }),
            (false, None) => (None, None),
            (true, Some(key)) => {
                let (key, slot) = slots::unwrap_key(&*store, &marker, key).await?;
                (Some(key), slot)
            }
        };
        let sealer = Sealer::new(marker.id, key.clone());
        marker
            .check_mac(&sealer, &object)
            .map_err(|source| RepositoryError::object(MARKER_KEY, None, source))?;
        Ok(Self::with(store, (marker, object), Some(sealer), key, slot))
    }

    /// Opens a repository without its key, to list what is in it: a sealed one shows ids only, and nothing that it
    /// shows is vouched for.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_locked(store: Arc<dyn ObjectStore>) -> Result<Self, RepositoryError> {
        match Self::open(store.clone(), None).await {
            Err(RepositoryError::KeyNeeded { location }) => {
                let object = read_marker(&*store)
                    .await?
                    .ok_or(RepositoryError::NoRepository { location })?;
                let marker = parse(&object)?;
                Ok(Self::with(store, (marker, object), None, None, None))
            }
            opened => opened,
        }
    }

    /// Opens the repository, or makes it where nothing is.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub async fn open_or_create(
        store: Arc<dyn ObjectStore>,
        options: CreateOptions,
    ) -> Result<(Self, Opened), RepositoryError> {
        let (key, settings) = options.split();
        match Self::open_shared(store.clone(), key.clone()).await {
            Ok(repository) => Ok((repository, Opened::Existing)),
            Err(RepositoryError::NoRepository { .. }) => {
                match Self::create_unmarked(store.clone(), key.clone(), settings).await {
                    Ok((repository, report)) => Ok((repository, Opened::Created(report))),
                    // Somebody was quicker.
                    Err(RepositoryError::AlreadyThere { .. }) => {
                        Ok((Self::open_shared(store, key).await?, Opened::Existing))
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn create_unmarked(
        store: Arc<dyn ObjectStore>,
        source: Option<Arc<KeySource>>,
        settings: NewMarker,
    ) -> Result<(Self, EndpointReport), RepositoryError> {
        if source
            .as_ref()
            .is_some_and(|source| source.exported().is_some())
        {
            return Err(RepositoryError::Settings(
                "an exported key opens the repository that it comes from; a new repository needs a key file or passphrase \
                 of its own"
                    .to_owned(),
            ));
        }
        refuse_foreign(&*store).await?;
        refuse_hidden(&*store).await?;
        let unstorable = |source| RepositoryError::Unstorable {
            what: "the repository's marker".to_owned(),
            source,
        };
        let id = RepositoryId::generate().map_err(unstorable)?;
        let key = source.as_ref().map(|_| RepositoryKey::generate());
        let key = key.transpose().map_err(unstorable)?;
        let sealer = Sealer::new(id, key.clone());
        let report = match settings.endpoint {
            Some(report) => report,
            None => store.probe().await?,
        };
        store.adopt(&report);
        let endpoint = serde_json::to_value(&report)
            .map_err(|e| RepositoryError::Internal(format!("the endpoint's report: {e}")))?;
        let marker =
            Marker::new(&sealer, settings.chunk_size_bytes, endpoint).map_err(unstorable)?;
        let object = Bytes::from(marker.encode(&sealer).map_err(unstorable)?);
        // The slot first: a marker without a slot would be a repository that nobody can open.
        let slot = match (source, &key) {
            (Some(source), Some(key)) => {
                Some(slots::put_slot(&*store, id, source, key.clone()).await?)
            }
            _ => None,
        };
        match store
            .put(MARKER_KEY, object.clone(), PutMode::IfAbsent)
            .await
        {
            Ok(()) => {
                let marker = (marker, object);
                Ok((Self::with(store, marker, Some(sealer), key, slot), report))
            }
            Err(StoreError::AlreadyExists { .. }) => {
                if let Some(slot) = slot {
                    store.delete(&slot_key(&slot.id)).await?;
                }
                Err(RepositoryError::AlreadyThere {
                    location: store.location(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn with(
        store: Arc<dyn ObjectStore>,
        (marker, marker_object): (Marker, Bytes),
        sealer: Option<Sealer>,
        key: Option<RepositoryKey>,
        slot: Option<slots::KnownSlot>,
    ) -> Self {
        match serde_json::from_value::<EndpointReport>(marker.endpoint.clone()) {
            Ok(report) => store.adopt(&report),
            Err(error) => {
                tracing::warn!(%error, "the marker does not say what the endpoint can; the usual is assumed");
            }
        }
        Self(Arc::new(Inner {
            store,
            marker,
            marker_object,
            sealer,
            key,
            slot,
            first: OnceLock::new(),
        }))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.0.marker.id
    }

    /// The first 8 digits of its id; its snapshots' ids carry them.
    #[must_use]
    pub fn short_id(&self) -> String {
        self.0.marker.id.short()
    }

    /// Size of its chunks in bytes.
    #[must_use]
    pub fn chunk_size_bytes(&self) -> u32 {
        self.0.marker.chunk_size_bytes
    }

    /// Whether its content is encrypted.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.0.marker.sealed
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.0.marker.created_at
    }

    /// Where it is, in words.
    #[must_use]
    pub fn location(&self) -> String {
        self.0.store.location()
    }

    /// A new id for a snapshot.
    #[must_use]
    pub fn new_snapshot_id(&self) -> SnapshotId {
        SnapshotId::generate(&self.0.marker.id)
    }

    /// The store that it lies in.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.0.store
    }

    /// What its endpoint could do when it was made; `None` if the marker does not say.
    #[must_use]
    pub fn endpoint(&self) -> Option<EndpointReport> {
        serde_json::from_value(self.0.marker.endpoint.clone()).ok()
    }

    /// The marker as it was read or put.
    pub(crate) fn marker_object(&self) -> &Bytes {
        &self.0.marker_object
    }

    /// What opens and seals its content.
    ///
    /// # Errors
    /// [`RepositoryError::KeyNeeded`].
    pub(crate) fn sealer(&self) -> Result<&Sealer, RepositoryError> {
        self.0
            .sealer
            .as_ref()
            .ok_or_else(|| RepositoryError::KeyNeeded {
                location: self.location(),
            })
    }

    /// The repository key.
    ///
    /// # Errors
    /// [`RepositoryError::NoKeys`], [`RepositoryError::KeyNeeded`].
    fn key(&self) -> Result<&RepositoryKey, RepositoryError> {
        let location = self.location();
        match &self.0.key {
            Some(key) => Ok(key),
            None if self.is_sealed() => Err(RepositoryError::KeyNeeded { location }),
            None => Err(RepositoryError::NoKeys { location }),
        }
    }

    /// Like [`sealer`](Self::sealer), for whoever is about to write.
    ///
    /// # Errors
    /// [`RepositoryError::KeyNeeded`], [`RepositoryError::Newer`].
    pub(crate) fn sealer_to_write(&self) -> Result<&Sealer, RepositoryError> {
        self.0
            .marker
            .check_writable()
            .map_err(|source| RepositoryError::object(MARKER_KEY, None, source))?;
        self.sealer()
    }
}

fn parse(object: &[u8]) -> Result<Marker, RepositoryError> {
    Marker::parse(object).map_err(|source| RepositoryError::object(MARKER_KEY, None, source))
}

/// Runs what takes long or blocks away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RepositoryError> {
    joined::ended(tokio::task::spawn_blocking(work).await, "a thread").await
}

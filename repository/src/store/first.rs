//! A bucket as it was first written: what was deleted or overwritten since is seen through.
//!
//! Every name in a repository but that of a manifest is written once, so the first version of an object is the one that we
//! wrote, and all others are somebody else's. Manifest keys go from manifest to tombstone: there the newest version counts that
//! the repository's key vouches for. Nothing is believed because of its place in a listing: what is read is checked by tags and
//! hashes as ever.
//!
//! Reading only: it is for getting data back.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    EndpointReport, ListPage, Multipart, ObjectMeta, ObjectStore, PartReceipt, PutMode,
    RequestCounts, StoreError,
    versions::{ObjectVersion, Versions},
};
use crate::format::{crypto::Sealer, ids::SNAPSHOTS_PREFIX, manifest::SnapshotRecord};

/// Versions of one manifest key that are looked at: a tombstone and a manifest are ours, the others somebody's.
const RECORDS_TRIED_MAX: usize = 1000;

/// Versions by key, of each the newest first, without delete markers.
type ByKey = Arc<HashMap<String, Vec<ObjectVersion>>>;

/// See the module.
#[derive(Clone)]
pub(crate) struct FirstVersions(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    /// By the folder that was listed.
    folders: Mutex<HashMap<String, ByKey>>,
    /// The marker's version that is tried or was found right.
    marker: Mutex<Option<(String, String)>>,
    /// Tells our records from others.
    sealer: OnceLock<Sealer>,
}

impl fmt::Debug for FirstVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FirstVersions").field(&self.0.store).finish()
    }
}

impl FirstVersions {
    /// Looks through a store that keeps versions; `None` for one that does not.
    pub(crate) fn of(store: Arc<dyn ObjectStore>) -> Option<Self> {
        store.versions()?;
        Some(Self(Arc::new(Inner {
            store,
            folders: Mutex::default(),
            marker: Mutex::default(),
            sealer: OnceLock::new(),
        })))
    }

    /// The versions of one object, the oldest first.
    ///
    /// # Errors
    /// As the store answers.
    pub(crate) async fn history(&self, key: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let mut found = self.of_key(key).await?;
        found.reverse();
        Ok(found)
    }

    /// Reads this version of the object from now on.
    pub(crate) fn pin(&self, version: &ObjectVersion) {
        let pinned = (version.key.clone(), version.version_id.clone());
        *lock(&self.0.marker) = Some(pinned);
    }

    /// From now on records are told apart by this.
    pub(crate) fn trust(&self, sealer: Sealer) {
        // It is the same one each time.
        let _ = self.0.sealer.set(sealer);
    }

    fn versions(&self) -> Result<&dyn Versions, StoreError> {
        self.0.store.versions().ok_or_else(|| self.read_only())
    }

    fn read_only(&self) -> StoreError {
        StoreError::Unsupported {
            endpoint: self.0.store.location(),
            what: "writing while first versions are read".to_owned(),
        }
    }

    /// All versions below a folder, which is listed once.
    async fn folder(&self, prefix: &str) -> Result<ByKey, StoreError> {
        if let Some(known) = lock(&self.0.folders).get(prefix) {
            return Ok(known.clone());
        }
        let mut by_key: HashMap<String, Vec<ObjectVersion>> = HashMap::new();
        for version in self.versions()?.versions(prefix).await? {
            if !version.is_delete_marker {
                by_key.entry(version.key.clone()).or_default().push(version);
            }
        }
        let by_key = Arc::new(by_key);
        lock(&self.0.folders).insert(prefix.to_owned(), by_key.clone());
        Ok(by_key)
    }

    async fn of_key(&self, key: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let folder = key.rfind('/').map_or(key, |at| &key[..=at]);
        let by_key = self.folder(folder).await?;
        Ok(by_key.get(key).cloned().unwrap_or_default())
    }

    /// The version that was written first, or that was chosen.
    async fn first(&self, key: &str) -> Result<ObjectVersion, StoreError> {
        let pinned = lock(&self.0.marker).clone();
        let versions = self.of_key(key).await?;
        let chosen = match pinned {
            Some((pinned, id)) if pinned == key => {
                versions.into_iter().find(|v| v.version_id == id)
            }
            _ => versions.into_iter().next_back(),
        };
        chosen.ok_or_else(|| StoreError::NotFound {
            key: key.to_owned(),
        })
    }

    /// The newest manifest or tombstone that is genuine; else the first version, whatever it is.
    async fn record(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        let versions = self.of_key(key).await?;
        if let Some(sealer) = self.0.sealer.get() {
            for version in versions.iter().take(RECORDS_TRIED_MAX) {
                let read = self.versions()?;
                match read.get_version(key, &version.version_id, bytes_max).await {
                    Ok(body) if SnapshotRecord::open(sealer, key, &body).is_ok() => {
                        return Ok(body);
                    }
                    Ok(_) => {}
                    Err(error) if error.is_of_one_object() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let first = self.first(key).await?;
        let read = self.versions()?;
        read.get_version(key, &first.version_id, bytes_max).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn meta(version: &ObjectVersion) -> ObjectMeta {
    ObjectMeta {
        key: version.key.clone(),
        size_bytes: version.size_bytes,
        modified_at_s: version.modified_at_s,
    }
}

#[async_trait]
impl ObjectStore for FirstVersions {
    fn location(&self) -> String {
        self.0.store.location()
    }

    async fn put(&self, _key: &str, _body: Bytes, _mode: PutMode) -> Result<(), StoreError> {
        Err(self.read_only())
    }

    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        if key.starts_with(SNAPSHOTS_PREFIX) {
            return self.record(key, bytes_max).await;
        }
        let version = self.first(key).await?.version_id;
        self.versions()?.get_version(key, &version, bytes_max).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let version = self.first(key).await?.version_id;
        let read = self.versions()?;
        read.get_version_range(key, &version, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        Ok(meta(&self.first(key).await?))
    }

    async fn delete(&self, _key: &str) -> Result<(), StoreError> {
        Err(self.read_only())
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        let by_key = self.folder(prefix).await?;
        let mut objects: Vec<ObjectMeta> = by_key
            .values()
            .filter_map(|versions| versions.last())
            .filter(|version| from.is_none_or(|from| version.key.as_str() > from))
            .map(meta)
            .collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(ListPage {
            objects,
            next: None,
        })
    }

    async fn multipart_create(&self, _key: &str) -> Result<Multipart, StoreError> {
        Err(self.read_only())
    }

    async fn multipart_put(
        &self,
        _upload: &Multipart,
        _number: u32,
        _body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        Err(self.read_only())
    }

    async fn multipart_complete(
        &self,
        _upload: &Multipart,
        _parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        Err(self.read_only())
    }

    async fn multipart_abort(&self, _upload: &Multipart) -> Result<(), StoreError> {
        Err(self.read_only())
    }

    async fn multipart_list(&self, _prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        Err(self.read_only())
    }

    async fn probe(&self) -> Result<EndpointReport, StoreError> {
        Err(self.read_only())
    }

    fn adopt(&self, report: &EndpointReport) {
        self.0.store.adopt(report);
    }

    fn requests(&self) -> RequestCounts {
        self.0.store.requests()
    }
}

//! A bucket as it was first written: what was deleted or overwritten since is seen through.
//!
//! Every name in a repository but that of a manifest is written once, so in most cases the first version of an object is the one
//! that we wrote, and all others are somebody else's. Of a pack with several versions it is the first one whose index the
//! repository's key opens: somebody may have known the name and been quicker. Manifest keys go from manifest to tombstone: there the newest version that
//! the repository's key vouches for says which of the two it is, and of manifests the first one counts. Nothing is believed because of its place in a listing: what is read is checked by tags and
//! hashes as ever.
//!
//! Reading only: it is for getting data back.

mod folders;

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use self::folders::{ByKey, Folders};
use super::{
    EndpointReport, ListPage, Multipart, ObjectMeta, ObjectStore, PartReceipt, PutMode,
    RequestCounts, StoreError,
    versions::{ObjectVersion, Versions},
};
use crate::{
    RepositoryError,
    format::{
        crypto::Sealer,
        ids::{PackName, SNAPSHOTS_PREFIX},
        limits::{PACK_SIZE_MAX, SMALL_OBJECT_MAX},
        manifest::SnapshotRecord,
    },
    lock::versions::{genuine_packs, looked_at},
};

/// Versions of one manifest key that are looked at: a tombstone and a manifest are ours, the others somebody's.
const RECORDS_TRIED_MAX: usize = 1000;

/// See the module.
#[derive(Clone)]
pub(crate) struct FirstVersions(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    folders: Arc<Mutex<Folders>>,
    /// The marker's version that is tried or was found right.
    marker: Option<ObjectVersion>,
    /// Packs of which there are several versions, with the one that is ours.
    packs: Mutex<HashMap<String, ObjectVersion>>,
    /// Tells our records and packs from others.
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
            folders: Arc::default(),
            marker: None,
            packs: Mutex::default(),
            sealer: OnceLock::new(),
        })))
    }

    /// The same bucket, read with this version of the marker.
    pub(crate) fn with_marker(&self, version: &ObjectVersion) -> Self {
        Self(Arc::new(Inner {
            store: self.0.store.clone(),
            folders: self.0.folders.clone(),
            marker: Some(version.clone()),
            packs: Mutex::default(),
            sealer: OnceLock::new(),
        }))
    }

    /// The versions of one object, the newest first.
    ///
    /// # Errors
    /// As the store answers.
    pub(crate) async fn history(&self, key: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.of_key(key).await
    }

    /// What a version holds.
    ///
    /// # Errors
    /// As the store answers.
    pub(crate) async fn body(
        &self,
        version: &ObjectVersion,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        let read = self.versions()?;
        read.get_version(&version.key, &version.version_id, bytes_max)
            .await
    }

    /// From now on records and packs are told apart by this.
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

    /// All versions below a folder, or of an object that is in none; each is listed once, as long as there is room.
    async fn folder(&self, prefix: &str) -> Result<ByKey, StoreError> {
        if let Some(known) = lock(&self.0.folders).listed.get(prefix) {
            return Ok(known.clone());
        }
        let mut by_key: HashMap<String, Vec<ObjectVersion>> = HashMap::new();
        let versions = self.versions()?;
        let found = match prefix.ends_with('/') {
            true => versions.versions(prefix).await?,
            false => versions.versions_of(prefix).await?,
        };
        for version in found {
            if !version.is_delete_marker {
                by_key.entry(version.key.clone()).or_default().push(version);
            }
        }
        let by_key = Arc::new(by_key);
        lock(&self.0.folders).keep(prefix, &by_key);
        Ok(by_key)
    }

    async fn of_key(&self, key: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let folder = key.rfind('/').map_or(key, |at| &key[..=at]);
        let by_key = self.folder(folder).await?;
        Ok(by_key.get(key).cloned().unwrap_or_default())
    }

    /// The version that was written first, or that was chosen.
    async fn first(&self, key: &str) -> Result<ObjectVersion, StoreError> {
        if let Some(marker) = self.0.marker.as_ref().filter(|marker| marker.key == key) {
            return Ok(marker.clone());
        }
        let versions = self.of_key(key).await?;
        if versions.len() > 1
            && let Some(sealer) = self.0.sealer.get()
            && let Ok(pack) = PackName::parse(key)
        {
            return self.own_pack(key, Arc::new(pack), sealer, &versions).await;
        }
        let first = versions.into_iter().next_back();
        first.ok_or_else(|| StoreError::NotFound {
            key: key.to_owned(),
        })
    }

    /// The version of a pack that the key vouches for; the first one, which then cannot be read, if it does for none.
    async fn own_pack(
        &self,
        key: &str,
        pack: Arc<PackName>,
        sealer: &Sealer,
        versions: &[ObjectVersion],
    ) -> Result<ObjectVersion, StoreError> {
        if let Some(known) = lock(&self.0.packs).get(key) {
            return Ok(known.clone());
        }
        let may_be = |v: &&ObjectVersion| v.size_bytes <= PACK_SIZE_MAX;
        let history: Vec<&ObjectVersion> = versions.iter().filter(may_be).collect();
        let oldest_first = looked_at(&history);
        let first = oldest_first.first().copied();
        let found = genuine_packs(self.versions()?, sealer, &pack, oldest_first, 1).await;
        let chosen = match found {
            Ok(found) => found.first().copied().or(first),
            Err(RepositoryError::Store(error)) => return Err(error),
            Err(_) => first,
        };
        let chosen = chosen.cloned().ok_or_else(|| StoreError::NotFound {
            key: key.to_owned(),
        })?;
        lock(&self.0.packs).insert(key.to_owned(), chosen.clone());
        Ok(chosen)
    }

    /// A tombstone if that is the newest genuine record; else the manifest that was written first; else the first version,
    /// whatever it is. A manifest is written once: whoever has the key can write a second one, and not an earlier one.
    async fn record(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        let versions = self.of_key(key).await?;
        let newest = versions
            .iter()
            .filter(|version| is_small(version))
            .take(RECORDS_TRIED_MAX);
        let found = self.genuine(key, bytes_max, newest, |_| true).await?;
        if let Some((SnapshotRecord::Tombstone(..), body)) = found {
            return Ok(body);
        }
        if let Some(body) = self.first_manifest(key).await? {
            return Ok(body);
        }
        // So many were put before it that it is not among the first ones.
        if let Some((_, body)) = found {
            return Ok(body);
        }
        let first = self.first(key).await?;
        let read = self.versions()?;
        read.get_version(key, &first.version_id, bytes_max).await
    }

    /// The genuine manifest that was written first, whatever is above it.
    ///
    /// # Errors
    /// As the store answers.
    pub(crate) async fn first_manifest(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let is_manifest = |record: &SnapshotRecord| matches!(record, SnapshotRecord::Manifest(..));
        let versions = self.of_key(key).await?;
        let history: Vec<&ObjectVersion> = versions.iter().filter(|v| is_small(v)).collect();
        let oldest_first = looked_at(&history).into_iter();
        let found = self.genuine(key, SMALL_OBJECT_MAX, oldest_first, is_manifest);
        Ok(found.await?.map(|(_, body)| body))
    }

    /// The first of these versions that is genuine and wanted.
    async fn genuine<'v>(
        &self,
        key: &str,
        bytes_max: usize,
        versions: impl Iterator<Item = &'v ObjectVersion> + Send,
        is_wanted: impl Fn(&SnapshotRecord) -> bool + Send + Sync,
    ) -> Result<Option<(SnapshotRecord, Bytes)>, StoreError> {
        let Some(sealer) = self.0.sealer.get() else {
            return Ok(None);
        };
        for version in versions {
            let read = self.versions()?;
            match read.get_version(key, &version.version_id, bytes_max).await {
                Ok(body) => match SnapshotRecord::open(sealer, key, &body) {
                    Ok(record) if is_wanted(&record) => return Ok(Some((record, body))),
                    _ => {}
                },
                Err(error) if error.is_of_one_object() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a record may be as long as this.
fn is_small(version: &ObjectVersion) -> bool {
    version.size_bytes <= SMALL_OBJECT_MAX as u64
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

    async fn now_s(&self) -> Result<i64, StoreError> {
        self.0.store.now_s().await
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

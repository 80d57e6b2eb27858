//! Buckets in memory.

mod locking;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    DEFAULT_CHUNK_SIZE_BYTES,
    format::{crypto::Sealer, ids::MARKER_KEY, marker::Marker},
    store::{
        EndpointReport, ListPage, MemoryStore, Multipart, ObjectMeta, ObjectStore, PartReceipt,
        PutMode, RequestCounts, StoreError, versions::Versions,
    },
};

use self::locking::Locking;
use super::Faults;
use crate::{cloud::Stores, profile::Topology};

/// One bucket per topology, for as long as this lives.
#[derive(Debug)]
pub struct FakeStores {
    faults: Arc<Faults>,
    buckets: Mutex<BTreeMap<String, Arc<MemoryStore>>>,
    /// The same buckets, where they can lock.
    locking: Mutex<BTreeMap<String, Arc<Locking>>>,
    can_lock: AtomicBool,
    out_of_reach: Arc<AtomicBool>,
    refusing: Arc<AtomicBool>,
    unanswered: Arc<AtomicU64>,
    probe_takes: Arc<Mutex<Duration>>,
    clock_ahead_s: AtomicI64,
}

impl FakeStores {
    /// No buckets yet.
    #[must_use]
    pub fn new(faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self {
            faults,
            buckets: Mutex::default(),
            locking: Mutex::default(),
            can_lock: AtomicBool::new(false),
            out_of_reach: Arc::default(),
            refusing: Arc::default(),
            unanswered: Arc::default(),
            probe_takes: Arc::default(),
            clock_ahead_s: AtomicI64::new(0),
        })
    }

    /// Sets the clocks of all buckets, in seconds ahead of this host's.
    pub fn set_clock_ahead_s(&self, clock_ahead_s: i64) {
        self.clock_ahead_s.store(clock_ahead_s, Ordering::SeqCst);
        for bucket in lock(&self.buckets).values() {
            bucket.set_clock_ahead_s(clock_ahead_s);
        }
    }

    /// Whether buckets are opened as ones that were made with Object Lock.
    pub fn set_can_lock(&self, can_lock: bool) {
        self.can_lock.store(can_lock, Ordering::SeqCst);
    }

    /// Keys that are or were locked, in all buckets.
    #[must_use]
    pub fn locked(&self) -> Vec<String> {
        let locking = lock(&self.locking);
        locking.values().flat_map(|one| one.locked()).collect()
    }

    /// Keys that something was put over, or that were deleted, while they were locked.
    #[must_use]
    pub fn covered(&self) -> Vec<String> {
        let locking = lock(&self.locking);
        locking.values().flat_map(|one| one.covered()).collect()
    }

    /// How long it takes to try what a bucket's endpoint can.
    pub fn set_probe_takes(&self, duration: Duration) {
        *lock(&self.probe_takes) = duration;
    }

    /// Whether requests fail as if no bucket answered.
    pub fn set_out_of_reach(&self, out_of_reach: bool) {
        self.out_of_reach.store(out_of_reach, Ordering::SeqCst);
    }

    /// Whether requests are refused as if the credentials were no good.
    pub fn set_refusing(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Requests that found no bucket in reach.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::SeqCst)
    }

    /// Puts a repository into an empty place that shows the short id of another one, as anybody can who may write there.
    ///
    /// # Panics
    /// When the short id is none.
    pub async fn make_look_alike(&self, place: &str, short_id: &str) {
        let id = format!("{short_id:0<32}")
            .parse()
            .expect("hexadecimal digits");
        let sealer = Sealer::new(id, None);
        let marker = Marker::new(&sealer, DEFAULT_CHUNK_SIZE_BYTES, serde_json::json!({}));
        let object = marker.and_then(|marker| marker.encode(&sealer));
        let bucket = lock(&self.buckets)
            .entry(place.to_owned())
            .or_default()
            .clone();
        let body = Bytes::from(object.expect("a small marker"));
        let put = bucket.put(MARKER_KEY, body, PutMode::Overwrite).await;
        put.expect("a bucket in memory");
    }

    /// Takes an object out of all buckets, or puts one into all of them, past all rules: what somebody else does.
    pub fn tamper(&self, key: &str, body: Option<&Bytes>) {
        for bucket in lock(&self.buckets).values() {
            bucket.tamper(key, body.cloned());
        }
    }

    /// An object of the bucket that has it.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<Bytes> {
        let buckets = lock(&self.buckets);
        buckets.values().find_map(|bucket| bucket.peek(key))
    }

    /// Keys and open multipart uploads of all buckets.
    #[must_use]
    pub fn content(&self) -> (Vec<String>, usize) {
        let buckets = lock(&self.buckets);
        let keys = buckets.values().flat_map(|bucket| bucket.keys()).collect();
        let open = buckets.values().map(|bucket| bucket.open_uploads()).sum();
        (keys, open)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Stores for FakeStores {
    async fn open(&self, topology: &Topology) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut buckets = lock(&self.buckets);
        let bucket = buckets.entry(topology.place()).or_default().clone();
        bucket.set_clock_ahead_s(self.clock_ahead_s.load(Ordering::SeqCst));
        let can_lock = self.can_lock.load(Ordering::SeqCst);
        let locking = can_lock.then(|| {
            let mut locking = lock(&self.locking);
            let one = locking
                .entry(topology.place())
                .or_insert_with(|| Arc::new(Locking::new(bucket.clone())));
            one.clone()
        });
        Ok(Arc::new(FaultyStore {
            bucket,
            locking,
            faults: self.faults.clone(),
            out_of_reach: self.out_of_reach.clone(),
            refusing: self.refusing.clone(),
            unanswered: self.unanswered.clone(),
            probe_takes: self.probe_takes.clone(),
        }))
    }
}

#[derive(Debug)]
struct FaultyStore {
    bucket: Arc<MemoryStore>,
    /// Where it can lock.
    locking: Option<Arc<Locking>>,
    faults: Arc<Faults>,
    out_of_reach: Arc<AtomicBool>,
    refusing: Arc<AtomicBool>,
    unanswered: Arc<AtomicU64>,
    probe_takes: Arc<Mutex<Duration>>,
}

impl FaultyStore {
    async fn call<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.out_of_reach.load(Ordering::SeqCst) {
            self.unanswered.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Unavailable {
                endpoint: "memory".to_owned(),
                doing: name.to_owned(),
                attempts: 1,
                source: "out of reach".into(),
            });
        }
        if self.refusing.load(Ordering::SeqCst) {
            return Err(StoreError::AccessDenied {
                doing: name.to_owned(),
                source: "the credentials are no good".into(),
            });
        }
        let broken = |name: &'static str| StoreError::Refused {
            endpoint: "memory".to_owned(),
            doing: name.to_owned(),
            source: "was made to fail".into(),
        };
        self.faults.call(name, broken, work).await
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    fn location(&self) -> String {
        self.bucket.location()
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        match &self.locking {
            Some(locking) => self.call("put", locking.put(key, body, mode)).await,
            None => self.call("put", self.bucket.put(key, body, mode)).await,
        }
    }

    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.call("get", self.bucket.get(key, bytes_max)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.call("get", self.bucket.get_range(key, range)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.call("head", self.bucket.head(key)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match &self.locking {
            Some(locking) => self.call("delete", locking.hide(key)).await.map(drop),
            None => self.call("delete", self.bucket.delete(key)).await,
        }
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.call("list", self.bucket.list(prefix, from)).await
    }

    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        self.call("multipart_create", self.bucket.multipart_create(key))
            .await
    }

    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        self.call(
            "multipart_put",
            self.bucket.multipart_put(upload, number, body),
        )
        .await
    }

    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        self.call(
            "multipart_complete",
            self.bucket.multipart_complete(upload, parts),
        )
        .await
    }

    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        self.call("multipart_abort", self.bucket.multipart_abort(upload))
            .await
    }

    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        self.call("multipart_list", self.bucket.multipart_list(prefix))
            .await
    }

    async fn now_s(&self) -> Result<i64, StoreError> {
        self.call("now", self.bucket.now_s()).await
    }

    async fn probe(&self) -> Result<EndpointReport, StoreError> {
        let duration = *lock(&self.probe_takes);
        // As the real one: with an object of its own, which it removes.
        let key = "probe/fake";
        self.bucket
            .put(key, Bytes::new(), PutMode::Overwrite)
            .await?;
        tokio::time::sleep(duration).await;
        self.bucket.delete(key).await?;
        self.bucket.probe().await
    }

    fn versions(&self) -> Option<&dyn Versions> {
        let locking = self.locking.as_deref()?;
        Some(locking)
    }

    fn adopt(&self, report: &EndpointReport) {
        self.bucket.adopt(report);
    }

    fn requests(&self) -> RequestCounts {
        self.bucket.requests()
    }
}

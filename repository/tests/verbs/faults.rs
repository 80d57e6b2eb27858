//! A request that fails, whichever it is: the verb succeeds or says so, a second try works, and nothing is left open.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    Progress, RepositoryError,
    device::{Source, SourceOptions},
    prune::{self, PruneSettings},
    store::{
        ListPage, MemoryStore, Multipart, ObjectMeta, ObjectStore, PartReceipt, PutMode, StoreError,
    },
    upload::{UploadRequest, upload},
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    files::small_settings,
    layer::{Layer, Over},
    support::Bench,
};

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Nothing happens.
    Before,
    /// It happens, but the answer is lost.
    After,
}

/// A store in which one call fails.
pub(crate) struct Faulty {
    inner: MemoryStore,
    calls_left: AtomicI64,
    /// Whole packs that are still taken before the bucket is gone; below 0: any number.
    pub(crate) packs_left: AtomicI64,
    /// An object that somebody else puts at the moment of the next intent.
    pub(crate) with_intent: Mutex<Option<(String, Bytes)>>,
    when: When,
    /// What the call does instead of failing, if anything: it is the caller who gives up then.
    cancels: Mutex<Option<CancellationToken>>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(crate) fn new(when: When) -> Over<Self> {
        Over(Self {
            inner: MemoryStore::new(),
            calls_left: AtomicI64::new(-1),
            packs_left: AtomicI64::new(-1),
            with_intent: Mutex::new(None),
            when,
            cancels: Mutex::new(None),
        })
    }

    /// Counts packs down.
    fn pack(&self, key: &str) -> Result<(), StoreError> {
        let left = self.packs_left.load(Ordering::SeqCst);
        if left < 0 || !key.starts_with("packs/") {
            return Ok(());
        }
        if left == 0 {
            return Err(gone());
        }
        self.packs_left.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn fault(&self, when: When) -> Result<(), StoreError> {
        let hit = match when {
            When::Before => self.calls_left.fetch_sub(1, Ordering::SeqCst) == 1,
            When::After => self.calls_left.load(Ordering::SeqCst) == 0,
        };
        if !hit || when != self.when {
            return Ok(());
        }
        self.calls_left.store(-1, Ordering::SeqCst);
        match &*self.cancels.lock().unwrap() {
            Some(cancel) => {
                cancel.cancel();
                Ok(())
            }
            None => Err(gone()),
        }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.fault(When::Before)?;
        let done = call.await?;
        self.fault(When::After)?;
        Ok(done)
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable {
        endpoint: "memory".to_owned(),
        doing: "a test".to_owned(),
        attempts: 1,
        source: "injected".into(),
    }
}

#[async_trait]
impl Layer for Faulty {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.pack(key)?;
        let planted = match key.starts_with("intents/") {
            true => self.with_intent.lock().unwrap().take(),
            false => None,
        };
        if let Some((key, body)) = planted {
            self.inner.put(&key, body, PutMode::IfAbsent).await?;
        }
        self.call(self.inner.put(key, body, mode)).await
    }
    async fn get(&self, key: &str, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.call(self.inner.get(key, bytes_max)).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.call(self.inner.get_range(key, range)).await
    }
    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.call(self.inner.head(key)).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call(self.inner.delete(key)).await
    }
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<ListPage, StoreError> {
        self.call(self.inner.list(prefix, from)).await
    }
    async fn multipart_create(&self, key: &str) -> Result<Multipart, StoreError> {
        // Lost answers leave uploads that nobody can name: left to the store's own fault tests.
        self.fault(When::Before)?;
        self.inner.multipart_create(key).await
    }
    async fn multipart_put(
        &self,
        upload: &Multipart,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, StoreError> {
        self.call(self.inner.multipart_put(upload, number, body))
            .await
    }
    async fn multipart_complete(
        &self,
        upload: &Multipart,
        parts: &[PartReceipt],
    ) -> Result<(), StoreError> {
        self.pack(&upload.key)?;
        self.call(self.inner.multipart_complete(upload, parts))
            .await
    }
}

fn image() -> Image {
    Image::new(12 << 20).extent(0, 11 << 20, Fill::Random(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_may_fail() {
    for when in [When::Before, When::After] {
        let mut failures = 0;
        for call in 1..100 {
            let faulty = Arc::new(Faulty::new(when));
            let bench = Bench::on(faulty.clone(), true).await;
            let mut request = bench.request();
            request.settings = small_settings();
            faulty.calls_left.store(call, Ordering::SeqCst);
            let first = bench.try_up(&image(), request.clone()).await;
            let untouched = faulty.calls_left.load(Ordering::SeqCst) > 0;
            faulty.calls_left.store(-1, Ordering::SeqCst);
            let place = format!("call {call}, {when:?}");
            failures += usize::from(first.is_err());
            if let Err(error) = &first {
                assert!(
                    matches!(error, RepositoryError::Store(_)),
                    "{place}: {error:?}"
                );
            }
            settled(&bench, &request, first.is_ok(), &place).await;
            if untouched {
                assert!(first.is_ok() && failures > 5, "{place}");
                break;
            }
        }
    }
}

/// After the fault: the same snapshot id is committed, or can be; what is in the bucket is sound, and nothing is open.
async fn settled(bench: &Bench, request: &UploadRequest, done: bool, place: &str) {
    assert_eq!(bench.store.multipart_list("").await.unwrap(), [], "{place}");
    // Whatever is there, somebody accounts for it.
    let none = CancellationToken::new();
    let planned = prune::plan(&bench.repository, &PruneSettings::default(), &none).await;
    planned.unwrap_or_else(|error| panic!("{place}: {error}"));
    match bench.try_up(&image(), request.clone()).await {
        Ok(_) => assert!(!done, "{place}"),
        Err(RepositoryError::AlreadyCommitted { .. }) => {}
        Err(error) => panic!("{place}: {error:?}"),
    }
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let progress = Arc::new(Progress::new());
    let report = verify(&bench.repository, None, &settings, &progress, &none)
        .await
        .unwrap();
    assert_eq!(report.problems, [], "{place}");
    let manifest = bench.find(&request.snapshot_id).await;
    let restored = bench.down(&manifest).await;
    assert_eq!(
        image().first_difference(&restored).unwrap(),
        None,
        "{place}"
    );
}

/// The one pack is there, and whoever sent it was not told: a prune knows whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_whose_answer_was_lost_is_accounted_for() {
    let small = Image::new(1 << 20).extent(0, 100_000, Fill::Random(1));
    let mut lost = 0;
    for call in 1..40 {
        let faulty = Arc::new(Faulty::new(When::After));
        let bench = Bench::on(faulty.clone(), true).await;
        faulty.calls_left.store(call, Ordering::SeqCst);
        let failed = bench.try_up(&small, bench.request()).await.is_err();
        faulty.calls_left.store(-1, Ordering::SeqCst);
        let packs = bench.store.list("packs/", None).await.unwrap().objects;
        lost += usize::from(failed && packs.len() == 1);
        let none = CancellationToken::new();
        let planned = prune::plan(&bench.repository, &PruneSettings::default(), &none).await;
        planned.unwrap_or_else(|error| panic!("call {call}: {error}"));
    }
    assert!(lost > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_leaves_no_file() {
    for call in 1..100 {
        let faulty = Arc::new(Faulty::new(When::Before));
        let bench = Bench::on(faulty.clone(), false).await;
        let manifest = bench.up(&image()).await.manifest;
        faulty.calls_left.store(call, Ordering::SeqCst);
        let restored = bench.try_down(&manifest).await;
        if faulty.calls_left.load(Ordering::SeqCst) > 0 {
            assert!(call > 3);
            assert_eq!(
                image().first_difference(&bench.path("target.img")).unwrap(),
                None
            );
            return;
        }
        assert!(matches!(restored, Err(RepositoryError::Store(_))));
        assert!(!bench.path("target.img").exists());
    }
    panic!("a small restore needs more than 100 requests");
}

/// Whichever request is under way when the caller gives up, before it or after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_leaves_nothing_open_and_can_be_repeated() {
    let mut cancelled = 0;
    'calls: for call in 1..100 {
        for when in [When::Before, When::After] {
            let faulty = Arc::new(Faulty::new(when));
            let bench = Bench::on(faulty.clone(), true).await;
            let mut request = bench.request();
            request.settings = small_settings();
            let path = bench.path("cancelled.img");
            image().write_to(&path).unwrap();
            let source = Source::open(&path, SourceOptions::default()).unwrap();
            let cancel = CancellationToken::new();
            *faulty.cancels.lock().unwrap() = Some(cancel.clone());
            faulty.calls_left.store(call, Ordering::SeqCst);
            let progress = Arc::new(Progress::new());
            let uploading = upload(
                &bench.repository,
                source,
                request.clone(),
                &progress,
                &cancel,
            );
            let done = uploading.await;
            let untouched = faulty.calls_left.load(Ordering::SeqCst) > 0;
            faulty.calls_left.store(-1, Ordering::SeqCst);
            let place = format!("call {call}, {when:?}");
            match &done {
                // Decided already, or there were fewer calls.
                Ok(_) => {}
                Err(RepositoryError::Cancelled) => cancelled += 1,
                Err(error) => panic!("{place}: {error:?}"),
            }
            settled(&bench, &request, done.is_ok(), &place).await;
            if untouched {
                break 'calls;
            }
        }
    }
    assert!(cancelled > 10, "{cancelled}");
}

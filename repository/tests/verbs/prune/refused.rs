//! Multipart uploads that cannot be listed or aborted, by these credentials or at all: packs are pruned, snapshots are forgotten, and what stays is said.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use stockpot_repository::{
    Repository,
    prune::{execute, plan},
    snapshots::{self, Status},
    store::{MemoryStore, Multipart, ObjectStore, StoreError},
};
use tokio_util::sync::CancellationToken;

use super::scene::{Scene, at_once};
use crate::{
    layer::{Layer, Over},
    support::key,
};

#[derive(Debug, Default)]
struct Refusing {
    inner: MemoryStore,
    lists: AtomicBool,
    /// Listing uploads is not denied, but the listing is of no use.
    floods: AtomicBool,
    aborts: AtomicBool,
}

fn denied(doing: &str) -> StoreError {
    StoreError::AccessDenied {
        doing: doing.to_owned(),
        source: "as the test wants it".into(),
    }
}

#[async_trait]
impl Layer for Refusing {
    fn inner(&self) -> &dyn ObjectStore {
        &self.inner
    }
    async fn multipart_abort(&self, upload: &Multipart) -> Result<(), StoreError> {
        if self.aborts.load(Ordering::Relaxed) {
            return Err(denied("aborting an upload"));
        }
        self.inner.multipart_abort(upload).await
    }
    async fn multipart_list(&self, prefix: &str) -> Result<Vec<Multipart>, StoreError> {
        if self.lists.load(Ordering::Relaxed) {
            return Err(denied("listing uploads"));
        }
        if self.floods.load(Ordering::Relaxed) {
            return Err(StoreError::Integrity {
                key: prefix.to_owned(),
                problem: "too many uploads are open, as the test wants it".to_owned(),
            });
        }
        self.inner.multipart_list(prefix).await
    }
}

/// A repository with a dead upload and a snapshot to forget, and the same seen by who may do less.
async fn scene() -> (Scene, Arc<Over<Refusing>>, Repository) {
    let (scene, memory) = Scene::in_memory().await;
    scene.up(1).await;
    scene.dead_upload().await;
    let store = Arc::new(Over(Refusing {
        inner: memory,
        ..Refusing::default()
    }));
    let repository = Repository::open(store.clone(), Some(key())).await.unwrap();
    (scene, store, repository)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_goes_on_without_multipart_uploads() {
    for lists in [true, false] {
        let (scene, store, repository) = scene().await;
        store.lists.store(lists, Ordering::Relaxed);
        store.aborts.store(!lists, Ordering::Relaxed);
        let none = CancellationToken::new();
        let planned = plan(&repository, &at_once(), &none).await.unwrap();
        let report = execute(planned).await.unwrap();
        assert!(report.deleted.packs > 0, "{report:?}");
        assert_eq!(report.given_up.len(), 1);
        assert_eq!(report.aborted_multiparts, 0);
        assert_eq!(report.multiparts_listed, !lists);
        assert_eq!(report.held_multiparts, u64::from(!lists));
        let why = report.multiparts_because.unwrap();
        assert!(why.contains("access denied"), "{why}");
        assert_eq!(store.inner.open_uploads(), 1);
        // Somebody who may comes later.
        let report = scene.pruned(at_once()).await.unwrap();
        assert_eq!((report.aborted_multiparts, report.held_multiparts), (1, 0));
        assert_eq!(report.multiparts_because, None);
        assert_eq!(scene.check_images().await, 1);
        scene.check_tidy().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_forgotten_without_them() {
    for lists in [true, false] {
        let (_scene, store, repository) = scene().await;
        store.lists.store(lists, Ordering::Relaxed);
        store.aborts.store(!lists, Ordering::Relaxed);
        for summary in snapshots::list(&repository).await.unwrap() {
            let volume = summary.volume_id.unwrap();
            snapshots::delete(&repository, &volume, &summary.snapshot_id)
                .await
                .unwrap();
        }
        let left = snapshots::list(&repository).await.unwrap();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|s| s.status == Status::Deleted), "{left:?}");
    }
}

/// It is no matter of permissions alone: whatever a listing of uploads comes to, the packs are what a prune is for.
#[tokio::test(flavor = "multi_thread")]
async fn a_useless_listing_of_uploads_stops_neither_a_prune_nor_a_forget() {
    let (scene, store, repository) = scene().await;
    store.floods.store(true, Ordering::Relaxed);
    let listed = snapshots::list(&repository).await.unwrap();
    let committed = listed.iter().find(|s| s.status == Status::Committed);
    let (volume, snapshot) = committed
        .map(|s| (s.volume_id.clone().unwrap(), s.snapshot_id.clone()))
        .unwrap();
    snapshots::delete(&repository, &volume, &snapshot)
        .await
        .unwrap();
    let none = CancellationToken::new();
    let planned = plan(&repository, &at_once(), &none).await.unwrap();
    let report = execute(planned).await.unwrap();
    assert!(report.deleted.packs > 0, "{report:?}");
    assert!(!report.multiparts_listed);
    let why = report.multiparts_because.unwrap();
    assert!(why.contains("too many uploads"), "{why}");
    store.floods.store(false, Ordering::Relaxed);
    let report = scene.pruned(at_once()).await.unwrap();
    assert_eq!((report.aborted_multiparts, report.held_multiparts), (1, 0));
}

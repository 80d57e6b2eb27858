//! Creation and deletion of the same volume at the same time.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use stockpot_driver::SnapshotId;
use stockpot_proto::stockpot::v1 as api;

use crate::{
    Config, Manager, ManagerError, Parts,
    catalog::{Deleting, SourceCopy, VolumeRow, VolumeSource, VolumeStatus},
    fakes::{FakeHost, FakeStorage, FakeStores, Fault, Faults},
};

struct World {
    _dir: tempfile::TempDir,
    faults: Arc<Faults>,
    storage: Arc<FakeStorage>,
    manager: Arc<Manager>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let profiles = dir.path().join("profiles");
        std::fs::create_dir(&profiles).unwrap();
        let text = "{name: p, snapshotProperties: {topology: {bucket: backups}}}";
        std::fs::write(profiles.join("p.yaml"), text).unwrap();
        let faults = Arc::new(Faults::default());
        let storage = FakeStorage::new(dir.path(), faults.clone());
        let parts = Parts {
            pools: BTreeMap::from([("pool".to_owned(), storage.clone() as _)]),
            connector: Arc::new(FakeHost(storage.clone())),
            stores: FakeStores::new(faults.clone()),
        };
        let manager = Manager::open(config(dir.path()), parts).await.unwrap();
        Self {
            _dir: dir,
            faults,
            storage,
            manager,
        }
    }

    /// A snapshot in the bucket; its volume and its local copy are gone.
    async fn snapshot(&self) -> SnapshotId {
        let manager = &self.manager;
        let volume = manager
            .clone()
            .create_volume(empty("source"))
            .await
            .unwrap();
        let request = api::CreateSnapshotRequest {
            name: "s".to_owned(),
            source_volume_id: volume.id.to_string(),
            profile: "p".to_owned(),
            ..Default::default()
        };
        let id = manager.clone().create_snapshot(request).await.unwrap().id;
        self.settle().await;
        let local = manager
            .clone()
            .delete_snapshot(id.to_string(), Deleting::Local);
        local.await.unwrap();
        manager
            .clone()
            .delete_volume(volume.id.to_string())
            .await
            .unwrap();
        id
    }

    /// A volume on record whose restore failed, and was told to have.
    async fn in_error(&self, snapshot: &str) -> VolumeRow {
        let row = VolumeRow {
            id: "vol-n1-1".parse().unwrap(),
            name: "v".to_owned(),
            size_bytes: 4096,
            pool: "pool".to_owned(),
            status: VolumeStatus::Error,
            previous_status: None,
            source: VolumeSource::Snapshot(snapshot.parse().unwrap(), SourceCopy::Cloud),
            metadata: BTreeMap::new(),
            error: None,
            error_reported: true,
            created_at_us: 0,
        };
        self.manager
            .catalog
            .insert_volume(row.clone())
            .await
            .unwrap();
        row
    }

    /// Waits for what goes on behind.
    async fn settle(&self) {
        self.manager.tasks.close();
        self.manager.tasks.wait().await;
        self.manager.tasks.reopen();
    }

    async fn assert_nothing_left(&self) {
        assert!(self.manager.catalog.volumes().await.unwrap().is_empty());
        let left = self.storage.leftovers();
        assert!(left.volumes.is_empty(), "{left:?}");
    }
}

fn config(dir: &Path) -> Config {
    let text = format!(
        "{{nodeName: node-1, stateDir: {0}/state, socket: {0}/m.sock, profilesDir: {0}/profiles,
           credentialsDir: {0}, pools: [{{name: pool, driver: file, directory: {0}/images}}],
           transfers: {{pauseFirstSeconds: 0, pauseMaxSeconds: 0, giveUpAfterSeconds: 0}}}}",
        dir.display()
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn empty(name: &str) -> api::CreateVolumeRequest {
    api::CreateVolumeRequest {
        name: name.to_owned(),
        required_bytes: 4096,
        ..Default::default()
    }
}

/// The id of a volume that is being made stands in lists before the storage has made it.
#[tokio::test]
async fn deleted_while_it_is_made() {
    let world = World::new().await;
    let manager = &world.manager;
    world.faults.choose(1, Fault::Wait);
    let making = tokio::spawn(manager.clone().create_volume(empty("v")));
    assert_eq!(world.faults.happened().await, "create_volume");
    let row = manager.catalog.volumes().await.unwrap().remove(0);
    let deleting = tokio::spawn(manager.clone().delete_volume(row.id.to_string()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.faults.clear();
    assert_eq!(making.await.unwrap().unwrap().id, row.id);
    deleting.await.unwrap().unwrap();
    world.assert_nothing_left().await;
}

/// Asking for a volume again reads its row, and waits while a deletion has the volume.
#[tokio::test]
async fn asked_for_again_while_it_is_deleted() {
    let world = World::new().await;
    let manager = &world.manager;
    let row = world.in_error("snap-1").await;
    world.faults.choose(1, Fault::Wait);
    let deleting = tokio::spawn(manager.clone().delete_volume(row.id.to_string()));
    assert_eq!(world.faults.happened().await, "delete_volume");
    let again = {
        let (manager, row) = (manager.clone(), row.clone());
        let request = api::CreateVolumeRequest {
            name: row.name.clone(),
            required_bytes: row.size_bytes,
            ..Default::default()
        };
        tokio::spawn(async move {
            let source = row.source.clone();
            manager.volume_again(row, request, source).await
        })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.faults.clear();
    deleting.await.unwrap().unwrap();
    // Its snapshot is nowhere, so there is no new one either.
    let refused = again.await.unwrap().unwrap_err();
    assert!(matches!(refused, ManagerError::NotFound(_)), "{refused}");
    world.settle().await;
    world.assert_nothing_left().await;
}

/// A restore that gets its turn when its volume is being deleted makes nothing and ends nothing.
#[tokio::test]
async fn a_restore_that_comes_too_late() {
    let world = World::new().await;
    let manager = &world.manager;
    let row = world.in_error(world.snapshot().await.as_str()).await;
    let (from, to) = (VolumeStatus::Error, VolumeStatus::Deleting);
    assert!(
        manager
            .catalog
            .move_volume(&row.id, from, to, None)
            .await
            .unwrap()
    );
    manager.start_restore(&row.id).await;
    world.settle().await;
    let after = manager.catalog.volume(&row.id).await.unwrap().unwrap();
    assert_eq!(after.status, VolumeStatus::Deleting);
    assert!(world.storage.leftovers().volumes.is_empty());
    manager
        .clone()
        .delete_volume(row.id.to_string())
        .await
        .unwrap();
    world.assert_nothing_left().await;
}

/// What a cancellation has to find is there as soon as the start returns.
#[tokio::test]
async fn a_restore_can_be_cancelled_at_once() {
    let world = World::new().await;
    let manager = &world.manager;
    let row = world.in_error(world.snapshot().await.as_str()).await;
    let (from, to) = (VolumeStatus::Error, VolumeStatus::Restoring);
    assert!(
        manager
            .catalog
            .move_volume(&row.id, from, to, None)
            .await
            .unwrap()
    );
    manager.start_restore(&row.id).await;
    manager
        .clone()
        .delete_volume(row.id.to_string())
        .await
        .unwrap();
    world.settle().await;
    world.assert_nothing_left().await;
}

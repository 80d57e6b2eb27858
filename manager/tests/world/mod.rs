mod adoption;
mod backups;
mod bases;
mod consistency;
mod crashes;
mod deletions;
mod elsewhere;
mod failures;
mod in_place;
mod kept;
mod locked;
mod marker;
mod pauses;
mod quiesce;
mod rebuilding;
mod rules;
mod schedules;
mod shown;
mod story;
mod streams;
mod unusable;
mod unwritable;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use stockpot_manager::{
    Config, Parts,
    fakes::{FakeHost, FakeStorage, FakeStores, Fault, Faults},
};
use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::image::{Fill, Image};
use tonic::Status;

use crate::lab::{self, Client, Run};

pub(crate) const SIZE: u64 = 3 << 20;

/// Storage and buckets that outlive the managers run on them.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) faults: Arc<Faults>,
    pub(crate) storage: Arc<FakeStorage>,
    pub(crate) stores: Arc<FakeStores>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let faults = Arc::new(Faults::default());
        let storage = FakeStorage::new(&data, faults.clone());
        let stores = FakeStores::new(faults.clone());
        lab::write_profile(dir.path(), "offsite", "{bucket: backups, prefix: a}");
        Self {
            dir,
            faults,
            storage,
            stores,
        }
    }

    pub(crate) fn config(&self) -> Config {
        lab::config(self.dir.path())
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts {
            pools: BTreeMap::from([("pool".to_owned(), self.storage.clone() as _)]),
            connector: Arc::new(FakeHost(self.storage.clone())),
            stores: self.stores.clone(),
        }
    }

    pub(crate) fn start(&self) -> Run {
        Run::start(self.config(), self.parts())
    }

    pub(crate) fn forget_catalog(&self) {
        lab::unlocked(&self.dir.path().join("state"));
        fs::remove_dir_all(self.dir.path().join("state")).unwrap();
    }

    pub(crate) fn fill(&self, volume_id: &str) {
        let path = self.storage.volume_file(&volume_id.parse().unwrap());
        content().write_to(&path).unwrap();
    }

    pub(crate) fn assert_content(&self, volume_id: &str) {
        let path = self.storage.volume_file(&volume_id.parse().unwrap());
        assert_same(&path);
    }

    /// What is in the bucket is what was cut.
    pub(crate) async fn assert_restores(&self, client: &mut Client, snapshot_id: &str) {
        let request = lab::volume_from("restored", snapshot_id, api::SourceCopy::Cloud);
        let volume = lab::available_volume(client, &request).await.unwrap();
        self.assert_content(&volume.volume_id);
        lab::delete_volume(client, &volume.volume_id).await.unwrap();
    }

    /// Nothing is attached, and no multipart upload is open.
    pub(crate) fn assert_tidy(&self, when: &str) {
        let left = self.storage.leftovers();
        assert!(left.attached.is_empty(), "{when}: {:?}", left.attached);
        assert_eq!(
            self.stores.content().1,
            0,
            "{when}: multipart uploads are open"
        );
    }
}

pub(crate) fn content() -> Image {
    Image::new(SIZE)
        .extent(0, 70_000, Fill::Text(1))
        .extent(1 << 20, 300_000, Fill::Random(2))
        .extent(SIZE - 10, 10, Fill::Byte(7))
}

fn assert_same(path: &Path) {
    let difference = content().first_difference(path).unwrap();
    assert_eq!(difference, None, "{}", path.display());
}

/// A volume with content.
pub(crate) async fn filled_volume(world: &World, client: &mut Client) -> api::Volume {
    let request = lab::empty_volume("source", SIZE);
    let volume = lab::available_volume(client, &request).await.unwrap();
    world.fill(&volume.volume_id);
    volume
}

/// Asks again what was refused, as an orchestrator does, but not for ever.
pub(crate) async fn insist<T>(
    mut ask: impl AsyncFnMut() -> Result<T, Status>,
) -> Result<T, Status> {
    let mut last = None;
    for _ in 0..4 {
        match ask().await {
            Ok(done) => return Ok(done),
            Err(status) => last = Some(status),
        }
    }
    Err(last.unwrap())
}

/// Lets each of these faults strike at the first call, at the second, and so on, until fewer calls are made. `strike` tells which one
/// was hit.
pub(crate) fn at_each_call(
    faults: [Fault; 2],
    mut strike: impl FnMut(u64, Fault) -> Option<&'static str>,
) {
    for fault in faults {
        let mut number = 1;
        while let Some(name) = strike(number, fault) {
            eprintln!("call {number}: {name}: {fault:?}");
            number += 1;
        }
        assert!(number > 5, "{number} calls");
    }
}

/// A flow that is broken at each of its calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flow {
    Upload,
    Restore,
    LocalCopy,
    Delete,
    Attach,
}

impl Flow {
    /// What has to be there before, as ids of a volume and a snapshot.
    pub(crate) async fn prepare(self, world: &World, client: &mut Client) -> (String, String) {
        let volume = filled_volume(world, client).await.volume_id;
        let profile = match self {
            Self::Upload | Self::Attach => return (volume, String::new()),
            Self::LocalCopy => "",
            Self::Restore | Self::Delete => "offsite",
        };
        let request = lab::snapshot_of(&volume, "prepared", profile);
        let snapshot = lab::ready_snapshot(client, &request).await.unwrap();
        (volume, snapshot.snapshot_id)
    }

    /// The flow itself.
    pub(crate) async fn go(
        self,
        client: &mut Client,
        ids: &(String, String),
    ) -> Result<(), Status> {
        match self {
            Self::Upload => {
                let request = lab::snapshot_of(&ids.0, "snapshot", "offsite");
                lab::ready_snapshot(client, &request).await.map(drop)
            }
            Self::Restore => {
                let request = lab::volume_from("copy", &ids.1, api::SourceCopy::Cloud);
                lab::available_volume(client, &request).await.map(drop)
            }
            Self::LocalCopy => {
                let request = lab::volume_from("copy", &ids.1, api::SourceCopy::Auto);
                lab::available_volume(client, &request).await.map(drop)
            }
            Self::Delete => {
                lab::delete_snapshot(client, &ids.1).await?;
                lab::delete_volume(client, &ids.0).await
            }
            Self::Attach => {
                let volume_id = ids.0.clone();
                let request = api::AttachVolumeRequest {
                    volume_id: volume_id.clone(),
                    read_only: false,
                    as_attached: false,
                };
                client.attach_volume(request).await?;
                let request = api::DetachVolumeRequest { volume_id };
                client.detach_volume(request).await.map(drop)
            }
        }
    }

    /// What has to be true when it went through in the end.
    pub(crate) async fn check(self, world: &World, client: &mut Client, when: &str) {
        world.assert_tidy(when);
        let left = world.storage.leftovers();
        let (volumes, snapshots) = match self {
            Self::Upload => (1, 1),
            Self::Restore | Self::LocalCopy => (2, 1),
            Self::Delete => (0, 0),
            Self::Attach => (1, 0),
        };
        assert_eq!(left.volumes.len(), volumes, "{when}: {left:?}");
        assert_eq!(left.snapshots.len(), snapshots, "{when}: {left:?}");
        for volume in &left.volumes {
            world.assert_content(volume);
        }
        let listed = lab::list(client).await;
        assert_eq!(listed.len(), snapshots, "{when}: {listed:?}");
        assert!(
            listed.iter().all(|snapshot| snapshot.ready),
            "{when}: {listed:?}"
        );
        for snapshot in listed {
            if snapshot.cloud() == api::CopyState::Present {
                world.assert_restores(client, &snapshot.snapshot_id).await;
            }
        }
    }
}

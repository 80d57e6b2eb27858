//! Restores into volumes that are there: whole or not at all, whatever fails and whoever is killed.

mod broken;
mod content;
mod given_up;
mod refused;

use std::fs;

use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};
use tonic::Status;

use crate::{
    lab::{self, Client, Run, Volumes},
    world::{SIZE, World, filled_volume},
};

const OTHER: u8 = 9;

/// A volume whose first content has a cloud copy, and which holds another one since.
struct Scene {
    world: World,
    volume: String,
    snapshot: String,
}

impl Scene {
    fn new() -> (Self, Run) {
        let world = World::new();
        let run = world.start();
        Self::on(world, run)
    }

    /// With a manager that waits for long before it tries again what failed.
    fn patient() -> (Self, Run) {
        let world = World::new();
        let mut config = world.config();
        config.transfers.pause_first_seconds = 300;
        config.transfers.pause_max_seconds = 300;
        config.transfers.give_up_after_seconds = 3600;
        let run = Run::start(config, world.parts());
        Self::on(world, run)
    }

    fn on(world: World, run: Run) -> (Self, Run) {
        let mut client = run.client();
        let (volume, snapshot) = run.block_on(async {
            let volume = filled_volume(&world, &mut client).await.volume_id;
            let request = lab::snapshot_of(&volume, "first", "offsite");
            let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
            (volume, snapshot.snapshot_id)
        });
        let scene = Self {
            world,
            volume,
            snapshot,
        };
        fs::write(scene.file(), vec![OTHER; usize::try_from(SIZE).unwrap()]).unwrap();
        (scene, run)
    }

    fn file(&self) -> std::path::PathBuf {
        let id = self.volume.parse().unwrap();
        self.world.storage.volume_file(&id)
    }

    fn request(&self) -> api::RestoreVolumeRequest {
        api::RestoreVolumeRequest {
            volume_id: self.volume.clone(),
            snapshot_id: self.snapshot.clone(),
        }
    }

    fn id(&self) -> api::GetVolumeRequest {
        api::GetVolumeRequest {
            volume_id: self.volume.clone(),
        }
    }

    /// Begins a restore that stands before its last step, with somebody who has the volume open by then.
    async fn held_at_the_end(&self, volumes: &mut Volumes) {
        self.world.faults.hold_call("replace_volume");
        volumes.restore_volume(self.request()).await.unwrap();
        self.world.faults.happened().await;
        self.hold_device(true);
        self.world.faults.clear();
    }

    /// Whether somebody has the volume open.
    fn hold_device(&self, is_held: bool) {
        let id = self.volume.parse().unwrap();
        self.world.storage.hold_device(&id, is_held);
    }

    /// Shows the volume once nothing is under way with it.
    async fn ended(&self, client: &mut Client) -> api::Volume {
        client.wait_volume(self.id()).await.unwrap().into_inner()
    }

    /// Restores, and waits for the end.
    async fn restore(&self, client: &mut Client, volumes: &mut Volumes) -> Result<(), Status> {
        volumes.restore_volume(self.request()).await?;
        let ended = client.wait_volume(self.id()).await?.into_inner();
        match ended.error.as_str() {
            "" => Ok(()),
            error => Err(Status::unknown(error)),
        }
    }

    fn is_as_it_was(&self) -> bool {
        fs::read(self.file()).unwrap() == vec![OTHER; usize::try_from(SIZE).unwrap()]
    }

    /// It holds the one or the other, and nothing is beside it.
    fn assert_whole(&self, when: &str) -> bool {
        let left = self.world.storage.leftovers();
        assert_eq!(left.volumes, [self.volume.as_str()], "{when}");
        assert!(left.attached.is_empty(), "{when}: {left:?}");
        let is_as_it_was = self.is_as_it_was();
        if !is_as_it_was {
            self.world.assert_content(&self.volume);
        }
        is_as_it_was
    }
}

async fn status(client: &mut Client, scene: &Scene) -> VolumeStatus {
    let volume = client.get_volume(scene.id()).await.unwrap().into_inner();
    volume.status()
}

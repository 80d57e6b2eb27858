//! A pool that cannot be used when the manager starts is put in order once it can, each thing in it for itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use stockpot_manager::{
    Config, Parts,
    fakes::{FakeHost, FakeStorage, Faults},
};
use stockpot_proto::stockpot::v1 as api;

use crate::{
    lab::{self, Client, Run},
    world::{SIZE, World, filled_volume},
};

/// The world's pool, and another one beside it.
struct Two {
    world: World,
    second: Arc<FakeStorage>,
    faults: Arc<Faults>,
}

impl Two {
    fn new() -> Self {
        let world = World::new();
        let dir = world.dir.path().join("second");
        std::fs::create_dir(&dir).unwrap();
        let faults = Arc::new(Faults::default());
        let second = FakeStorage::new(&dir, faults.clone());
        Self {
            world,
            second,
            faults,
        }
    }

    fn config(&self) -> Config {
        let mut config = self.world.config();
        let pools = "[{name: pool, driver: file, directory: /a}, {name: second, driver: file, directory: /b}]";
        config.pools = serde_saphyr::from_str(pools).unwrap();
        config.default_pool = Some("pool".to_owned());
        config
    }

    fn start(&self) -> Run {
        let parts = Parts {
            pools: BTreeMap::from([
                ("pool".to_owned(), self.world.storage.clone() as _),
                ("second".to_owned(), self.second.clone() as _),
            ]),
            connector: Arc::new(FakeHost(self.world.storage.clone())),
            stores: self.world.stores.clone(),
        };
        Run::start(self.config(), parts)
    }

    /// Begins something that comes no further than a call of the second pool's storage.
    async fn begin<T>(&self, call: &'static str, work: impl Future<Output = T>) {
        self.faults.hold_call(call);
        tokio::select! {
            _ = work => panic!("it did not wait in {call}"),
            _ = self.faults.happened() => {}
        }
    }
}

async fn until(ready: impl Fn() -> bool) {
    while !ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn status(client: &mut Client, volume_id: &str) -> Option<api::VolumeStatus> {
    let volumes = lab::volumes(client).await;
    let found = volumes.iter().find(|found| found.volume_id == volume_id);
    found.map(api::Volume::status)
}

#[test]
fn a_pool_is_put_in_order_when_it_can_be_used_again() {
    let two = Two::new();
    let run = two.start();
    let mut client = run.client();
    let (doomed, restored) = run.block_on(async {
        let volume = filled_volume(&two.world, &mut client).await.volume_id;
        let request = lab::snapshot_of(&volume, "s", "offsite");
        let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
        let mut request = lab::empty_volume("doomed", SIZE);
        request.pool = "second".to_owned();
        let doomed = lab::available_volume(&mut client, &request).await.unwrap();
        let doomed = doomed.volume_id;
        two.begin("delete_volume", lab::delete_volume(&mut client, &doomed))
            .await;
        let mut request = lab::volume_from("copy", &snapshot.snapshot_id, api::SourceCopy::Cloud);
        request.pool = "second".to_owned();
        let restoring = lab::available_volume(&mut client, &request);
        two.begin("initialize_connection", restoring).await;
        let volumes = lab::volumes(&mut client).await;
        let restored = volumes.into_iter().find(|found| found.name == "copy");
        (doomed, restored.unwrap().volume_id)
    });
    drop(client);
    run.kill();
    two.faults.clear();

    two.second.set_usable(false);
    let run = two.start();
    let mut client = run.client();
    run.block_on(async {
        assert_eq!(
            status(&mut client, &doomed).await,
            Some(api::VolumeStatus::Deleting)
        );
        // What the restore had attached cannot be taken down, and holds nothing else up.
        two.faults.hold_call("remove_export");
        two.second.set_usable(true);
        let is_gone = || !two.second.leftovers().volumes.contains(&doomed);
        until(is_gone).await;
        assert_eq!(two.faults.happened().await, "remove_export");
        assert_ne!(two.second.leftovers().attached, [""; 0]);
        two.faults.clear();
        let id = api::GetVolumeRequest {
            volume_id: restored.clone(),
        };
        let volume = client.wait_volume(id).await.unwrap().into_inner();
        assert_eq!(volume.status(), api::VolumeStatus::Available, "{volume:?}");
        let file = two.second.volume_file(&restored.parse().unwrap());
        assert_eq!(super::content().first_difference(&file).unwrap(), None);
        assert_eq!(two.second.leftovers().attached, [""; 0]);
    });
    run.stop();
}

//! A catalog that cannot be written for a while, as when the state disk is full: what happened meanwhile is recorded after that.

use std::time::Duration;

use rusqlite::Connection;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};

use crate::{
    lab::{self, Run},
    world::{SIZE, World, filled_volume},
};

/// Longer than an attachment's end is tried for.
const A_WHILE: Duration = Duration::from_secs(3);

/// Makes the database refuse these writes, with an error that is about no row and no rule.
struct Refusing(Connection);

impl Refusing {
    fn writes(world: &World, writes: &[&str]) -> Self {
        let connection = Connection::open(world.dir.path().join("state/catalog.sqlite")).unwrap();
        for (number, write) in writes.iter().enumerate() {
            // Longer than any value may be.
            let sql = format!(
                "CREATE TRIGGER refused_{number} BEFORE {write} BEGIN SELECT zeroblob(3000000000); END"
            );
            connection.execute_batch(&sql).unwrap();
        }
        Self(connection)
    }

    fn no_more(self) {
        let mut names = self
            .0
            .prepare("SELECT name FROM sqlite_schema WHERE name LIKE 'refused_%'")
            .unwrap();
        let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let names: Vec<String> = names.map(Result::unwrap).collect();
        for name in names {
            let sql = format!("DROP TRIGGER {name}");
            self.0.execute_batch(&sql).unwrap();
        }
    }
}

#[test]
fn an_upload_that_ends_meanwhile() {
    let world = World::new();
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        let refusing = Refusing::writes(
            &world,
            &[
                "DELETE ON attachments",
                "UPDATE OF cloud_state ON snapshots WHEN NEW.cloud_state = 'present'",
            ],
        );
        lab::back_up(&mut backups, &volume, "b", false)
            .await
            .unwrap();
        let is_committed = || {
            let (names, _) = world.stores.content();
            names
                .iter()
                .any(|name| name.contains("snapshots/") && name.ends_with(".json"))
        };
        while !is_committed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(A_WHILE).await;
        let waiting = backups.get_backup(lab::backup("b")).await.unwrap();
        assert_eq!(waiting.into_inner().status(), BackupStatus::Creating);
        refusing.no_more();
        let done = lab::cleaned(&mut backups, "b").await;
        assert_eq!(done.status(), BackupStatus::Available, "{done:?}");
        let id = api::GetVolumeRequest { volume_id: volume };
        let volume = client.get_volume(id).await.unwrap().into_inner();
        assert_eq!(volume.status(), VolumeStatus::Available);
    });
    world.assert_tidy("when it is recorded");
    run.stop();
}

/// A restore into a volume that meets it in the middle, and one that meets it at the end.
#[test]
fn restores_into_a_volume() {
    for write in [
        "INSERT ON attachments",
        "UPDATE OF stage ON restores_in_place WHEN NEW.stage = 'replacing'",
        "UPDATE OF stage ON restores_in_place WHEN NEW.stage = 'done'",
    ] {
        let world = World::new();
        let mut config = world.config();
        config.transfers.pause_first_seconds = 1;
        config.transfers.pause_max_seconds = 1;
        config.transfers.give_up_after_seconds = 3600;
        let run = Run::start(config, world.parts());
        let (mut client, mut volumes) = (run.client(), run.volumes());
        run.block_on(async {
            let volume_id = filled_volume(&world, &mut client).await.volume_id;
            let request = lab::snapshot_of(&volume_id, "first", "offsite");
            let snapshot = lab::ready_snapshot(&mut client, &request).await.unwrap();
            let other = vec![9; usize::try_from(SIZE).unwrap()];
            let file = world.storage.volume_file(&volume_id.parse().unwrap());
            std::fs::write(file, other).unwrap();
            let refusing = Refusing::writes(&world, &[write]);
            let request = api::RestoreVolumeRequest {
                volume_id: volume_id.clone(),
                snapshot_id: snapshot.snapshot_id,
            };
            volumes.restore_volume(request).await.unwrap();
            tokio::time::sleep(A_WHILE).await;
            let id = api::GetVolumeRequest {
                volume_id: volume_id.clone(),
            };
            let now = client.get_volume(id.clone()).await.unwrap().into_inner();
            assert_eq!(now.status(), VolumeStatus::Restoring, "{write}: {now:?}");
            refusing.no_more();
            let done = client.wait_volume(id).await.unwrap().into_inner();
            let ended = (done.status(), done.error.as_str());
            assert_eq!(ended, (VolumeStatus::Available, ""), "{write}");
            world.assert_content(&volume_id);
            let left = world.storage.leftovers().volumes;
            assert_eq!(left, [volume_id], "{write}");
        });
        world.assert_tidy(write);
        run.stop();
    }
}

//! The manager is killed with SIGKILL at every named point of backup, restore and deletion, and started again: statuses are what they
//! should be, what was begun is finished or can be asked for again, and nothing is left.
//!
//! What is killed is a child process: this test program, of which it runs one test.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use stockpot_command::Command;
use stockpot_manager::{
    Parts,
    fault::{LOG_VARIABLE, NAMES, POINT_VARIABLE},
};
use stockpot_proto::stockpot::v1::{self as api, BackupStatus, VolumeStatus};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio::runtime::Runtime;

use super::{
    Kind, World, assert_holds, attach,
    backups::{logical_volume, logical_volumes, status},
    detach,
};
use crate::lab::{self, Backups, Client, Run, Volumes};

const DIRECTORY: &str = "STOCKPOT_FAULTS_DIRECTORY";
const POOL: &str = "STOCKPOT_FAULTS_POOL";
const SIZE: u64 = 16 << 20;
/// How long a step may take; a guest is slow.
const WITHIN: Duration = Duration::from_secs(30);

fn image() -> Image {
    Image::new(SIZE)
        .extent(0, 1 << 20, Fill::Text(1))
        .extent(8 << 20, 2 << 20, Fill::Random(2))
}

/// Callers of the manager behind this socket, when it takes operations.
async fn clients_at(socket: &Path) -> (Client, Backups) {
    let channel = lab::connect(socket).await;
    let mut client = Client::new(channel.clone());
    let deadline = Instant::now() + lab::PATIENCE;
    loop {
        let info = client.get_info(api::GetInfoRequest {}).await;
        let info = info.unwrap().into_inner();
        if info.ready {
            return (client, Backups::new(channel));
        }
        assert!(Instant::now() < deadline, "{}", info.not_ready_reason);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a child is told by the environment what it serves"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Not a test by itself: what the next one kills.
#[test]
fn child_serves() {
    let (Some(directory), Some(pool)) = (variable(DIRECTORY), variable(POOL)) else {
        return;
    };
    let config = World::config_of(Path::new(&directory), &pool);
    let parts = Parts::new(&config).unwrap();
    let _run = Run::start_early(config, parts);
    loop {
        std::thread::park();
    }
}

/// A world with one volume, and what is asked of its managers.
struct Stage {
    world: World,
    runtime: Runtime,
    /// The volume that is backed up, in use but for one case.
    volume: String,
    /// A backup of it to restore from.
    base: String,
}

/// A manager in this process, which is not killed.
struct Safe {
    run: Run,
    client: Client,
    backups: Backups,
}

impl Stage {
    fn new() -> Self {
        let world = World::new(Kind::LvmThin);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut stage = Self {
            world,
            runtime,
            volume: String::new(),
            base: String::new(),
        };
        let mut safe = stage.start();
        (stage.volume, stage.base) = safe.run.block_on(async {
            let request = lab::empty_volume("source", SIZE);
            let volume = lab::available_volume(&mut safe.client, &request).await;
            let volume = volume.unwrap().volume_id;
            let path = attach(&mut safe.client, &volume).await;
            let device = fs::OpenOptions::new().write(true).open(&path).unwrap();
            image().write_extents(&device).unwrap();
            device.sync_all().unwrap();
            let base = lab::backed_up(&mut safe.backups, &volume, "base", true).await;
            (volume, base.snapshot_id)
        });
        safe.run.stop();
        stage
    }

    fn start(&self) -> Safe {
        let run = self.world.start();
        let (client, backups) = (run.client(), run.backups());
        Safe {
            run,
            client,
            backups,
        }
    }

    /// Lets a child do this until it kills itself at the point.
    fn killed_at(&self, point: &str, flow: impl AsyncFnOnce(Client, Backups)) {
        let log = self.world.dir.path().join("faults.log");
        fs::write(&log, "").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "real::faults::child_serves", "--nocapture"])
            .env(DIRECTORY, self.world.dir.path())
            .env(POOL, self.world.pool())
            .env(POINT_VARIABLE, point)
            .env(LOG_VARIABLE, &log)
            .env("STOCKPOT_IN_TESTHOST", "1")
            .deadline(2 * WITHIN);
        self.runtime.block_on(async {
            let child = tokio::spawn(child.output());
            let socket = self.world.config().socket;
            let going = async {
                let (client, backups) = clients_at(&socket).await;
                flow(client, backups).await;
                // It answered: what comes behind reaches the point.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                ended = child => drop(ended),
                () = going => {}
                () = tokio::time::sleep(2 * WITHIN) => panic!("{point} is not reached"),
            }
        });
        let hit = fs::read_to_string(&log).unwrap();
        assert_eq!(hit.trim_end(), point, "where it was killed");
    }

    /// Nothing is in the pool but the volume, and nothing is half-open in the bucket.
    async fn assert_clean(&self, point: &str) {
        let expected = [logical_volume("v", &self.volume)];
        let deadline = tokio::time::Instant::now() + WITHIN;
        // A base that nobody needs goes behind.
        loop {
            let there = logical_volumes(&self.world).await;
            if there == expected {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{point}: {there:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(self.world.open_uploads(), 0, "{point}: open uploads");
    }

    fn backup(&self, point: &str) {
        let in_use = point != "backup.volume-detached";
        let mut safe = self.start();
        safe.run.block_on(async {
            if !in_use {
                detach(&mut safe.client, &self.volume).await;
            }
        });
        safe.run.stop();
        self.killed_at(point, async |_, mut backups| {
            let _ = lab::back_up(&mut backups, &self.volume, point, in_use).await;
        });

        let mut safe = self.start();
        safe.run.block_on(async {
            let before = match in_use {
                true => VolumeStatus::InUse,
                false => VolumeStatus::Available,
            };
            let done = lab::cleaned(&mut safe.backups, point).await;
            let never_cut = ["backup.row", "backup.snapshot-row", "backup.cut"];
            let expected = match never_cut.contains(&point) {
                true => BackupStatus::Error,
                false => BackupStatus::Available,
            };
            assert_eq!(done.status(), expected, "{point}: {done:?}");
            assert_eq!(status(&mut safe.client, &self.volume).await, before);
            let mut names = vec![point.to_owned()];
            if expected == BackupStatus::Error {
                names.push(format!("{point}-again"));
                lab::backed_up(&mut safe.backups, &self.volume, &names[1], in_use).await;
            }
            let last = safe
                .backups
                .get_backup(lab::backup(&names[names.len() - 1]));
            let last = last.await.unwrap().into_inner();
            self.assert_restores(&mut safe.client, &last.snapshot_id)
                .await;
            for name in names {
                let deleted = safe.backups.delete_backup(lab::backup(&name)).await;
                deleted.unwrap();
            }
            assert_eq!(status(&mut safe.client, &self.volume).await, before);
            if !in_use {
                attach(&mut safe.client, &self.volume).await;
            }
            self.assert_clean(point).await;
        });
        safe.run.stop();
    }

    async fn assert_restores(&self, client: &mut Client, snapshot: &str) {
        let request = lab::volume_from("back", snapshot, api::SourceCopy::Cloud);
        let back = lab::available_volume(client, &request).await.unwrap();
        assert_holds(client, &back.volume_id, &image()).await;
        lab::delete_volume(client, &back.volume_id).await.unwrap();
    }

    fn restore(&self, point: &str) {
        let request = lab::volume_from(point, &self.base, api::SourceCopy::Cloud);
        self.killed_at(point, async |mut client, _| {
            let _ = client.create_volume(request.clone()).await;
        });
        let mut safe = self.start();
        safe.run.block_on(async {
            // Asked for again, as whoever asked first does it: that one is finished.
            let back = lab::available_volume(&mut safe.client, &request)
                .await
                .unwrap();
            assert_eq!(back.status(), VolumeStatus::Available, "{point}: {back:?}");
            assert_holds(&mut safe.client, &back.volume_id, &image()).await;
            lab::delete_volume(&mut safe.client, &back.volume_id)
                .await
                .unwrap();
            self.assert_clean(point).await;
        });
        safe.run.stop();
    }

    /// Into a volume with another content: the next start goes on with it, whoever asked first.
    fn in_place(&self, point: &str) {
        let mut safe = self.start();
        let volume = safe.run.block_on(async {
            let request = lab::empty_volume(point, SIZE);
            let volume = lab::available_volume(&mut safe.client, &request).await;
            let volume = volume.unwrap().volume_id;
            let path = attach(&mut safe.client, &volume).await;
            let device = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let other = Image::new(SIZE).extent(4 << 20, 1 << 20, Fill::Random(7));
            other.write_extents(&device).unwrap();
            device.sync_all().unwrap();
            drop(device);
            detach(&mut safe.client, &volume).await;
            volume
        });
        safe.run.stop();
        let socket = self.world.config().socket;
        self.killed_at(point, async |_, _| {
            let mut volumes = Volumes::new(lab::connect(&socket).await);
            let request = api::RestoreVolumeRequest {
                volume_id: volume.clone(),
                snapshot_id: self.base.clone(),
            };
            let _ = volumes.restore_volume(request).await;
        });
        let mut safe = self.start();
        safe.run.block_on(async {
            let asked = api::GetVolumeRequest {
                volume_id: volume.clone(),
            };
            let done = safe.client.wait_volume(asked).await.unwrap().into_inner();
            assert_eq!(
                (done.status(), done.error.as_str()),
                (VolumeStatus::Available, ""),
                "{point}"
            );
            assert_holds(&mut safe.client, &volume, &image()).await;
            lab::delete_volume(&mut safe.client, &volume).await.unwrap();
            self.assert_clean(point).await;
        });
        safe.run.stop();
    }

    fn delete(&self, point: &str) {
        let mut safe = self.start();
        let made = lab::backed_up(&mut safe.backups, &self.volume, point, true);
        let made = safe.run.block_on(made);
        safe.run.stop();
        self.killed_at(point, async |_, mut backups| {
            let _ = backups.delete_backup(lab::backup(&made.backup_id)).await;
        });
        let mut safe = self.start();
        safe.run.block_on(async {
            safe.backups
                .delete_backup(lab::backup(&made.backup_id))
                .await
                .unwrap();
            let listed = safe
                .backups
                .list_backups(api::ListBackupsRequest::default());
            let listed = listed.await.unwrap().into_inner().backups;
            let left: Vec<_> = listed.iter().map(|b| b.name.as_str()).collect();
            assert_eq!(left, ["base"], "{point}");
            let snapshots = lab::list(&mut safe.client).await;
            let is_left = snapshots.iter().any(|s| s.snapshot_id == made.snapshot_id);
            assert!(!is_left, "{point}: {snapshots:?}");
            self.assert_clean(point).await;
        });
        safe.run.stop();
    }
}

#[test]
fn killed_at_every_named_point() {
    let stage = Stage::new();
    for point in NAMES {
        let begun = std::time::Instant::now();
        match point.split_once('.').unwrap().0 {
            "backup" | "upload" => stage.backup(point),
            "restore" => stage.restore(point),
            "in-place" => stage.in_place(point),
            "delete" => stage.delete(point),
            other => panic!("{other}"),
        }
        eprintln!("{point}: {} ms", begun.elapsed().as_millis());
    }
    let mut safe = stage.start();
    safe.run.block_on(async {
        detach(&mut safe.client, &stage.volume).await;
        let deleted = safe.backups.delete_backup(lab::backup("base")).await;
        deleted.unwrap();
        lab::delete_volume(&mut safe.client, &stage.volume)
            .await
            .unwrap();
        assert!(logical_volumes(&stage.world).await.is_empty());
    });
    safe.run.stop();
    let Stage { world, runtime, .. } = stage;
    drop(runtime);
    world.close();
}

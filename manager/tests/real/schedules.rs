//! A schedule on real storage, of a volume that is in use: what its runs send, what they give up, and what is caught up after
//! the manager was down. Its clock is driven, and stays near that of the bucket.

use std::{fs::OpenOptions, path::PathBuf, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use stockpot_manager::{Parts, fakes::DrivenClock, schedules::Clock as _};
use stockpot_proto::stockpot::v1::{self as api, schedules_client::SchedulesClient};
use stockpot_repository::format::record::{RecordKind, peek};
use stockpot_test_fixtures::image::{Fill, Image};
use tonic::{Code, transport::Channel};

use super::{
    BUCKET, Kind, SIZE, World, assert_holds, attach,
    backups::{logical_volume, logical_volumes},
    detach, filled_volume,
};
use crate::lab::{self, Backups, Client, Run, until};

type Schedules = SchedulesClient<Channel>;

const MIB: u64 = 1 << 20;

/// A volume in use, and the clock of schedules. They outlive managers.
struct Stage {
    world: World,
    clock: Arc<DrivenClock>,
    volume: String,
    device: PathBuf,
    /// What was written to it.
    holds: Image,
}

/// Who asks a manager.
struct Callers {
    client: Client,
    backups: Backups,
    schedules: Schedules,
}

fn hourly() -> api::Schedule {
    api::Schedule {
        name: "hourly".to_owned(),
        occurrence: "Hourly".to_owned(),
        profile: "offsite".to_owned(),
        ..api::Schedule::default()
    }
}

fn keeping(keep_last: u32) -> api::Schedule {
    api::Schedule {
        retention: Some(api::Retention {
            keep_last,
            ..api::Retention::default()
        }),
        ..hourly()
    }
}

fn named() -> api::GetScheduleRequest {
    api::GetScheduleRequest {
        name: hourly().name,
        run_id: 0,
    }
}

impl Stage {
    fn new(kind: Kind) -> (Self, Run, Callers) {
        let mut stage = Self {
            world: World::new(kind),
            clock: Arc::new(DrivenClock::new(early_in_the_next_hour())),
            volume: String::new(),
            device: PathBuf::new(),
            holds: Image::new(SIZE).extent(20 * MIB, 6 * MIB, Fill::Random(1)),
        };
        let (run, mut callers) = stage.start();
        let client = &mut callers.client;
        (stage.volume, stage.device) = run.block_on(async {
            let volume = filled_volume(client, &stage.holds).await.volume_id;
            let device = attach(client, &volume).await;
            (volume, device)
        });
        (stage, run, callers)
    }

    fn start(&self) -> (Run, Callers) {
        let config = self.world.config();
        let parts = Parts::new(&config).unwrap();
        let run = Run::start_by(config, parts, self.clock.clone()).when_ready();
        let callers = Callers {
            client: run.client(),
            backups: run.backups(),
            schedules: SchedulesClient::new(run.channel()),
        };
        (run, callers)
    }

    /// Somebody writes a MiB, to another place each time.
    fn write(&mut self, number: u64) {
        let (offset, fill) = ((30 + 2 * number) * MIB, Fill::Random(10 + number));
        let device = OpenOptions::new().write(true).open(&self.device).unwrap();
        let written = Image::new(SIZE).extent(offset, MIB, fill);
        written.write_extents(&device).unwrap();
        device.sync_all().unwrap();
        self.holds = self.holds.clone().extent(offset, MIB, fill);
    }

    /// What stands in the bucket of a snapshot of the volume.
    fn record(&self, backup: &api::Backup) -> RecordKind {
        let key = format!("site/snapshots/{}/{}.json", self.volume, backup.snapshot_id);
        let object = self.world.server.object(BUCKET, &key);
        peek(&object.unwrap()).unwrap().kind
    }

    /// A cloud copy holds what is in the volume now.
    async fn assert_restores(&self, client: &mut Client, backup: &api::Backup) {
        let request = lab::volume_from("back", &backup.snapshot_id, api::SourceCopy::Cloud);
        let back = lab::available_volume(client, &request).await.unwrap();
        assert_holds(client, &back.volume_id, &self.holds).await;
        lab::delete_volume(client, &back.volume_id).await.unwrap();
    }

    /// A cloud copy that was given up is neither in the bucket nor on record.
    async fn assert_gone(&self, client: &mut Client, backup: &api::Backup) {
        assert_eq!(self.record(backup), RecordKind::Tombstone);
        let request = lab::volume_from("gone", &backup.snapshot_id, api::SourceCopy::Auto);
        let refused = lab::available_volume(client, &request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }

    /// Beside the volume there is what tells the next run what changed since this copy, and nothing of earlier ones.
    async fn until_one_base_is_left(&self, of: &api::Backup) {
        let expected = [
            logical_volume("s", &of.snapshot_id),
            logical_volume("v", &self.volume),
        ];
        until("one base is left", async || {
            (logical_volumes(&self.world).await == expected).then_some(())
        })
        .await;
    }

    /// Takes everything away, and looks for what is left.
    fn close(self, run: Run, mut callers: Callers) {
        run.block_on(async {
            let (client, backups) = (&mut callers.client, &mut callers.backups);
            detach(client, &self.volume).await;
            self.world.assert_tidy("after the runs");
            callers.schedules.delete_schedule(named()).await.unwrap();
            let there = all(backups).await;
            assert!(!there.is_empty(), "they go with their schedule");
            for backup in there {
                let deleted = backups.delete_backup(lab::backup(&backup.backup_id)).await;
                deleted.unwrap();
            }
            lab::delete_volume(client, &self.volume).await.unwrap();
            assert!(lab::list(client).await.is_empty());
            assert!(logical_volumes(&self.world).await.is_empty());
        });
        run.stop();
        assert!(self.world.keys("intents/").is_empty());
        self.world.close();
    }
}

impl Callers {
    /// Waits until the run that began then, or later, has done all it had to; the backup that it made.
    async fn made_since(&mut self, since: Timestamp) -> api::Backup {
        let seen = until("the run is over", async || {
            let seen = self.schedules.get_schedule(named()).await;
            let seen = seen.unwrap().into_inner();
            let began = seen.last_run_at.map(|at| at.seconds);
            let is_it = began.is_some_and(|began| began >= since.as_second());
            (is_it && seen.last_running == 0).then_some(seen)
        })
        .await;
        assert_eq!(
            (seen.last_ok, seen.last_failed, seen.last_skipped),
            (1, 0, 0),
            "{seen:?}"
        );
        let made = lab::backup(&seen.last_volumes[0].backup_id);
        let made = self.backups.get_backup(made).await.unwrap().into_inner();
        assert_eq!(made.schedule, hourly().name);
        assert!(made.from_snapshot && made.cleaned, "{made:?}");
        made
    }

    /// A run that is asked for a minute after the last one.
    async fn run_now(&mut self, clock: &DrivenClock) -> api::Backup {
        clock.pass(SignedDuration::from_mins(1));
        self.schedules.run_schedule(named()).await.unwrap();
        self.made_since(clock.now()).await
    }

    /// Which backups are given up, or would be; and why others stay.
    async fn retain(&mut self, dry_run: bool) -> Vec<(String, Option<String>)> {
        let request = api::ApplyRetentionRequest {
            schedule: hourly().name,
            dry_run,
        };
        let judged = self.schedules.apply_retention(request).await.unwrap();
        let judged = judged.into_inner().items.into_iter().map(|item| {
            assert_eq!(item.error, "");
            (item.backup_id, item.kept.then_some(item.why))
        });
        judged.collect()
    }
}

/// A schedule of each hour has nothing due while minutes pass. Never behind the bucket's clock: copies from the future are kept.
fn early_in_the_next_hour() -> Timestamp {
    let hour = Timestamp::now().as_second() / 3600 + 1;
    Timestamp::from_second(hour * 3600 + 600).unwrap()
}

async fn all(backups: &mut Backups) -> Vec<api::Backup> {
    let listed = backups.list_backups(api::ListBackupsRequest::default());
    listed.await.unwrap().into_inner().backups
}

/// It was told what changed since the other one, and sent little more than the MiB that was written.
fn assert_builds_on(backup: &api::Backup, base: &api::Backup) {
    assert_eq!(
        (backup.reason.as_str(), &backup.parent),
        ("incremental", &base.snapshot_id),
        "{backup:?}"
    );
    assert!(backup.reason_text.contains(&base.snapshot_id), "{backup:?}");
    let sent = backup.progress.as_ref().unwrap().bytes_transferred;
    assert!((MIB..2 * MIB).contains(&sent), "{sent} bytes for a MiB");
}

#[test]
fn the_last_copy_stays_on_lvm_thin() {
    the_last_copy_stays(Kind::LvmThin);
}

#[test]
fn the_last_copy_stays_on_lvm_thick() {
    the_last_copy_stays(Kind::LvmThick);
}

fn the_last_copy_stays(kind: Kind) {
    let (mut stage, run, mut callers) = Stage::new(kind);
    let last = || Some("last".to_owned());
    run.block_on(async {
        let made = callers.schedules.create_schedule(keeping(2)).await;
        made.unwrap();
        let first = callers.run_now(&stage.clock).await;
        assert_eq!(first.reason, "full", "{first:?}");
        stage.write(1);
        let second = callers.run_now(&stage.clock).await;
        assert_builds_on(&second, &first);
        stage.until_one_base_is_left(&second).await;
        let mut plan = callers.retain(true).await;
        plan.sort();
        let mut both = [
            (first.backup_id.clone(), last()),
            (second.backup_id.clone(), last()),
        ];
        both.sort();
        assert_eq!(plan, both);

        stage.write(2);
        let third = callers.run_now(&stage.clock).await;
        assert_builds_on(&third, &second);
        // By the run itself.
        until("the first one is given up", async || {
            (all(&mut callers.backups).await.len() == 2).then_some(())
        })
        .await;
        stage.assert_gone(&mut callers.client, &first).await;

        let updated = callers.schedules.update_schedule(keeping(1)).await;
        updated.unwrap();
        for dry_run in [true, false] {
            assert_eq!(stage.record(&second), RecordKind::Manifest);
            assert_eq!(all(&mut callers.backups).await.len(), 2);
            let mut plan = callers.retain(dry_run).await;
            plan.sort_by_key(|(_, kept)| kept.is_some());
            let expected = [
                (second.backup_id.clone(), None),
                (third.backup_id.clone(), last()),
            ];
            assert_eq!(plan, expected);
        }
        stage.assert_gone(&mut callers.client, &second).await;
        let plan = callers.retain(false).await;
        assert_eq!(plan, [(third.backup_id.clone(), last())]);
        assert_eq!(stage.record(&third), RecordKind::Manifest);
        let on_record = lab::list(&mut callers.client).await;
        let on_record: Vec<_> = on_record.iter().map(|one| &one.snapshot_id).collect();
        assert_eq!(on_record, [&third.snapshot_id]);
        stage.until_one_base_is_left(&third).await;
        stage.assert_restores(&mut callers.client, &third).await;
    });
    stage.close(run, callers);
}

#[test]
fn what_a_killed_manager_missed_is_caught_up_once() {
    let (mut stage, run, mut callers) = Stage::new(Kind::LvmThin);
    let first = run.block_on(async {
        let made = callers.schedules.create_schedule(hourly()).await.unwrap();
        let due = moment(made.into_inner().next_run_at);
        stage.clock.set(due);
        callers.made_since(due).await
    });
    drop(callers);
    run.kill();
    stage.write(1);
    stage.clock.pass(SignedDuration::from_mins(5 * 60 + 10));

    let (run, mut callers) = stage.start();
    run.block_on(async {
        let second = callers.made_since(stage.clock.now()).await;
        assert_builds_on(&second, &first);
        let seen = callers.schedules.get_schedule(named()).await.unwrap();
        let next = moment(seen.into_inner().next_run_at);
        let ahead = next.duration_since(stage.clock.now());
        assert_eq!(ahead, SignedDuration::from_mins(50));
        stage.write(2);
        stage.clock.set(next);
        let third = callers.made_since(next).await;
        assert_builds_on(&third, &second);
        stage.assert_restores(&mut callers.client, &third).await;
        assert_eq!(all(&mut callers.backups).await.len(), 3);
    });
    stage.close(run, callers);
}

fn moment(at: Option<prost_types::Timestamp>) -> Timestamp {
    Timestamp::from_second(at.unwrap().seconds).unwrap()
}

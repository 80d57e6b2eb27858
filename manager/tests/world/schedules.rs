//! Schedules under a clock that the test drives: due times, limits, what was missed, what a crash leaves, what is kept.

mod asked;
mod kept;
mod killed;
mod limits;
mod locked;
mod missed;
mod months;
mod profiles;
mod put_back;

use std::{fs, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use stockpot_manager::fakes::DrivenClock;
use stockpot_proto::stockpot::v1::{self as api, VolumeStatus, schedules_client::SchedulesClient};
use tonic::transport::Channel;

use super::World;
use crate::lab::{self, Backups, Client, Run, until};

type Schedules = SchedulesClient<Channel>;

/// Limits that nothing reaches.
const WIDE: &str = "{backupsMax: 100, perRepositoryMax: 100}";

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A world with a clock.
pub(super) struct Scene {
    pub(super) world: World,
    clock: Arc<DrivenClock>,
    /// As it stands in the configuration.
    limits: &'static str,
}

/// A manager in it.
pub(super) struct Managed {
    pub(super) run: Run,
    pub(super) client: Client,
    pub(super) backups: Backups,
    pub(super) schedules: Schedules,
}

impl Scene {
    pub(super) fn new(now: &str, limits: &'static str) -> Self {
        let scene = Self {
            world: World::new(),
            clock: Arc::new(DrivenClock::new(at(now))),
            limits,
        };
        scene.set(at(now));
        scene
    }

    pub(super) fn start(&self) -> Managed {
        let mut config = self.world.config();
        config.schedules = serde_saphyr::from_str(self.limits).unwrap();
        let run = Run::start_by(config, self.world.parts(), self.clock.clone()).when_ready();
        Managed {
            client: run.client(),
            backups: run.backups(),
            schedules: SchedulesClient::new(run.channel()),
            run,
        }
    }

    /// Sets all clocks.
    pub(super) fn set(&self, now: Timestamp) {
        let ahead = now.duration_since(Timestamp::now());
        self.world.stores.set_clock_ahead_s(ahead.as_secs());
        self.world.storage.set_clock_us(now.as_microsecond());
        self.clock.set(now);
    }

    pub(super) fn pass(&self, time: SignedDuration) {
        use stockpot_manager::schedules::Clock as _;
        self.set(self.clock.now() + time);
    }
}

impl Managed {
    pub(super) fn block_on<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Client, &mut Backups, &mut Schedules) -> T,
    ) -> T {
        let work = work(&mut self.client, &mut self.backups, &mut self.schedules);
        self.run.block_on(work)
    }
}

/// Nightly at half past two in Berlin, of all volumes.
pub(super) fn nightly() -> api::Schedule {
    api::Schedule {
        name: "nightly".to_owned(),
        calendar: "30 2 * * *".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        ..api::Schedule::default()
    }
}

pub(super) fn named(name: &str) -> api::GetScheduleRequest {
    api::GetScheduleRequest {
        name: name.to_owned(),
        run_id: 0,
    }
}

pub(super) async fn shown(schedules: &mut Schedules, name: &str) -> api::Schedule {
    let found = schedules.get_schedule(named(name)).await;
    found.unwrap().into_inner()
}

/// How a volume fared in the last run.
fn named_volume<'a>(schedule: &'a api::Schedule, name: &str) -> &'a api::ScheduledVolume {
    let found = schedule
        .last_volumes
        .iter()
        .find(|one| one.volume_name == name);
    found.unwrap()
}

/// The size of volumes, in bytes.
pub(super) const SMALL: u64 = 64 << 10;

/// Volumes with content.
pub(super) async fn volumes(world: &World, client: &mut Client, names: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for name in names {
        let request = lab::empty_volume(name, SMALL);
        ids.push(volume(world, client, &request).await);
    }
    ids
}

pub(super) async fn volume(
    world: &World,
    client: &mut Client,
    request: &api::CreateVolumeRequest,
) -> String {
    let id = lab::available_volume(client, request)
        .await
        .unwrap()
        .volume_id;
    let size = usize::try_from(SMALL).unwrap();
    let content: Vec<u8> = request.name.bytes().cycle().take(size).collect();
    fs::write(world.storage.volume_file(&id.parse().unwrap()), content).unwrap();
    id
}

/// All backups, over all pages.
pub(super) async fn all(backups: &mut Backups) -> Vec<api::Backup> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let request = api::ListBackupsRequest {
            starting_token: token,
            ..api::ListBackupsRequest::default()
        };
        let page = backups.list_backups(request).await.unwrap().into_inner();
        found.extend(page.backups);
        token = page.next_token;
        if token.is_empty() {
            return found;
        }
    }
}

/// How many volumes are being backed up: as many as backups of volumes that nobody uses.
pub(super) async fn backing_up(client: &mut Client) -> usize {
    let listed = client
        .list_volumes(api::ListVolumesRequest::default())
        .await;
    let listed = listed.unwrap().into_inner().volumes;
    let backing_up = |volume: &&api::Volume| volume.status() == VolumeStatus::BackingUp;
    listed.iter().filter(backing_up).count()
}

/// Long enough for a manager that would do something wrong.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Waits until the run that began at a time, or after it, has done all it had to.
pub(super) async fn run_is_over(
    schedules: &mut Schedules,
    name: &str,
    since: Timestamp,
) -> api::Schedule {
    until("the run is over", async || {
        let schedule = shown(schedules, name).await;
        let began = schedule.last_run_at.map(|at| at.seconds);
        let is_it = began.is_some_and(|began| began >= since.as_second());
        (is_it && schedule.last_running == 0).then_some(schedule)
    })
    .await
}

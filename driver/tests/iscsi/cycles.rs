//! Attached, read and detached again and again: volumes and snapshots of every driver, here and over iSCSI, several at the
//! same time, some killed at any point. What a killed one left is attached again, or removed. Nothing is left but what should be.

mod adopt;

use std::{path::Path, sync::Arc, time::Duration};

use stockpot_command::Command;
use stockpot_connector::{Connector, HostConnector, IscsiConfig};
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, ExportingDriver, VolumeDriver,
    exporting::recover_exports,
    file::{FileConfig, FileDriver},
    lvm::{LvmThickConfig, LvmThickDriver},
    target::Targets,
};
use stockpot_test_fixtures::leak::LeakCheck;

use crate::{
    fixture::{FileSystem, Host},
    lab::{Lab, PORTALS, holds, iscsi, leftovers, node, until, worker_with, write},
};

const HOME: &str = "STOCKPOT_TEST_HOME";
const SEED: &str = "STOCKPOT_TEST_SEED";
/// Where the images of the driver `file` lie: the child finds them there.
const IMAGES: &str = "images";
/// What a snapshot holds for ever, and its volume after the cut.
const THEN: u8 = 1;
const NOW: u8 = 2;

fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test host and the parent tell by variables"
    )]
    std::env::var(name).ok()
}

/// Numbers that a seed gives again (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// One driver with a volume `v-KIND` and a snapshot `s-KIND` of it.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    driver: Arc<ExportingDriver>,
}

/// What is attached in a cycle: of which driver, whether the snapshot, whether over iSCSI.
type Use = (Kind, bool, bool);

fn kinds(host: &Host, home: &Path, thin: Arc<ExportingDriver>, targets: &Targets) -> Vec<Kind> {
    let thick = LvmThickDriver::new(LvmThickConfig::new(host.vg())).unwrap();
    let file = FileDriver::new(FileConfig::new(home.join(IMAGES).join("pool")));
    let exporting = |inner: Arc<dyn VolumeDriver>| {
        Arc::new(ExportingDriver::new(inner, targets.clone(), "storage"))
    };
    let kind = |name, driver| Kind { name, driver };
    vec![
        kind("thin", thin),
        kind("thick", exporting(Arc::new(thick))),
        kind("file", exporting(Arc::new(file))),
    ]
}

/// Three of the six, each once.
fn some(kinds: &[Kind], dice: &mut Dice) -> Vec<Use> {
    let mut all: Vec<Use> = Vec::new();
    for kind in kinds {
        for is_snapshot in [false, true] {
            all.push((kind.clone(), is_snapshot, dice.below(3) > 0));
        }
    }
    for _ in 0..3 {
        let out = usize::try_from(dice.below(all.len() as u64)).unwrap();
        all.remove(out);
    }
    all
}

impl Kind {
    async fn create(&self) {
        let (volume, snapshot) = (self.volume(), self.snapshot());
        self.driver.check().await.unwrap();
        self.driver.create_volume(&volume, 8 << 20).await.unwrap();
        let here = host_named("storage");
        self.driver.create_export(&volume).await.unwrap();
        let mode = AccessMode::ReadWrite;
        let device = self.driver.initialize_connection(&volume, &here, mode);
        let ConnectionInfo::Local(device) = device.await.unwrap() else {
            panic!("over iSCSI to itself");
        };
        write(&device.device_path, 0, THEN).unwrap();
        self.driver
            .create_snapshot(&snapshot, &volume)
            .await
            .unwrap();
        write(&device.device_path, 0, NOW).unwrap();
        let ended = self.driver.terminate_connection(&volume, &here, false);
        ended.await.unwrap();
        self.driver.remove_export(&volume).await.unwrap();
    }

    fn volume(&self) -> stockpot_driver::VolumeId {
        format!("v-{}", self.name).parse().unwrap()
    }

    fn snapshot(&self) -> stockpot_driver::SnapshotId {
        format!("s-{}", self.name).parse().unwrap()
    }

    /// What a start does for what nobody wants any more.
    async fn withdraw(&self) {
        self.driver.remove_export(&self.volume()).await.unwrap();
        let snapshot = self.snapshot();
        self.driver.remove_export_snapshot(&snapshot).await.unwrap();
    }

    async fn delete(&self) {
        self.driver.delete_snapshot(&self.snapshot()).await.unwrap();
        self.driver.delete_volume(&self.volume()).await.unwrap();
    }
}

fn host_named(host: &str) -> ConnectorProperties {
    ConnectorProperties {
        host: host.to_owned(),
        ip: None,
        initiator: None,
        multipath: false,
    }
}

/// With the patience that users have: the kernel breaks off a login when another target is taken from the same portal, and the
/// initiator tries again.
fn patient_worker() -> HostConnector {
    worker_with(|config| {
        let usual = IscsiConfig::default();
        config.login_timeout = usual.login_timeout;
        config.device_timeout = usual.device_timeout;
    })
}

/// Exports it to a host, as one that is there already is exported again.
async fn open(kind: &Kind, is_snapshot: bool, to: &ConnectorProperties) -> ConnectionInfo {
    let (volume, snapshot, driver) = (kind.volume(), kind.snapshot(), &kind.driver);
    if is_snapshot {
        driver.create_export_snapshot(&snapshot).await.unwrap();
        let info = driver.initialize_connection_snapshot(&snapshot, to);
        return info.await.unwrap();
    }
    driver.create_export(&volume).await.unwrap();
    let mode = AccessMode::ReadWrite;
    let info = driver.initialize_connection(&volume, to, mode);
    info.await.unwrap()
}

async fn close(kind: &Kind, is_snapshot: bool, to: &ConnectorProperties) {
    let (volume, snapshot, driver) = (kind.volume(), kind.snapshot(), &kind.driver);
    if is_snapshot {
        let ended = driver.terminate_connection_snapshot(&snapshot, to, false);
        ended.await.unwrap();
        driver.remove_export_snapshot(&snapshot).await.unwrap();
    } else {
        let ended = driver.terminate_connection(&volume, to, false);
        ended.await.unwrap();
        driver.remove_export(&volume).await.unwrap();
    }
}

/// Attaches what is exported, or makes sure of it, and reads.
async fn read(worker: &HostConnector, connection: &ConnectionInfo, is_snapshot: bool) {
    let device = worker.connect(connection).await.unwrap();
    assert_eq!(device.read_only, is_snapshot);
    let byte = if is_snapshot { THEN } else { NOW };
    assert!(holds(&device.path, 0, byte), "{connection:?}");
}

/// Attaches, reads, detaches.
async fn once((kind, is_snapshot, over_iscsi): Use) {
    let worker = patient_worker();
    let properties = match over_iscsi {
        true => worker.properties().await.unwrap(),
        false => host_named("storage"),
    };
    let connection = open(&kind, is_snapshot, &properties).await;
    read(&worker, &connection, is_snapshot).await;
    worker.disconnect(&connection).await.unwrap();
    close(&kind, is_snapshot, &properties).await;
}

async fn all_at_once(uses: Vec<Use>) {
    let running: Vec<_> = uses.into_iter().map(|it| tokio::spawn(once(it))).collect();
    for one in running {
        one.await.unwrap();
    }
}

/// A program that the killed one had started goes on to its end, and a service manager would end it.
async fn programs_end() {
    let is_running = |comm: std::path::PathBuf| {
        let name = std::fs::read_to_string(comm).unwrap_or_default();
        ["iscsiadm", "lvm", "lvs", "lvchange", "dmsetup"].contains(&name.trim())
    };
    let running = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|entry| is_running(entry.path().join("comm")))
    };
    until("the child's programs end", || !running()).await;
}

/// Not a test by itself: what the next one kills.
#[tokio::test(flavor = "multi_thread")]
async fn child_attaches_and_detaches() {
    let (Some(home), Some(seed)) = (variable(HOME), variable(SEED)) else {
        return;
    };
    let (host, home) = (Host::existing(), Path::new(&home));
    let (thin, targets) = node(&host, home, &PORTALS[..1]).await;
    let kinds = kinds(&host, home, thin, &targets);
    let mut dice = Dice(seed.parse().unwrap());
    loop {
        all_at_once(some(&kinds, &mut dice)).await;
    }
}

/// Runs the child for a while and kills it.
async fn killed(home: &Path, seed: u64, life: Duration) {
    let program = std::env::current_exe().unwrap();
    let child = Command::new(&program)
        .args(["--exact", "cycles::child_attaches_and_detaches"])
        .env(HOME, home)
        .env(SEED, seed.to_string())
        .env("STOCKPOT_IN_TESTHOST", "1")
        .env(
            "STOCKPOT_TEST_DISKS",
            variable("STOCKPOT_TEST_DISKS").unwrap(),
        );
    // When the time is over the child is killed.
    let ended = tokio::time::timeout(life, child.output()).await;
    if let Ok(ended) = ended {
        panic!(
            "the child ended by itself: {}",
            ended.unwrap().stdout_text()
        );
    }
    programs_end().await;
}

/// `STOCKPOT_TEST_CYCLES` sets how many, `STOCKPOT_TEST_SEED` with which dice.
#[tokio::test(flavor = "multi_thread")]
async fn cycles_leave_nothing() {
    let number = |name: &str| variable(name).map(|text| text.parse::<u64>().unwrap());
    let count = number("STOCKPOT_TEST_CYCLES").unwrap_or(6);
    let seed = number(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    println!("{count} cycles, {SEED}={seed}");
    let lab = Lab::new(&PORTALS[..1]).await;
    let images = FileSystem::at(&lab.host, "xfs", 320 << 20, &lab.home.path().join(IMAGES)).await;
    let kinds = kinds(&lab.host, lab.home.path(), lab.driver.clone(), &lab.targets);
    for kind in &kinds {
        kind.create().await;
    }
    assert_eq!(leftovers(), [""; 0]);
    let leaks = LeakCheck::start_with(&[lab.home.path()]);
    let drivers: Vec<_> = kinds.iter().map(|kind| kind.driver.clone()).collect();
    let mut dice = Dice(seed);
    let (mut found, mut adopted) = (0, 0);
    for cycle in 0..count {
        if cycle % 2 == 0 {
            all_at_once(some(&kinds, &mut dice)).await;
        } else {
            // Spread over more than one turn of the child, whose program needs a moment to start.
            let life = Duration::from_millis(900 + dice.below(3000));
            killed(lab.home.path(), dice.below(u64::MAX), life).await;
            // Half of what is left is wanted again, by whoever comes after the killed one.
            if cycle % 4 == 3 {
                adopted += adopt::all(&lab, &kinds).await;
            }
            let worker = lab.worker.recover(&[]).await.unwrap();
            let done = recover_exports(&lab.targets, &drivers, &[]).await.unwrap();
            assert_eq!((worker.failed, done.failed), (vec![], vec![]));
            found += worker.removed.len() + done.removed.len();
            for kind in &kinds {
                kind.driver.check().await.unwrap();
                kind.withdraw().await;
            }
        }
        assert_eq!(leftovers(), [""; 0], "after cycle {cycle}");
        leaks.assert_clean();
        if cycle % 20 == 19 {
            println!(
                "{} cycles, {found} leftovers removed, {adopted} sessions adopted",
                cycle + 1
            );
        }
    }
    println!("of killed ones {found} leftovers were removed, and {adopted} sessions adopted");
    assert!(count < 40 || adopted > 0, "nothing was ever adopted");
    // It is as if nothing had happened: the same answer for the same connection.
    let snapshot = kinds[0].snapshot();
    let connection = lab.export_snapshot(&snapshot).await;
    let device = lab.connect(&connection).await.unwrap();
    assert!(holds(&device.path, 0, THEN));
    lab.disconnect(&connection).await.unwrap();
    let again = lab
        .driver
        .initialize_connection_snapshot(&snapshot, &lab.properties);
    assert_eq!(iscsi(again.await.unwrap()), connection);
    lab.driver
        .terminate_connection_snapshot(&snapshot, &lab.properties, false)
        .await
        .unwrap();
    lab.driver.remove_export_snapshot(&snapshot).await.unwrap();
    for kind in &kinds {
        kind.delete().await;
    }
    images.unmount().await;
    lab.close().await;
}

//! A cut that does not end, a manager that is killed in the middle of one, and one that is killed with its watchdog.
//!
//! The storage is a fake, whose cut can be held; what is frozen is a real file system, on a device that stands in for a volume.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stockpot_command::Command;
use stockpot_manager::{
    Config, Parts,
    fakes::{FakeHost, FakeStorage, FakeStores, Faults},
};
use stockpot_proto::stockpot::v1::{self as api, BackupStatus};
use stockpot_test_fixtures::leak::LeakCheck;
use tonic::Code;

use super::{
    quiesce::{Scratch, Writer},
    turn,
};
use crate::lab::{self, Backups, Run};

/// For the child: the folder of its manager, and the device that is its volume.
const HOME: &str = "STOCKPOT_TEST_QUIESCE_HOME";
const DEVICE: &str = "STOCKPOT_TEST_QUIESCE_DEVICE";

fn variable(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the parent tells by variables")]
    std::env::var_os(name).map(PathBuf::from)
}

/// A manager on fakes.
struct Bench {
    faults: Arc<Faults>,
    storage: Arc<FakeStorage>,
    config: Config,
    run: Run,
}

impl Bench {
    fn start(home: &Path, deadline_seconds: u64) -> Self {
        let data = home.join("data");
        fs::create_dir_all(&data).unwrap();
        let faults = Arc::new(Faults::default());
        let storage = FakeStorage::new(&data, faults.clone());
        let mut config = lab::config(home);
        config.quiesce.deadline_seconds = deadline_seconds;
        let parts = Parts {
            pools: BTreeMap::from([("pool".to_owned(), storage.clone() as _)]),
            connector: Arc::new(FakeHost(storage.clone())),
            stores: FakeStores::new(faults.clone()),
        };
        Self {
            run: Run::start(config.clone(), parts),
            config,
            faults,
            storage,
        }
    }

    /// A volume that is attached, and whose device is this one.
    fn volume_on(&self, device: &Path) -> String {
        let mut client = self.run.client();
        self.run.block_on(async {
            let request = lab::empty_volume("v", 1 << 20);
            let volume = lab::available_volume(&mut client, &request).await.unwrap();
            super::attach(&mut client, &volume.volume_id).await;
            self.put(device, &volume.volume_id);
            volume.volume_id
        })
    }

    /// The device takes the place of the volume's file.
    fn put(&self, device: &Path, volume: &str) {
        let file = self.storage.volume_file(&volume.parse().unwrap());
        fs::remove_file(&file).unwrap();
        symlink(device, &file).unwrap();
    }

    /// Lets a cut that is held go on. The fake copies files alone: from now on the volume is one again.
    fn let_cut(&self, volume: &str) {
        let file = self.storage.volume_file(&volume.parse().unwrap());
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        self.faults.clear();
    }

    /// Backs up a volume on this device.
    async fn backed_up(&self, backups: &mut Backups, volume: &str) -> api::Backup {
        self.faults.hold_call("create_snapshot");
        let (asked, ()) = tokio::join!(lab::back_up(backups, volume, "b", true), async {
            self.faults.happened().await;
            self.let_cut(volume);
        });
        asked.unwrap();
        lab::cleaned(backups, "b").await
    }
}

/// Marks show that commands ran.
fn write_profile(home: &Path, more: &str) {
    let profiles = home.join("profiles");
    fs::create_dir_all(&profiles).unwrap();
    let mark = |word: &str| {
        format!(
            "[/bin/sh, -c, 'echo {word} >> {}']",
            home.join("marks").display()
        )
    };
    let text = format!(
        "{{name: offsite, snapshotProperties: {{topology: {{bucket: backups, prefix: a}},
           quiesce: {{pre: {}, post: {}{more}}}}}}}",
        mark("pre"),
        mark("post")
    );
    fs::write(profiles.join("offsite.yaml"), text).unwrap();
}

fn marks(home: &Path) -> String {
    fs::read_to_string(home.join("marks")).unwrap_or_default()
}

#[test]
fn a_cut_that_does_not_end_is_not_waited_for() {
    let _turn = turn();
    let leaks = LeakCheck::start();
    let home = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(home.path());
    let bench = Bench::start(home.path(), 1);
    let volume = bench.volume_on(&scratch.device);
    let writer = Writer::start(&scratch.at);
    for (more, name) in [(", onFailure: continue", "kept"), ("", "refused")] {
        write_profile(home.path(), more);
        bench.put(&scratch.device, &volume);
        let mut backups = bench.run.backups();
        bench.faults.hold_call("create_snapshot");
        bench.run.block_on(async {
            let mut asking = backups.clone();
            let id = volume.clone();
            let asked =
                tokio::spawn(async move { lab::back_up(&mut asking, &id, name, true).await });
            bench.faults.happened().await;
            let held = Instant::now();
            assert!(writer.goes_on_within(Duration::from_secs(20)));
            println!(
                "thawed {} ms after the cut began",
                held.elapsed().as_millis()
            );
            assert!(!asked.is_finished());
            bench.let_cut(&volume);
            let asked = asked.await.unwrap();
            if name == "refused" {
                let refused = asked.unwrap_err();
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
                assert!(refused.message().contains("deadline"), "{refused}");
                lab::cleaned(&mut backups, name).await;
                return;
            }
            asked.unwrap();
            let kept = lab::cleaned(&mut backups, name).await;
            assert_eq!(kept.consistency, "crash", "{kept:?}");
            assert!(kept.consistency_text.contains("deadline"), "{kept:?}");
            assert!(
                (1_000_000..20_000_000).contains(&kept.frozen_us),
                "{kept:?}"
            );
        });
        // That of the one that was kept is the base of the next.
        assert_eq!(bench.storage.leftovers().snapshots.len(), 1, "{name}");
    }
    assert_eq!(marks(home.path()), "pre\npost\npre\npost\n");
    drop(writer);
    bench.run.stop();
    drop(scratch);
    leaks.assert_clean();
}

/// A file system that somebody else froze stays frozen, and is as good.
#[test]
fn what_somebody_else_froze_is_left_frozen() {
    let _turn = turn();
    let home = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(home.path());
    let bench = Bench::start(home.path(), 10);
    let volume = bench.volume_on(&scratch.device);
    lab::write_profile(home.path(), "offsite", "{bucket: backups, prefix: a}");
    let mut backups = bench.run.backups();
    bench.run.block_on(async {
        let at = scratch.at.to_str().unwrap();
        super::run_async("fsfreeze", &["-f", at]).await;
        let done = bench.backed_up(&mut backups, &volume).await;
        assert_eq!(done.consistency, "file-system", "{done:?}");
        // Frozen to the end: thawing succeeds only once.
        super::run_async("fsfreeze", &["-u", at]).await;
    });
    bench.run.stop();
}

/// The folder of the manager itself is never frozen: nobody could write down what is done.
#[test]
fn what_the_manager_needs_is_not_frozen() {
    let _turn = turn();
    let home = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(home.path());
    let bench = Bench::start(&scratch.at, 10);
    let volume = bench.volume_on(&scratch.device);
    lab::write_profile(&scratch.at, "offsite", "{bucket: backups, prefix: a}");
    let mut backups = bench.run.backups();
    bench.run.block_on(async {
        let done = bench.backed_up(&mut backups, &volume).await;
        assert_eq!(
            (done.consistency.as_str(), done.frozen_us),
            ("crash", 0),
            "{done:?}"
        );
        let state = bench.config.state_dir.to_str().unwrap();
        assert!(done.consistency_text.contains(state), "{done:?}");
    });
    bench.run.stop();
}

/// What is there from when the child's cut has begun.
fn cutting(home: &Path) -> PathBuf {
    home.join("cutting")
}

/// Not a test by itself: what the next ones kill. Its cut never ends.
#[test]
fn child_that_cuts() {
    let (Some(home), Some(device)) = (variable(HOME), variable(DEVICE)) else {
        return;
    };
    let bench = Bench::start(&home, 60);
    let volume = bench.volume_on(&device);
    let mut backups = bench.run.backups();
    bench.faults.hold_call("create_snapshot");
    bench.run.block_within(Duration::from_secs(600), async {
        let told = async {
            bench.faults.happened().await;
            fs::write(cutting(&home), "").unwrap();
        };
        let cut = lab::back_up(&mut backups, &volume, "b", true);
        let (cut, ()) = tokio::join!(cut, told);
        panic!("the cut ended: {cut:?}");
    });
}

/// Processes of a program.
fn processes(program: &Path) -> Vec<Pid> {
    let runs = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)
    };
    let entries = fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let running = entries.filter(runs);
    let ids = running.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.map(Pid::from_raw).collect()
}

/// The process that cuts, by the home it was given.
fn cutter(home: &Path) -> Pid {
    let this = fs::canonicalize("/proc/self/exe").unwrap();
    let given = format!("{HOME}={}", home.display());
    let serves = |id: &Pid| {
        let variables = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        variables
            .split(|byte| *byte == 0)
            .any(|variable| variable == given.as_bytes())
    };
    let found: Vec<Pid> = processes(&this).into_iter().filter(serves).collect();
    assert_eq!(found.len(), 1);
    found[0]
}

/// Waits until the child cuts, when nobody writes any more.
fn until_frozen(home: &Path, writer: &Writer) {
    let deadline = Instant::now() + lab::PATIENCE;
    while !cutting(home).exists() {
        assert!(Instant::now() < deadline, "nothing is cut");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(
        !writer.goes_on_within(Duration::from_millis(700)),
        "it is not frozen"
    );
}

fn killed(with_watchdog: bool) {
    let _turn = turn();
    let leaks = LeakCheck::start();
    let home = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(home.path());
    write_profile(home.path(), "");
    let writer = Writer::start(&scratch.at);
    let watchdog = lab::config(home.path()).quiesce.watchdog;
    let watchdog = fs::canonicalize(watchdog).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "real::watchdog::child_that_cuts", "--nocapture"])
        .env(HOME, home.path())
        .env(DEVICE, &scratch.device)
        .env("STOCKPOT_IN_TESTHOST", "1")
        .env("TMPDIR", home.path())
        .deadline(Duration::from_secs(600));
    let child = runtime.spawn(child.output());
    assert!(writer.goes_on_within(lab::PATIENCE));
    until_frozen(home.path(), &writer);
    let watchdogs = processes(&watchdog);
    assert_eq!(watchdogs.len(), 1);
    if with_watchdog {
        // The manager is stopped first: it would see the watchdog's end, and thaw. Not the other way round: the kernel wakes what is
        // stopped when its parent dies (setpgid(2), "orphaned process group"), and the watchdog would thaw.
        kill(cutter(home.path()), Signal::SIGSTOP).unwrap();
        kill(watchdogs[0], Signal::SIGKILL).unwrap();
    }
    // A future that is dropped kills its process with SIGKILL.
    let killed = Instant::now();
    child.abort();
    let _ = runtime.block_on(child);
    if with_watchdog {
        assert!(
            !writer.goes_on_within(Duration::from_secs(1)),
            "nobody was there to thaw"
        );
    } else {
        assert!(
            writer.goes_on_within(Duration::from_secs(30)),
            "it is still frozen"
        );
        println!(
            "writing again {} ms after the manager was killed",
            killed.elapsed().as_millis()
        );
    }
    assert_eq!(marks(home.path()), "pre\n");
    // The next start finds what was left.
    let bench = Bench::start(home.path(), 60);
    let mut backups = bench.run.backups();
    bench.run.block_on(async {
        let given_up = lab::cleaned(&mut backups, "b").await;
        assert_eq!(given_up.status(), BackupStatus::Error);
        while marks(home.path()) != "pre\npost\n" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(
        writer.goes_on_within(Duration::from_secs(30)),
        "it is still frozen"
    );
    bench.run.stop();
    drop((writer, scratch));
    assert!(processes(&watchdog).is_empty());
    leaks.assert_clean();
}

#[test]
fn a_manager_that_is_killed_leaves_nothing_frozen() {
    killed(false);
}

#[test]
fn what_is_killed_with_its_watchdog_is_thawed_by_the_next_start() {
    killed(true);
}

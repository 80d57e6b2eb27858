//! File systems that are frozen around a cut: by the cut itself, and by the watchdog, which outlives the manager.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use stockpot_command::Command;
use stockpot_proto::stockpot::v1 as api;

use super::{Kind, World, attach, detach, run, run_async};
use crate::lab::{self, Backups, Client};

/// XFS is never smaller.
const SIZE: u64 = 320 << 20;

/// Writes small files, each synced, until it is dropped.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(dir: &Path) -> Self {
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count, dir) = (stop.clone(), written.clone(), dir.to_owned());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                let path = dir.join(format!("file-{}", number % 50));
                let mut file = fs::File::create(path).unwrap();
                file.write_all(&number.to_le_bytes().repeat(500)).unwrap();
                file.sync_all().unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            written,
            thread: Some(thread),
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether something is written within this time.
    pub(super) fn goes_on_within(&self, limit: Duration) -> bool {
        let (before, deadline) = (self.written(), Instant::now() + limit);
        while self.written() < before + 3 {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it met stands in its own message.
            let _ = thread.join();
        }
    }
}

async fn make(kind: &str, device: &Path) {
    let device = device.to_str().unwrap();
    let force = if kind == "xfs" { "-f" } else { "-F" };
    run_async(&format!("mkfs.{kind}"), &["-q", force, device]).await;
}

async fn mount(device: &Path, at: &Path) {
    fs::create_dir_all(at).unwrap();
    run_async("mount", &[device.to_str().unwrap(), at.to_str().unwrap()]).await;
}

async fn unmount(at: &Path) {
    run_async("umount", &[at.to_str().unwrap()]).await;
}

/// The copy is a whole file system; an ext4 needs nothing of its journal.
async fn assert_whole(client: &mut Client, kind: &str, snapshot: &str) {
    let request = lab::volume_from("back", snapshot, api::SourceCopy::Cloud);
    let back = lab::available_volume(client, &request).await.unwrap();
    let device = attach(client, &back.volume_id).await;
    let path = device.to_str().unwrap();
    if kind == "xfs" {
        // A frozen XFS keeps a record in its log on purpose: for files that are open and have no name any more.
        let at = tempfile::tempdir().unwrap();
        let point = at.path().to_str().unwrap();
        run_async("mount", &["-o", "nouuid", path, point]).await;
        unmount(at.path()).await;
        run_async("xfs_repair", &["-n", path]).await;
    } else {
        let looked = Command::new("dumpe2fs").args(["-h", path]).run().await;
        let features = looked.unwrap().stdout_text();
        assert!(!features.contains("needs_recovery"), "{features}");
        run_async("fsck.ext4", &["-n", "-f", path]).await;
    }
    detach(client, &back.volume_id).await;
    lab::delete_volume(client, &back.volume_id).await.unwrap();
}

/// A profile whose commands leave their mark.
fn profile_with_commands(world: &World, more: &str) -> PathBuf {
    let marks = world.dir.path().join("marks");
    let profiles = world.dir.path().join("profiles");
    let offsite = fs::read_to_string(profiles.join("offsite.yaml")).unwrap();
    let mark = |word: &str| {
        format!(
            "[/bin/sh, -c, 'echo {word} $STOCKPOT_VOLUME_NAME $STOCKPOT_MOUNT_POINTS >> {}; echo {word} said']",
            marks.display()
        )
    };
    let quiesce = format!(
        "snapshotProperties: {{quiesce: {{pre: {}, post: [{}]{more}}}, ",
        mark("pre"),
        mark("post")
    );
    let text = offsite.replacen("snapshotProperties: {", &quiesce, 1);
    assert_ne!(text, offsite);
    fs::write(profiles.join("offsite.yaml"), text).unwrap();
    marks
}

/// Backs up a mounted file system that is written to, and restores it; `between` puts something between volume and file system.
fn story(storage: Kind, kind: &'static str, between: bool) {
    let world = World::of_size(storage, 3 << 30);
    let marks = profile_with_commands(&world, "");
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    let at = world.dir.path().join("mnt");
    run.block_on(async {
        let request = lab::empty_volume("source", SIZE);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        let mut device = attach(&mut client, &volume.volume_id).await;
        if between {
            let table = format!("0 {} linear {} 0", SIZE / 512, device.display());
            run_async("dmsetup", &["create", "between", "--table", &table]).await;
            device = "/dev/mapper/between".into();
        }
        make(kind, &device).await;
        mount(&device, &at).await;
        let writer = Writer::start(&at);
        assert!(writer.goes_on_within(lab::PATIENCE));
        for name in ["first", "second"] {
            let done = backed_up(&mut backups, &volume.volume_id, name).await;
            println!(
                "{storage:?}, {kind}: frozen {} us: {}",
                done.frozen_us, done.consistency_text
            );
            assert_eq!(done.consistency, "file-system", "{done:?}");
            assert!((1..10_000_000).contains(&done.frozen_us), "{done:?}");
            let told = &done.consistency_text;
            assert!(
                told.contains(kind) && told.contains("pre said") && told.contains("post said"),
                "{told}"
            );
            assert!(writer.goes_on_within(lab::PATIENCE));
            assert_whole(&mut client, kind, &done.snapshot_id).await;
        }
        assert_times(&mut backups, &volume.volume_id).await;
        drop(writer);
        let said = fs::read_to_string(&marks).unwrap();
        let point = at.display();
        let cut = format!("pre source {point}\npost source {point}\n");
        assert_eq!(said, cut.repeat(2));
        unmount(&at).await;
        if between {
            run_async("dmsetup", &["remove", "between"]).await;
        }
        // Attached, and nobody has it open.
        let unused = backed_up(&mut backups, &volume.volume_id, "unused").await;
        assert_eq!(
            (unused.consistency.as_str(), unused.frozen_us),
            ("unused", 0),
            "{unused:?}"
        );
        detach(&mut client, &volume.volume_id).await;
        for name in ["first", "second", "unused"] {
            backups.delete_backup(lab::backup(name)).await.unwrap();
        }
        lab::delete_volume(&mut client, &volume.volume_id)
            .await
            .unwrap();
    });
    run.stop();
    world.close();
}

async fn backed_up(backups: &mut Backups, volume: &str, name: &str) -> api::Backup {
    let done = lab::backed_up(backups, volume, name, true).await;
    lab::cleaned(backups, &done.backup_id).await
}

async fn assert_times(backups: &mut Backups, volume: &str) {
    for volume in [volume, "source"] {
        let request = api::ListBackupsRequest {
            volume: volume.to_owned(),
            ..Default::default()
        };
        let listed = backups.list_backups(request).await.unwrap().into_inner();
        let times = listed.freeze_times.unwrap();
        assert_eq!(times.count, 2);
        let mut found: Vec<u64> = listed
            .backups
            .iter()
            .map(|backup| backup.frozen_us)
            .collect();
        found.sort_unstable();
        assert_eq!([times.median_us, times.worst_us], found[..]);
    }
}

#[test]
fn lvm_thin_freezes_ext4() {
    story(Kind::LvmThin, "ext4", false);
}

#[test]
fn lvm_thin_freezes_xfs() {
    story(Kind::LvmThin, "xfs", false);
}

#[test]
fn lvm_thick_freezes_ext4() {
    story(Kind::LvmThick, "ext4", false);
}

#[test]
fn the_watchdog_freezes_what_lies_on_something_in_between() {
    story(Kind::LvmThin, "ext4", true);
}

#[test]
fn the_watchdog_freezes_ext4_on_an_image_file() {
    story(Kind::File, "ext4", false);
}

#[test]
fn the_watchdog_freezes_xfs_on_an_image_file() {
    story(Kind::File, "xfs", false);
}

/// Somebody has the device itself open: that nobody can freeze, and it is said.
#[test]
fn a_device_that_is_written_to_without_a_file_system() {
    let world = World::new(Kind::LvmThin);
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let request = lab::empty_volume("source", 64 << 20);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        let device = attach(&mut client, &volume.volume_id).await;
        let held = fs::OpenOptions::new().write(true).open(&device).unwrap();
        let done = backed_up(&mut backups, &volume.volume_id, "b").await;
        assert_eq!(
            (done.consistency.as_str(), done.frozen_us),
            ("crash", 0),
            "{done:?}"
        );
        assert!(done.consistency_text.contains("in use"), "{done:?}");
        drop(held);
        detach(&mut client, &volume.volume_id).await;
        backups.delete_backup(lab::backup("b")).await.unwrap();
        lab::delete_volume(&mut client, &volume.volume_id)
            .await
            .unwrap();
    });
    run.stop();
    world.close();
}

/// A pre command that fails: nothing is cut and the post command runs, or it is cut and said to be no better.
#[test]
fn a_command_that_fails() {
    let world = World::new(Kind::LvmThin);
    let marks = profile_with_commands(&world, "");
    let profile = world.dir.path().join("profiles/offsite.yaml");
    let text = fs::read_to_string(&profile).unwrap();
    let text = text.replace("echo pre said", "echo no database; exit 3");
    fs::write(&profile, &text).unwrap();
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let request = lab::empty_volume("source", 64 << 20);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        attach(&mut client, &volume.volume_id).await;
        let refused = lab::back_up(&mut backups, &volume.volume_id, "b", true).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("no database"), "{refused}");
        assert_eq!(fs::read_to_string(&marks).unwrap().lines().count(), 2);
        lab::cleaned(&mut backups, "b").await;
        let request = lab::snapshot_of(&volume.volume_id, "s", "offsite");
        let refused = client.create_snapshot(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
        assert!(lab::list(&mut client).await.is_empty());

        fs::write(
            &profile,
            text.replace("quiesce: {", "quiesce: {onFailure: continue, "),
        )
        .unwrap();
        let done = backed_up(&mut backups, &volume.volume_id, "c").await;
        assert_eq!(done.consistency, "crash", "{done:?}");
        assert!(done.consistency_text.contains("no database"), "{done:?}");
        assert!(done.consistency_text.contains("post said"), "{done:?}");
        detach(&mut client, &volume.volume_id).await;
        for name in ["b", "c"] {
            backups.delete_backup(lab::backup(name)).await.unwrap();
        }
        lab::delete_volume(&mut client, &volume.volume_id)
            .await
            .unwrap();
    });
    run.stop();
    world.close();
}

/// A mount that other processes see, and this one does not, is frozen too.
#[test]
fn a_mount_in_another_namespace() {
    let world = World::of_size(Kind::File, 1 << 30);
    let run = world.start();
    let (mut client, mut backups) = (run.client(), run.backups());
    run.block_on(async {
        let request = lab::empty_volume("source", 64 << 20);
        let volume = lab::available_volume(&mut client, &request).await.unwrap();
        let device = attach(&mut client, &volume.volume_id).await;
        make("ext4", &device).await;
        let at = world.dir.path().join("mnt");
        fs::create_dir(&at).unwrap();
        let ready = world.dir.path().join("ready");
        let script = format!(
            "mount {} {} && touch {} && exec sleep 1000",
            device.display(),
            at.display(),
            ready.display()
        );
        let container = tokio::spawn(
            Command::new("unshare")
                .args([
                    "--mount",
                    "--propagation",
                    "private",
                    "/bin/sh",
                    "-c",
                    &script,
                ])
                .deadline(Duration::from_secs(1000))
                .output(),
        );
        while !ready.exists() {
            assert!(!container.is_finished());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let done = backed_up(&mut backups, &volume.volume_id, "b").await;
        assert_eq!(done.consistency, "file-system", "{done:?}");
        assert_whole(&mut client, "ext4", &done.snapshot_id).await;
        container.abort();
        let _ = container.await;
        // The mount goes with the last process that sees it.
        loop {
            let request = api::DetachVolumeRequest {
                volume_id: volume.volume_id.clone(),
            };
            match client.detach_volume(request).await {
                Ok(_) => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        backups.delete_backup(lab::backup("b")).await.unwrap();
        lab::delete_volume(&mut client, &volume.volume_id)
            .await
            .unwrap();
    });
    run.stop();
    world.close();
}

/// A mounted file system of a test.
pub(super) struct Scratch {
    pub(super) at: PathBuf,
    pub(super) device: PathBuf,
}

impl Scratch {
    pub(super) fn new(dir: &Path) -> Self {
        let (image, at) = (dir.join("scratch.image"), dir.join("scratch"));
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let path = image.to_str().unwrap();
        run("mkfs.ext4", &["-q", path]);
        run("mount", &["-o", "loop", path, at.to_str().unwrap()]);
        let device = loop_device(&image);
        Self { at, device }
    }
}

fn loop_device(image: &Path) -> PathBuf {
    let bound = |entry: &fs::DirEntry| {
        let file = fs::read_to_string(entry.path().join("loop/backing_file"));
        file.is_ok_and(|file| Path::new(file.trim_end()) == image)
    };
    let found = fs::read_dir("/sys/block")
        .unwrap()
        .map(Result::unwrap)
        .find(bound);
    Path::new("/dev").join(found.unwrap().file_name())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let at = self.at.to_str().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            // Nothing waits for ever because a test failed. That it is not frozen is what is hoped for.
            let _ = Command::new("fsfreeze").args(["-u", &at]).output().await;
            let deadline = Instant::now() + Duration::from_secs(20);
            // The catalog of a manager that has stopped is closed a moment later.
            while Command::new("umount").arg(&at).run().await.is_err() {
                if Instant::now() > deadline {
                    eprintln!("{at} cannot be unmounted");
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

//! Block devices, mounts and full disks. Runs in the test host.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "verbs/support.rs"]
mod support;

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use stockpot_command::Command;
use stockpot_repository::{
    Progress, ReadSettings, RepositoryError,
    device::{DeviceError, Source, SourceOptions, Target, TargetOptions},
    format::manifest::Manifest,
    restore::restore,
    upload::upload,
};
use stockpot_test_fixtures::image::{Fill, Image};
use support::Bench;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1 << 20;

async fn run<const N: usize>(program: &str, args: [&str; N]) -> String {
    let output = Command::new(program).args(args).run().await.unwrap();
    output.stdout_text().trim().to_owned()
}

/// A loop device over a file; detached when the test ends well.
struct Disk {
    folder: TempDir,
    file: PathBuf,
    device: PathBuf,
}

impl Disk {
    async fn new(image: &Image) -> Self {
        Self::with(image, &[]).await
    }

    async fn with(image: &Image, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        image.write_to(&file).unwrap();
        let command = Command::new("losetup").args(["--find", "--show"]);
        let command = command.args(options).arg(&file);
        let device = command.run().await.unwrap().stdout_text().trim().into();
        Self {
            folder,
            file,
            device,
        }
    }

    async fn mount(&self) -> PathBuf {
        let place = self.folder.path().join("mounted");
        std::fs::create_dir(&place).unwrap();
        run("mkfs.ext4", ["-q", self.device.to_str().unwrap()]).await;
        let args = [self.device.to_str().unwrap(), place.to_str().unwrap()];
        run("mount", args).await;
        place
    }

    async fn detach(self) {
        run("losetup", ["--detach", self.device.to_str().unwrap()]).await;
    }
}

/// An image whose size is whole sectors, but not whole pages or chunks.
fn image() -> Image {
    Image::new(70 * MIB + 512)
        .extent(0, 5 * MIB, Fill::Text(1))
        .extent(33 * MIB + 1000, MIB, Fill::Random(2))
        .extent(70 * MIB, 512, Fill::Random(3))
}

fn dirty(size_bytes: u64) -> Image {
    Image::new(size_bytes).extent(0, size_bytes, Fill::Byte(0xaa))
}

async fn up(bench: &Bench, source: Source) -> Result<Manifest, RepositoryError> {
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = upload(&bench.repository, source, bench.request(), &progress, &none).await?;
    Ok(report.manifest)
}

async fn down(
    bench: &Bench,
    manifest: &Manifest,
    target: &Path,
    options: TargetOptions,
) -> Result<(), RepositoryError> {
    let target = Target::open(target, manifest.size_bytes, options)?;
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let read = ReadSettings::default();
    restore(&bench.repository, manifest, target, &read, &progress, &none).await?;
    Ok(())
}

fn open(path: &Path) -> Result<Source, DeviceError> {
    Source::open(path, SourceOptions::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_up_and_down() {
    let bench = Bench::new(true).await;
    let disk = Disk::new(&image()).await;
    let source = open(&disk.device).unwrap();
    assert!(source.is_direct());
    assert_eq!(source.size_bytes(), 70 * MIB + 512);
    let manifest = up(&bench, source).await.unwrap();
    let target = Disk::new(&dirty(72 * MIB)).await;
    down(&bench, &manifest, &target.device, TargetOptions::default())
        .await
        .unwrap();
    assert_eq!(image().first_difference(&target.device).unwrap(), None);
    // What lies behind the volume is not ours.
    let mut behind = [0; 512];
    let file = std::fs::File::open(&target.device).unwrap();
    file.read_exact_at(&mut behind, 71 * MIB).unwrap();
    assert_eq!(behind, [0xaa; 512]);
    drop(file);
    disk.detach().await;
    target.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_of_a_device_known_to_be_zero_are_not_written() {
    let bench = Bench::new(false).await;
    let disk = Disk::new(&image()).await;
    let manifest = up(&bench, open(&disk.device).unwrap()).await.unwrap();
    let target = Disk::new(&Image::new(70 * MIB + 512)).await;
    let zeroed = TargetOptions {
        zeroed: true,
        ..TargetOptions::default()
    };
    down(&bench, &manifest, &target.device, zeroed)
        .await
        .unwrap();
    assert_eq!(image().first_difference(&target.device).unwrap(), None);
    let allocated = stockpot_test_fixtures::image::allocated_bytes(&target.file).unwrap();
    assert!(allocated < 8 * MIB, "{allocated} bytes are allocated");
    disk.detach().await;
    target.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_too_small_is_not_touched() {
    let disk = Disk::new(&dirty(10 * MIB)).await;
    let error = Target::open(&disk.device, 10 * MIB + 1, TargetOptions::default()).unwrap_err();
    assert!(matches!(error, DeviceError::TooSmall { .. }), "{error:?}");
    assert_eq!(
        dirty(10 * MIB).first_difference(&disk.device).unwrap(),
        None
    );
    disk.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_is_refused() {
    let disk = Disk::new(&Image::new(64 * MIB)).await;
    let place = disk.mount().await;
    let error = open(&disk.device).unwrap_err();
    assert!(matches!(error, DeviceError::InUse { .. }), "{error:?}");
    assert!(
        error.to_string().contains(place.to_str().unwrap()),
        "{error}"
    );
    let error = Target::open(&disk.device, MIB, TargetOptions::default()).unwrap_err();
    assert!(matches!(error, DeviceError::InUse { .. }), "{error:?}");
    let forced = Source::open(&disk.device, SourceOptions { force: true }).unwrap();
    drop(forced);
    run("umount", [place.to_str().unwrap()]).await;
    let source = open(&disk.device).unwrap();
    // And as long as it is read, it stays unmounted.
    let refused = Command::new("mount").arg(&disk.device).arg(&place);
    refused.run().await.unwrap_err();
    drop(source);
    disk.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_for_writing_or_under_a_loop_device_is_refused() {
    let disk = Disk::new(&Image::new(8 * MIB)).await;
    let error = open(&disk.file).unwrap_err();
    assert!(error.to_string().contains("stands on it"), "{error}");
    let writer = OpenOptions::new().write(true).open(&disk.device).unwrap();
    let error = open(&disk.device).unwrap_err();
    assert!(error.to_string().contains("open for writing"), "{error}");
    drop(writer);
    open(&disk.device).unwrap();
    disk.detach().await;
    let read_only = Disk::with(&Image::new(8 * MIB), &["--read-only"]).await;
    open(&read_only.file).unwrap();
    let force = TargetOptions {
        force: true,
        ..TargetOptions::default()
    };
    let error = Target::open(&read_only.file, 8 * MIB, TargetOptions::default()).unwrap_err();
    assert!(matches!(error, DeviceError::InUse { .. }), "{error:?}");
    Target::open(&read_only.file, 8 * MIB, force)
        .unwrap()
        .finish()
        .unwrap();
    read_only.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_restore_and_leaves_no_file() {
    let bench = Bench::new(true).await;
    let path = bench.path("source.img");
    let large = Image::new(90 * MIB).extent(0, 90 * MIB, Fill::Random(1));
    large.write_to(&path).unwrap();
    let manifest = up(&bench, open(&path).unwrap()).await.unwrap();
    let disk = Disk::new(&Image::new(64 * MIB)).await;
    let place = disk.mount().await;
    let target = place.join("volume");
    let error = down(&bench, &manifest, &target, TargetOptions::default()).await;
    let error = error.unwrap_err();
    let full = matches!(&error, RepositoryError::Device(DeviceError::NoSpace { .. }));
    assert!(full, "{error:?}");
    assert!(!target.exists());
    run("umount", [place.to_str().unwrap()]).await;
    disk.detach().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_vanishes_ends_the_upload() {
    let bench = Bench::new(true).await;
    let full = Image::new(200 * MIB).extent(0, 200 * MIB, Fill::Random(1));
    let disk = Disk::new(&full).await;
    let source = open(&disk.device).unwrap();
    let file = OpenOptions::new().write(true).open(&disk.file).unwrap();
    file.set_len(150 * MIB).unwrap();
    let error = up(&bench, source).await.unwrap_err();
    let device = matches!(
        &error,
        RepositoryError::Device(DeviceError::Read { .. } | DeviceError::Shrank { .. })
    );
    assert!(device, "{error:?}");
    assert_eq!(bench.store.multipart_list("").await.unwrap(), []);
    disk.detach().await;
}

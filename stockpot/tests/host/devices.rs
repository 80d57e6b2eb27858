//! Block devices as sources and targets.

use anyhow::{Context as _, ensure};

use crate::{
    bench::{BUCKET, Bench, MIB, REPO},
    tool::{Mount, Vg, sh, sha256},
};

#[test]
fn a_device_comes_back_on_another_device_with_its_holes_zeroed() -> anyhow::Result<()> {
    let _vg = Vg::new("devs", 400)?;
    sh("lvcreate -q -y -L 100M -n from devs; lvcreate -q -y -L 140M -n to devs")?;
    sh(
        "dd if=/dev/zero of=/dev/devs/from bs=1M count=100 status=none oflag=direct; \
        dd if=/dev/urandom of=/dev/devs/from bs=1M seek=20 count=30 status=none oflag=direct; \
        dd if=/dev/urandom of=/dev/devs/to bs=1M count=140 status=none oflag=direct",
    )?;
    let bench = Bench::new()?;
    let run = bench.run(["backup", "/dev/devs/from", "--to", REPO])?;
    ensure!(run.code == Some(0), "{run:?}");
    let run = bench.run(["restore", REPO, "latest:from", "/dev/devs/to"])?;
    ensure!(run.code == Some(0), "{run:?}");
    sh("cmp -n 104857600 /dev/devs/from /dev/devs/to")?;
    Ok(())
}

#[test]
fn a_target_that_is_mounted_or_too_small_is_refused_untouched() -> anyhow::Result<()> {
    let _vg = Vg::new("refuse", 400)?;
    sh(
        "lvcreate -q -y -L 100M -n from refuse; lvcreate -q -y -L 100M -n mounted refuse; lvcreate -q -y -L 40M -n small refuse; \
        mkfs.ext4 -q /dev/refuse/mounted",
    )?;
    let bench = Bench::new()?;
    let run = bench.run(["backup", "/dev/refuse/from", "--to", REPO])?;
    ensure!(run.code == Some(0), "{run:?}");
    let mount = Mount::new("/dev/refuse/mounted", bench.path("mnt"))?;
    let hash = sha256("/dev/refuse/mounted".as_ref())?;
    bench
        .run(["restore", REPO, "latest:from", "/dev/refuse/mounted"])?
        .failed(1, &["/dev/refuse/mounted"])?;
    ensure!(
        sha256("/dev/refuse/mounted".as_ref())? == hash,
        "a refused target was written"
    );
    drop(mount);
    let hash = sha256("/dev/refuse/small".as_ref())?;
    bench
        .run(["restore", REPO, "latest:from", "/dev/refuse/small"])?
        .failed(1, &["small"])?;
    ensure!(
        sha256("/dev/refuse/small".as_ref())? == hash,
        "a refused target was written"
    );
    Ok(())
}

#[test]
fn a_target_that_carries_something_is_refused_untouched() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 60 * MIB, &[(0, 5 << 20)])?;
    bench.backup(&image, "v")?;
    let file = bench.path("loop.img");
    let device = sh(&format!(
        "truncate -s 400M {0}; losetup -f --show {0}",
        file.display()
    ))?;
    // The two last are what partitioning tools begin with: such a tool is not on every test host.
    let cases = [
        ("mkfs.ext4 -q -F DEV", "ext4 file system"),
        ("mkfs.xfs -q -f DEV", "XFS file system"),
        ("mkswap -q -f DEV", "swap space"),
        ("pvcreate -q -y -ff DEV", "LVM physical volume"),
        (
            "printf 'EFI PART' | dd of=DEV bs=512 seek=1 status=none",
            "GPT partition table",
        ),
        (
            "printf '\\125\\252' | dd of=DEV bs=1 seek=510 status=none",
            "partition table",
        ),
    ];
    let outcome = cases.into_iter().try_for_each(|(make, words)| {
        let make = make.replace("DEV", &device);
        sh(&format!(
            "dd if=/dev/zero of={device} bs=1M count=1 status=none; wipefs -q -a {device}; {make}"
        ))?;
        let hash = sha256(device.as_ref())?;
        bench
            .run(["restore", REPO, "latest:v", &device])?
            .failed(1, &[&device, words, "--force"])
            .with_context(|| make.clone())?;
        ensure!(
            sha256(device.as_ref())? == hash,
            "{make}: a refused target was written"
        );
        Ok(())
    });
    let forced = bench.run(["restore", REPO, "latest:v", &device, "--force"]);
    let same = sh(&format!("cmp -n {} {} {device}", 60 * MIB, image.display()));
    // Noise at both ends is no signature.
    let again = bench.run(["restore", REPO, "latest:v", &device]);
    sh(&format!("losetup -d {device}"))?;
    outcome?;
    let forced = forced?;
    ensure!(forced.code == Some(0), "{forced:?}");
    same?;
    // What was at the device's end is there still, as after any restore of a smaller volume.
    let again = again?;
    ensure!(again.code == Some(0), "{again:?}");
    Ok(())
}

#[test]
fn a_mounted_device_that_is_no_logical_volume_needs_force() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.path("loop.img");
    let device = sh(&format!(
        "truncate -s 50M {0}; mkfs.ext4 -q -F {0}; losetup -f --show {0}",
        image.display()
    ))?;
    let mount = Mount::new(&device, bench.path("mnt"))?;
    let refused = bench.run(["backup", &device, "--to", REPO, "--volume", "x"])?;
    let forced = bench.run(["backup", &device, "--to", REPO, "--volume", "x", "--force"])?;
    drop(mount);
    sh(&format!("losetup -d {device}"))?;
    refused.failed(1, &["mounted", "--force"])?;
    ensure!(forced.code == Some(0), "{forced:?}");
    Ok(())
}

#[test]
fn a_disk_that_fills_up_at_restore() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 60 * MIB, &[(0, 50 << 20)])?;
    bench.backup(&image, "v")?;
    let mount = Mount::new("-t tmpfs -o size=20m tmpfs", bench.path("small"))?;
    let target = mount.path().join("out.img");
    bench
        .run([
            "restore",
            REPO,
            "latest:v",
            target.to_str().context("path")?,
        ])?
        .failed(1, &["space", "out.img"])?;
    ensure!(!target.exists(), "a partial image was left");
    Ok(())
}

#[test]
fn a_source_whose_disk_fails_in_mid_read() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 64 * MIB, &[(0, 64 << 20)])?;
    let device = sh(&format!("losetup -f --show {}", image.display()))?;
    // 40 MiB that can be read, then sectors that fail.
    sh(&format!(
        "printf '0 81920 linear {device} 0\\n81920 2048 error\\n83968 47104 linear {device} 83968\\n' | dmsetup create failing"
    ))?;
    let run = bench.run([
        "backup",
        "/dev/mapper/failing",
        "--to",
        REPO,
        "--volume",
        "x",
    ]);
    sh(&format!(
        "dmsetup remove --retry failing; losetup -d {device}"
    ))?;
    run?.failed(1, &["/dev/mapper/failing"])?;
    ensure!(
        bench
            .server
            .keys_with_prefix(BUCKET, "site-a/snapshots/")
            .is_empty(),
        "a torn copy was committed"
    );
    ensure!(bench.open_uploads() == 0);
    Ok(())
}

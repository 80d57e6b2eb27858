//! The network and the machine at their worst: a clear end, nothing half-open, and a second try that succeeds.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use stockpot_test_fixtures::s3::{Action, Fault, Op};

use crate::bench::{BUCKET, Bench, MIB, REPO, finish};

#[test]
fn passing_faults_are_ridden_out() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 60 * MIB, &[(0, 30 << 20)])?;
    let small = bench.image("small.img", MIB, &[(0, 10)])?;
    bench.backup(&small, "first")?;
    let faults = bench.server.faults();
    faults.inject(Fault::new(Action::slow_down()).every(5));
    faults.inject(
        Fault::new(Action::DropAfter)
            .on(Op::CompleteMultipartUpload)
            .nth(1),
    );
    faults.inject(Fault::new(Action::DropBefore).on(Op::UploadPart).nth(2));
    bench.backup(&image, "v")?;
    faults.inject(
        Fault::new(Action::TruncateBody { keep_bytes: 1000 })
            .on(Op::GetObject)
            .nth(3),
    );
    let out = bench.path("out");
    let run = bench.run(["restore", REPO, "latest:v", out.to_str().context("path")?])?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(std::fs::read(&image)? == std::fs::read(out)?);
    ensure!(bench.open_uploads() == 0);
    Ok(())
}

#[test]
fn credentials_that_expire_in_mid_upload() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 60 * MIB, &[(0, 40 << 20)])?;
    bench.server.faults().inject(
        Fault::new(Action::expired_token())
            .on(Op::UploadPart)
            .after(1),
    );
    let run = bench.run(["backup", image.to_str().context("path")?, "--to", REPO])?;
    run.failed(1, &["credentials", "expired"])?;
    ensure!(
        bench
            .server
            .keys_with_prefix(BUCKET, "site-a/snapshots/")
            .is_empty()
    );
    ensure!(bench.open_uploads() == 0, "an upload was left open");
    bench.server.faults().clear();
    bench.backup(&image, "v")?;
    Ok(())
}

#[test]
fn a_server_that_stops_in_mid_upload() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 120 * MIB, &[(0, 100 << 20)])?;
    bench
        .server
        .faults()
        .inject(Fault::new(Action::Delay(Duration::from_millis(300))).on(Op::UploadPart));
    let child = bench
        .command()
        .args([
            "backup",
            image.to_str().context("path")?,
            "--to",
            REPO,
            "--volume",
            "v",
        ])
        .spawn()?;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while bench.open_uploads() == 0 {
        ensure!(std::time::Instant::now() < deadline, "no upload began");
        std::thread::sleep(Duration::from_millis(10));
    }
    bench.server.stop();
    let run = finish(child)?;
    run.failed(1, &["did not answer"])?;
    bench.server.restart()?;
    bench.server.faults().clear();
    bench.backup(&image, "v")?;
    let verified = bench.run(["verify", REPO, "--read-data"])?;
    ensure!(verified.code == Some(0), "{verified:?}");
    Ok(())
}

#[test]
fn ctrl_c_leaves_nothing_half_open() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 120 * MIB, &[(0, 100 << 20)])?;
    bench
        .server
        .faults()
        .inject(Fault::new(Action::Delay(Duration::from_millis(200))).on(Op::UploadPart));
    let child = bench
        .command()
        .args([
            "backup",
            image.to_str().context("path")?,
            "--to",
            REPO,
            "--volume",
            "v",
        ])
        .spawn()?;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while bench.open_uploads() == 0 {
        ensure!(std::time::Instant::now() < deadline, "no upload began");
        std::thread::sleep(Duration::from_millis(10));
    }
    interrupt(&child)?;
    let run = finish(child)?;
    run.failed(130, &["interrupted"])?;
    ensure!(bench.open_uploads() == 0, "an upload was left open");
    ensure!(
        bench
            .server
            .keys_with_prefix(BUCKET, "site-a/snapshots/")
            .is_empty()
    );
    bench.server.faults().clear();
    bench.backup(&image, "v")?;
    Ok(())
}

#[test]
fn a_source_that_shrinks_while_it_is_read() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 120 * MIB, &[(0, 110 << 20)])?;
    bench
        .server
        .faults()
        .inject(Fault::new(Action::Delay(Duration::from_millis(200))).on(Op::UploadPart));
    let child = bench
        .command()
        .args([
            "backup",
            image.to_str().context("path")?,
            "--to",
            REPO,
            "--volume",
            "v",
        ])
        .spawn()?;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while bench.open_uploads() == 0 {
        ensure!(std::time::Instant::now() < deadline, "no upload began");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::OpenOptions::new()
        .write(true)
        .open(&image)?
        .set_len(MIB)?;
    finish(child)?.failed(1, &["disk.img"])?;
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

#[expect(clippy::disallowed_methods, reason = "a user's Ctrl-C, sent by kill")]
pub(crate) fn interrupt(child: &std::process::Child) -> anyhow::Result<()> {
    let status = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()?;
    ensure!(status.success());
    Ok(())
}

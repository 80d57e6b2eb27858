//! A live logical volume is snapshotted first, and the snapshot never stays.

use anyhow::{Context as _, ensure};

use crate::{
    bench::{BUCKET, Bench, REPO, finish, text},
    tool::{Mount, Vg, sh, sha256},
};

/// Backs a mounted volume up while a file is rewritten, restores, and compares the file as it was before.
fn back_up_while_mounted(vg: &Vg, lv: &str) -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let device = format!("/dev/{}/{lv}", vg.name);
    sh(&format!("mkfs.ext4 -q {device}"))?;
    let mount = Mount::new(&device, bench.path("live"))?;
    let file = mount.path().join("file");
    std::fs::write(&file, b"before the backup ".repeat(100_000))?;
    sh(&format!("sync {}", file.display()))?;
    let hash = sha256(&file)?;
    let before = vg.lvs()?;
    let report = bench
        .run(["backup", &device, "--to", REPO, "-o", "json"])?
        .json()?;
    ensure!(text(&report, "volume")? == lv, "{report}");
    ensure!(vg.lvs()? == before, "a snapshot was left: {:?}", vg.lvs()?);

    std::fs::write(&file, b"after the backup")?;
    let out = bench.path("out.img");
    let run = bench.run([
        "restore",
        REPO,
        text(&report, "snapshot_id")?,
        out.to_str().context("path")?,
    ])?;
    ensure!(run.code == Some(0), "{run:?}");
    let restored = Mount::new(
        &format!("-o loop {}", out.display()),
        bench.path("restored"),
    )?;
    ensure!(sha256(&restored.path().join("file"))? == hash);
    Ok(())
}

#[test]
fn thin() -> anyhow::Result<()> {
    let vg = Vg::new("livethin", 600)?;
    sh("lvcreate -q -y -L 300M -T livethin/pool; lvcreate -q -y -V 200M -T livethin/pool -n data")?;
    back_up_while_mounted(&vg, "data")
}

#[test]
fn thick() -> anyhow::Result<()> {
    let vg = Vg::new("livethick", 600)?;
    sh("lvcreate -q -y -L 200M -n data livethick")?;
    back_up_while_mounted(&vg, "data")
}

#[test]
fn without_room_for_a_snapshot_nothing_is_read() -> anyhow::Result<()> {
    let vg = Vg::new("livefull", 200)?;
    sh("lvcreate -q -y -l 100%FREE -n data livefull")?;
    let bench = Bench::new()?;
    let run = bench.run(["backup", "/dev/livefull/data", "--to", REPO])?;
    run.failed(1, &["livefull", "MiB free"])?;
    ensure!(vg.lvs()? == ["data"]);
    ensure!(
        bench
            .server
            .keys_with_prefix(BUCKET, "site-a/snapshots/")
            .is_empty()
    );
    Ok(())
}

#[test]
fn a_killed_backup_leaves_a_snapshot_that_the_next_one_removes() -> anyhow::Result<()> {
    let vg = Vg::new("livekill", 600)?;
    sh(
        "lvcreate -q -y -L 200M -n data livekill; dd if=/dev/urandom of=/dev/livekill/data bs=1M count=100 status=none",
    )?;
    let bench = Bench::new()?;
    bench.server.faults().inject(
        stockpot_test_fixtures::s3::Fault::new(stockpot_test_fixtures::s3::Action::Delay(
            std::time::Duration::from_secs(2),
        ))
        .on(stockpot_test_fixtures::s3::Op::UploadPart),
    );
    let mut child = bench
        .command()
        .args(["backup", "/dev/livekill/data", "--to", REPO])
        .spawn()?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while bench.open_uploads() == 0 {
        ensure!(std::time::Instant::now() < deadline, "no upload began");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill()?;
    finish(child)?;
    ensure!(
        vg.lvs()?.len() == 2,
        "the snapshot should still be there: {:?}",
        vg.lvs()?
    );
    bench.server.faults().clear();
    let run = bench.run(["backup", "/dev/livekill/data", "--to", REPO])?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(vg.lvs()? == ["data"], "{:?}", vg.lvs()?);
    Ok(())
}

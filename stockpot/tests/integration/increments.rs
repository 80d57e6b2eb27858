//! Only what changed, and nothing sent twice: told changes, full copies, and a backup that was killed.

use std::{
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use crate::bench::{BUCKET, Bench, MIB, REPO, finish, noise, text};

/// Runs a backup of volume `v` with more arguments.
fn backup(bench: &Bench, image: &Path, more: &[&str]) -> anyhow::Result<serde_json::Value> {
    let image = image.to_str().context("path is text")?;
    let args = ["backup", image, "--to", REPO, "--volume", "v", "-o", "json"];
    bench.run(args.iter().chain(more))?.json()
}

fn is_restored(bench: &Bench, image: &Path) -> anyhow::Result<()> {
    let out = bench.path("out");
    let target = out.to_str().context("path")?;
    let run = bench.run(["restore", REPO, "latest:v", target, "--force"])?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(std::fs::read(image)? == std::fs::read(out)?);
    let run = bench.run(["verify", REPO, "--read-data"])?;
    ensure!(run.code == Some(0), "{run:?}");
    Ok(())
}

#[test]
fn a_backup_that_is_told_what_changed() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 64 * MIB, &[(0, 8 << 20), (40 << 20, 4 << 20)])?;
    let first = backup(&bench, &image, &[])?;
    ensure!(first["reason"] == "full", "{first}");
    let since = text(&first, "snapshot_id")?.to_owned();
    let file = std::fs::OpenOptions::new().write(true).open(&image)?;
    file.write_all_at(&noise(77, 100_000), 5 << 20)?;
    drop(file);
    let changed = bench.path("changed");
    let list = changed.to_str().context("path")?;
    std::fs::write(&changed, format!("{} 100000\n", 5 << 20))?;
    let second = backup(&bench, &image, &["--changed", list, "--since", &since])?;
    ensure!(second["reason"] == "incremental", "{second}");
    ensure!(second["read_bytes"] == 128 << 10, "{second}");
    ensure!(second["stored_bytes"].as_u64() < Some(150_000), "{second}");
    is_restored(&bench, &image)?;
    // Nothing changed: nothing is read or sent.
    std::fs::write(&changed, "[]")?;
    let since = text(&second, "snapshot_id")?.to_owned();
    let third = backup(&bench, &image, &["--changed", list, "--since", &since])?;
    ensure!(
        third["stored_bytes"] == 0 && third["read_bytes"] == 0,
        "{third}"
    );
    ensure!(third["requests"].as_u64() < Some(20), "{third}");
    // A copy that stands alone.
    let full = backup(&bench, &image, &["--full"])?;
    ensure!(
        full["reason"] == "full" && full["parent"].is_null(),
        "{full}"
    );
    ensure!(full["stored_bytes"].as_u64() > Some(12 << 20), "{full}");
    is_restored(&bench, &image)?;
    std::fs::write(&changed, "here and there\n")?;
    let image = image.to_str().context("path")?;
    let args = [
        "backup",
        image,
        "--to",
        REPO,
        "--changed",
        list,
        "--since",
        &since,
    ];
    bench.run(args)?.failed(2, &["line 1", "offset"])
}

#[test]
fn a_volume_made_from_a_snapshot_is_compared_with_it() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 32 * MIB, &[(0, 8 << 20)])?;
    let first = backup(&bench, &image, &[])?;
    let file = std::fs::OpenOptions::new().write(true).open(&image)?;
    file.write_all_at(&noise(5, 1000), 3 << 20)?;
    drop(file);
    let path = image.to_str().context("path is text")?;
    let base = text(&first, "snapshot_id")?;
    let clone = [
        "backup", path, "--to", REPO, "--volume", "clone", "-o", "json",
    ];
    let second = bench.run(clone.iter().chain(&["--base", base]))?.json()?;
    ensure!(second["reason"] == "compared", "{second}");
    ensure!(second["parent"] == *base, "{second}");
    ensure!(second["stored_bytes"].as_u64() < Some(80_000), "{second}");
    let out = bench.path("out");
    let target = out.to_str().context("path")?;
    let run = bench.run(["restore", REPO, "latest:clone", target])?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(std::fs::read(&image)? == std::fs::read(out)?);
    bench
        .run(clone.iter().chain(&["--base", "snap-nowhere"]))?
        .failed(1, &["--base", "snap-nowhere"])
}

#[test]
fn packs_of_which_little_is_needed_are_given_up() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 32 * MIB, &[(0, 12 << 20)])?;
    backup(&bench, &image, &[])?;
    // Whoever has it open for writing keeps it from being backed up.
    let write = |bytes: &[u8], at: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(&image)?;
        file.write_all_at(bytes, at)
    };
    write(&noise(5, 11 << 20), 0)?;
    backup(&bench, &image, &[])?;
    write(b"a little more", 20 << 20)?;
    let never = backup(&bench, &image, &["--repack-below", "0"])?;
    ensure!(never["repacked_packs"] == 0, "{never}");
    let third = backup(&bench, &image, &["--repack-budget", "2MiB"])?;
    ensure!(third["repacked_packs"].as_u64() >= Some(1), "{third}");
    let anew = third["repacked_bytes"].as_u64();
    ensure!(anew >= Some(MIB) && anew < Some(MIB + 10_000), "{third}");
    let room = || bench.server.stored_bytes(BUCKET);
    let before = room();
    for verb in [&["forget", REPO, "--keep-last", "1"][..], &["prune", REPO]] {
        let run = bench.run(verb)?;
        ensure!(run.code == Some(0), "{run:?}");
    }
    ensure!(
        room() < before - 11 * MIB,
        "{before} bytes, then {}",
        room()
    );
    is_restored(&bench, &image)?;
    let image = image.to_str().context("path is text")?;
    bench
        .run(["backup", image, "--to", REPO, "--repack-below", "95"])?
        .failed(2, &["--repack-below"])
}

#[test]
fn a_killed_backup_costs_no_more_than_its_open_packs() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let size = 80 << 20;
    let image = bench.image("disk.img", 100 * MIB, &[(0, size)])?;
    let path = image.to_str().context("path is text")?;
    let small = ["--part-size", "5MiB", "--pack-size", "5MiB"];
    let mut child = bench
        .command()
        .args(["backup", path, "--to", REPO, "--volume", "v"])
        .args(small)
        .spawn()?;
    let packs = || bench.server.keys_with_prefix(BUCKET, "site-a/packs/").len();
    let deadline = Instant::now() + Duration::from_secs(30);
    while packs() < 4 {
        ensure!(Instant::now() < deadline, "no packs came");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    let killed = finish(child)?;
    ensure!(
        killed.code.is_none(),
        "it was done before it was killed: {killed:?}"
    );
    let whole = packs();
    // It may be under way still, for all that anybody knows.
    let listed = bench.run(["snapshots", REPO])?.stdout;
    ensure!(
        listed.contains("uploading") && !listed.contains("no sign of life"),
        "{listed}"
    );
    let shown = bench.run(["prune", REPO, "--dry-run"])?.stdout;
    ensure!(
        shown.contains("after 7d without a sign of life")
            && shown.contains("stockpot forget snap-"),
        "{shown}"
    );
    let report = backup(&bench, &image, &small)?;
    let number = |field: &str| report[field].as_u64().context("a number");
    ensure!(
        number("adopted_packs")? >= whole as u64,
        "{whole} packs, {report}"
    );
    let (adopted, stored) = (number("adopted_bytes")?, number("stored_bytes")?);
    ensure!(adopted >= 4 * 5 * MIB, "{report}");
    // All that was whole is not sent again; indexes and pages are the slack.
    ensure!(stored + adopted < size as u64 + MIB, "{report}");
    is_restored(&bench, &image)
}

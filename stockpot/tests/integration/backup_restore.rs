//! Up and down: what comes back is what went up, and holes are still holes.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, ensure};

use crate::bench::{Bench, MIB, REPO, text};

#[test]
fn an_image_comes_back_byte_for_byte_with_its_holes() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    // 300 MiB and a bit, of which 5 MiB are data; neither a multiple of a chunk nor of a sector.
    let size = 300 * MIB + 777;
    let image = bench.image(
        "disk.img",
        size,
        &[(0, 70_000), (100 * MIB + 5, 4 << 20), (size - 1000, 1000)],
    )?;
    let report = bench.backup(&image, "web-1")?;
    ensure!(report["size_bytes"] == size, "{report}");
    ensure!(
        report["stored_bytes"].as_u64().context("stored_bytes")? < 6 * MIB,
        "{report}"
    );

    let target = bench.path("restored.img");
    let run = bench.run([
        "restore",
        REPO,
        text(&report, "snapshot_id")?,
        target.to_str().context("path")?,
    ])?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(
        std::fs::read(&image)? == std::fs::read(&target)?,
        "content differs"
    );
    let used = std::fs::metadata(&target)?.blocks() * 512;
    ensure!(used < 8 * MIB, "holes were filled: {used} bytes");
    ensure!(bench.open_uploads() == 0);
    Ok(())
}

#[test]
fn sizes_at_the_edges_come_back() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for (number, size) in [1, 511, 65_536, 262_144, 262_145, 3 * MIB]
        .into_iter()
        .enumerate()
    {
        let name = format!("v{number}");
        let image = bench.image(&name, size, &[(0, usize::try_from(size)?)])?;
        let report = bench.backup(&image, &name)?;
        let target = bench.path(&format!("{name}.out"));
        let run = bench.run([
            "restore",
            REPO,
            text(&report, "snapshot_id")?,
            target.to_str().context("path")?,
        ])?;
        ensure!(run.code == Some(0), "{run:?}");
        ensure!(
            std::fs::read(&image)? == std::fs::read(&target)?,
            "{size} bytes differ"
        );
    }
    Ok(())
}

#[test]
fn a_volume_of_holes_only_needs_no_packs() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("empty.img", 64 << 30, &[])?;
    let report = bench.backup(&image, "empty")?;
    ensure!(report["stored_bytes"] == 0, "{report}");
    ensure!(
        bench
            .server
            .keys_with_prefix("backups", "site-a/packs/")
            .is_empty()
    );
    let target = bench.path("out.img");
    let run = bench.run([
        "restore",
        REPO,
        "latest:empty",
        target.to_str().context("path")?,
    ])?;
    ensure!(run.code == Some(0), "{run:?}");
    let meta = std::fs::metadata(&target)?;
    ensure!(meta.len() == 64 << 30 && meta.blocks() == 0, "{meta:?}");
    Ok(())
}

#[test]
fn snapshots_are_listed_with_stable_names() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 2 * MIB, &[(0, 5000)])?;
    let first = bench.backup(&image, "db")?;
    let second = bench.backup(&image, "db")?;
    let other = bench.backup(&image, "web")?;
    let list = bench.run(["snapshots", REPO, "-o", "json"])?.json()?;
    let list = list.as_array().context("a list")?;
    ensure!(list.len() == 3, "{list:?}");
    for name in [
        "snapshot_id",
        "volume",
        "size_bytes",
        "created_at",
        "parent",
        "stored_bytes",
        "status",
    ] {
        ensure!(
            list.iter().all(|item| item.get(name).is_some()),
            "no {name} in {list:?}"
        );
    }
    let of_db = bench
        .run(["snapshots", REPO, "--volume", "db", "-o", "json"])?
        .json()?;
    let ids: Vec<_> = of_db
        .as_array()
        .context("a list")?
        .iter()
        .map(|item| &item["snapshot_id"])
        .collect();
    ensure!(
        ids == [&first["snapshot_id"], &second["snapshot_id"]],
        "{ids:?} {other}"
    );
    let table = bench.run(["snapshots", REPO])?;
    ensure!(
        table.code == Some(0) && table.stdout.contains(text(&first, "snapshot_id")?),
        "{table:?}"
    );
    Ok(())
}

#[test]
fn the_first_backup_says_that_it_makes_the_repository() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", MIB, &[(0, 10)])?;
    let image = image.to_str().context("path")?;
    let first = bench.run(["backup", image, "--to", REPO])?;
    ensure!(
        first.code == Some(0) && first.stderr.contains("repository"),
        "{first:?}"
    );
    // The name comes from the file's.
    ensure!(first.stdout.contains("disk"), "{first:?}");
    let second = bench.run(["backup", image, "--to", REPO])?;
    ensure!(
        second.code == Some(0) && !second.stderr.contains("made"),
        "{second:?}"
    );
    Ok(())
}

//! `verify` finds what is wrong and names it; `restore` never lets it pass.

use anyhow::{Context as _, ensure};

use crate::bench::{BUCKET, Bench, MIB, REPO, text};

/// Any single flipped byte of any object under the prefix.
#[test]
fn a_flipped_byte_anywhere_is_named_or_was_not_needed() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 20 * MIB, &[(0, 300_000), (9 * MIB, 200_000)])?;
    let report = bench.backup(&image, "v")?;
    let id = text(&report, "snapshot_id")?.to_owned();
    let good = bench.server.snapshot(BUCKET).context("bucket")?;
    let content = std::fs::read(&image)?;
    for object in bench.server.objects(BUCKET) {
        for at in [
            0,
            object.size_bytes / 3,
            object.size_bytes / 2,
            object.size_bytes - 1,
        ] {
            bench.server.flip_byte(BUCKET, &object.key, at);
            let key = object.key.trim_start_matches("site-a/");
            let run = bench.run(["verify", REPO, "--read-data"])?;
            ensure!(run.code == Some(1), "{key} at {at} was not found: {run:?}");
            let said = format!("{}{}", run.stdout, run.stderr);
            ensure!(said.contains(key), "{key} at {at} is not named: {said}");

            let target = bench.path("out.img");
            let run = bench.run([
                "restore",
                REPO,
                &id,
                target.to_str().context("path")?,
                "--force",
            ])?;
            if run.code == Some(0) {
                ensure!(
                    std::fs::read(&target)? == content,
                    "{key} at {at}: a wrong restore passed"
                );
            }
            bench.server.restore(BUCKET, &good);
        }
    }
    Ok(())
}

#[test]
fn a_missing_pack_is_named_by_the_quick_check_too() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 20 * MIB, &[(0, 300_000)])?;
    bench.backup(&image, "v")?;
    let packs = bench.server.keys_with_prefix(BUCKET, "site-a/packs/");
    ensure!(!packs.is_empty());
    let good = bench.server.snapshot(BUCKET).context("bucket")?;
    let (count, mut intact) = (packs.len(), 0);
    for pack in packs {
        bench.server.remove_object(BUCKET, &pack);
        let run = bench.run(["verify", REPO])?;
        ensure!(run.code == Some(1), "{run:?}");
        ensure!(
            format!("{}{}", run.stdout, run.stderr).contains(pack.trim_start_matches("site-a/")),
            "{run:?}"
        );
        let out = bench.path("out");
        let run = bench.run(["restore", REPO, "latest:v", out.to_str().context("path")?])?;
        if run.code == Some(0) {
            // The list of packs is for prune and verify: a restore does not need it.
            ensure!(std::fs::read(&out)? == std::fs::read(&image)?, "{pack}");
            std::fs::remove_file(&out)?;
            intact += 1;
        } else {
            run.failed(1, &[pack.trim_start_matches("site-a/")])?;
            ensure!(!out.exists(), "a failed restore left its new file");
        }
        bench.server.restore(BUCKET, &good);
    }
    ensure!(
        intact == 1 && count >= 3,
        "{intact} of {count} packs were not needed"
    );
    Ok(())
}

#[test]
fn a_sound_repository_is_reported_as_such() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 20 * MIB, &[(0, 300_000)])?;
    bench.backup(&image, "v")?;
    for args in [
        &["verify", REPO, "-o", "json"][..],
        &["verify", REPO, "--read-data", "-o", "json"],
    ] {
        let report = bench.run(args)?.json()?;
        ensure!(
            report["problems"].as_array().is_some_and(Vec::is_empty),
            "{report}"
        );
        ensure!(report["snapshots"] == 1, "{report}");
    }
    Ok(())
}

#[test]
fn a_snapshot_whose_record_was_taken_away_is_missed() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 20 * MIB, &[(0, 300_000)])?;
    let id = text(&bench.backup(&image, "v")?, "snapshot_id")?.to_owned();
    let other = text(&bench.backup(&image, "w")?, "snapshot_id")?.to_owned();
    let record = format!("site-a/snapshots/v/{id}.json");
    ensure!(bench.server.keys_with_prefix(BUCKET, &record).len() == 1);
    bench.server.remove_object(BUCKET, &record);
    let run = bench.run(["verify", REPO, "-o", "json"])?;
    run.failed(1, &["1 problem"])?;
    let report: serde_json::Value = serde_json::from_str(&run.stdout)?;
    let problem = text(&report["problems"][0], "problem")?;
    ensure!(
        problem.contains("neither a record nor an upload")
            && report["problems"][0]["snapshots"][0] == id.as_str(),
        "{report}"
    );
    bench.run(["verify", REPO, &other, "-o", "json"])?.json()?;
    // It was meant.
    bench.run(["forget", REPO, &id, "-o", "json"])?.json()?;
    bench.run(["verify", REPO, "-o", "json"])?.json()?;
    Ok(())
}

/// A pack that is missing has thousands of bad chunks.
#[test]
fn a_prune_says_of_a_missing_pack_once_that_it_is_missing() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 20 * MIB, &[(0, 300_000), (9 * MIB, 200_000)])?;
    bench.backup(&image, "v")?;
    let packs = bench.server.objects(BUCKET);
    let packs = packs
        .iter()
        .filter(|object| object.key.starts_with("site-a/packs/"));
    let largest = packs.max_by_key(|object| object.size_bytes);
    let pack = largest.context("a pack")?.key.clone();
    bench.server.remove_object(BUCKET, &pack);
    bench.run(["verify", REPO])?.failed(1, &[])?;
    let marks = bench.server.keys_with_prefix(BUCKET, "site-a/marks/");
    ensure!(marks.len() == 1, "{marks:?}");
    let warnings = |run: &crate::bench::Run| run.stderr.matches("WARN").count();
    let run = bench.run(["prune", REPO, "-o", "json"])?;
    run.json()?;
    ensure!(warnings(&run) == 1, "{run:?}");
    let run = bench.run(["prune", REPO, "-q", "-o", "json"])?;
    run.json()?;
    ensure!(warnings(&run) == 0, "{run:?}");
    Ok(())
}

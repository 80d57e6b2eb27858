//! What is left of a damaged snapshot: `restore --skip-damaged`.

use anyhow::{Context as _, ensure};

use crate::bench::{BUCKET, Bench, MIB, REPO, text};

/// Restores what is left, and checks that all of it is right but what is said to be lost, which is zeroes. Returns how many bytes those are.
fn salvaged(bench: &Bench, id: &str, content: &[u8]) -> anyhow::Result<u64> {
    let out = bench.path("out.img");
    let target = out.to_str().context("path")?;
    let _ = std::fs::remove_file(&out);
    bench
        .run(["restore", REPO, id, target])?
        .failed(1, &["stockpot verify", "--skip-damaged"])?;
    ensure!(!out.exists(), "a restore that failed left something");
    let run = bench.run(["restore", REPO, id, target, "--skip-damaged", "-o", "json"])?;
    run.failed(3, &["cannot be read", id])?;
    let report: serde_json::Value = serde_json::from_str(&run.stdout)?;
    let mut expected = content.to_vec();
    let mut bytes = 0;
    for lost in report["lost"].as_array().context("a list")? {
        let number = |field: &str| lost[field].as_u64().context("a number");
        let (offset, length) = (number("offset")?, number("length")?);
        let range = usize::try_from(offset)?..usize::try_from(offset + length)?;
        expected[range].fill(0);
        bytes += length;
        ensure!(!text(lost, "error")?.is_empty(), "{report}");
    }
    ensure!(report["lost_bytes"] == bytes, "{report}");
    ensure!(std::fs::read(&out)? == expected, "{report}");
    // For people.
    let run = bench.run(["restore", REPO, id, target, "--skip-damaged", "--force"])?;
    run.failed(3, &[])?;
    ensure!(run.stdout.contains("bytes at "), "{run:?}");
    Ok(bytes)
}

#[test]
fn all_is_restored_but_what_is_damaged() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 20 * MIB, &[(0, 1_000_000), (9 * MIB, 700_000)])?;
    let id = text(&bench.backup(&image, "v")?, "snapshot_id")?.to_owned();
    let content = std::fs::read(&image)?;
    let good = bench.server.snapshot(BUCKET).context("bucket")?;
    let mut packs = bench.server.objects(BUCKET);
    packs.retain(|object| object.key.starts_with("site-a/packs/"));
    packs.sort_by_key(|object| object.size_bytes);
    let (data, others) = packs.split_last().context("packs")?;
    bench
        .server
        .flip_byte(BUCKET, &data.key, data.size_bytes / 2);
    ensure!(salvaged(&bench, &id, &content)? == 64 << 10);
    bench.server.restore(BUCKET, &good);
    bench.server.remove_object(BUCKET, &data.key);
    ensure!(salvaged(&bench, &id, &content)? > 64 << 10);
    bench.server.restore(BUCKET, &good);
    // Without the map nobody knows what was where; the list of packs is not needed, and data may lie in several.
    let (mut maps, mut lists) = (0, 0);
    for pack in others {
        bench.server.remove_object(BUCKET, &pack.key);
        let out = bench.path("whole.img");
        let target = out.to_str().context("path")?;
        let whole = bench.run(["restore", REPO, &id, target, "--skip-damaged", "--force"])?;
        if whole.code == Some(0) {
            ensure!(std::fs::read(&out)? == content);
            lists += 1;
        } else if salvaged(&bench, &id, &content)? == 20 * MIB {
            maps += 1;
        }
        bench.server.restore(BUCKET, &good);
    }
    ensure!(
        (maps, lists) == (1, 1),
        "{maps} and {lists} of {}",
        others.len()
    );
    Ok(())
}

/// Nothing is refused less than without it.
#[test]
fn a_target_with_content_is_refused_all_the_same() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", MIB, &[(0, 1000)])?;
    bench.backup(&image, "v")?;
    let target = image.to_str().context("path")?;
    let run = bench.run(["restore", REPO, "latest:v", target, "--skip-damaged"])?;
    run.failed(1, &["--force"])?;
    let out = bench.path("out.img");
    let out = out.to_str().context("path")?;
    let whole = bench.run([
        "restore",
        REPO,
        "latest:v",
        out,
        "--skip-damaged",
        "-o",
        "json",
    ])?;
    let report = whole.json()?;
    ensure!(
        report["lost"].as_array().is_some_and(Vec::is_empty) && report["first_versions"] == false,
        "{report}"
    );
    Ok(())
}

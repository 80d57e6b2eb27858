//! Limits that a user sets: how fast bytes go, how much memory is taken.

use std::time::{Duration, Instant};

use super::bench::{Bench, MIB, REPO, text};

#[test]
fn bytes_go_no_faster_than_asked() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 2 * MIB, &[(0, 2 << 20)])?;
    let image = image.to_str().expect("a path in text");
    let start = Instant::now();
    let report = bench
        .run([
            "backup",
            image,
            "--to",
            REPO,
            "-o",
            "json",
            "--limit-upload",
            "2MiB",
        ])?
        .json()?;
    // The chunks go at once; their map waits until they have had their second.
    let took = start.elapsed();
    anyhow::ensure!(took >= Duration::from_millis(950), "{took:?}");
    let start = Instant::now();
    let copy = bench.path("copy.img");
    let restored = bench.run([
        "restore",
        REPO,
        text(&report, "snapshot_id")?,
        copy.to_str().expect("a path in text"),
        "--limit-download",
        "100GiB",
    ])?;
    anyhow::ensure!(restored.code == Some(0), "{restored:?}");
    anyhow::ensure!(std::fs::read(&copy)? == std::fs::read(image)?);
    anyhow::ensure!(start.elapsed() < Duration::from_secs(30));
    bench
        .run(["backup", image, "--to", REPO, "--limit-upload", "0"])?
        .failed(2, &["nothing would ever get through"])
}

#[test]
fn memory_that_cannot_do_is_refused_before_anything_is_asked() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", MIB, &[(0, 100)])?;
    let image = image.to_str().expect("a path in text");
    let to_nowhere = ["backup", image, "--to", "s3://no-such-bucket/x", "--memory"];
    let with = |more: &[&'static str]| bench.run(to_nowhere.iter().chain(more));
    with(&["16MiB"])?.failed(2, &["memory", "the least is"])?;
    with(&["96MiB", "--part-size", "64MiB"])?.failed(2, &["--memory 96.0 MiB", "need"])?;
    bench
        .run([
            "backup", image, "--to", REPO, "--memory", "64MiB", "-o", "json",
        ])?
        .json()?;
    Ok(())
}

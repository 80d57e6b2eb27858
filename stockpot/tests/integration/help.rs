//! Help is there, with examples.

use anyhow::ensure;

use crate::bench::Bench;

#[test]
fn each_verb_has_examples() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for verb in [
        "backup",
        "restore",
        "snapshots",
        "verify",
        "forget",
        "prune",
        "serve",
        "snapshot",
        "export",
        "pki",
        "pool",
        "host",
        "schedule",
        "volume",
        "profile",
        "status",
        "completion",
        "man",
    ] {
        let run = bench.run([verb, "--help"])?;
        ensure!(
            run.code == Some(0) && run.stdout.contains("Example"),
            "{verb}: {run:?}"
        );
    }
    let version = bench.run(["--version"])?;
    ensure!(version.stdout.starts_with("stockpot "), "{version:?}");
    Ok(())
}

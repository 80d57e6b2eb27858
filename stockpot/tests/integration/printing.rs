//! What is printed, where, and how much of it.

use anyhow::{Context as _, ensure};

use crate::bench::{BUCKET, Bench, MIB, REPO};

#[test]
fn quiet_is_quiet_and_the_report_tells_of_a_new_repository() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 2 * MIB, &[(0, 5000)])?;
    let image = image.to_str().context("path")?;
    let run = bench.run(["backup", image, "--to", REPO, "-q", "-o", "json"])?;
    ensure!(run.stderr.is_empty(), "{run:?}");
    let report = run.json()?;
    ensure!(report["repository_created"] == true, "{report}");
    ensure!(report["sealed"] == false, "{report}");
    let run = bench.run(["backup", image, "--to", REPO, "-o", "json"])?;
    ensure!(run.json()?["repository_created"] == false, "{run:?}");
    let key = bench.key_file("key")?;
    let key = key.to_str().context("path")?;
    let args = ["backup", image, "--to", "s3://backups/b", "--key-file", key];
    let run = bench.run(args)?;
    ensure!(run.stdout.contains("new repository, sealed"), "{run:?}");
    let run = bench.run(["snapshots", "s3://backups/b", "-q"])?;
    ensure!(run.code == Some(0) && run.stderr.is_empty(), "{run:?}");
    Ok(())
}

#[test]
fn what_a_terminal_obeys_is_not_printed() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 2 * MIB, &[(0, 5000)])?;
    let image = image.to_str().context("path")?;
    // XML has no way to list the other control characters.
    let foreign = "site-a/holiday\u{9b}2J.jpg";
    bench.server.put_object(BUCKET, foreign, &b"not ours"[..]);
    let run = bench.run(["backup", image, "--to", REPO])?;
    run.failed(1, &["holiday\\u{9b}2j.jpg"])?;
    ensure!(!run.stderr.contains('\u{9b}'), "{run:?}");
    bench.server.remove_object(BUCKET, foreign);
    bench.backup(image.as_ref(), "v")?;
    let foreign = "site-a/snapshots/v/\u{9d}0;owned\u{7f}";
    bench.server.put_object(BUCKET, foreign, &b"not ours"[..]);
    for args in [vec!["snapshots", REPO], vec!["verify", REPO]] {
        let run = bench.run(&args)?;
        let said = format!("{}{}", run.stdout, run.stderr);
        ensure!(!said.contains(['\u{9d}', '\u{7f}']), "{args:?}: {said:?}");
    }
    Ok(())
}

#[test]
fn keys_that_cannot_be_used() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let short = bench.path("short");
    std::fs::write(&short, [b'k'; 31])?;
    let folder = bench.dir.path().to_owned();
    let long = bench.path("long");
    std::fs::write(&long, [b'k'; (64 << 10) + 1])?;
    for (path, words) in [
        (
            short.as_path(),
            &["short", "31 bytes", "at least 32 bytes"][..],
        ),
        (&folder, &["is a directory"]),
        (&long, &["long", "64 KiB"]),
        ("/dev/zero".as_ref(), &["/dev/zero", "64 KiB"]),
    ] {
        let path = path.to_str().context("path")?;
        bench
            .run(["snapshots", REPO, "--key-file", path])?
            .failed(1, words)?;
    }
    let most = bench.path("most");
    std::fs::write(&most, [b'k'; 64 << 10])?;
    let most = most.to_str().context("path")?;
    bench
        .run(["snapshots", REPO, "--key-file", most])?
        .failed(1, &["no repository"])?;
    Ok(())
}

#[test]
fn help_and_checks_agree_on_sizes() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let run = bench.run(["backup", "--help"])?;
    ensure!(run.stdout.contains("5MiB to 256MiB"), "{run:?}");
    ensure!(run.stdout.contains("one part to 3GiB"), "{run:?}");
    let image = bench.image("disk.img", MIB, &[(0, 5000)])?;
    let image = image.to_str().context("path")?;
    for (option, good, bad) in [
        ("--part-size", "256MiB", "257MiB"),
        ("--pack-size", "3GiB", "3073MiB"),
    ] {
        let run = bench.run(["backup", image, "--to", REPO, option, good])?;
        ensure!(run.code == Some(0), "{run:?}");
        bench
            .run(["backup", image, "--to", REPO, option, bad])?
            .failed(2, &["size"])?;
    }
    Ok(())
}

#[test]
fn a_target_that_is_a_link_to_nothing() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", MIB, &[(0, 5000)])?;
    bench.backup(&image, "v")?;
    let link = bench.path("link.img");
    std::os::unix::fs::symlink("nothing.img", &link)?;
    let link = link.to_str().context("path")?;
    bench
        .run(["restore", REPO, "latest:v", link])?
        .failed(1, &["link.img", "symbolic link"])?;
    Ok(())
}

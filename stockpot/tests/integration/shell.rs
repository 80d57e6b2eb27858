//! Completion and manual pages.

use std::fs;

use anyhow::{Context as _, ensure};

use crate::bench::Bench;

#[test]
fn every_shell_gets_its_completion() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef stockpot"),
        ("fish", "complete -c stockpot"),
        ("elvish", "edit:completion"),
    ] {
        let run = bench.run(["completion", shell])?;
        ensure!(
            run.code == Some(0) && run.stdout.contains(word),
            "{shell}: {run:?}"
        );
        ensure!(run.stdout.contains("cancel-restore"), "{shell}: {run:?}");
    }
    bench
        .run(["completion", "tcsh"])?
        .failed(2, &["tcsh", "elvish"])?;
    bench.run(["completion"])?.failed(2, &["shell"])
}

#[test]
fn every_verb_has_a_page() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let pages = bench.path("man/man1");
    let directory = pages.to_str().context("path")?;
    for _ in 0..2 {
        let run = bench.run(["man", directory, "-o", "json"])?.json()?;
        let listed = run.as_array().context("a list")?.len();
        ensure!(listed == fs::read_dir(&pages)?.count(), "{run}");
    }
    for name in [
        "stockpot",
        "stockpot-backup",
        "stockpot-volume-restore",
        "stockpot-status",
    ] {
        let page = fs::read_to_string(pages.join(format!("{name}.1")))?;
        ensure!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        ensure!(!page.contains(".SH EXTRA"), "{name}: {page}");
    }
    let restore = fs::read_to_string(pages.join("stockpot-volume-restore.1"))?;
    ensure!(restore.contains("Nobody may use the volume"), "{restore}");
    ensure!(restore.contains(".SH EXAMPLES"), "{restore}");
    let helps = fs::read_dir(&pages)?.flatten();
    let helps = helps.filter(|page| page.file_name().to_string_lossy().contains("help"));
    ensure!(helps.count() == 0, "help has a page");
    let file = bench.path("file");
    fs::write(&file, "")?;
    let file = file.to_str().context("path")?;
    bench.run(["man", file])?.failed(1, &["file"])
}

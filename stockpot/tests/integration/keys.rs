//! `repository key …`: secrets change while the data stays.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};

use crate::bench::{Bench, MIB, REPO, Run, finish, text};

struct Keys {
    bench: Bench,
    image: String,
    first: String,
}

impl Keys {
    fn new() -> anyhow::Result<Self> {
        let bench = Bench::new()?;
        let image = bench.image("disk.img", MIB, &[(0, 200_000)])?;
        let image = image.to_str().context("path")?.to_owned();
        let first = bench.key_file("first")?;
        let first = first.to_str().context("path")?.to_owned();
        let keys = Self {
            bench,
            image,
            first,
        };
        let run = keys.run(&[
            "backup",
            &keys.image,
            "--to",
            REPO,
            "--key-file",
            &keys.first,
        ])?;
        ensure!(run.code == Some(0), "{run:?}");
        Ok(keys)
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<Run> {
        self.bench.run(args)
    }

    fn path(&self, name: &str) -> anyhow::Result<String> {
        let path = self.bench.path(name);
        Ok(path.to_str().context("path")?.to_owned())
    }

    /// The volume comes back with this key.
    fn restores_with(&self, option: &str, file: &str) -> anyhow::Result<()> {
        let out = self.path("out.img")?;
        let run = self.run(&["restore", REPO, "latest:disk", &out, option, file])?;
        ensure!(run.code == Some(0), "{run:?}");
        ensure!(std::fs::read(&out)? == std::fs::read(&self.image)?);
        Ok(std::fs::remove_file(&out)?)
    }

    fn slots(&self, key: &str) -> anyhow::Result<Vec<serde_json::Value>> {
        let list = self.run(&[
            "repository",
            "key",
            "list",
            REPO,
            "--key-file",
            key,
            "-o",
            "json",
        ])?;
        Ok(list.json()?.as_array().context("a list")?.clone())
    }
}

#[test]
fn a_lost_key_file_costs_nothing_while_a_passphrase_or_an_exported_key_is_left()
-> anyhow::Result<()> {
    let keys = Keys::new()?;
    let phrase = keys.path("phrase")?;
    std::fs::write(&phrase, "correct horse battery staple\n")?;
    let add = ["repository", "key", "add", REPO, "--key-file", &keys.first];
    let added =
        keys.run(&[&add[..], &["--new-passphrase-file", &phrase, "-o", "json"]].concat())?;
    let second = text(&added.json()?, "slot")?.to_owned();
    let slots = keys.slots(&keys.first)?;
    ensure!(slots.len() == 2, "{slots:?}");
    let current = slots.iter().find(|slot| slot["current"] == true);
    let first = text(current.context("one is current")?, "slot")?.to_owned();
    keys.restores_with("--passphrase-file", &phrase)?;

    // Nobody cuts off the branch that he sits on: that another slot is listed does not prove that it opens.
    let remove = ["repository", "key", "remove", REPO];
    keys.run(&[&remove[..], &[&first], &["--key-file", &keys.first]].concat())?
        .failed(1, &["opened just now", "--passphrase-file"])?;

    // The passphrase removes the file's slot, and becomes the only one.
    let by_phrase = ["--passphrase-file", &phrase[..]];
    let run = keys.run(&[&remove[..], &[&first], &by_phrase].concat())?;
    ensure!(
        run.code == Some(0) && run.stdout.contains(&first),
        "{run:?}"
    );
    keys.run(&["snapshots", REPO, "--key-file", &keys.first])?
        .failed(1, &["wrong key file"])?;
    keys.restores_with("--passphrase-file", &phrase)?;
    keys.run(&[&remove[..], &[&second], &by_phrase].concat())?
        .failed(1, &["last", "--exported-key"])?;

    // With the key in a file, no slot is needed.
    let file = keys.path("exported.key")?;
    let export = ["repository", "key", "export", REPO, "--to", &file];
    let run = keys.run(&[&export[..], &by_phrase].concat())?;
    ensure!(run.code == Some(0) && run.stdout.is_empty(), "{run:?}");
    let mode = std::fs::metadata(&file)?.permissions().mode();
    ensure!(mode & 0o7777 == 0o600, "{mode:o}");
    let line = std::fs::read_to_string(&file)?;
    ensure!(!run.stderr.contains(line.trim()), "the key was shown");
    keys.run(&[&export[..], &by_phrase].concat())?
        .failed(1, &["exported.key"])?;
    let shown = ["--exported-key", &keys.first[..]];
    keys.run(&[&remove[..], &[&second], &by_phrase, &shown].concat())?
        .failed(1, &["key export"])?;
    let shown = ["--exported-key", &file[..]];
    let run = keys.run(&[&remove[..], &[&second], &by_phrase, &shown].concat())?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(keys.slots(&file)?.is_empty());
    keys.restores_with("--key-file", &file)?;

    // And a slot comes back.
    let add = ["repository", "key", "add", REPO, "--key-file", &file];
    let run = keys.run(&[&add[..], &["--new-key-file", &keys.first]].concat())?;
    ensure!(run.code == Some(0), "{run:?}");
    keys.restores_with("--key-file", &keys.first)
}

#[test]
fn the_exported_key_goes_to_standard_output_only_if_asked() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let export = [
        "repository",
        "key",
        "export",
        REPO,
        "--key-file",
        &keys.first,
    ];
    keys.run(&export)?.failed(2, &["--to"])?;
    let run = keys.run(&[&export[..], &["--to", "-"]].concat())?;
    ensure!(run.code == Some(0), "{run:?}");
    let file = keys.path("piped")?;
    std::fs::write(&file, &run.stdout)?;
    keys.restores_with("--key-file", &file)
}

#[test]
fn a_repository_is_made_and_shown() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let init = [
        "repository",
        "init",
        REPO,
        "--chunk-size",
        "256KiB",
        "-o",
        "json",
    ];
    let made = bench.run(init)?.json()?;
    ensure!(made["chunk_size_bytes"] == 262_144, "{made}");
    let shown = bench
        .run(["repository", "show", REPO, "-o", "json"])?
        .json()?;
    ensure!(shown == made, "{shown} {made}");
    bench.run(init)?.failed(1, &["already"])?;
    let image = bench.image("disk.img", MIB, &[(0, 5000)])?;
    let backup = ["backup", image.to_str().context("path")?, "--to", REPO];
    let other = [&backup[..], &["--chunk-size", "64KiB"]].concat();
    bench.run(other)?.failed(1, &["--chunk-size", "256 KiB"])?;
    let same = [&backup[..], &["--chunk-size", "256KiB"]].concat();
    ensure!(bench.run(same)?.code == Some(0));
    bench
        .run(["repository", "key", "export", REPO, "--to", "-"])?
        .failed(1, &["not sealed"])?;
    Ok(())
}

#[test]
fn a_lock_on_a_bucket_that_cannot_lock_is_refused_before_anything_is_written() -> anyhow::Result<()>
{
    let bench = Bench::new()?;
    let image = bench.image("disk.img", MIB, &[(0, 5000)])?;
    let backup = ["backup", image.to_str().context("path")?, "--to", REPO];
    let locked = [&backup[..], &["--lock-days", "3"]].concat();
    bench.run(locked)?.failed(1, &["object lock"])?;
    let there = bench.server.objects(crate::bench::BUCKET);
    ensure!(there.is_empty(), "{there:?}");
    let mode = [&backup[..], &["--lock-mode", "governance"]].concat();
    bench.run(mode)?.failed(2, &["--lock-days"])?;
    let days = [&backup[..], &["--lock-days", "0"]].concat();
    bench.run(days)?.failed(2, &["--lock-days"])
}

/// What is typed wins over what a profile exports for every command.
#[test]
fn an_option_wins_over_the_environment() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let (phrase, other) = (keys.path("phrase")?, keys.bench.key_file("other")?);
    std::fs::write(&phrase, "correct horse battery staple\n")?;
    let (added, key) = (
        ["--new-passphrase-file", &phrase],
        ["--key-file", &keys.first],
    );
    let add = [
        &["repository", "key", "add", REPO, "-o", "json"][..],
        &added,
        &key,
    ]
    .concat();
    keys.run(&add)?.json()?;
    let run = |names: &[&str], args: &[&str]| {
        let mut command = keys.bench.command();
        command.args(["snapshots", REPO]).args(args);
        for name in names {
            command.env(name, &other);
        }
        finish(command.spawn()?)
    };
    let (file, passphrase) = ("STOCKPOT_KEY_FILE", "STOCKPOT_PASSPHRASE_FILE");
    run(&[file], &[])?.failed(1, &["wrong key"])?;
    for option in [["--passphrase-file", &phrase], key] {
        let opened = run(&[file, passphrase], &option)?;
        ensure!(opened.code == Some(0), "{opened:?}");
    }
    run(&[file, passphrase], &[])?.failed(2, &[file, passphrase])
}

/// A key that was pasted in the place of a slot's name stands in no log.
#[test]
fn what_is_no_name_of_a_slot_is_not_repeated() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let key = ["--key-file", &keys.first];
    for secret in [
        "6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b",
        "Kk/+6b6b6b6b6b6b6b6b6b6b6b6b6b6b=",
    ] {
        for args in [
            &["repository", "key", "remove", REPO, secret][..],
            &["snapshots", REPO, "--key-slot", secret],
        ] {
            let run = keys.run(&[args, &key].concat())?;
            ensure!(matches!(run.code, Some(1 | 2)), "{run:?}");
            ensure!(
                !run.stderr.contains(secret) && run.stderr.contains("key slot"),
                "{run:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_new_passphrase_is_not_too_short_and_a_second_slot_of_a_key_is_remarked_on()
-> anyhow::Result<()> {
    let keys = Keys::new()?;
    let phrase = keys.path("phrase")?;
    std::fs::write(&phrase, "seven77\n")?;
    let add = ["repository", "key", "add", REPO, "--key-file", &keys.first];
    let short = keys.run(&[&add[..], &["--new-passphrase-file", &phrase]].concat())?;
    short.failed(1, &["7 bytes", "at least 8"])?;
    ensure!(!short.stderr.contains("seven77"), "{short:?}");
    let elsewhere = "s3://backups/elsewhere";
    let made = [
        "repository",
        "init",
        elsewhere,
        "--passphrase-file",
        &phrase,
    ];
    keys.run(&made)?.failed(1, &["at least 8"])?;
    ensure!(keys.slots(&keys.first)?.len() == 1);
    let again = keys.run(&[&add[..], &["--new-key-file", &keys.first]].concat())?;
    ensure!(
        again.code == Some(0) && again.stderr.contains("opened the repository before"),
        "{again:?}"
    );
    let exported = keys.path("exported")?;
    let export = [
        "repository",
        "key",
        "export",
        REPO,
        "--key-file",
        &keys.first,
    ];
    let report = keys.run(&[&export[..], &["--to", &exported, "-o", "json"]].concat())?;
    ensure!(report.json()?["file"] == exported.as_str(), "{report:?}");
    Ok(())
}

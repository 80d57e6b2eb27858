//! What somebody stumbles on who uses it for the first time: each is told what to do, and no secret is repeated.

use std::os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _};

use anyhow::{Context as _, ensure};
use stockpot_test_fixtures::s3::{Action, Fault};

use crate::bench::{BUCKET, Bench, MIB, REPO, finish, text};

fn with_backup() -> anyhow::Result<(Bench, String, String)> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 2 * MIB, &[(0, 5000)])?;
    let report = bench.backup(&image, "v")?;
    let snapshot = text(&report, "snapshot_id")?.to_owned();
    let image = image.to_str().context("path")?.to_owned();
    Ok((bench, image, snapshot))
}

#[test]
fn a_secret_that_is_given_for_its_file_is_not_repeated() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let secret = "8f14e45fceea167a5a36dedd4bea2543aabbccdd00112233445566778899aabb";
    let base64 = "8f14e45f/Qm9+T1kc/0rZ2pXkVw7uYh3sLd5aNeRtGfBj4=";
    for option in ["--key-file", "--passphrase-file"] {
        for given in [secret, base64] {
            let run = bench.run(["snapshots", REPO, option, given])?;
            run.failed(1, &["not repeated", "file that holds the key"])?;
            ensure!(!run.stderr.contains("8f14e45f"), "{run:?}");
        }
    }
    for given in ["hunter2!", "Tr0ub4dor&3", "p@ss/word", "correct.horse"] {
        let run = bench.run(["snapshots", REPO, "--passphrase-file", given])?;
        run.failed(1, &["not repeated", "file that holds the key"])?;
        ensure!(!run.stderr.contains(given), "{run:?}");
    }
    let by_environment = bench
        .command()
        .env("STOCKPOT_KEY_FILE", secret)
        .args(["backup", "--help"])
        .spawn()?;
    let help = finish(by_environment)?;
    ensure!(!help.stdout.contains("8f14e45f"), "{help:?}");
    bench
        .run([
            "snapshots",
            REPO,
            "--key-file",
            "/etc/stockpot/no-such-key-is-here",
        ])?
        .failed(1, &["/etc/stockpot/no-such-key-is-here"])
}

#[test]
fn a_key_file_that_everybody_may_read_is_warned_of() -> anyhow::Result<()> {
    let (bench, image, _) = with_backup()?;
    let key = bench.key_file("key")?;
    let place = "s3://backups/sealed";
    let args = [
        "backup",
        &image,
        "--to",
        place,
        "--key-file",
        key.to_str().context("path")?,
    ];
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    let run = bench.run(args)?;
    ensure!(
        run.code == Some(0) && run.stderr.contains("chmod 600"),
        "{run:?}"
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    let run = bench.run(args)?;
    ensure!(
        run.code == Some(0) && !run.stderr.contains("chmod"),
        "{run:?}"
    );
    Ok(())
}

#[test]
fn credentials_and_endpoints_that_are_half_given() -> anyhow::Result<()> {
    let (bench, ..) = with_backup()?;
    for (lacks, has) in [
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ] {
        let half = bench
            .command()
            .env_remove(lacks)
            .args(["snapshots", REPO])
            .spawn()?;
        let said = format!("{has} is set without {lacks}");
        finish(half)?.failed(1, &[&said, "credentials"])?;
    }
    for endpoint in ["127.0.0.1:9000", "s3.example.net", "localhost:9000"] {
        let words = [endpoint, "http(s)://"];
        bench
            .run(["snapshots", REPO, "--endpoint-url", endpoint])?
            .failed(1, &words)?;
        let by_environment = bench
            .command()
            .env("AWS_ENDPOINT_URL", endpoint)
            .args(["snapshots", REPO])
            .spawn()?;
        finish(by_environment)?.failed(1, &words)?;
    }
    Ok(())
}

#[test]
fn a_sealed_repository_without_slots() -> anyhow::Result<()> {
    let (bench, image, _) = with_backup()?;
    let key = bench.key_file("key")?;
    let key = key.to_str().context("path")?;
    let place = "s3://backups/sealed";
    let run = bench.run(["backup", &image, "--to", place, "--key-file", key])?;
    ensure!(run.code == Some(0), "{run:?}");
    let exported = bench.path("exported.key");
    let exported = exported.to_str().context("path")?;
    let run = bench.run([
        "repository",
        "key",
        "export",
        place,
        "--key-file",
        key,
        "--to",
        exported,
    ])?;
    ensure!(run.code == Some(0), "{run:?}");
    for slot in bench.server.keys_with_prefix(BUCKET, "sealed/keys/") {
        bench.server.remove_object(BUCKET, &slot);
    }
    bench
        .run(["snapshots", place, "--key-file", key])?
        .failed(1, &["key slots", "key export", "--first-versions"])?;
    let run = bench.run(["snapshots", place, "--key-file", exported])?;
    ensure!(run.code == Some(0), "{run:?}");
    Ok(())
}

#[test]
fn lists_of_changes_that_cannot_be_meant() -> anyhow::Result<()> {
    let (bench, image, snapshot) = with_backup()?;
    let list = bench.path("changed.txt");
    let path = list.to_str().context("path")?.to_owned();
    let backup = |changed: &str| {
        bench.run([
            "backup",
            &image,
            "--to",
            REPO,
            "--volume",
            "v",
            "--changed",
            changed,
            "--since",
            &snapshot,
            "-o",
            "json",
        ])
    };
    // Sectors where bytes are wanted: the first lies inside, the others do not.
    std::fs::write(&list, "1000000000 4096\n2000000000 8\n")?;
    backup(&path)?.failed(2, &["end of the volume", "bytes"])?;
    backup("/dev/zero")?.failed(2, &["/dev/zero", "no text"])?;
    for nothing in ["", "# nothing\n", "4096 0\n", "[]"] {
        std::fs::write(&list, nothing)?;
        let run = backup(&path)?;
        ensure!(
            run.stderr.contains("nothing is taken to have changed"),
            "{run:?}"
        );
        let report = run.json()?;
        ensure!(
            report["reason"] == "incremental" && report["stored_bytes"] == 0,
            "{report}"
        );
    }
    Ok(())
}

#[test]
fn a_sample_and_all_of_the_data_exclude_each_other() -> anyhow::Result<()> {
    let (bench, ..) = with_backup()?;
    bench
        .run(["verify", REPO, "--sample", "5%", "--read-data"])?
        .failed(2, &["--sample", "--read-data", "one of them"])?;
    let run = bench.run(["verify", REPO])?;
    ensure!(run.stdout.starts_with("1 snapshot in "), "{run:?}");
    Ok(())
}

#[test]
fn the_latest_can_be_named_wherever_a_snapshot_is() -> anyhow::Result<()> {
    let (bench, image, first) = with_backup()?;
    let list = bench.path("changed.txt");
    std::fs::write(&list, "0 4096\n")?;
    let list = list.to_str().context("path")?;
    let told = [
        "backup",
        &image,
        "--to",
        REPO,
        "--volume",
        "v",
        "--changed",
        list,
        "--since",
        &first,
        "-o",
        "json",
    ];
    let mut of_latest = told;
    of_latest[9] = "latest:v";
    bench
        .run(of_latest)?
        .failed(2, &["--since latest:v", "by its id"])?;
    let report = bench.run(told)?.json()?;
    ensure!(
        report["parent"] == first && report["reason"] == "incremental",
        "{report}"
    );
    let second = text(&report, "snapshot_id")?;
    let base = [
        "backup", &image, "--to", REPO, "--volume", "w", "--base", "latest:v", "-o", "json",
    ];
    let based = bench.run(base)?.json()?;
    ensure!(based["parent"] == second, "{based}");
    bench
        .run(["forget", REPO, "latest:v"])?
        .failed(2, &["latest:v", "by its id"])?;
    let run = bench.run(["forget", REPO, second])?;
    ensure!(
        run.code == Some(0) && run.stdout.contains(second),
        "{run:?}"
    );
    let left = bench
        .run(["snapshots", REPO, "--volume", "v", "-o", "json"])?
        .json()?;
    ensure!(
        left.as_array()
            .is_some_and(|rows| rows.len() == 1 && rows[0]["snapshot_id"] == first),
        "{left}"
    );
    let nothing = bench.path("nothing").display().to_string();
    bench
        .run(["restore", REPO, "latest:nobody", &nothing])?
        .failed(1, &["no snapshot of volume nobody"])
}

/// Where core files are switched on, none is written of it: it may hold keys.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a shell, to switch core files on, and kill"
)]
fn no_core_file_is_written() -> anyhow::Result<()> {
    let (bench, ..) = with_backup()?;
    bench.server.faults().inject(Fault::new(Action::Hang));
    let ours = bench.command();
    let program = format!(
        "ulimit -c unlimited; exec {} snapshots {REPO}",
        ours.get_program().display()
    );
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &program])
        .env_clear()
        .current_dir(bench.dir.path());
    shell.envs(
        ours.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let before = bench.server.journal().total();
    let mut child = shell.spawn()?;
    while bench.server.journal().total() == before {
        ensure!(child.try_wait()?.is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let abort = std::process::Command::new("kill")
        .args(["-ABRT", &child.id().to_string()])
        .status()?;
    ensure!(abort.success());
    let ended = child.wait()?;
    ensure!(
        ended.signal().is_some() && !ended.core_dumped(),
        "{ended:?}"
    );
    Ok(())
}

/// The name that a volume gets by itself is that of its file: two files of one name are two volumes all the same.
#[test]
fn two_volumes_do_not_share_a_name_unless_somebody_says_so() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for directory in ["a", "b"] {
        std::fs::create_dir(bench.path(directory))?;
    }
    let one = bench.image("a/disk.img", 2 * MIB, &[(0, 5000)])?;
    let other = bench.image("b/disk.img", 2 * MIB, &[(0, 7000)])?;
    let (one, other) = (
        one.to_str().context("path")?,
        other.to_str().context("path")?,
    );
    for _ in 0..2 {
        let run = bench.run(["backup", one, "--to", REPO])?;
        ensure!(run.code == Some(0), "{run:?}");
    }
    bench
        .run(["backup", other, "--to", REPO])?
        .failed(1, &["volume disk", one, other, "--volume"])?;
    // From its own directory it is the same file.
    let run = finish(
        bench
            .command()
            .current_dir(bench.path("a"))
            .args(["backup", "disk.img", "--to", REPO])
            .spawn()?,
    )?;
    ensure!(run.code == Some(0), "{run:?}");
    for name in ["disk", "other"] {
        let run = bench.run(["backup", other, "--to", REPO, "--volume", name])?;
        ensure!(run.code == Some(0), "{run:?}");
    }
    Ok(())
}

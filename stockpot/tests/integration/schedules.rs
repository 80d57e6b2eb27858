//! `stockpot schedule` and a daemon that has no volumes yet.

use std::{
    fs::{self, File},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::bench::{Bench, Run};

/// How long the start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that ends with the test, however that ends.
struct Daemon {
    bench: Bench,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start() -> anyhow::Result<Self> {
        let bench = Bench::new()?;
        let dir = bench.dir.path().display();
        fs::create_dir(bench.path("profiles"))?;
        let profile = "{name: offsite, snapshotProperties: {topology: {bucket: backups}}}";
        fs::write(bench.path("profiles").join("offsite.yaml"), profile)?;
        let config = bench.path("config.yaml");
        let text = format!(
            "nodeName: node-1\nstateDir: {dir}/state\nsocket: {dir}/m.sock\nprofilesDir: {dir}/profiles\ncredentialsDir: {dir}\n\
             schedules: {{backupsMax: 2}}\npools: [{{name: p, driver: file, directory: {dir}/images, allowCopy: true}}]\n"
        );
        fs::write(&config, text)?;
        fs::create_dir(bench.path("images"))?;
        let log = File::create(bench.path("log"))?;
        let mut command = bench.command();
        command.args(["serve", "--config"]).arg(&config);
        let child = command.stderr(log).spawn()?;
        let daemon = Self { bench, child };
        let started = Instant::now();
        while daemon.run(&["list"])?.code != Some(0) {
            let log = || fs::read_to_string(daemon.bench.path("log")).unwrap_or_default();
            ensure!(started.elapsed() < PATIENCE, "{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    fn run(&self, line: &[&str]) -> anyhow::Result<Run> {
        self.ask("schedule", line)
    }

    fn ask(&self, verb: &str, line: &[&str]) -> anyhow::Result<Run> {
        let socket = self.bench.path("m.sock").display().to_string();
        let all = [&[verb][..], line, &["--socket", socket.as_str()]].concat();
        self.bench.run(all)
    }

    fn shown(&self, line: &[&str]) -> anyhow::Result<serde_json::Value> {
        self.run(&[line, &["-o", "json"]].concat())?.json()
    }
}

#[test]
fn a_schedule_is_made_shown_changed_and_forgotten() -> anyhow::Result<()> {
    let daemon = Daemon::start()?;
    let create = [
        "create",
        "nightly",
        "--calendar",
        "30 2 * * *",
        "--time-zone",
        "Europe/Berlin",
        "--volume",
        "db-*",
        "--match",
        "tier=gold",
        "--jitter",
        "10m",
        "--keep-daily",
        "7",
        "--keep-days",
        "30",
    ];
    let made = daemon.shown(&create)?;
    ensure!(
        made["calendar"] == "30 2 * * *" && made["jitter_seconds"] == 600,
        "{made}"
    );
    ensure!(
        made["retention"]["keep_daily"] == 7 && !made["next_run_at"].is_null(),
        "{made}"
    );
    ensure!(daemon.shown(&create)? == made);
    let other = daemon.run(&["create", "nightly", "--every", "daily"])?;
    other.failed(1, &["nightly", "exists already"])?;

    let changed = [
        "update",
        "nightly",
        "--keep-daily",
        "14",
        "--all-volumes",
        "--first",
        "2026-01-31T02:00:00",
        "--every",
        "monthly",
    ];
    let changed = daemon.shown(&changed)?;
    ensure!(
        changed["calendar"].is_null() && changed["occurrence"] == "Monthly",
        "{changed}"
    );
    let keep = &changed["retention"];
    ensure!(
        keep["keep_daily"] == 14 && keep["keep_days"] == 30,
        "{changed}"
    );
    ensure!(
        changed["volumes"] == serde_json::json!([]) && changed["selector"] == serde_json::json!({}),
        "{changed}"
    );

    let deleted = daemon.shown(&["delete", "nightly"])?;
    let said = serde_json::json!({"name": "nightly", "removed": true});
    ensure!(deleted == said, "{deleted}");
    daemon
        .run(&["show", "nightly"])?
        .failed(1, &["nightly", "does not exist"])?;
    ensure!(daemon.shown(&["list"])? == serde_json::json!([]));
    Ok(())
}

#[test]
fn what_is_not_there_is_not_deleted() -> anyhow::Result<()> {
    let daemon = Daemon::start()?;
    for verb in ["schedule", "profile", "backup"] {
        let typo = daemon.ask(verb, &["delete", "nightyl-17", "-o", "json"])?;
        ensure!(typo.stdout.is_empty(), "{verb}: {typo:?}");
        typo.failed(1, &["nightyl-17", "does not exist"])?;
    }
    let deleted = daemon.ask("profile", &["delete", "offsite", "-o", "json"])?;
    let deleted = deleted.json()?;
    let said = serde_json::json!({"id": "offsite", "name": "offsite", "removed": true});
    ensure!(deleted == said, "{deleted}");
    daemon
        .ask("profile", &["show", "offsite"])?
        .failed(1, &["offsite"])?;
    Ok(())
}

#[test]
fn a_schedule_is_paused_resumed_and_shown() -> anyhow::Result<()> {
    let daemon = Daemon::start()?;
    daemon.shown(&[
        "create",
        "nightly",
        "--first",
        "2026-01-31T02:00:00",
        "--every",
        "monthly",
        "--time-zone",
        "Europe/Berlin",
        "--keep-daily",
        "14",
        "--keep-days",
        "30",
    ])?;
    let paused = daemon.shown(&["pause", "nightly"])?;
    ensure!(
        paused["paused"] == true && paused["next_run_at"].is_null(),
        "{paused}"
    );
    daemon
        .run(&["run", "nightly"])?
        .failed(1, &["paused", "resume"])?;
    let resumed = daemon.run(&["resume", "nightly"])?;
    for said in [
        "monthly, first 2026-01-31T02:00:00 Europe/Berlin",
        "volumes: all",
        "daily 14, days 30",
        "next run: ",
    ] {
        ensure!(resumed.stdout.contains(said), "{said}: {resumed:?}");
    }
    daemon.run(&["run", "nightly"])?.failed(1, &["no volume"])?;
    let listed = daemon.run(&["list"])?;
    ensure!(
        listed.stdout.contains("nightly") && listed.stdout.contains("never"),
        "{listed:?}"
    );
    let retained = daemon.run(&["retain", "--dry-run"])?;
    ensure!(
        retained.code == Some(0) && retained.stdout.contains("0 would be given up"),
        "{retained:?}"
    );

    Ok(())
}

#[test]
fn mistakes_say_what_to_do() -> anyhow::Result<()> {
    let daemon = Daemon::start()?;
    daemon
        .run(&["create", "n"])?
        .failed(2, &["--calendar", "--every"])?;
    for (line, said) in [
        (
            &["create", "a b", "--every", "daily"][..],
            "letters, digits",
        ),
        (
            &["create", "n", "--calendar", "61 * * * *"],
            "cannot be read",
        ),
        (&["create", "n", "--calendar", "0 0 30 2 *"], "never due"),
        (
            &["create", "n", "--calendar", "* * * * * *"],
            "a minute apart",
        ),
        (
            &[
                "create",
                "n",
                "--every",
                "daily",
                "--time-zone",
                "Mars/Olympus",
            ],
            "Europe/Berlin",
        ),
        (
            &["create", "n", "--every", "daily", "--profile", "nowhere"],
            "no profile nowhere",
        ),
        (&["create", "n", "--every", "once"], "when?"),
        (&["update", "n", "--every", "daily"], "does not exist"),
        (&["retain", "n"], "does not exist"),
    ] {
        daemon.run(line)?.failed(1, &[said])?;
    }
    ensure!(daemon.shown(&["list"])? == serde_json::json!([]));
    Ok(())
}

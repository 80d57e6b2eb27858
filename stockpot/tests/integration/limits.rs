//! Limits that a user sets: how fast bytes go, how much memory is taken.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::bench::{BUCKET, Bench, MIB, REPO, finish, text};

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

/// What a program says on its standard error, while it runs.
struct Log {
    lines: BufReader<ChildStderr>,
    said: String,
}

impl Log {
    fn of(child: &mut Child) -> anyhow::Result<Self> {
        Ok(Self {
            lines: BufReader::new(child.stderr.take().context("stderr")?),
            said: String::new(),
        })
    }

    /// Reads on until a line has these words.
    fn until(&mut self, words: &str) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line)?;
            self.said.push_str(&line);
            let said = &self.said;
            anyhow::ensure!(read > 0, "it ended without saying {words:?}: {said}");
            if line.contains(words) {
                return Ok(());
            }
        }
    }

    fn rest(mut self) -> anyhow::Result<()> {
        self.lines.read_to_string(&mut self.said)?;
        Ok(())
    }
}

fn hang_up(child: &Child) -> anyhow::Result<()> {
    let pid = nix::unistd::Pid::from_raw(child.id().try_into()?);
    Ok(nix::sys::signal::kill(
        pid,
        nix::sys::signal::Signal::SIGHUP,
    )?)
}

#[test]
fn a_limit_is_changed_while_a_backup_runs() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 24 * MIB, &[(0, 24 << 20)])?;
    let image = image.to_str().context("a path in text")?;
    let limits = bench.path("limits");
    // Five minutes for the first part.
    std::fs::write(&limits, "upload 16KiB\ndownload none\n")?;
    let mut child = bench
        .command()
        .args(["backup", image, "--to", REPO, "-o", "json", "--limit-file"])
        .arg(&limits)
        .spawn()?;
    let mut log = Log::of(&mut child)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while bench.open_uploads() == 0 {
        anyhow::ensure!(Instant::now() < deadline, "no upload began");
        std::thread::sleep(Duration::from_millis(10));
    }
    // What makes no sense changes nothing, and is said.
    std::fs::write(&limits, "upload fast\n")?;
    hang_up(&child)?;
    log.until("the limits stay as they are")?;
    let running = child.try_wait()?.is_none();
    anyhow::ensure!(running, "the limit did not hold: {:?}", finish(child)?);
    anyhow::ensure!(
        bench
            .server
            .keys_with_prefix(BUCKET, "site-a/snapshots/")
            .is_empty()
    );
    std::fs::write(&limits, "upload 100GiB\n")?;
    let start = Instant::now();
    hang_up(&child)?;
    let run = finish(child)?;
    anyhow::ensure!(run.code == Some(0), "{run:?}");
    anyhow::ensure!(start.elapsed() < Duration::from_secs(60));
    std::fs::write(&limits, "sideways 1\n")?;
    let file = limits.to_str().context("a path in text")?;
    bench
        .run(["backup", image, "--to", REPO, "--limit-file", file])?
        .failed(2, &["--limit-file", "line 1"])
}

/// The daemon reads its configuration again; what only a start heeds it says.
#[test]
fn the_daemon_reads_its_limits_again() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let config = bench.path("config.yaml");
    let write = |transfers: &str| {
        let dir = bench.dir.path().display();
        let text = format!(
            "{{nodeName: node-1, stateDir: {dir}/state, socket: {dir}/m.sock, profilesDir: {dir}/profiles, credentialsDir: {dir},
              pools: [{{name: p, driver: file, directory: {dir}/images, allowCopy: true}}], transfers: {transfers}}}"
        );
        std::fs::write(&config, text)
    };
    write("{uploadBytesPerSecondMax: 1000}")?;
    let mut child = bench
        .command()
        .args(["serve", "--config"])
        .arg(&config)
        .spawn()?;
    let mut log = Log::of(&mut child)?;
    let mut until = |words: &str| log.until(words);
    let seen = until("serving").and_then(|()| {
        write("{uploadBytesPerSecondMax: 2000, downloadBytesPerSecondMax: 7}")?;
        hang_up(&child)?;
        until("upload_bytes_per_second_max=Some(2000) download_bytes_per_second_max=Some(7)")?;
        write("{uploadsMax: 1000}")?;
        hang_up(&child)?;
        until("uploadsMax")?;
        write("{uploadsMax: 1}")?;
        hang_up(&child)?;
        until("upload_bytes_per_second_max=None")?;
        until("at the next start")
    });
    let pid = nix::unistd::Pid::from_raw(child.id().try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    log.rest()?;
    let ended = child.wait()?;
    seen?;
    anyhow::ensure!(ended.success(), "{ended:?}");
    Ok(())
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

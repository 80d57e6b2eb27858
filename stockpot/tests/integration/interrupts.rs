//! The first signal ends the work wherever it is, and a kill leaves nothing that looks whole.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::{
    fcntl::OFlag,
    sys::signal::{self, Signal},
    unistd::Pid,
};
use stockpot_test_fixtures::s3::{Action, Fault, Op};

use crate::{
    bench::{BUCKET, Bench, MIB, REPO, Run, finish},
    faults::interrupt,
};

/// Waits until `ready`, or fails.
fn wait(what: &str, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        ensure!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Opens a FIFO for writing, which somebody has to have open for reading (fifo(7)).
fn writer_of(fifo: &Path) -> Option<File> {
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(fifo);
    opened.ok()
}

/// Interrupts it, and checks that it ends as it should within the time.
fn ends(child: Child, within: Duration) -> anyhow::Result<Run> {
    let start = Instant::now();
    interrupt(&child)?;
    let run = finish(child)?;
    run.failed(130, &["interrupted"])?;
    ensure!(start.elapsed() < within, "{:?}: {run:?}", start.elapsed());
    Ok(run)
}

#[test]
fn it_ends_where_nothing_can_be_said() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 8 * MIB, &[(0, 1 << 20)])?;
    bench.backup(&image, "v")?;
    let faults = bench.server.faults();
    let hang = faults.inject(Fault::new(Action::Hang).on(Op::GetObject));
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let mut command = bench.command();
    let child = command.args(["verify", REPO]).stderr(full).spawn()?;
    wait("no request came", || faults.fired(hang) > 0)?;
    interrupt(&child)?;
    finish(child)?.failed(130, &[])
}

fn hang_up(child: &Child) -> anyhow::Result<()> {
    Ok(signal::kill(
        Pid::from_raw(child.id().cast_signed()),
        Signal::SIGHUP,
    )?)
}

#[test]
fn a_terminal_that_hangs_up_ends_a_restore_as_a_signal_does() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 8 * MIB, &[(0, 1 << 20)])?;
    bench.backup(&image, "v")?;
    let faults = bench.server.faults();
    let hang = faults.inject(Fault::new(Action::Hang).on(Op::GetObject).key("packs/"));
    let mut command = bench.command();
    command.args(["restore", REPO, "latest:v", "new.img"]);
    let child = command.current_dir(&bench.dir).spawn()?;
    wait("no request came", || faults.fired(hang) > 0)?;
    hang_up(&child)?;
    finish(child)?.failed(130, &["interrupted"])?;
    for entry in std::fs::read_dir(&bench.dir)? {
        let name = entry?.file_name();
        ensure!(!name.to_string_lossy().contains("new.img"), "{name:?}");
    }
    Ok(())
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the binary under test is started as `nohup` does it"
)]
fn what_is_to_outlive_its_terminal_does() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 8 * MIB, &[(0, 1 << 20)])?;
    let (image, key) = (image.to_str().context("path")?, bench.key_file("key")?);
    let args = ["backup", image, "--to", REPO, "--volume", "v", "--key-file"];
    let backup = bench.run([&args[..], &[key.to_str().context("path")?]].concat())?;
    ensure!(backup.code == Some(0), "{backup:?}");
    let fifo = bench.path("fifo");
    mkfifo(&fifo)?;
    let mut command = bench.command();
    let script = r#"trap "" HUP; exec "$@""#;
    let program = command.get_program().to_owned();
    let mut shell = std::process::Command::new("/bin/sh");
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    command = shell;
    command.args(["-c", script, "sh"]).arg(program);
    command.args(["restore", REPO, "latest:v", "new.img", "--key-file", "fifo"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.current_dir(&bench.dir).spawn()?;
    let mut writer = None;
    wait("the key is not asked for", || {
        writer = writer_of(&fifo);
        writer.is_some()
    })?;
    hang_up(&child)?;
    let mut writer = writer.context("just opened")?;
    writer.write_all(&std::fs::read(&key)?)?;
    drop(writer);
    let run = finish(child)?;
    ensure!(run.code == Some(0), "{run:?}");
    Ok(())
}

#[test]
fn a_request_that_is_never_answered() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 8 * MIB, &[(0, 1 << 20)])?;
    let image = image.to_str().context("path")?;
    let new = bench.path("new.img");
    let out = new.to_str().context("path")?;
    bench.backup(image.as_ref(), "v")?;
    let faults = bench.server.faults();
    // Where each verb hangs: at the marker, at a snapshot's record, in a map or its data.
    for (args, op, key) in [
        (vec!["snapshots", REPO], Op::GetObject, "repository.json"),
        (vec!["snapshots", REPO], Op::GetObject, "snapshots/"),
        (vec!["verify", REPO], Op::GetObject, "repository.json"),
        (vec!["verify", REPO], Op::GetObject, "packs/"),
        (vec!["verify", REPO, "--read-data"], Op::ListObjectsV2, ""),
        (
            vec!["restore", REPO, "latest:v", out],
            Op::GetObject,
            "snapshots/",
        ),
        (
            vec!["restore", REPO, "latest:v", out],
            Op::GetObject,
            "packs/",
        ),
        (
            vec!["backup", image, "--to", REPO],
            Op::GetObject,
            "repository.json",
        ),
    ] {
        faults.clear();
        let fault = Fault::new(Action::Hang).on(op);
        let fault = if key.is_empty() {
            fault
        } else {
            fault.key(key)
        };
        let hang = faults.inject(fault);
        let child = bench.command().args(&args).spawn()?;
        wait("no request came", || faults.fired(hang) > 0).with_context(|| format!("{args:?}"))?;
        ends(child, Duration::from_secs(5)).with_context(|| format!("{args:?} at {key:?}"))?;
        ensure!(!new.exists());
        let left = std::fs::read_dir(bench.dir.path())?
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains("partial"));
        ensure!(!left, "{args:?} at {key:?} left its file");
    }
    Ok(())
}

#[test]
fn an_abort_that_is_never_answered_is_given_up_and_said() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 60 * MIB, &[(0, 40 << 20)])?;
    let small = bench.image("small.img", MIB, &[(0, 10)])?;
    bench.backup(&small, "first")?;
    let faults = bench.server.faults();
    faults.inject(Fault::new(Action::Hang).on(Op::UploadPart));
    faults.inject(Fault::new(Action::Hang).on(Op::AbortMultipartUpload));
    let image = image.to_str().context("path")?;
    let child = bench
        .command()
        .args(["backup", image, "--to", REPO, "--volume", "v"])
        .spawn()?;
    wait("no upload began", || bench.open_uploads() > 0)?;
    let run = ends(child, Duration::from_secs(20))?;
    run.failed(
        130,
        &[
            "volume v",
            "multipart uploads of snapshot snap-",
            "lifecycle",
        ],
    )?;
    Ok(())
}

/// `timeout` sends its signal to the process and then to the process's group.
#[test]
fn two_signals_at_once_are_one_wish() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 60 * MIB, &[(0, 40 << 20)])?;
    let small = bench.image("small.img", MIB, &[(0, 10)])?;
    bench.backup(&small, "first")?;
    let faults = bench.server.faults();
    faults.inject(Fault::new(Action::Hang).on(Op::UploadPart));
    let image = image.to_str().context("path")?;
    let child = bench
        .command()
        .args(["backup", image, "--to", REPO, "--volume", "v"])
        .spawn()?;
    wait("no upload began", || bench.open_uploads() > 0)?;
    interrupt(&child)?;
    interrupt(&child)?;
    let run = finish(child)?;
    run.failed(130, &["interrupted"])?;
    ensure!(!run.stderr.contains("stopped at once"), "{run:?}");
    ensure!(bench.open_uploads() == 0, "what was open is aborted");
    Ok(())
}

#[test]
fn a_key_that_never_comes() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let fifo = bench.path("fifo");
    mkfifo(&fifo)?;
    let fifo = fifo.to_str().context("path")?;
    for args in [
        ["snapshots", REPO, "--key-file", fifo],
        ["verify", REPO, "--passphrase-file", fifo],
    ] {
        let child = bench.command().args(args).spawn()?;
        // Nothing is ever written.
        let mut writer = None;
        wait("the key is not asked for", || {
            writer = writer_of(fifo.as_ref());
            writer.is_some()
        })?;
        ends(child, Duration::from_secs(5)).with_context(|| format!("{args:?}"))?;
        drop(writer);
    }
    Ok(())
}

#[test]
fn a_killed_restore_leaves_nothing_under_the_files_name() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 60 * MIB, &[(0, 30 << 20)])?;
    bench.backup(&image, "v")?;
    ensure!(
        !bench
            .server
            .keys_with_prefix(BUCKET, "site-a/packs/")
            .is_empty()
    );
    let faults = bench.server.faults();
    let slow = Fault::new(Action::Hang).on(Op::GetObject).key("packs/");
    let slow = faults.inject(slow.after(3));
    let out = bench.path("out.img");
    let args = ["restore", REPO, "latest:v", out.to_str().context("path")?];
    let mut child = bench.command().args(args).spawn()?;
    wait("nothing was read", || faults.fired(slow) > 0)?;
    child.kill()?;
    finish(child)?;
    ensure!(!out.exists(), "half a volume has the name of a whole one");
    faults.clear();
    let run = bench.run(args)?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(std::fs::read(&out)? == std::fs::read(&image)?);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a user's own FIFO")]
fn mkfifo(path: &std::path::Path) -> anyhow::Result<()> {
    let status = std::process::Command::new("mkfifo").arg(path).status()?;
    ensure!(status.success());
    Ok(())
}

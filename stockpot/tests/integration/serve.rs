//! `stockpot serve`: what of a configuration is refused, and what is gone on with.

use std::{
    fs::{self, File},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use stockpot_proto::{
    socket,
    stockpot::v1::{CreateVolumeRequest, GetInfoRequest, manager_client::ManagerClient},
};
use tonic::{Code, transport::Channel};

use crate::{
    bench::{Bench, MIB},
    faults::interrupt,
};

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with the test, however that ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(bench: &Bench, rest: &str) -> anyhow::Result<String> {
    let config = bench.path("config.yaml");
    let dir = bench.dir.path().display();
    let text = format!(
        "nodeName: node-1\nstateDir: {dir}/state\nsocket: {dir}/m.sock\nprofilesDir: {dir}/profiles\ncredentialsDir: {dir}\n{rest}\n"
    );
    fs::write(&config, text.replace("DIR", &dir.to_string()))?;
    Ok(config.to_str().context("path")?.to_owned())
}

#[test]
fn the_check_finds_what_the_start_would_refuse() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let good = "pools: [{name: p, driver: file, directory: DIR/images}]";
    let config = write(&bench, good)?;
    let check = ["serve", "--config", &config, "--check"];
    let sound = bench.run(check)?;
    ensure!(
        sound.code == Some(0) && sound.stderr.contains("is sound"),
        "{sound:?}"
    );
    let sound = bench.run([&check[..], &["-o", "json"]].concat())?.json()?;
    ensure!(
        sound["sound"] == true && sound["pools"] == serde_json::json!(["p"]),
        "{sound}"
    );
    for (rest, words) in [
        (
            "pools: [{name: p, driver: lvm-thick, volumeGroup: --force}]",
            &["pools.p", "--force"][..],
        ),
        (
            "pools: [{name: p, driver: lvm-thick, volumegroup: vg0}]",
            &["volumegroup", "line 6"],
        ),
        ("statedir: /x", &["statedir", "line 6", "csi"]),
        (
            "pools: [{name: p, driver: file, directory: /d}]\ncsi: {endpoint: 'unix://DIR/m.sock'}",
            &["csi", "endpoint", "socket"],
        ),
        (
            "pools: [{name: p, driver: file, directory: /d}]\nexports: {iqnPrefix: 'iqn.2026-01.test:a', portals: [storage-1]}",
            &["storage-1", "192.0.2.1:3260", "line 7"],
        ),
        (
            "pools: [{name: p, driver: file, directory: /d}]
gateway: {listen: ['127.0.0.1:1'], authentication: {tokensFile: DIR/tokens}}",
            &["gateway", "tokens"],
        ),
    ] {
        write(&bench, rest)?;
        bench
            .run(check)?
            .failed(1, words)
            .with_context(|| rest.to_owned())?;
    }
    // The last one, at a start: nothing was served before it was told.
    let start = ["serve", "--config", &config];
    bench.run(start)?.failed(1, &["gateway", "tokens"])?;
    ensure!(!bench.path("state").exists(), "a check made something");
    Ok(())
}

/// Waits until the daemon takes operations.
async fn ready(bench: &Bench, log: &Path) -> anyhow::Result<ManagerClient<Channel>> {
    let mut client = socket::manager(bench.path("m.sock"));
    let started = Instant::now();
    loop {
        let info = client.get_info(GetInfoRequest {}).await;
        if info.is_ok_and(|info| info.into_inner().ready) {
            return Ok(client);
        }
        ensure!(started.elapsed() < PATIENCE, "{}", fs::read_to_string(log)?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_keeps_nothing_from_being_done() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let config = write(
        &bench,
        "pools: [{name: p, driver: file, directory: DIR/images, allowCopy: true}]",
    )?;
    let mut command = bench.command();
    command.env("RUST_LOG", "debug");
    command.args(["serve", "--config", &config]);
    let full = File::options().write(true).open("/dev/full")?;
    let mut daemon = Daemon(command.stderr(full).spawn()?);
    let mut client = ready(&bench, "/dev/null".as_ref()).await?;
    let volume = CreateVolumeRequest {
        name: "a".to_owned(),
        required_bytes: MIB,
        ..Default::default()
    };
    client.create_volume(volume).await?;
    drop(client);
    interrupt(&daemon.0)?;
    let started = Instant::now();
    let ended = loop {
        if let Some(ended) = daemon.0.try_wait()? {
            break ended;
        }
        ensure!(started.elapsed() < PATIENCE, "it goes on after the signal");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test]
async fn a_pool_that_cannot_be_used_keeps_no_other_one_from_being_served() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let config = write(
        &bench,
        "defaultPool: good\npools:
  - {name: good, driver: file, directory: DIR/images, allowCopy: true}
  - {name: away, driver: lvm-thin, volumeGroup: stockpot-test-none, thinPool: none}
  - {name: file, driver: file, directory: DIR/config.yaml}",
    )?;
    let log = bench.path("log");
    let mut command = bench.command();
    command.args(["serve", "--config", &config]);
    let daemon = Daemon(command.stderr(File::create(&log)?).spawn()?);
    let mut client = ready(&bench, &log).await?;
    let volume = |name: &str, pool: &str| CreateVolumeRequest {
        name: name.to_owned(),
        pool: pool.to_owned(),
        required_bytes: MIB,
        ..Default::default()
    };
    client.create_volume(volume("a", "")).await?;
    for pool in ["away", "file"] {
        let refused = client.create_volume(volume(pool, pool)).await;
        let refused = refused.err().with_context(|| pool.to_owned())?;
        ensure!(refused.code() == Code::Unavailable, "{refused}");
        let text = format!("pool {pool} cannot be used: ");
        ensure!(refused.message().starts_with(&text), "{refused}");
    }
    let said = fs::read_to_string(&log)?;
    for pool in ["away", "file"] {
        let is_it =
            |line: &str| line.contains("ERROR") && line.contains(&format!("pool=\"{pool}\""));
        ensure!(said.lines().any(is_it), "{pool}: {said}");
    }
    ensure!(
        said.contains("the directory of the profiles is not there"),
        "{said}"
    );
    drop(client);
    // The pool of a volume on record is given another name.
    drop(daemon);
    write(
        &bench,
        "pools: [{name: other, driver: file, directory: DIR/config.yaml}]",
    )?;
    let alone = bench.run(["serve", "--config", &config])?;
    alone.failed(1, &["config.yaml"])?;
    ensure!(
        alone
            .stderr
            .contains("in a pool that the configuration does not name"),
        "{alone:?}"
    );
    Ok(())
}

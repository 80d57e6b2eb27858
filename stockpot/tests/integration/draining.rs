//! `stockpot serve` is told to end while a call is under way.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stockpot_proto::{
    socket,
    stockpot::v1::{
        CreateVolumeRequest, DeleteVolumeRequest, GetInfoRequest, ListVolumesRequest, Volume,
        VolumeStatus, manager_client::ManagerClient,
    },
};
use tonic::{Code, transport::Channel};

use crate::bench::{Bench, MIB};

type Client = ManagerClient<Channel>;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

struct Daemon {
    child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl Daemon {
    fn start(bench: &Bench, grace_seconds: u64) -> anyhow::Result<Self> {
        let (config, log) = (bench.path("config.yaml"), bench.path("log"));
        let dir = bench.dir.path().display();
        let text = format!(
            "{{nodeName: node-1, stateDir: {dir}/state, socket: {dir}/m.sock, profilesDir: {dir}/profiles, credentialsDir: {dir},
              pools: [{{name: p, driver: file, directory: {dir}/images, allowCopy: true}}], shutdownGraceSeconds: {grace_seconds}}}"
        );
        fs::write(&config, text)?;
        let mut command = bench.command();
        command.args(["serve", "--config"]).arg(&config);
        Ok(Self {
            child: command.stderr(File::create(&log)?).spawn()?,
            log,
            socket: bench.path("m.sock"),
        })
    }

    fn said(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Once it takes calls.
    async fn client(&self) -> anyhow::Result<Client> {
        let mut client = socket::manager(self.socket.clone());
        let started = Instant::now();
        loop {
            let info = client.get_info(GetInfoRequest {}).await;
            if info.is_ok_and(|info| info.into_inner().ready) {
                return Ok(client);
            }
            ensure!(started.elapsed() < PATIENCE, "{}", self.said()?);
            tokio::time::sleep(POLL).await;
        }
    }

    async fn terminate(&self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let started = Instant::now();
        while !self.said()?.contains("stopping cleanly") {
            ensure!(started.elapsed() < PATIENCE, "{}", self.said()?);
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// It ends within this time, as it should, and its socket is gone.
    async fn ends(mut self, within: Duration) -> anyhow::Result<String> {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if started.elapsed() > within {
                self.child.kill()?;
                self.child.wait()?;
                anyhow::bail!("it did not end within {within:?}: {}", self.said()?);
            }
            tokio::time::sleep(POLL).await;
        };
        let said = self.said()?;
        ensure!(
            status.success() && !said.contains("panicked"),
            "{status}: {said}"
        );
        ensure!(!self.socket.exists(), "its socket is still there: {said}");
        Ok(said)
    }
}

/// Whoever has this, the pool's calls wait for.
fn hold(images: &Path) -> anyhow::Result<Flock<File>> {
    let lock = File::open(images.join(".lock"))?;
    Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn volume(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        required_bytes: MIB,
        ..Default::default()
    }
}

async fn volumes(client: &mut Client) -> anyhow::Result<Vec<Volume>> {
    let listed = client.list_volumes(ListVolumesRequest::default()).await?;
    Ok(listed.into_inner().volumes)
}

/// A volume is being made, and will not be before the lock is let go.
async fn slow_call(
    client: &mut Client,
) -> anyhow::Result<tokio::task::JoinHandle<Result<Volume, tonic::Status>>> {
    let mut calling = client.clone();
    let made = tokio::spawn(async move {
        let made = calling.create_volume(volume("slow")).await;
        made.map(tonic::Response::into_inner)
    });
    let started = Instant::now();
    while volumes(client).await?.is_empty() {
        ensure!(started.elapsed() < PATIENCE, "the call does not begin");
        tokio::time::sleep(POLL).await;
    }
    Ok(made)
}

/// The image files below a pool's directory.
fn images(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(images(&path)?),
            false if path.ends_with(".lock") => {}
            false => found.push(path),
        }
    }
    Ok(found)
}

/// The next run has the volume, and nothing is left once it is deleted.
async fn next_run(bench: &Bench) -> anyhow::Result<()> {
    let daemon = Daemon::start(bench, 20)?;
    let mut client = daemon.client().await?;
    let made = client.create_volume(volume("slow")).await?.into_inner();
    ensure!(made.status() == VolumeStatus::Available, "{made:?}");
    let all = volumes(&mut client).await?;
    ensure!(
        all.len() == 1 && all[0].volume_id == made.volume_id,
        "{all:?}"
    );
    let volume_id = made.volume_id;
    client
        .delete_volume(DeleteVolumeRequest { volume_id })
        .await?;
    daemon.terminate().await?;
    daemon.ends(PATIENCE).await?;
    let left = images(&bench.path("images"))?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_answered_and_no_other_is_taken() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut daemon = Daemon::start(&bench, 20)?;
    let mut client = daemon.client().await?;
    let held = hold(&bench.path("images"))?;
    let made = slow_call(&mut client).await?;
    daemon.terminate().await?;
    // On the connection that is there, and on a new one.
    for mut client in [client, socket::manager(daemon.socket.clone())] {
        let late =
            tokio::time::timeout(Duration::from_secs(5), client.create_volume(volume("late")));
        let refused = late.await.context("neither taken nor refused")?;
        // The open connection is being closed, which its client says by `Cancelled`.
        let code = refused.expect_err("it takes calls").code();
        ensure!(
            [Code::Unavailable, Code::Cancelled].contains(&code),
            "{code:?}"
        );
    }
    ensure!(
        daemon.is_running()? && !made.is_finished(),
        "{}",
        daemon.said()?
    );
    drop(held);
    let made = made.await??;
    ensure!(
        made.name == "slow" && made.status() == VolumeStatus::Available,
        "{made:?}"
    );
    daemon.ends(Duration::from_secs(10)).await?;
    next_run(&bench).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_end_keeps_nobody_waiting_for_ever() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let daemon = Daemon::start(&bench, 1)?;
    let mut client = daemon.client().await?;
    let held = hold(&bench.path("images"))?;
    let made = slow_call(&mut client).await?;
    daemon.terminate().await?;
    let said = daemon.ends(Duration::from_secs(20)).await?;
    ensure!(said.contains("the next start puts it in order"), "{said}");
    let answer = tokio::time::timeout(Duration::from_secs(5), made);
    let answer = answer.await.context("its caller still waits")?;
    ensure!(answer?.is_err(), "it was answered");
    drop(held);
    next_run(&bench).await
}

//! `stockpot serve`: the manager and its frontends in one process, until a signal comes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use stockpot_csi::CsiConfig;
use stockpot_gateway::GatewayConfig;
use stockpot_repository::store::Bandwidth;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Cli, Output, ServeArgs},
    config::{self, Config},
    context,
    interrupt::Interrupt,
};

/// A file that can be used, as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    file: &'a Path,
    sound: bool,
    node: &'a str,
    pools: Vec<&'a str>,
    csi: bool,
    gateway: bool,
}

pub(crate) async fn run(cli: &Cli, args: &ServeArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let path = args.config.clone();
    let config = interrupt
        .unless_blocking(move || {
            let config = config::read(&path)?;
            // What the REST frontends cannot be served without: else it would be told when all else is being served.
            if let Some(gateway) = &config.gateway {
                let files = stockpot_gateway::check_files(gateway);
                files.with_context(|| format!("{} cannot be used: gateway", path.display()))?;
            }
            Ok(config)
        })
        .await?;
    if args.check {
        return checked(cli, &args.config, &config);
    }
    raise_open_files();
    tokio::task::spawn_blocking(super::host::warn)
        .await
        .context("looking at this host")?;
    let hangups = signal(SignalKind::hangup()).context("cannot receive SIGHUP")?;
    let bandwidth = Bandwidth::unlimited();
    let (manager_config, csi_config) = (config.manager.clone(), config.csi.clone());
    let gateway_config = config.gateway.clone();
    let following = tokio::spawn(follow(
        hangups,
        args.config.clone(),
        config,
        bandwidth.clone(),
    ));
    let stopping = interrupt.token().clone();
    // The frontends stop first: what they have accepted, the manager still answers.
    let manager_stop = CancellationToken::new();
    let manager = {
        let stop = manager_stop.clone();
        async move {
            let stopped = async move { stop.cancelled().await };
            stockpot_manager::serve(manager_config, bandwidth, stopped).await
        }
    };
    let frontends = {
        let stopping = stopping.clone();
        async move {
            let csi = serve_csi(csi_config, &stopping);
            let gateway = serve_gateway(gateway_config, &stopping);
            let (csi, gateway) = tokio::join!(csi, gateway);
            manager_stop.cancel();
            csi.and(gateway)
        }
    };
    let manager = async {
        let outcome = manager.await.context("the manager stopped");
        // Without a manager the frontends have nobody to ask.
        stopping.cancel();
        outcome
    };
    let (manager, frontends) = tokio::join!(manager, frontends);
    following.abort();
    manager?;
    frontends?;
    tracing::info!("stopped");
    Ok(())
}

/// Serves CSI until all stops. One frontend that ends stops the others: the program is started again as a whole.
async fn serve_csi(config: Option<CsiConfig>, stopping: &CancellationToken) -> anyhow::Result<()> {
    let Some(config) = config else {
        stopping.cancelled().await;
        return Ok(());
    };
    let outcome = stockpot_csi::serve(config, stopping.clone().cancelled_owned()).await;
    stopping.cancel();
    outcome.context("the CSI frontend stopped")
}

/// The same for the REST frontends.
async fn serve_gateway(
    config: Option<GatewayConfig>,
    stopping: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(config) = config else {
        stopping.cancelled().await;
        return Ok(());
    };
    let outcome = stockpot_gateway::serve(config, stopping.clone().cancelled_owned()).await;
    stopping.cancel();
    outcome.context("the gateway stopped")
}

fn checked(cli: &Cli, file: &Path, config: &Config) -> anyhow::Result<()> {
    let pools = config.manager.pools.iter();
    let checked = Checked {
        file,
        sound: true,
        node: &config.manager.node_name,
        pools: pools.map(|pool| pool.name()).collect(),
        csi: config.csi.is_some(),
        gateway: config.gateway.is_some(),
    };
    if cli.output == Output::Text {
        remark!("{} is sound", file.display());
        return Ok(());
    }
    context::print(cli.output, &checked, String::new)
}

/// Most files that are asked for; what is started from here may go through all of them, one by one.
const OPEN_FILES_MAX: u64 = 65_536;

/// Lets this process have as many files and connections open as it may: the usual limit is for programs of another kind.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let most = hard.min(OPEN_FILES_MAX);
        match soft < most {
            true => setrlimit(Resource::RLIMIT_NOFILE, most, hard),
            false => Ok(()),
        }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

/// Reads the configuration again at each SIGHUP and sets the limits on what goes over the network, also for transfers that
/// run. What cannot be read changes nothing.
async fn follow(mut hangups: Signal, path: PathBuf, config: Config, bandwidth: Bandwidth) {
    while hangups.recv().await.is_some() {
        let again = path.clone();
        let read = tokio::task::spawn_blocking(move || config::read(&again)).await;
        let read = read
            .context("reading the configuration")
            .and_then(|new| new);
        let new = match read {
            Ok(new) => new,
            Err(error) => {
                let error = context::chain(&error);
                tracing::error!(
                    error,
                    "the configuration cannot be read again: all stays as it is"
                );
                continue;
            }
        };
        let transfers = &new.manager.transfers;
        transfers.limit(&bandwidth);
        tracing::info!(
            upload_bytes_per_second_max = ?transfers.upload_bytes_per_second_max,
            download_bytes_per_second_max = ?transfers.download_bytes_per_second_max,
            "the configuration was read again: these limits hold from now on"
        );
        if config.differs_in_more_than_limits(&new) {
            tracing::warn!(
                "the configuration differs in more than limits: the rest takes effect at the next start"
            );
        }
    }
}

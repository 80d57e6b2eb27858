//! A command line over `stockpot_test_fixtures::csi_client`: what an orchestrator asks a CSI driver, by hand.
//!
//! One JSON value on stdout per command; on failure one on stderr, `{"error": …, "code": …}`, and exit code 1.

use std::{collections::HashMap, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use stockpot_proto::csi::v1 as csi;
use stockpot_test_fixtures::csi_client::{
    Access, ContentSource, CsiClient, CsiClientError, NewSnapshot, NewVolume,
};

/// Asks a CSI driver as an orchestrator does.
#[derive(Debug, Parser)]
#[command(name = "csi-client")]
struct Cli {
    /// The driver's socket: unix:///path or /path
    #[arg(long, value_parser = parse_endpoint)]
    endpoint: PathBuf,
    /// How long to wait for the driver, a volume or a snapshot, in seconds
    #[arg(long, global = true, default_value_t = 600)]
    wait: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Wait until the driver is ready; name, version and node
    Info,
    /// Make a volume
    CreateVolume(CreateVolume),
    /// Remove a volume
    DeleteVolume { volume_id: String },
    /// Grow a volume's device
    ExpandVolume {
        volume_id: String,
        #[arg(long, value_parser = parse_size)]
        size: u64,
    },
    /// All volumes
    ListVolumes,
    /// Cut a snapshot, or ask how far it is
    CreateSnapshot(Snapshot),
    /// Ask until a snapshot is ready to use; cuts it if it is not there
    WaitReady(Snapshot),
    /// Remove a snapshot with all of its copies
    DeleteSnapshot { snapshot_id: String },
    /// All snapshots
    ListSnapshots {
        #[arg(long, default_value = "")]
        snapshot_id: String,
        #[arg(long, default_value = "")]
        source_volume_id: String,
    },
    /// Attach a volume and mount its file system
    Stage {
        volume_id: String,
        staging: PathBuf,
        /// ext4, xfs, block, or nothing for what is on it
        #[arg(long, default_value = "")]
        fs: String,
    },
    /// Show a staged volume at a path
    Publish {
        volume_id: String,
        staging: PathBuf,
        target: PathBuf,
        /// As it was staged
        #[arg(long, default_value = "")]
        fs: String,
        #[arg(long)]
        read_only: bool,
    },
    /// Take a volume away from a path
    Unpublish { volume_id: String, target: PathBuf },
    /// Unmount and detach a volume
    Unstage { volume_id: String, staging: PathBuf },
    /// Grow the file system of a published volume
    ExpandNode {
        volume_id: String,
        target: PathBuf,
        #[arg(long, value_parser = parse_size, default_value = "0")]
        size: u64,
    },
    /// How full a published volume is
    Stats { volume_id: String, target: PathBuf },
}

#[derive(Debug, Args)]
struct CreateVolume {
    name: String,
    /// In bytes, or with K, M, G or T (powers of 1024)
    #[arg(long, value_parser = parse_size, default_value = "0")]
    size: u64,
    /// ext4, xfs, block, or nothing for what is on it
    #[arg(long, default_value = "")]
    fs: String,
    /// Parameters of the class, KEY=VALUE
    #[arg(long = "param", value_parser = parse_pair)]
    parameters: Vec<(String, String)>,
    #[arg(long, conflicts_with = "from_volume")]
    from_snapshot: Option<String>,
    #[arg(long)]
    from_volume: Option<String>,
}

#[derive(Debug, Args)]
struct Snapshot {
    name: String,
    source_volume_id: String,
    /// Parameters of the class, KEY=VALUE
    #[arg(long = "param", value_parser = parse_pair)]
    parameters: Vec<(String, String)>,
}

impl Snapshot {
    fn request(self) -> NewSnapshot {
        NewSnapshot {
            name: self.name,
            source_volume_id: self.source_volume_id,
            parameters: HashMap::from_iter(self.parameters),
        }
    }
}

fn parse_endpoint(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err("neither unix:///path nor /path".to_owned())
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err("unknown unit".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number".to_owned())?;
    number.checked_mul(1 << shift).ok_or("too large".to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(answer) => {
            println!("{answer:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = error.code().map(|code| format!("{code:?}"));
            eprintln!("{:#}", json!({ "error": error.to_string(), "code": code }));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<Value, CsiClientError> {
    let wait = Duration::from_secs(cli.wait);
    let mut client = CsiClient::connect(&cli.endpoint, wait).await?;
    let done = |()| json!({});
    match cli.command {
        Command::Info => info(&mut client, wait).await,
        Command::CreateVolume(request) => {
            let snapshot = request.from_snapshot.map(ContentSource::Snapshot);
            let volume = NewVolume {
                name: request.name,
                size_bytes: request.size,
                access: Access::named(&request.fs),
                parameters: HashMap::from_iter(request.parameters),
                source: snapshot.or(request.from_volume.map(ContentSource::Volume)),
            };
            client.create_volume(&volume, wait).await.map(volume_json)
        }
        Command::DeleteVolume { volume_id } => client.delete_volume(&volume_id).await.map(done),
        Command::ExpandVolume { volume_id, size } => {
            let answer = client.expand_volume(&volume_id, size).await?;
            Ok(json!({
                "capacity_bytes": answer.capacity_bytes,
                "node_expansion_required": answer.node_expansion_required,
            }))
        }
        Command::ListVolumes => {
            let all = client.list_volumes().await?;
            Ok(all.into_iter().map(volume_json).collect())
        }
        Command::CreateSnapshot(request) => client
            .create_snapshot(&request.request())
            .await
            .map(snapshot_json),
        Command::WaitReady(request) => client
            .wait_snapshot_ready(&request.request(), wait)
            .await
            .map(snapshot_json),
        Command::DeleteSnapshot { snapshot_id } => {
            client.delete_snapshot(&snapshot_id).await.map(done)
        }
        Command::ListSnapshots {
            snapshot_id,
            source_volume_id,
        } => {
            let all = client
                .list_snapshots(&snapshot_id, &source_volume_id)
                .await?;
            Ok(all.into_iter().map(snapshot_json).collect())
        }
        node => on_node(&mut client, node).await,
    }
}

async fn on_node(client: &mut CsiClient, command: Command) -> Result<Value, CsiClientError> {
    let done = |()| json!({});
    match command {
        Command::Stage {
            volume_id,
            staging,
            fs,
        } => client
            .stage(&volume_id, &staging, &Access::named(&fs))
            .await
            .map(done),
        Command::Publish {
            volume_id,
            staging,
            target,
            fs,
            read_only,
        } => client
            .publish(
                &volume_id,
                &staging,
                &target,
                &Access::named(&fs),
                read_only,
            )
            .await
            .map(done),
        Command::Unpublish { volume_id, target } => {
            client.unpublish(&volume_id, &target).await.map(done)
        }
        Command::Unstage { volume_id, staging } => {
            client.unstage(&volume_id, &staging).await.map(done)
        }
        Command::ExpandNode {
            volume_id,
            target,
            size,
        } => {
            let size = client.expand_node(&volume_id, &target, size).await?;
            Ok(json!({ "capacity_bytes": size }))
        }
        Command::Stats { volume_id, target } => {
            let usage = client.stats(&volume_id, &target).await?;
            let usage = usage.iter().map(|u| {
                let unit = u.unit().as_str_name().to_lowercase();
                json!({ "unit": unit, "total": u.total, "used": u.used, "available": u.available })
            });
            Ok(usage.collect())
        }
        // `run` has done the others.
        _ => Ok(Value::Null),
    }
}

async fn info(client: &mut CsiClient, wait: Duration) -> Result<Value, CsiClientError> {
    client.wait_until_ready(wait).await?;
    let refused = |rpc| move |status| CsiClientError::Refused { rpc, status };
    let plugin = client
        .identity
        .get_plugin_info(csi::GetPluginInfoRequest {})
        .await;
    let plugin = plugin.map_err(refused("GetPluginInfo"))?.into_inner();
    let node = client.node.node_get_info(csi::NodeGetInfoRequest {}).await;
    let node = node.map_err(refused("NodeGetInfo"))?.into_inner();
    Ok(json!({
        "driver": plugin.name,
        "version": plugin.vendor_version,
        "node_id": node.node_id,
        "topology": node.accessible_topology.map(|t| t.segments),
    }))
}

fn volume_json(volume: csi::Volume) -> Value {
    use csi::volume_content_source::Type;
    let source = volume.content_source.and_then(|s| s.r#type);
    let (snapshot, other) = match source {
        Some(Type::Snapshot(s)) => (Some(s.snapshot_id), None),
        Some(Type::Volume(v)) => (None, Some(v.volume_id)),
        None => (None, None),
    };
    json!({
        "volume_id": volume.volume_id,
        "capacity_bytes": volume.capacity_bytes,
        "source_snapshot_id": snapshot,
        "source_volume_id": other,
    })
}

fn snapshot_json(snapshot: csi::Snapshot) -> Value {
    json!({
        "snapshot_id": snapshot.snapshot_id,
        "source_volume_id": snapshot.source_volume_id,
        "size_bytes": snapshot.size_bytes,
        "created_at_seconds": snapshot.creation_time.map(|t| t.seconds),
        "ready_to_use": snapshot.ready_to_use,
    })
}

//! `stockpot volume …`: asks a running driver over its socket.

mod adopt;
mod find;
mod report;
mod watch;

use anyhow::bail;
use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::{
        AttachVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest, DetachVolumeRequest,
        ExtendVolumeRequest, GetVolumeRequest, RestoreVolumeRequest, SnapshotSource, SourceCopy,
        Volume, VolumeStatus, create_volume_request::Source, volumes_client::VolumesClient,
    },
};
use tonic::transport::Channel;

use self::{find::snapshot_named, report::print, watch::watch};
pub(super) use self::{
    find::{snapshot_of_name, volume_named, volumes},
    report::word,
    watch::seconds_left,
};
use super::driver::{client, said};
use crate::{
    cli::{
        Cli, SocketArgs, SourceCopyArg, VolumeCloneArgs, VolumeCreateArgs, VolumeExtendArgs,
        VolumeIdArgs, VolumeRestoreArgs, VolumeVerb,
    },
    context, printable,
};

pub(super) async fn run(cli: &Cli, verb: &VolumeVerb) -> anyhow::Result<()> {
    match verb {
        VolumeVerb::Create(args) => create(cli, args).await,
        VolumeVerb::List { socket } => report::list(cli, socket).await,
        VolumeVerb::Show(args) => {
            let volume = volume_named(&mut client(&args.socket), &args.socket, &args.id).await?;
            print(cli, volume)
        }
        VolumeVerb::Delete(args) => delete(cli, args).await,
        VolumeVerb::Extend(args) => extend(cli, args).await,
        VolumeVerb::Clone(args) => clone(cli, args).await,
        VolumeVerb::Attach { volume, read_only } => attach(cli, volume, *read_only).await,
        VolumeVerb::Detach(args) => detach(cli, args).await,
        VolumeVerb::Restore(args) => restore(cli, args).await,
        VolumeVerb::CancelRestore(args) => cancel_restore(cli, args).await,
        VolumeVerb::Wait(args) => {
            let volume = volume_named(&mut client(&args.socket), &args.socket, &args.id).await?;
            let volume = watch(cli, volume, &args.socket).await?;
            waited(cli, volume)
        }
        VolumeVerb::Adopt(args) => adopt::adopt(cli, args).await,
        VolumeVerb::Release(args) => adopt::release(cli, args).await,
    }
}

async fn create(cli: &Cli, args: &VolumeCreateArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let source = if let Some(snapshot) = &args.from_snapshot {
        let copy = match args.copy {
            SourceCopyArg::Auto => SourceCopy::Auto,
            SourceCopyArg::Local => SourceCopy::Local,
            SourceCopyArg::Cloud => SourceCopy::Cloud,
        };
        Some(Source::Snapshot(SnapshotSource {
            snapshot_id: snapshot_named(at, snapshot).await?,
            copy: copy.into(),
        }))
    } else if let Some(volume) = &args.from_volume {
        let volume = volume_named(&mut client(at), at, volume).await?;
        Some(Source::VolumeId(volume.volume_id))
    } else {
        None
    };
    let request = CreateVolumeRequest {
        name: args.name.clone(),
        required_bytes: args.size.unwrap_or_default(),
        limit_bytes: 0,
        pool: args.pool.clone().unwrap_or_default(),
        source,
        metadata: args.labels.iter().cloned().collect(),
    };
    let made_or_begun = client(at).create_volume(request).await;
    let volume = made_or_begun.map_err(|status| said(at, &status))?;
    let volume = volume.into_inner();
    match args.watch {
        true => made(cli, watch(cli, volume, at).await?),
        false => made(cli, volume),
    }
}

/// Prints a volume that was to be made; a failure ends with 1.
fn made(cli: &Cli, volume: Volume) -> anyhow::Result<()> {
    let status = volume.status();
    print(cli, volume)?;
    match status {
        VolumeStatus::Error => bail!("the volume could not be made"),
        _ => Ok(()),
    }
}

/// Prints a volume whose end was waited for; a failure ends with 1, also where the volume keeps what it had.
fn waited(cli: &Cli, volume: Volume) -> anyhow::Result<()> {
    match volume.status() {
        VolumeStatus::Error => made(cli, volume),
        _ => restored(cli, volume),
    }
}

/// Prints a volume into which something may have been restored.
fn restored(cli: &Cli, volume: Volume) -> anyhow::Result<()> {
    let failed = !volume.error.is_empty();
    print(cli, volume)?;
    if failed {
        bail!("nothing was restored");
    }
    Ok(())
}

/// What a deletion found; the names stay.
#[derive(Debug, Serialize)]
struct Deleted {
    volume_id: String,
    name: Option<String>,
    /// It was there.
    removed: bool,
}

async fn delete(cli: &Cli, args: &VolumeIdArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let mut client = client(at);
    let found = find::volume(&mut client, at, &args.id).await?;
    // Also what no catalog knows any more, by its id.
    let volume_id = match &found {
        Some(volume) => volume.volume_id.clone(),
        None => args.id.clone(),
    };
    let request = DeleteVolumeRequest {
        volume_id: volume_id.clone(),
    };
    let deleted = client.delete_volume(request).await;
    deleted.map_err(|status| said(at, &status))?;
    let deleted = Deleted {
        volume_id,
        removed: found.is_some(),
        name: found.map(|volume| volume.name),
    };
    context::print(cli.output, &deleted, || {
        let id = printable::line(&deleted.volume_id);
        match &deleted.name {
            Some(name) => format!("{id}: removed volume {}", printable::line(name)),
            None => format!("{id}: nothing of that id or name was on record"),
        }
    })
}

async fn extend(cli: &Cli, args: &VolumeExtendArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let mut client = client(at);
    let request = ExtendVolumeRequest {
        volume_id: volume_named(&mut client, at, &args.volume).await?.volume_id,
        required_bytes: args.size,
        limit_bytes: 0,
    };
    let grown = client.extend_volume(request).await;
    print(cli, grown.map_err(|status| said(at, &status))?.into_inner())
}

async fn clone(cli: &Cli, args: &VolumeCloneArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let mut client = client(at);
    let source = volume_named(&mut client, at, &args.volume).await?;
    let request = CreateVolumeRequest {
        name: args.name.clone(),
        required_bytes: args.size.unwrap_or_default(),
        source: Some(Source::VolumeId(source.volume_id)),
        metadata: args.labels.iter().cloned().collect(),
        ..CreateVolumeRequest::default()
    };
    let cloned = client.create_volume(request).await;
    print(
        cli,
        cloned.map_err(|status| said(at, &status))?.into_inner(),
    )
}

/// An attached volume as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Attached {
    volume_id: String,
    device_path: String,
    size_bytes: u64,
    read_only: bool,
    /// It must never be formatted.
    has_content_source: bool,
}

async fn attach(cli: &Cli, args: &VolumeIdArgs, read_only: bool) -> anyhow::Result<()> {
    let at = &args.socket;
    let mut client = client(at);
    let volume = volume_named(&mut client, at, &args.id).await?;
    let request = AttachVolumeRequest {
        volume_id: volume.volume_id.clone(),
        read_only,
        as_attached: false,
    };
    let attached = client.attach_volume(request).await;
    let attached = attached.map_err(|status| said(at, &status))?.into_inner();
    let attached = Attached {
        volume_id: volume.volume_id,
        device_path: attached.device_path,
        size_bytes: attached.size_bytes,
        read_only,
        has_content_source: attached.has_content_source,
    };
    context::print(cli.output, &attached, || {
        printable::line(&attached.device_path)
    })
}

async fn detach(cli: &Cli, args: &VolumeIdArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let mut client = client(at);
    let volume_id = volume_named(&mut client, at, &args.id).await?.volume_id;
    let request = DetachVolumeRequest {
        volume_id: volume_id.clone(),
    };
    let detached = client.detach_volume(request).await;
    detached.map_err(|status| said(at, &status))?;
    let request = GetVolumeRequest { volume_id };
    let now = client.get_volume(request).await;
    print(cli, now.map_err(|status| said(at, &status))?.into_inner())
}

async fn restore(cli: &Cli, args: &VolumeRestoreArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let volume = volume_named(&mut client(at), at, &args.volume).await?;
    let request = RestoreVolumeRequest {
        volume_id: volume.volume_id,
        snapshot_id: snapshot_named(at, &args.snapshot).await?,
    };
    let begun = more(at).restore_volume(request).await;
    let volume = begun.map_err(|status| said(at, &status))?.into_inner();
    if !args.watch {
        return print(cli, volume);
    }
    let volume = watch(cli, volume, at).await?;
    restored(cli, volume)
}

async fn cancel_restore(cli: &Cli, args: &VolumeIdArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let volume = volume_named(&mut client(at), at, &args.id).await?;
    let request = GetVolumeRequest {
        volume_id: volume.volume_id,
    };
    let cancelled = more(at).cancel_restore(request).await;
    let volume = cancelled.map_err(|status| said(at, &status))?;
    print(cli, volume.into_inner())
}

fn more(at: &SocketArgs) -> VolumesClient<Channel> {
    VolumesClient::new(socket::channel(at.socket.clone()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_wait_for_what_failed_fails() {
        let cli = Cli::parse_from(["stockpot", "volume", "wait", "data"]);
        let volume = |status: VolumeStatus, error: &str| Volume {
            status: status.into(),
            error: error.to_owned(),
            ..Volume::default()
        };
        waited(&cli, volume(VolumeStatus::Available, "")).unwrap();
        // It is there, with what it had before.
        let kept = volume(VolumeStatus::Available, "the restore was cancelled");
        let failed = waited(&cli, kept).unwrap_err();
        assert_eq!(failed.to_string(), "nothing was restored");
        let failed = waited(&cli, volume(VolumeStatus::Error, "no room")).unwrap_err();
        assert_eq!(failed.to_string(), "the volume could not be made");
    }
}

//! `stockpot backup create`, `list`, `show`, …: asks a running driver over its socket.

mod print;
mod watch;

use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::{
        CreateBackupRequest, GetBackupRequest, ListBackupsRequest, backups_client::BackupsClient,
    },
};
use tonic::transport::Channel;

use self::{
    print::{print, row, table},
    watch::watch,
};
use super::{driver::said, snapshot};
use crate::{
    cli::{BackupCreateArgs, BackupIdArgs, BackupVerb, Cli, SocketArgs},
    context, printable,
};

pub(super) async fn run(cli: &Cli, verb: &BackupVerb) -> anyhow::Result<()> {
    match verb {
        BackupVerb::Create(args) => create(cli, args).await,
        BackupVerb::List { volume, socket } => list(cli, volume.as_deref(), socket).await,
        BackupVerb::Show(args) => {
            let shown = client(&args.socket).get_backup(request(args)).await;
            let backup = shown.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Watch(args) => watch(cli, &args.id, &args.socket).await,
        BackupVerb::Pause(args) => {
            let paused = client(&args.socket).pause_backup(request(args)).await;
            let backup = paused.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Resume(args) => {
            let resumed = client(&args.socket).resume_backup(request(args)).await;
            let backup = resumed.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Cancel(args) => {
            let cancelled = client(&args.socket).cancel_backup(request(args)).await;
            let backup = cancelled.map_err(|status| said(&args.socket, &status))?;
            print(cli, backup.into_inner())
        }
        BackupVerb::Delete(args) => delete(cli, args).await,
    }
}

/// What a deletion removed; the names stay.
#[derive(Debug, Serialize)]
struct Deleted {
    backup_id: String,
    name: String,
    volume_id: String,
    snapshot_id: String,
    removed: bool,
}

/// What is not there is a slip of the pen, and told: to the manager, which is asked again, it is success.
async fn delete(cli: &Cli, args: &BackupIdArgs) -> anyhow::Result<()> {
    let mut client = client(&args.socket);
    let found = client.get_backup(request(args)).await;
    let found = found.map_err(|status| said(&args.socket, &status))?;
    let found = found.into_inner();
    let request = GetBackupRequest {
        backup_id: found.backup_id.clone(),
    };
    let deleted = client.delete_backup(request).await;
    deleted.map_err(|status| said(&args.socket, &status))?;
    let deleted = Deleted {
        backup_id: found.backup_id,
        name: found.name,
        volume_id: found.volume_id,
        snapshot_id: found.snapshot_id,
        removed: true,
    };
    context::print(cli.output, &deleted, || {
        format!(
            "{}: removed backup {}",
            printable::line(&deleted.backup_id),
            printable::line(&deleted.name)
        )
    })
}

async fn create(cli: &Cli, args: &BackupCreateArgs) -> anyhow::Result<()> {
    let snapshot_id = match &args.snapshot {
        None => String::new(),
        Some(name) => {
            let found = snapshot::named(&args.socket, name).await?;
            found.ok_or_else(|| snapshot::none_of(name))?.snapshot_id
        }
    };
    let request = CreateBackupRequest {
        name: args.name.clone().unwrap_or_default(),
        volume: args.volume.clone().unwrap_or_default(),
        profile: args.profile.clone().unwrap_or_default(),
        force: args.force,
        metadata: args.labels.iter().cloned().collect(),
        full: args.full,
        snapshot_id,
    };
    let begun = client(&args.socket).create_backup(request).await;
    let backup = begun.map_err(|status| said(&args.socket, &status))?;
    let backup = backup.into_inner();
    match args.watch {
        true => watch(cli, &backup.backup_id, &args.socket).await,
        false => print(cli, backup),
    }
}

async fn list(cli: &Cli, volume: Option<&str>, at: &SocketArgs) -> anyhow::Result<()> {
    let mut client = client(at);
    let (mut rows, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListBackupsRequest {
            max_entries: 0,
            starting_token: token,
            volume: volume.unwrap_or_default().to_owned(),
        };
        let page = client.list_backups(request).await;
        let page = page.map_err(|status| said(at, &status))?.into_inner();
        rows.extend(page.backups.into_iter().map(row));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    context::print(cli.output, &rows, || table(&rows))
}

fn request(args: &BackupIdArgs) -> GetBackupRequest {
    GetBackupRequest {
        backup_id: args.id.clone(),
    }
}

fn client(at: &SocketArgs) -> BackupsClient<Channel> {
    BackupsClient::new(socket::channel(at.socket.clone()))
}

//! `stockpot backup watch`.

use anyhow::bail;
use stockpot_proto::stockpot::v1::{Backup, BackupStatus, GetBackupRequest};
use tonic::Status;

use super::{
    client,
    print::{now, print, word},
};
use crate::{
    cli::{Cli, SocketArgs},
    verbs::{driver::said, patience::Patience},
};

/// Follows until the backup has ended, over a restart of the driver too; the last state is the result.
pub(super) async fn watch(cli: &Cli, id: &str, at: &SocketArgs) -> anyhow::Result<()> {
    let mut patience = Patience::default();
    let backup = loop {
        let met = match follow(cli, id, at, &mut patience).await {
            Ok(Some(backup)) => break backup,
            Ok(None) => Status::unavailable("it ended without a word"),
            Err(status) => status,
        };
        let waited = patience.wait(cli, met).await;
        waited.map_err(|status| said(at, &status))?;
    };
    let status = backup.status();
    print(cli, backup)?;
    match status {
        BackupStatus::Available => Ok(()),
        BackupStatus::Error => bail!("the backup failed"),
        other => bail!("the backup is {}", word(other)),
    }
}

/// Follows it as long as the driver tells of it; `None` if it had not ended by then.
async fn follow(
    cli: &Cli,
    id: &str,
    at: &SocketArgs,
    patience: &mut Patience,
) -> Result<Option<Backup>, Status> {
    let request = GetBackupRequest {
        backup_id: id.to_owned(),
    };
    let mut stream = client(at).watch_backup(request).await?.into_inner();
    let mut last = None;
    while let Some(backup) = stream.message().await? {
        patience.heard();
        if !cli.quiet && backup.status() == BackupStatus::Creating {
            remark!("{}", now(&backup));
        }
        last = Some(backup);
    }
    let is_over = |backup: &Backup| {
        let status = backup.status();
        !matches!(status, BackupStatus::Creating | BackupStatus::Cancelling)
    };
    Ok(last.filter(is_over))
}

//! `stockpot export …`: who is connected to what of this node, and ending that.

use anyhow::{Context as _, bail};
use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::storage::{
        AccessMode, DisconnectRequest, Host, ListExportsRequest, ObjectRequest,
        storage_node_client::StorageNodeClient,
    },
};
use tonic::transport::Channel;

use super::driver::said;
use crate::{
    cli::{Cli, ExportEndArgs, ExportVerb, SocketArgs},
    context,
    table::Table,
};

/// One host's access as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Row {
    /// `v.VOLUME` or `s.SNAPSHOT`
    name: String,
    /// None where no pool has it any more.
    pool: Option<String>,
    initiator: String,
    /// The host that asked; none where that is not on record.
    host: Option<String>,
    mode: &'static str,
    /// `recorded`; or `on no record`, and whether the host is logged in: then it loses its access when it logs out.
    state: &'static str,
}

pub(super) async fn run(cli: &Cli, verb: &ExportVerb) -> anyhow::Result<()> {
    match verb {
        ExportVerb::List { socket } => list(cli, socket).await,
        ExportVerb::End(args) => end(args).await,
    }
}

async fn list(cli: &Cli, at: &SocketArgs) -> anyhow::Result<()> {
    let rows = rows(at).await?;
    context::print(cli.output, &rows, || {
        let mut table = Table::new(["EXPORT", "POOL", "HOST", "INITIATOR", "MODE", "STATE"]);
        for row in &rows {
            table.row([
                row.name.clone(),
                row.pool.clone().unwrap_or_default(),
                row.host.clone().unwrap_or_default(),
                row.initiator.clone(),
                row.mode.to_owned(),
                row.state.to_owned(),
            ]);
        }
        table.to_string()
    })
}

async fn rows(at: &SocketArgs) -> anyhow::Result<Vec<Row>> {
    let listed = client(at).list_exports(ListExportsRequest {}).await;
    let exports = listed.map_err(|status| said(at, &status))?.into_inner();
    let rows = exports.exports.into_iter().flat_map(|export| {
        let (name, pool) = (export.name, given(export.pool));
        export.grants.into_iter().map(move |grant| Row {
            name: name.clone(),
            pool: pool.clone(),
            mode: match grant.mode() {
                AccessMode::ReadOnly => "ro",
                AccessMode::ReadWrite => "rw",
                AccessMode::Unspecified => "unknown",
            },
            state: match (grant.on_no_record, grant.logged_in) {
                (false, _) => "recorded",
                (true, true) => "on no record, logged in",
                (true, false) => "on no record",
            },
            host: given(grant.host),
            initiator: grant.initiator,
        })
    });
    Ok(rows.collect())
}

async fn end(args: &ExportEndArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let initiator = args.initiator.to_ascii_lowercase();
    let all = rows(at).await?;
    let row = all
        .into_iter()
        .find(|row| row.name == args.name && row.initiator == initiator)
        .with_context(|| {
            format!(
                "{} is not connected to {}; see `stockpot export list`",
                args.initiator, args.name
            )
        })?;
    let id = |kind| row.name.strip_prefix(kind).map(str::to_owned);
    let Some(pool) = row.pool.clone() else {
        bail!(
            "no pool has {} any more: the daemon removes the export at its next start",
            row.name
        );
    };
    let mut client = client(at);
    let request = |id| DisconnectRequest {
        pool: pool.clone(),
        id,
        host: Some(Host {
            // In its name: a connection is ended for the host that asked for it.
            host: match &row.host {
                None => format!("initiator {initiator}"),
                Some(host) => host.clone(),
            },
            ip: None,
            initiator: Some(initiator.clone()),
            multipath: false,
        }),
        force: args.force,
    };
    let ended = match (id("v."), id("s.")) {
        (Some(id), _) => client.terminate_connection(request(id)).await.map(drop),
        (_, Some(id)) => {
            let ended = client.terminate_connection_snapshot(request(id));
            ended.await.map(drop)
        }
        _ => bail!("{} is neither v.VOLUME nor s.SNAPSHOT", row.name),
    };
    ended.map_err(|status| said(at, &status))?;
    release(&mut client, &pool, &row.name, at).await
}

/// What nobody is connected to any more needs no export.
async fn release(
    client: &mut StorageNodeClient<Channel>,
    pool: &str,
    name: &str,
    at: &SocketArgs,
) -> anyhow::Result<()> {
    if rows(at).await?.iter().any(|other| other.name == name) {
        return Ok(());
    }
    let request = |id: &str| ObjectRequest {
        pool: pool.to_owned(),
        id: id.to_owned(),
    };
    let released = match (name.strip_prefix("v."), name.strip_prefix("s.")) {
        (Some(id), _) => client.remove_export(request(id)).await.map(drop),
        (_, Some(id)) => client.remove_export_snapshot(request(id)).await.map(drop),
        _ => Ok(()),
    };
    released.map_err(|status| said(at, &status))
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn client(at: &SocketArgs) -> StorageNodeClient<Channel> {
    StorageNodeClient::new(socket::channel(at.socket.clone()))
}

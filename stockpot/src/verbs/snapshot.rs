//! `stockpot snapshot …`: asks a running driver over its socket.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use serde::Serialize;
use stockpot_proto::stockpot::v1::{
    CopyState, CreateSnapshotRequest, DeleteSnapshotRequest, GetSnapshotRequest,
    ListSnapshotsRequest, Snapshot, delete_snapshot_request::Only,
};

use super::{
    driver::{client, created, progress_line, said},
    volume::{snapshot_of_name, volume_named},
};
use crate::{
    cli::{Cli, Copies, Output, SnapshotCreateArgs, SnapshotVerb, SocketArgs},
    context, printable,
    sizes::human_size,
    table::Table,
};

/// A snapshot as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Row {
    snapshot_id: String,
    name: Option<String>,
    volume_id: String,
    volume_name: Option<String>,
    /// When it was cut.
    created_at: Option<Timestamp>,
    size_bytes: u64,
    local: &'static str,
    cloud: &'static str,
    ready: bool,
    profile: Option<String>,
    cloud_location: Option<String>,
    error: Option<String>,
    bytes_done: u64,
    bytes_total: u64,
    bytes_transferred: u64,
    bytes_per_second: u64,
    requests: u64,
    /// How the upload knew what to send: incremental, compared, full; none before it is committed.
    reason: Option<String>,
    reason_text: Option<String>,
    /// What a restore shows: file-system, unused, crash; none before it is cut, or where that is not known.
    consistency: Option<String>,
    consistency_text: Option<String>,
    /// The local copy was deleted, and takes room in the pool still.
    kept_as_base: bool,
    metadata: BTreeMap<String, String>,
}

pub(crate) async fn run(cli: &Cli, verb: &SnapshotVerb) -> anyhow::Result<()> {
    match verb {
        SnapshotVerb::Create(args) => create(cli, args).await,
        SnapshotVerb::List { socket } => list(cli, socket).await,
        SnapshotVerb::Show {
            id,
            watch: false,
            socket,
        } => show(cli, id, socket).await,
        SnapshotVerb::Show {
            id,
            watch: true,
            socket,
        } => {
            let snapshot = named(socket, id).await?.ok_or_else(|| none_of(id))?;
            watch(cli, &snapshot.snapshot_id, socket).await
        }
        SnapshotVerb::Delete { id, copy, socket } => delete(cli, id, *copy, socket).await,
    }
}

async fn create(cli: &Cli, args: &SnapshotCreateArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let mut client = client(at);
    let volume = volume_named(&mut client, at, &args.volume).await?;
    let name = args.name.clone().unwrap_or_else(|| {
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ");
        format!("{}-{now}", volume.name)
    });
    let request = CreateSnapshotRequest {
        name,
        source_volume_id: volume.volume_id,
        profile: args.profile.clone().unwrap_or_default(),
        metadata: args.labels.iter().cloned().collect(),
    };
    let cut = client.create_snapshot(request).await;
    let snapshot = cut.map_err(|status| said(at, &status))?.into_inner();
    match args.watch {
        true => watch(cli, &snapshot.snapshot_id, at).await,
        false => print(cli.output, snapshot),
    }
}

async fn list(cli: &Cli, at: &SocketArgs) -> anyhow::Result<()> {
    let mut client = client(at);
    let mut rows = Vec::new();
    let mut token = String::new();
    loop {
        let request = ListSnapshotsRequest {
            starting_token: token,
            ..ListSnapshotsRequest::default()
        };
        let page = client
            .list_snapshots(request)
            .await
            .map_err(|status| said(at, &status))?
            .into_inner();
        for warning in &page.warnings {
            // Standard output may be read by a program; that a list is not whole must be seen all the same.
            remark!("stockpot: {}", printable::line(warning));
        }
        rows.extend(page.snapshots.into_iter().map(row));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    context::print(cli.output, &rows, || {
        let mut table = Table::new([
            "SNAPSHOT", "NAME", "VOLUME", "CREATED", "SIZE", "LOCAL", "CLOUD", "HOW", "PROFILE",
        ]);
        for row in &rows {
            table.row([
                row.snapshot_id.clone(),
                row.name.clone().unwrap_or_default(),
                row.volume_name.as_ref().unwrap_or(&row.volume_id).clone(),
                created(row.created_at),
                human_size(row.size_bytes),
                copy_word(row.local, row.kept_as_base).to_owned(),
                copy_word(row.cloud, false).to_owned(),
                row.reason.clone().unwrap_or_default(),
                row.profile.clone().unwrap_or_default(),
            ]);
        }
        table.to_string()
    })
}

async fn show(cli: &Cli, name: &str, at: &SocketArgs) -> anyhow::Result<()> {
    let found = named(at, name).await?;
    let snapshot = found.ok_or_else(|| none_of(name))?;
    print(cli.output, snapshot)
}

/// The snapshot of an id or name, if there is one.
pub(super) async fn named(at: &SocketArgs, name: &str) -> anyhow::Result<Option<Snapshot>> {
    if let Some(found) = of_id(at, name).await? {
        return Ok(Some(found));
    }
    match snapshot_of_name(at, name).await? {
        Some(id) => of_id(at, &id).await,
        None => Ok(None),
    }
}

async fn of_id(at: &SocketArgs, id: &str) -> anyhow::Result<Option<Snapshot>> {
    let request = GetSnapshotRequest {
        snapshot_id: id.to_owned(),
    };
    match client(at).get_snapshot(request).await {
        Ok(found) => Ok(Some(found.into_inner())),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(said(at, &status)),
    }
}

pub(super) fn none_of(name: &str) -> anyhow::Error {
    anyhow!("there is no snapshot of the id or name {name:?}")
}

/// Follows until the upload has ended; the last state is the result.
async fn watch(cli: &Cli, id: &str, at: &SocketArgs) -> anyhow::Result<()> {
    let request = GetSnapshotRequest {
        snapshot_id: id.to_owned(),
    };
    let mut stream = client(at)
        .watch_snapshot(request)
        .await
        .map_err(|status| said(at, &status))?
        .into_inner();
    let (mut last, mut moved) = (None, None);
    while let Some(snapshot) = stream.message().await.map_err(|status| said(at, &status))? {
        if !cli.quiet
            && let Some(progress) = &snapshot.progress
        {
            remark!("{}", progress_line(progress));
        }
        moved = snapshot.progress.clone().or(moved);
        last = Some(snapshot);
    }
    let mut snapshot: Snapshot = last.context("the driver ended without an answer")?;
    // A driver keeps the figures of an upload as long as it runs.
    snapshot.progress = snapshot.progress.or(moved);
    let failed = snapshot.cloud() == CopyState::Failed;
    print(cli.output, snapshot)?;
    if failed {
        bail!("the upload failed");
    }
    Ok(())
}

/// What a deletion removed; the names stay.
#[derive(Debug, Serialize)]
struct Deleted {
    snapshot_id: String,
    volume_id: Option<String>,
    /// `local`, `cloud`, both, or none where nothing was there any more.
    removed: Vec<&'static str>,
    /// There was no cloud copy, and there will be none: its upload was under way, or had failed.
    upload_given_up: bool,
}

async fn delete(cli: &Cli, id: &str, copy: Copies, at: &SocketArgs) -> anyhow::Result<()> {
    let only = match copy {
        Copies::Both => None,
        Copies::Local => Some(Only::LocalOnly(true)),
        Copies::Cloud => Some(Only::CloudOnly(true)),
    };
    let before = match id.starts_with("bak-") {
        // The snapshot of a backup is called like the backup, whose copy is deleted with it.
        true => of_id(at, id).await?,
        false => named(at, id).await?,
    };
    // Deleting it again is no failure.
    let id = before.as_ref().map_or(id, |found| &found.snapshot_id);
    let id = id.to_owned();
    let mut client = client(at);
    let request = DeleteSnapshotRequest {
        snapshot_id: id.to_owned(),
        only,
    };
    client
        .delete_snapshot(request)
        .await
        .map_err(|status| said(at, &status))?;
    let deleted = deleted(&id, before, copy);
    context::print(cli.output, &deleted, || deletion_line(&deleted))
}

fn deletion_line(deleted: &Deleted) -> String {
    let copies = match &deleted.removed[..] {
        [] => String::new(),
        [one] => format!("removed the {one} copy"),
        both => format!("removed the {} copies", both.join(" and ")),
    };
    let given_up = match deleted.upload_given_up {
        true => "gave up its upload",
        false => "",
    };
    let done: Vec<&str> = [copies.as_str(), given_up]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    let id = printable::line(&deleted.snapshot_id);
    match done[..] {
        [] => format!("{id}: nothing was there"),
        _ => format!(
            "{id}: {} of volume {}",
            done.join(" and "),
            printable::line(deleted.volume_id.as_deref().unwrap_or("?"))
        ),
    }
}

/// What there was to remove. A copy whose end is not known counts; an upload that was not committed left none.
fn deleted(id: &str, before: Option<Snapshot>, copy: Copies) -> Deleted {
    let is_there = |state| !matches!(state, CopyState::None | CopyState::Deleted);
    let mut removed = Vec::new();
    let mut upload_given_up = false;
    if let Some(before) = &before {
        if copy != Copies::Cloud && is_there(before.local()) {
            removed.push("local");
        }
        if copy != Copies::Local {
            match before.cloud() {
                CopyState::Pending | CopyState::Failed => upload_given_up = true,
                state if is_there(state) => removed.push("cloud"),
                _ => {}
            }
        }
    }
    Deleted {
        snapshot_id: id.to_owned(),
        volume_id: before.map(|before| before.source_volume_id),
        removed,
        upload_given_up,
    }
}

fn print(output: Output, snapshot: Snapshot) -> anyhow::Result<()> {
    let row = row(snapshot);
    context::print(output, &row, || {
        let mut text = format!(
            "{}  cut {}, {} of {}, local: {}, cloud: {}",
            printable::line(&row.snapshot_id),
            created(row.created_at),
            human_size(row.size_bytes),
            printable::line(row.volume_name.as_ref().unwrap_or(&row.volume_id)),
            row.local,
            row.cloud
        );
        let how = row.reason.as_ref().map(|reason| match &row.reason_text {
            None => reason.clone(),
            Some(why) => format!("{reason}: {why}"),
        });
        if row.kept_as_base {
            text.push_str("\nits device stays in the pool, as the base of the next upload");
        }
        let shows = row
            .consistency
            .as_ref()
            .map(|what| match &row.consistency_text {
                None => what.clone(),
                Some(why) => format!("{what}: {why}"),
            });
        for (what, value) in [
            ("name", &row.name),
            ("volume", &Some(row.volume_id.clone())),
            ("profile", &row.profile),
            ("location", &row.cloud_location),
            ("consistency", &shows),
            ("sent", &how),
            ("error", &row.error),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("\n{what}: {}", printable::line(value)));
            }
        }
        text
    })
}

fn row(snapshot: Snapshot) -> Row {
    let (local, cloud) = (state(snapshot.local()), state(snapshot.cloud()));
    let progress = snapshot.progress.unwrap_or_default();
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Row {
        local,
        cloud,
        snapshot_id: snapshot.snapshot_id,
        name: given(snapshot.name),
        volume_id: snapshot.source_volume_id,
        volume_name: given(snapshot.volume_name),
        created_at: snapshot
            .cut_at
            .and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()),
        size_bytes: snapshot.size_bytes,
        ready: snapshot.ready,
        profile: given(snapshot.profile),
        cloud_location: given(snapshot.cloud_location),
        error: given(snapshot.error),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        bytes_transferred: progress.bytes_transferred,
        bytes_per_second: progress.bytes_per_second,
        requests: progress.requests,
        reason: given(snapshot.reason),
        reason_text: given(snapshot.reason_text),
        consistency: given(snapshot.consistency),
        consistency_text: given(snapshot.consistency_text),
        kept_as_base: snapshot.kept_as_base,
        metadata: snapshot.metadata.into_iter().collect(),
    }
}

/// A copy's state in a list, where it matters only whether there is one.
pub(super) fn copy_word(state: &'static str, kept_as_base: bool) -> &'static str {
    match (state, kept_as_base) {
        // It takes room still, and cannot be used.
        (_, true) => "base",
        ("deleted", false) => "none",
        (state, false) => state,
    }
}

fn state(state: CopyState) -> &'static str {
    match state {
        CopyState::None => "none",
        CopyState::Pending => "pending",
        CopyState::Present => "present",
        CopyState::Failed => "failed",
        CopyState::Deleted => "deleted",
        CopyState::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_and_was_asked_for_is_removed() {
        let before = |local: CopyState, cloud: CopyState| Snapshot {
            local: local.into(),
            cloud: cloud.into(),
            ..Snapshot::default()
        };
        let both = before(CopyState::Present, CopyState::Present);
        let removed = |before: &Snapshot, copy| deleted("s", Some(before.clone()), copy).removed;
        assert_eq!(removed(&both, Copies::Both), ["local", "cloud"]);
        assert_eq!(removed(&both, Copies::Local), ["local"]);
        assert_eq!(removed(&both, Copies::Cloud), ["cloud"]);
        // What was never there is not said to be removed.
        for state in [CopyState::Failed, CopyState::Pending] {
            let failed = before(CopyState::Present, state);
            let done = deleted("s", Some(failed), Copies::Both);
            assert_eq!(
                (&done.removed[..], done.upload_given_up),
                (&["local"][..], true)
            );
            let line = deletion_line(&done);
            assert!(
                line.starts_with("s: removed the local copy and gave up its upload of"),
                "{line}"
            );
        }
        let given_back = before(CopyState::Deleted, CopyState::Present);
        assert_eq!(removed(&given_back, Copies::Both), ["cloud"]);
        let nothing = deleted("s", None, Copies::Both);
        assert!(nothing.removed.is_empty());
        assert_eq!(deletion_line(&nothing), "s: nothing was there");
    }

    #[test]
    fn what_is_not_known_is_null_and_names_are_shown() {
        let known = Snapshot {
            name: "before-upgrade".to_owned(),
            volume_name: "data".to_owned(),
            ..Snapshot::default()
        };
        let json = serde_json::to_value(row(known)).unwrap();
        assert_eq!(
            (&json["name"], &json["volume_name"]),
            (&"before-upgrade".into(), &"data".into())
        );
        for field in [
            "profile",
            "cloud_location",
            "error",
            "reason",
            "reason_text",
        ] {
            assert!(json[field].is_null(), "{field}: {json}");
        }
    }

    #[test]
    fn a_copy_is_there_or_is_not() {
        assert_eq!(copy_word("deleted", false), "none");
        assert_eq!(copy_word("none", false), "none");
        assert_eq!(copy_word("deleted", true), "base");
        assert_eq!(copy_word("present", false), "present");
    }
}

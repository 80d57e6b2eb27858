//! `stockpot snapshots`: what is in a bucket.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use stockpot_repository::{
    Repository,
    format::{ids::snapshot_key, keys::KeySource},
    snapshots::{self, SnapshotSummary, Status},
    store::{
        ObjectStore,
        s3::{S3Config, S3Store},
    },
};

use crate::{
    cli::{Cli, SnapshotsArgs},
    context,
    history::{self, Records},
    interrupt::Interrupt,
    repository,
    sizes::human_size,
    table::Table,
};

/// One snapshot as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Row {
    snapshot_id: String,
    volume: Option<String>,
    size_bytes: Option<u64>,
    created_at: Option<Timestamp>,
    parent: Option<String>,
    stored_bytes: Option<u64>,
    status: String,
    data_bytes: Option<u64>,
    committed_at: Option<Timestamp>,
    /// Until when all that it needs was locked when it was committed.
    locked_until: Option<Timestamp>,
    labels: std::collections::BTreeMap<String, String>,
    /// Why it cannot be read.
    error: Option<String>,
}

pub(crate) async fn run(
    cli: &Cli,
    args: &SnapshotsArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let config = repository::s3_config(&args.from, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    let listing = async {
        let repository = if args.first_versions {
            repository::open_first(config, key).await?
        } else {
            open(cli, config, key).await?
        };
        let found = match args.deleted {
            true => snapshots::list_deleted(&repository).await?,
            false => snapshots::list(&repository).await?,
        };
        let records = Records::look(&**repository.store()).await;
        Ok((found, records))
    };
    let (found, records) = interrupt.unless(listing).await?;
    let remark = records.remark(&unreadable(&found));
    let rows: Vec<Row> = found
        .into_iter()
        .filter(|found| args.all || args.deleted || found.status != Status::Deleted)
        .filter(|found| args.volume.as_deref().is_none_or(|name| is_of(found, name)))
        .map(row)
        .collect();
    context::print(cli.output, &rows, || text(&rows))?;
    if let Some(remark) = remark {
        history::say(&remark);
    }
    Ok(())
}

/// The records that cannot be read, by their keys.
fn unreadable(found: &[SnapshotSummary]) -> Vec<String> {
    let unreadable = found
        .iter()
        .filter(|found| matches!(found.status, Status::Unreadable(_)));
    unreadable
        .filter_map(|found| Some(snapshot_key(found.volume_id.as_ref()?, &found.snapshot_id)))
        .collect()
}

/// Without a key, a sealed repository still shows its ids.
async fn open(cli: &Cli, config: S3Config, key: Option<KeySource>) -> anyhow::Result<Repository> {
    match key {
        Some(key) => repository::open(config, Some(key)).await,
        None => {
            let store: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(config).await?);
            let opened = Repository::open_locked(store.clone()).await;
            let repository = history::explained(&*store, opened).await?;
            if repository.is_sealed() && !cli.quiet {
                eprintln!(
                    "the repository is sealed: without its key only ids and states are known"
                );
            }
            Ok(repository)
        }
    }
}

fn is_of(found: &SnapshotSummary, name: &str) -> bool {
    found.volume() == Some(name)
        || found
            .volume_id
            .as_ref()
            .is_some_and(|id| id.as_str() == name)
}

fn row(found: SnapshotSummary) -> Row {
    let manifest = found.manifest.as_ref();
    Row {
        snapshot_id: found.snapshot_id.to_string(),
        volume: found.volume().map(str::to_owned),
        size_bytes: manifest.map(|m| m.size_bytes),
        created_at: found.created_at().or(found.started_at),
        parent: found.parent().map(ToString::to_string),
        stored_bytes: manifest.map(|m| m.stored_bytes),
        data_bytes: manifest.map(|m| m.data_bytes),
        committed_at: manifest.map(|m| m.committed_at),
        locked_until: manifest
            .and_then(|m| m.lock.as_ref())
            .map(|lock| lock.until),
        labels: manifest.map(|m| m.metadata.clone()).unwrap_or_default(),
        status: found.status.to_string(),
        error: match &found.status {
            Status::Unreadable(why) => Some(why.clone()),
            _ => None,
        },
    }
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no snapshots".to_owned();
    }
    // Most repositories lock nothing.
    if rows.iter().any(|row| row.locked_until.is_some()) {
        let mut table = Table::new(joined(HEAD, "LOCKED UNTIL"));
        for row in rows {
            let until = row.locked_until.map(moment).unwrap_or_default();
            table.row(joined(cells(row), until));
        }
        return table.to_string();
    }
    let mut table = Table::new(HEAD);
    for row in rows {
        table.row(cells(row));
    }
    table.to_string()
}

/// The columns that are always there.
const HEAD: [&str; 7] = [
    "SNAPSHOT", "VOLUME", "CREATED", "SIZE", "DATA", "STORED", "STATUS",
];

fn cells(row: &Row) -> [String; 7] {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), human_size);
    [
        row.snapshot_id.clone(),
        row.volume.clone().unwrap_or_else(|| "?".to_owned()),
        row.created_at.map_or_else(|| "?".to_owned(), moment),
        size(row.size_bytes),
        size(row.data_bytes),
        size(row.stored_bytes),
        match &row.error {
            Some(why) => format!("{}: {why}", row.status),
            None => row.status.clone(),
        },
    ]
}

fn joined<T>([a, b, c, d, e, f, g]: [T; 7], last: T) -> [T; 8] {
    // Before the status, which may be a long text.
    [a, b, c, d, e, f, last, g]
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

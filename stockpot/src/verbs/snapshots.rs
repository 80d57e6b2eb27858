//! `stockpot snapshots`: what is in a bucket.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;
use stockpot_repository::{
    Repository, forget,
    format::{
        ids::{SnapshotId, packs_of, snapshot_key},
        keys::KeySource,
    },
    snapshots::{self, SnapshotSummary, Status},
    store::{
        ObjectStore, StoreError,
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
    /// Of an upload that looks dead: when it last put anything.
    last_sign_at: Option<Timestamp>,
    /// Until when all that it needs was locked when it was committed.
    locked_until: Option<Timestamp>,
    labels: BTreeMap<String, String>,
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
        let silent = silent(&repository, &found).await;
        Ok((found, records, silent))
    };
    let (found, records, silent) = interrupt.unless(listing).await?;
    let remark = records.remark(&unreadable(&found));
    let deleted = (found.iter())
        .filter(|found| found.status == Status::Deleted)
        .count();
    let rows: Vec<Row> = found
        .into_iter()
        .filter(|found| args.all || args.deleted || found.status != Status::Deleted)
        .filter(|found| args.volume.as_deref().is_none_or(|name| is_of(found, name)))
        .map(|found| row(found, &silent))
        .collect();
    context::print(cli.output, &rows, || text(&rows))?;
    if let Some(remark) = remark {
        history::say(&remark);
    }
    if args.first_versions && !args.all && !args.deleted && deleted > 0 && !cli.quiet {
        let deleted = match deleted {
            1 => "1 snapshot that was deleted is".to_owned(),
            count => format!("{count} snapshots that were deleted are"),
        };
        history::say(&format!(
            "{deleted} not shown: --deleted shows what is left of them"
        ));
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
                remark!("the repository is sealed: without its key only ids and states are known");
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

/// Uploads that put nothing for so long are shown with the time of the last sign.
const SILENT_S: i64 = 3600;

/// Uploads that are looked at for that.
const UPLOADS_MAX: usize = 64;

/// Pages of one upload's packs, of 1000 each mostly.
const PAGES_MAX: usize = 1000;

/// Uploads that gave no sign of life lately (a pack, else the intent), and when the last one was. Nothing depends on it: what cannot be seen is left out.
async fn silent(
    repository: &Repository,
    found: &[SnapshotSummary],
) -> BTreeMap<SnapshotId, Timestamp> {
    let store = &**repository.store();
    let mut silent = BTreeMap::new();
    let uploading = (found.iter()).filter(|found| found.status == Status::Uploading);
    let uploading: Vec<_> = uploading.take(UPLOADS_MAX).collect();
    if uploading.is_empty() {
        return silent;
    }
    let Ok(now) = forget::now(repository).await else {
        return silent;
    };
    for found in uploading {
        let (Some(volume), Some(started_at)) = (&found.volume_id, found.started_at) else {
            continue;
        };
        let Ok(packs) = newest_pack(store, &packs_of(volume, &found.snapshot_id)).await else {
            continue;
        };
        let last = packs.map_or(started_at, |at| at.max(started_at));
        if now.as_second().saturating_sub(last.as_second()) >= SILENT_S {
            silent.insert(found.snapshot_id.clone(), last);
        }
    }
    silent
}

/// When the newest object of a folder was put.
async fn newest_pack(
    store: &dyn ObjectStore,
    folder: &str,
) -> Result<Option<Timestamp>, StoreError> {
    let (mut newest, mut from) = (None, None::<String>);
    for _ in 0..PAGES_MAX {
        let page = store.list(folder, from.as_deref()).await?;
        let times = page.objects.iter().map(|object| object.modified_at_s);
        newest = newest.max(times.max());
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    Ok(newest.and_then(|at| Timestamp::from_second(at).ok()))
}

fn row(found: SnapshotSummary, silent: &BTreeMap<SnapshotId, Timestamp>) -> Row {
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
        last_sign_at: silent.get(&found.snapshot_id).copied(),
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
        match (&row.error, row.last_sign_at) {
            (Some(why), _) => format!("{}: {why}", row.status),
            (None, Some(at)) => {
                format!("{}: no sign of life since {}", row.status, moment(at))
            }
            (None, None) => row.status.clone(),
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

//! The catalog: what exists, what is under way, and what has to be undone after a crash.
//!
//! An SQLite database in the state folder. A row is written before each side effect and is durable when the call
//! returns (write-ahead log, synchronised at each commit), so whatever a crash leaves behind is named by a row. The
//! catalog can be lost: ids lie in the storage's own tags, cloud copies in the bucket.
//!
//! This module is the only one with SQL. Calls run one after the other on a thread of their own; the queue to it is
//! bounded, so a slow disk slows callers down.

mod adoptions;
mod attachments;
mod backups;
mod bases;
mod begun;
mod codec;
mod error;
mod exports;
mod imports;
mod in_place;
mod jobs;
mod kept;
mod model;
mod pauses;
mod quiesces;
pub(crate) mod rebuild;
mod received;
mod repositories;
mod schedules;
mod schema;
pub(crate) mod snapshots;
pub(crate) mod status;
mod streams;
mod volumes;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    thread,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use self::{
    adoptions::{Adoption, Way},
    bases::KeptBases,
    error::CatalogError,
    in_place::{InPlaceRow, InPlaceStage},
    model::{
        Attachment, AttachmentKind, AttachmentStep, BackupRow, BackupSource, BackupStatus,
        Consistency, CopyState, Deleting, FrozenPath, Job, JobKind, Metadata, Purpose, Quiescing,
        RecordedError, Sent, SnapshotRow, SourceCopy, Undo, UploadReason, VolumeRow, VolumeSource,
        VolumeStatus,
    },
    quiesces::FreezeTimes,
    schedules::{ItemRow, ItemState, NewRun, RunRow, Running, ScheduleRow, ScheduleState},
    streams::{StreamDirection, StreamRow, StreamStatus},
};

/// Calls waiting for the thread.
const QUEUE_LEN: usize = 64;
const FILE_NAME: &str = "catalog.sqlite";
const LOCK_NAME: &str = "lock";

type Call = Box<dyn FnOnce(&mut Connection) + Send>;

/// The catalog of one manager. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    calls: mpsc::Sender<Call>,
}

impl Catalog {
    /// Opens the catalog in `state_dir`, makes it if it is not there, and keeps every other process out.
    ///
    /// # Errors
    /// `Open`, `Locked`, `Newer`, or `Damaged` if the file is no catalog.
    pub fn open(state_dir: &Path) -> Result<Self, CatalogError> {
        let (lock, mut connection) = open(state_dir)?;
        status::guard(&connection)?;
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE_LEN);
        thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || {
                while let Some(call) = queue.blocking_recv() {
                    call(&mut connection);
                }
                drop(connection);
                // Only now may another process open it.
                drop(lock);
            })
            .map_err(|source| CatalogError::Open {
                path: state_dir.to_owned(),
                source,
            })?;
        Ok(Self { calls })
    }

    /// Runs `work` on the catalog's thread.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let (answer, answered) = oneshot::channel();
        let call: Call = Box::new(move |connection| {
            // Nobody waits any more: what was asked for is done all the same.
            let _ = answer.send(work(connection));
        });
        let sent = self.calls.send(call).await;
        sent.map_err(|_| CatalogError::Closed)?;
        answered.await.map_err(|_| CatalogError::Closed)?
    }
}

/// Keeps every other process out of a state folder, which is made if it is not there.
fn lock(state_dir: &Path) -> Result<File, CatalogError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(failed(state_dir))?;
    let path = state_dir.join(LOCK_NAME);
    let lock = private(&path).map_err(failed(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(CatalogError::Locked {
            path: state_dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(state_dir)(source)),
    }
}

/// A file that nobody else reads, made if it is not there.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CatalogError + use<> {
    let path = path.to_owned();
    move |source| CatalogError::Open { path, source }
}

fn open(state_dir: &Path) -> Result<(File, Connection), CatalogError> {
    let lock = lock(state_dir)?;
    let path = state_dir.join(FILE_NAME);
    // Made here so that its mode, which the log's files take over, is ours from the first moment.
    drop(private(&path).map_err(failed(&path))?);
    let connection = opened(&path).map_err(|error| error.of_damage(&path))?;
    Ok((lock, connection))
}

fn opened(path: &Path) -> Result<Connection, CatalogError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    check_sound(&connection)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Looks at every page, which takes moments: a damaged one would be met in the middle of an operation.
fn check_sound(connection: &Connection) -> Result<(), CatalogError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(CatalogError::Damaged {
            path: FILE_NAME.into(),
            why: found,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        time::{Duration, Instant},
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_is_private_and_held_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let catalog = Catalog::open(&state).unwrap();
        assert!(matches!(
            Catalog::open(&state),
            Err(CatalogError::Locked { .. })
        ));
        assert!(catalog.volumes().await.unwrap().is_empty());
        let mode = |name: &str| {
            let meta = fs::metadata(state.join(name)).unwrap();
            meta.permissions().mode() & 0o777
        };
        assert_eq!(mode(FILE_NAME), 0o600);
        assert_eq!(mode("catalog.sqlite-wal"), 0o600);
        assert_eq!(mode("."), 0o700);
        drop(catalog);
        reopen(&state).await;
    }

    /// The thread closes the files a moment after the last handle is gone.
    async fn reopen(state: &Path) -> Catalog {
        let begun = Instant::now();
        loop {
            match Catalog::open(state) {
                Err(CatalogError::Locked { .. }) => {
                    assert!(begun.elapsed() < PATIENCE, "the catalog stays locked");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => return other.unwrap(),
            }
        }
    }

    #[tokio::test]
    async fn a_newer_or_foreign_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        catalog
            .call(|connection| Ok(connection.pragma_update(None, "user_version", 999)?))
            .await
            .unwrap();
        drop(catalog);
        let found = loop {
            match Catalog::open(dir.path()) {
                Err(CatalogError::Locked { .. }) => tokio::task::yield_now().await,
                other => break other,
            }
        };
        assert!(matches!(found, Err(CatalogError::Newer { found: 999, .. })));

        let foreign = tempfile::tempdir().unwrap();
        fs::write(
            foreign.path().join(FILE_NAME),
            "not a database, but long enough to be read",
        )
        .unwrap();
        assert!(matches!(
            Catalog::open(foreign.path()),
            Err(CatalogError::Damaged { .. })
        ));
    }

    #[tokio::test]
    async fn a_damaged_file_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        for number in 0..40 {
            catalog
                .put_export(format!("v.{number}"), vec![7; 10_000])
                .await
                .unwrap();
        }
        drop(catalog);
        drop(reopen(dir.path()).await);
        drop(reopen(dir.path()).await);
        let path = dir.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        assert!(bytes.len() > 300_000, "{}", bytes.len());
        bytes[200_000..260_000].fill(0xa5);
        let _ = fs::remove_file(dir.path().join("catalog.sqlite-wal"));
        fs::write(&path, bytes).unwrap();
        let damaged = loop {
            match Catalog::open(dir.path()) {
                Err(CatalogError::Locked { .. }) => tokio::task::yield_now().await,
                other => break other.unwrap_err(),
            }
        };
        let text = crate::error::chain(&damaged);
        assert!(text.contains("catalog.sqlite"), "{text}");
        assert!(text.contains("stockpot catalog rebuild"), "{text}");
    }
}

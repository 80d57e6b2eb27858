//! The files of a catalog that was lost: what is there, what of it can still be read, and putting a new one in its place.
//!
//! The new one is made in a folder beside, whole, and gets its name by one rename. The old file is kept under another name.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, params};

use super::{
    BackupRow, Catalog, CatalogError, FILE_NAME, Metadata, SnapshotRow, VolumeRow, backups,
    codec::{column_of, to_json},
    private, schema, snapshots, volumes,
};
use crate::ids;

/// Folder of the catalog that is being made.
const NEW_DIR: &str = "rebuild";
/// A copy of the old one that may be read: what reading does to its log is done to the copy.
const COPY_NAME: &str = "old.sqlite";
/// How long the thread of a catalog may take to let go of its files.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// What only a catalog knows, and is taken over where it can be read. Rows of work under way are not: they name what may be gone.
const KEPT_TABLES: [&str; 7] = [
    "exports",
    "backups",
    // After the backups, which they are of.
    "kept_sources",
    "schedules",
    "schedule_runs",
    "schedule_items",
    "snapshots_of_earlier_content",
];

/// Volumes that are there in part, and what was being done with each. One that something is restored into in place is whole:
/// what is filled lies beside it. Table by table: an older catalog has not all of them.
const NOT_WHOLE: [&str; 5] = [
    "SELECT id, 'being made' FROM volumes WHERE status = 'creating'",
    "SELECT id, 'not made to its end' FROM volumes WHERE status = 'error'",
    "SELECT id, 'being filled from a bucket' FROM volumes WHERE status = 'restoring' AND id NOT IN
        (SELECT volume_id FROM restores_in_place WHERE stage NOT IN ('done', 'undone'))",
    "SELECT temp_volume_id, 'being filled to take the place of volume ' || volume_id FROM restores_in_place
      WHERE stage NOT IN ('done', 'undone')",
    "SELECT volume_id, 'being given what a stream had brought' FROM streams
      WHERE status = 'replacing' AND spare_volume_id IS NOT NULL",
];

/// The catalog that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Existing {
    /// There is none, or it is empty.
    None,
    /// It is sound, and has this many volumes and snapshots.
    Sound(u64),
    /// It cannot be used; why.
    Damaged(String),
}

/// What an old catalog says of volumes and snapshots besides what storage and buckets know.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
}

/// The folder of a catalog, while no daemon works with it.
#[derive(Debug)]
pub(crate) struct Site {
    dir: PathBuf,
    _lock: File,
}

impl Site {
    /// Keeps every daemon out, and makes the folder where the new catalog will be made.
    pub(crate) fn lock(state_dir: &Path) -> Result<Self, CatalogError> {
        let lock = super::lock(state_dir)?;
        let site = Self {
            dir: state_dir.to_owned(),
            _lock: lock,
        };
        // Of a run that was broken off.
        site.clear()?;
        fs::create_dir(site.new_dir()).map_err(failed(&site.new_dir()))?;
        Ok(site)
    }

    /// Where the new catalog is made.
    pub(crate) fn new_dir(&self) -> PathBuf {
        self.dir.join(NEW_DIR)
    }

    /// Looks at the catalog that is there, without changing it.
    pub(crate) fn existing(&self) -> Result<Existing, CatalogError> {
        let Some(copy) = self.copy()? else {
            return Ok(Existing::None);
        };
        let looked = open_old(&copy).and_then(|connection| {
            super::check_sound(&connection)?;
            let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            schema::check_known(found)?;
            let count = "SELECT (SELECT count(*) FROM volumes) + (SELECT count(*) FROM snapshots)";
            match found {
                0 => Ok(0),
                _ => Ok(connection.query_row(count, [], |row| row.get::<_, i64>(0))?),
            }
        });
        match looked {
            Ok(0) => Ok(Existing::None),
            Ok(rows) => Ok(Existing::Sound(u64::try_from(rows).unwrap_or(0))),
            Err(error @ CatalogError::Newer { .. }) => Err(error),
            Err(error) => Ok(Existing::Damaged(crate::error::chain(&error))),
        }
    }

    /// A copy of the old catalog and its log, made once.
    fn copy(&self) -> Result<Option<PathBuf>, CatalogError> {
        let (old, copy) = (self.dir.join(FILE_NAME), self.new_dir().join(COPY_NAME));
        if !old.exists() {
            return Ok(None);
        }
        if !copy.exists() {
            drop(private(&copy).map_err(failed(&copy))?);
            fs::copy(&old, &copy).map_err(failed(&copy))?;
            let (log, log_copy) = (with(&old, "-wal"), with(&copy, "-wal"));
            if log.exists() {
                fs::copy(&log, &log_copy).map_err(failed(&log_copy))?;
            }
        }
        Ok(Some(copy))
    }

    /// What the old catalog says of a table's rows, as far as it can be read.
    pub(crate) fn said(&self, table: &'static str) -> Vec<(String, Said)> {
        let Ok(Some(copy)) = self.copy() else {
            return Vec::new();
        };
        let mut said = Vec::new();
        let mut reading = || -> Result<(), CatalogError> {
            let connection = open_old(&copy)?;
            let sql = format!("SELECT id, name, metadata FROM {table}");
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let metadata: String = row.get(2)?;
                let one = Said {
                    name: row.get(1)?,
                    metadata: serde_json::from_str(&metadata).unwrap_or_default(),
                };
                said.push((row.get(0)?, one));
            }
            Ok(())
        };
        if let Err(error) = reading() {
            tracing::debug!(table, %error, "not all of it can be read");
        }
        said
    }

    /// Volumes that are not whole, by what the old catalog says of them, as far as it can be read: id and what was done.
    pub(crate) fn not_whole(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let Ok(Some(copy)) = self.copy() else {
            return found;
        };
        for sql in NOT_WHOLE {
            let mut reading = || -> Result<(), CatalogError> {
                let connection = open_old(&copy)?;
                let mut statement = connection.prepare(sql)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    found.insert(row.get(0)?, row.get(1)?);
                }
                Ok(())
            };
            if let Err(error) = reading() {
                tracing::debug!(sql, %error, "not all of it can be read");
            }
        }
        found
    }

    /// Takes over from the old catalog what nothing else knows; table by table how many rows, or why not.
    pub(crate) async fn keep(
        &self,
        new: &Catalog,
    ) -> Result<Vec<(String, Result<u64, String>)>, CatalogError> {
        let Some(copy) = self.copy()? else {
            return Ok(Vec::new());
        };
        new.call(move |connection| {
            let attached =
                connection.execute("ATTACH DATABASE ?1 AS old", [copy.to_string_lossy()]);
            if let Err(error) = attached {
                return Ok(vec![("the old catalog".to_owned(), Err(error.to_string()))]);
            }
            let mut kept = Vec::new();
            for table in KEPT_TABLES {
                match keep_table(connection, table) {
                    Ok(None) => {}
                    Ok(Some(rows)) => kept.push((table.to_owned(), Ok(rows))),
                    Err(error) => kept.push((table.to_owned(), Err(error.to_string()))),
                }
            }
            connection.execute("DETACH DATABASE old", [])?;
            Ok(kept)
        })
        .await
    }

    /// Puts the new catalog, which is closed, in the place of the old one; where that is kept.
    pub(crate) fn put(self) -> Result<Option<PathBuf>, CatalogError> {
        let (place, new) = (self.dir.join(FILE_NAME), self.new_dir().join(FILE_NAME));
        File::open(&new)
            .and_then(|file| file.sync_all())
            .map_err(failed(&new))?;
        let mut aside = None;
        if place.exists() {
            let stamp = jiff::Timestamp::now().as_second();
            let kept = self.dir.join(format!("{FILE_NAME}.before-rebuild-{stamp}"));
            // What a sound one has in its log is in the file then; a log that stays would be taken for the new one's.
            if let Ok(connection) = Connection::open(&place) {
                let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            }
            fs::hard_link(&place, &kept).map_err(failed(&kept))?;
            for suffix in ["-wal", "-shm"] {
                match fs::rename(with(&place, suffix), with(&kept, suffix)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed(&place)(error));
                    }
                    _ => {}
                }
            }
            aside = Some(kept);
        }
        fs::rename(&new, &place).map_err(failed(&place))?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed(&self.dir))?;
        self.clear()?;
        Ok(aside)
    }

    /// Removes what was made.
    pub(crate) fn clear(&self) -> Result<(), CatalogError> {
        match fs::remove_dir_all(self.new_dir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&self.new_dir())(error))
            }
            _ => Ok(()),
        }
    }
}

impl Catalog {
    /// Writes all rows of a catalog that is made again.
    pub(crate) async fn fill(
        &self,
        all_volumes: Vec<VolumeRow>,
        all_snapshots: Vec<SnapshotRow>,
        all_backups: Vec<BackupRow>,
    ) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            for volume in &all_volumes {
                volumes::insert(&transaction, volume)?;
            }
            for snapshot in &all_snapshots {
                put_snapshot(&transaction, snapshot)?;
            }
            for backup in &all_backups {
                put_backup(&transaction, backup)?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Lets go of the files, once every other handle is gone.
    pub(crate) async fn close(self, state_dir: &Path) -> Result<(), CatalogError> {
        drop(self);
        let started = Instant::now();
        let path = state_dir.join(super::LOCK_NAME);
        loop {
            let lock = File::open(&path).map_err(failed(&path))?;
            match lock.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if started.elapsed() < CLOSE_WITHIN => {
                    drop(lock);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(CatalogError::Locked {
                        path: state_dir.to_owned(),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
            }
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CatalogError + use<> {
    let path = path.to_owned();
    move |source| CatalogError::Open { path, source }
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open_old(copy: &Path) -> Result<Connection, CatalogError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Rows of a table that both have, in the columns that both have; `None` if one has none.
fn keep_table(connection: &Connection, table: &str) -> Result<Option<u64>, rusqlite::Error> {
    let columns = |database: &str| -> Result<Vec<String>, rusqlite::Error> {
        let sql = "SELECT name FROM pragma_table_info(?1, ?2)";
        let mut statement = connection.prepare(sql)?;
        let names = statement.query_map([table, database], |row| row.get(0))?;
        names.collect()
    };
    let (ours, theirs) = (columns("main")?, columns("old")?);
    let both: Vec<&str> = ours
        .iter()
        .filter(|name| theirs.contains(name))
        .map(String::as_str)
        .collect();
    if both.is_empty() {
        return Ok(None);
    }
    let both = both.join(", ");
    let only = match table {
        "backups" => "WHERE status NOT IN ('creating', 'cancelling')",
        "kept_sources" => "WHERE id IN (SELECT snapshot_id FROM main.backups)",
        _ => "",
    };
    let sql = format!(
        "INSERT OR IGNORE INTO main.{table} ({both}) SELECT {both} FROM old.{table} {only}"
    );
    let rows = connection.execute(&sql, [])?;
    if table == "backups" {
        // What was temporary is on no record any more.
        connection.execute(
            "UPDATE main.backups SET holds_volume = 0, cleaned = 1, temp_snapshot_id = NULL, temp_volume_id = NULL",
            [],
        )?;
    }
    Ok(Some(rows as u64))
}

fn put_snapshot(connection: &Connection, snapshot: &SnapshotRow) -> Result<(), CatalogError> {
    snapshots::insert(connection, snapshot)?;
    let (reason, why) = match &snapshot.reason {
        Some((reason, why)) => (Some(reason.as_str()), Some(why.as_str())),
        None => (None, None),
    };
    connection.execute(
        "UPDATE snapshots SET location = ?2, stored_bytes = ?3, requests = ?4, reason = ?5, reason_text = ?6, kept_as_base = ?7
          WHERE id = ?1",
        params![
            snapshot.id.as_str(),
            snapshot.location,
            snapshot.sent.map(|sent| column_of(sent.stored_bytes)),
            snapshot.sent.map(|sent| column_of(sent.requests)),
            reason,
            why,
            snapshot.kept_as_base,
        ],
    )?;
    // Whatever was meant for a bucket may have been sent in part.
    if ids::repository_of(&snapshot.id).is_some() {
        let sql = "INSERT OR IGNORE INTO begun_uploads (id) VALUES (?1)";
        connection.execute(sql, [snapshot.id.as_str()])?;
    }
    Ok(())
}

/// One that was taken over from the old catalog stays as it is.
fn put_backup(connection: &Connection, backup: &BackupRow) -> Result<(), CatalogError> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM backups WHERE id = ?1 OR name = ?1 OR snapshot_id = ?2)";
    let ids = params![backup.id, backup.snapshot_id.as_str()];
    if connection.query_row(sql, ids, |row| row.get(0))? {
        return Ok(());
    }
    backups::insert(connection, backup)?;
    let (reason, why) = match &backup.reason {
        Some((reason, why)) => (Some(reason.as_str()), Some(why.as_str())),
        None => (None, None),
    };
    connection.execute(
        "UPDATE backups SET parent = ?2, bytes_done = ?3, reason = ?4, reason_text = ?5, stored_bytes = ?6, requests = ?7,
                location = ?8, cleaned = 1, ended_at_us = ?9, metadata = ?10
          WHERE id = ?1",
        params![
            backup.id,
            backup.parent,
            column_of(backup.bytes_done),
            reason,
            why,
            backup.sent.map(|sent| column_of(sent.stored_bytes)),
            backup.sent.map(|sent| column_of(sent.requests)),
            backup.location,
            backup.ended_at_us,
            to_json(&backup.metadata),
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;

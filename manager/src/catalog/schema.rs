//! Tables, and how an older catalog becomes a newer one.

use rusqlite::{Connection, TransactionBehavior};

use super::{CatalogError, adoptions, begun, in_place, kept, quiesces, schedules, streams};

/// One script per version; `user_version` counts how many have run. Published scripts never change.
const MIGRATIONS: &[&str] = &[
    FIRST,
    SECOND,
    THIRD,
    FOURTH,
    FIFTH,
    begun::SCRIPT,
    SEVENTH,
    streams::SCRIPT,
    kept::SCRIPT,
    quiesces::SCRIPT,
    schedules::SCRIPT,
    adoptions::SCRIPT,
    in_place::SCRIPT,
    FOURTEENTH,
];

const FIRST: &str = "
CREATE TABLE volumes (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    -- What was asked for until the device is made, then its exact size.
    size_bytes      INTEGER NOT NULL CHECK (size_bytes >= 0),
    pool            TEXT NOT NULL,
    status          TEXT NOT NULL,
    -- What a volume under way goes back to when the operation is refused.
    previous_status TEXT,
    source_kind     TEXT NOT NULL,
    source_id       TEXT,
    source_copy     TEXT,
    metadata        TEXT NOT NULL,
    error           TEXT,
    error_code      INTEGER,
    -- Whether a caller has been told of the error.
    error_reported  INTEGER NOT NULL DEFAULT 0,
    created_at_us   INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshots (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    -- No foreign key: snapshots outlive their volume.
    volume_id       TEXT NOT NULL,
    volume_name     TEXT NOT NULL,
    pool            TEXT NOT NULL,
    -- Both unknown until it is cut.
    size_bytes      INTEGER CHECK (size_bytes >= 0),
    cut_at_us       INTEGER,
    profile         TEXT NOT NULL,
    local_state     TEXT NOT NULL,
    cloud_state     TEXT NOT NULL,
    location        TEXT,
    metadata        TEXT NOT NULL,
    error           TEXT,
    error_code      INTEGER,
    error_reported  INTEGER NOT NULL DEFAULT 0,
    -- Which copies are being removed.
    deleting        TEXT,
    created_at_us   INTEGER NOT NULL
) STRICT;
CREATE INDEX snapshots_of_volume ON snapshots (volume_id);

-- What is attached to this host, or may be: written before each step.
CREATE TABLE attachments (
    kind            TEXT NOT NULL,
    id              TEXT NOT NULL,
    pool            TEXT NOT NULL,
    purpose         TEXT NOT NULL,
    access          TEXT NOT NULL,
    step            TEXT NOT NULL,
    connection      TEXT,
    device_path     TEXT,
    PRIMARY KEY (kind, id)
) STRICT;

-- Uploads and restores that are not final.
CREATE TABLE jobs (
    kind            TEXT NOT NULL,
    target_id       TEXT NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    step            TEXT NOT NULL,
    error           TEXT,
    created_at_us   INTEGER NOT NULL,
    PRIMARY KEY (kind, target_id)
) STRICT;

-- Which repository was found where, so that a snapshot can be cut while the bucket does not answer.
CREATE TABLE repositories (
    location        TEXT PRIMARY KEY,
    short_id        TEXT NOT NULL
) STRICT;
";

const SECOND: &str = "
-- What the upload that was committed sent.
ALTER TABLE snapshots ADD COLUMN stored_bytes INTEGER CHECK (stored_bytes >= 0);
ALTER TABLE snapshots ADD COLUMN requests INTEGER CHECK (requests >= 0);

-- Snapshots that were forgotten without a word to their repository, which had no committed copy of them that is
-- on record: asking again to delete one is success though the repository cannot be asked.
CREATE TABLE abandoned_snapshots (
    id              TEXT PRIMARY KEY
) STRICT;
";

const THIRD: &str = "
-- How the upload that was committed knew what to send, and why it did not send less.
ALTER TABLE snapshots ADD COLUMN reason TEXT;
ALTER TABLE snapshots ADD COLUMN reason_text TEXT;
-- The local copy was deleted, and its device is kept so that the next upload can be told what changed since.
ALTER TABLE snapshots ADD COLUMN kept_as_base INTEGER NOT NULL DEFAULT 0;
";

const FOURTH: &str = "
-- To whom volumes and snapshots of this host are exported, with the secrets of each connection: sealed with a key that
-- is not in here.
CREATE TABLE exports (
    name            TEXT PRIMARY KEY,
    sealed          BLOB NOT NULL
) STRICT;
";

const FIFTH: &str = "
-- Each act of making a cloud copy of a volume, also those that failed. No foreign keys: they outlive volume and snapshot.
CREATE TABLE backups (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    volume_id        TEXT NOT NULL,
    volume_name      TEXT NOT NULL,
    -- The cloud copy's.
    snapshot_id      TEXT NOT NULL UNIQUE,
    profile          TEXT NOT NULL,
    status           TEXT NOT NULL,
    -- What is read: the volume, or a temporary snapshot of it.
    source           TEXT NOT NULL,
    -- Whether the volume is backing-up because of it.
    holds_volume     INTEGER NOT NULL DEFAULT 0,
    -- Until they are removed.
    temp_snapshot_id TEXT,
    temp_volume_id   TEXT,
    parent           TEXT,
    phase            TEXT NOT NULL,
    bytes_done       INTEGER NOT NULL DEFAULT 0 CHECK (bytes_done >= 0),
    bytes_total      INTEGER NOT NULL DEFAULT 0 CHECK (bytes_total >= 0),
    reason           TEXT,
    reason_text      TEXT,
    stored_bytes     INTEGER CHECK (stored_bytes >= 0),
    requests         INTEGER CHECK (requests >= 0),
    location         TEXT,
    error            TEXT,
    error_code       INTEGER,
    -- Nothing temporary is left of it.
    cleaned          INTEGER NOT NULL DEFAULT 0,
    metadata         TEXT NOT NULL,
    created_at_us    INTEGER NOT NULL,
    cut_at_us        INTEGER,
    ended_at_us      INTEGER
) STRICT;
CREATE INDEX backups_of_volume ON backups (volume_id);
";

const SEVENTH: &str = "
-- Stopped until somebody asks to go on.
ALTER TABLE backups ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
-- Shares nothing with earlier ones because that was asked for.
ALTER TABLE backups ADD COLUMN is_full INTEGER NOT NULL DEFAULT 0;
-- The schedule that asked for it.
ALTER TABLE backups ADD COLUMN schedule TEXT;
-- What a restore of it shows, and why that is no better.
ALTER TABLE backups ADD COLUMN consistency TEXT;
ALTER TABLE backups ADD COLUMN consistency_text TEXT;
-- How long its file systems were frozen.
ALTER TABLE backups ADD COLUMN frozen_us INTEGER NOT NULL DEFAULT 0 CHECK (frozen_us >= 0);
";

const FOURTEENTH: &str = "
-- What a restore of it shows, and why that is no better: its upload writes that into the bucket.
ALTER TABLE snapshots ADD COLUMN consistency TEXT;
ALTER TABLE snapshots ADD COLUMN consistency_text TEXT;
UPDATE snapshots SET (consistency, consistency_text) =
    (SELECT consistency, consistency_text FROM backups WHERE backups.snapshot_id = snapshots.id);
";

/// Refuses a version that this program does not know; the newest that it knows.
pub(super) fn check_known(found: i64) -> Result<i64, CatalogError> {
    let known = i64::try_from(MIGRATIONS.len()).expect("a handful of scripts");
    match (0..=known).contains(&found) {
        true => Ok(known),
        false => Err(CatalogError::Newer { found, known }),
    }
}

/// Brings the tables up to date.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), CatalogError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = check_known(found)?;
    let done = usize::try_from(found).expect("checked to be small");
    for script in &MIGRATIONS[done..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_of_the_first_version_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(FIRST).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let row = "INSERT INTO snapshots (id, name, volume_id, volume_name, pool, profile, local_state, cloud_state,
                          metadata, created_at_us)
                   VALUES ('snap-1', 'n', 'vol-1', 'v', 'p', '', 'present', 'none', '{}', 1),
                          ('snap-2', 'm', 'vol-1', 'v', 'p', '', 'present', 'failed', '{}', 1)";
        connection.execute(row, []).unwrap();
        for _ in 0..2 {
            migrate(&mut connection).unwrap();
        }
        let kept = "SELECT kept_as_base FROM snapshots WHERE id = 'snap-1'";
        let kept: bool = connection.query_row(kept, [], |row| row.get(0)).unwrap();
        assert!(!kept);
        let sent = "SELECT stored_bytes FROM snapshots WHERE id = 'snap-1'";
        let sent: Option<i64> = connection.query_row(sent, [], |row| row.get(0)).unwrap();
        assert_eq!(sent, None);
        let shows = "SELECT consistency FROM snapshots WHERE id = 'snap-1'";
        let shows: Option<String> = connection.query_row(shows, [], |row| row.get(0)).unwrap();
        assert_eq!(shows, None);
        // What became of its upload nobody knows any more; a row that goes takes its note along.
        let begun = |connection: &Connection| -> i64 {
            let sql = "SELECT count(*) FROM begun_uploads WHERE id = 'snap-2'";
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(begun(&connection), 1);
        connection.execute("DELETE FROM snapshots", []).unwrap();
        assert_eq!(begun(&connection), 0);
        let exports = "SELECT count(*) FROM exports";
        let exports: i64 = connection.query_row(exports, [], |row| row.get(0)).unwrap();
        assert_eq!(exports, 0);
        let backups = "SELECT count(*) FROM backups";
        let backups: i64 = connection.query_row(backups, [], |row| row.get(0)).unwrap();
        assert_eq!(backups, 0);
    }
}

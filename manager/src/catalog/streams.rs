//! Contents that were sent or received as they are: those under way, and how the last ones ended.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, named_params};
use stockpot_driver::{SnapshotId, VolumeId};

use super::{
    Catalog, CatalogError, Metadata, RecordedError,
    codec::{Columns, column_of, text_enum, to_json},
};

/// How many that have ended are kept on record, besides the last one of each snapshot that is there.
const KEPT: i64 = 1000;

/// The table. No foreign keys: a record outlives its volume.
pub(super) const SCRIPT: &str = "
-- Contents sent to, or received from, somebody at an address.
CREATE TABLE streams (
    id              TEXT PRIMARY KEY,
    direction       TEXT NOT NULL,
    status          TEXT NOT NULL,
    -- What is sent.
    snapshot_id     TEXT,
    -- The volume that it is of, or that is received.
    volume_id       TEXT NOT NULL,
    volume_name     TEXT NOT NULL,
    -- What is received lies there until all of it is, and replaces the content of the other one then.
    spare_volume_id TEXT,
    peer            TEXT NOT NULL,
    bytes_done      INTEGER NOT NULL DEFAULT 0 CHECK (bytes_done >= 0),
    bytes_total     INTEGER NOT NULL DEFAULT 0 CHECK (bytes_total >= 0),
    error           TEXT,
    error_code      INTEGER,
    metadata        TEXT NOT NULL,
    created_at_us   INTEGER NOT NULL,
    ended_at_us     INTEGER
) STRICT;
CREATE TRIGGER streams_end AFTER DELETE ON snapshots BEGIN
    DELETE FROM streams WHERE snapshot_id = OLD.id AND ended_at_us IS NOT NULL;
END;
";

text_enum! {
    /// Which way a stream goes.
    StreamDirection {
        /// A snapshot's content to somebody.
        Send = "send",
        /// A volume's content from somebody.
        Receive = "receive",
    }
}

text_enum! {
    /// Where a stream is in its life.
    StreamStatus {
        /// Bytes are on their way, or about to be.
        Running = "running",
        /// All has come and was checked; it takes the place of what the volume has that was there.
        Replacing = "replacing",
        /// It is all there.
        Done = "done",
        /// It was given up, and nothing of it is left.
        Failed = "failed",
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRow {
    /// Its id; later ones sort after earlier ones.
    pub id: String,
    /// Which way it goes.
    pub direction: StreamDirection,
    /// Where it is in its life.
    pub status: StreamStatus,
    /// The snapshot that is sent.
    pub snapshot_id: Option<SnapshotId>,
    /// The volume that it is of, or that is received.
    pub volume_id: VolumeId,
    /// That volume's name.
    pub volume_name: String,
    /// Where it is received until it replaces what is in the volume.
    pub spare_volume_id: Option<VolumeId>,
    /// `host:port` of the other side.
    pub peer: String,
    /// Bytes of the content that are dealt with.
    pub bytes_done: u64,
    /// All of them; 0 until that is known.
    pub bytes_total: u64,
    /// Why it failed.
    pub failure: Option<RecordedError>,
    /// The caller's words.
    pub metadata: Metadata,
    /// When it was asked for, in microseconds since the Unix epoch.
    pub created_at_us: i64,
    /// When it ended.
    pub ended_at_us: Option<i64>,
}

impl Catalog {
    /// Writes a stream, or how far it has come. Of those that have ended the oldest are forgotten, but never how sending a snapshot went
    /// at last that is still there: it would seem never to have been sent.
    ///
    /// # Errors
    /// `Database`.
    pub async fn put_stream(&self, row: StreamRow) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            put(&transaction, &row)?;
            transaction.execute(
                "DELETE FROM streams WHERE id IN (
                     SELECT id FROM streams
                     WHERE ended_at_us IS NOT NULL
                       AND id NOT IN (SELECT max(id) FROM streams
                                      WHERE snapshot_id IN (SELECT id FROM snapshots) GROUP BY snapshot_id)
                     ORDER BY id DESC LIMIT -1 OFFSET ?1)",
                [KEPT],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Notes how far one is that has not ended.
    ///
    /// # Errors
    /// `Database`.
    pub async fn stream_progress(&self, id: &str, bytes_done: u64) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.call(move |connection| {
            let sql = "UPDATE streams SET bytes_done = ?2 WHERE id = ?1 AND ended_at_us IS NULL";
            connection.execute(sql, (id, column_of(bytes_done)))?;
            Ok(())
        })
        .await
    }

    /// Every one on record, oldest first.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn streams(&self) -> Result<Vec<StreamRow>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM streams ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut streams = Vec::new();
            while let Some(row) = rows.next()? {
                streams.push(read(row)?);
            }
            Ok(streams)
        })
        .await
    }

    /// The volumes in which something lies that is to replace the content of another one.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn spare_volumes(&self) -> Result<BTreeSet<VolumeId>, CatalogError> {
        let streams = self.streams().await?;
        let under_way = streams.into_iter().filter(|row| row.ended_at_us.is_none());
        Ok(under_way.filter_map(|row| row.spare_volume_id).collect())
    }
}

pub(super) fn put(connection: &Connection, row: &StreamRow) -> Result<(), CatalogError> {
    connection.execute(
        "INSERT OR REPLACE INTO streams (id, direction, status, snapshot_id, volume_id, volume_name, spare_volume_id,
                peer, bytes_done, bytes_total, error, error_code, metadata, created_at_us, ended_at_us)
         VALUES (:id, :direction, :status, :snapshot, :volume, :name, :spare, :peer, :done, :total, :error, :code,
                :metadata, :created, :ended)",
        named_params! {
            ":id": row.id,
            ":direction": row.direction.as_str(),
            ":status": row.status.as_str(),
            ":snapshot": row.snapshot_id.as_ref().map(SnapshotId::as_str),
            ":volume": row.volume_id.as_str(),
            ":name": row.volume_name,
            ":spare": row.spare_volume_id.as_ref().map(VolumeId::as_str),
            ":peer": row.peer,
            ":done": column_of(row.bytes_done),
            ":total": column_of(row.bytes_total),
            ":error": row.failure.as_ref().map(|failure| &failure.text),
            ":code": row.failure.as_ref().map(|failure| failure.code),
            ":metadata": to_json(&row.metadata),
            ":created": row.created_at_us,
            ":ended": row.ended_at_us,
        },
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<StreamRow, CatalogError> {
    let columns = Columns {
        table: "streams",
        row,
    };
    Ok(StreamRow {
        id: columns.text("id")?,
        direction: columns.word("direction")?,
        status: columns.word("status")?,
        snapshot_id: columns.optional_word("snapshot_id")?,
        volume_id: columns.word("volume_id")?,
        volume_name: columns.text("volume_name")?,
        spare_volume_id: columns.optional_word("spare_volume_id")?,
        peer: columns.text("peer")?,
        bytes_done: columns.bytes("bytes_done")?,
        bytes_total: columns.bytes("bytes_total")?,
        failure: columns.recorded_error()?,
        metadata: columns.json("metadata")?,
        created_at_us: columns.number("created_at_us")?,
        ended_at_us: columns.optional_number("ended_at_us")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::snapshots::tests::snapshot;

    fn row(number: i64) -> StreamRow {
        StreamRow {
            id: format!("str-{number:06}"),
            direction: StreamDirection::Send,
            status: StreamStatus::Running,
            snapshot_id: Some("snap-1".parse().unwrap()),
            volume_id: "vol-1".parse().unwrap(),
            volume_name: "a".to_owned(),
            spare_volume_id: None,
            peer: "192.0.2.1:9000".to_owned(),
            bytes_done: 0,
            bytes_total: 10,
            failure: None,
            metadata: Metadata::from([("k".to_owned(), "v".to_owned())]),
            created_at_us: number,
            ended_at_us: None,
        }
    }

    #[tokio::test]
    async fn they_are_kept_until_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let mut running = row(0);
        catalog.put_stream(running.clone()).await.unwrap();
        catalog.stream_progress(&running.id, 4).await.unwrap();
        running.bytes_done = 4;
        assert_eq!(catalog.streams().await.unwrap(), [running.clone()]);
        let there = snapshot("there");
        catalog.insert_snapshot(there.clone()).await.unwrap();
        for number in 1..=KEPT + 2 {
            let mut ended = row(number);
            if number <= 2 {
                ended.snapshot_id = Some(there.id.clone());
            }
            ended.status = StreamStatus::Failed;
            ended.failure = Some(RecordedError {
                code: 14,
                text: "no answer".to_owned(),
            });
            ended.ended_at_us = Some(number);
            catalog.put_stream(ended).await.unwrap();
        }
        let kept = catalog.streams().await.unwrap();
        assert_eq!(i64::try_from(kept.len()).unwrap(), KEPT + 2);
        // What runs stays, and how it went at last with the snapshot that is there; the oldest other one is gone.
        assert_eq!(kept[0], running);
        assert_eq!((kept[1].created_at_us, kept[2].created_at_us), (2, 3));
        // What has ended has its last word.
        catalog.stream_progress(&kept[1].id, 9).await.unwrap();
        assert_eq!(catalog.streams().await.unwrap()[1], kept[1]);
    }
}

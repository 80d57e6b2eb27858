//! What a stream has brought, and the volume that has it: written in one transaction each, so that a crash finds both or neither.

use rusqlite::{Connection, params};
use stockpot_driver::VolumeId;

use super::{
    Catalog, CatalogError, StreamRow,
    codec::column_of,
    in_place::{from_restoring, has_new_content, to_restoring},
    streams::put,
};

impl Catalog {
    /// A new volume is complete and available, of this size, and its stream is what it says here. `false`, and nothing is written,
    /// when the volume is not being made any more.
    ///
    /// # Errors
    /// `Database`.
    pub async fn stream_made(
        &self,
        stream: StreamRow,
        size_bytes: u64,
    ) -> Result<bool, CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            if !is_made(&transaction, &stream.volume_id, size_bytes)? {
                return Ok(false);
            }
            put(&transaction, &stream)?;
            transaction.commit()?;
            Ok(true)
        })
        .await
    }

    /// A spare volume is complete, of this size, and takes the place of the stream's volume, which is `Restoring` from here on.
    /// `false`, and nothing is written, when the one is not being made or the other not available any more.
    ///
    /// # Errors
    /// `Database`.
    pub async fn stream_replaces(
        &self,
        stream: StreamRow,
        spare: &VolumeId,
        size_bytes: u64,
    ) -> Result<bool, CatalogError> {
        let spare = spare.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            if !is_made(&transaction, &spare, size_bytes)?
                || !to_restoring(&transaction, &stream.volume_id)?
            {
                return Ok(false);
            }
            put(&transaction, &stream)?;
            transaction.commit()?;
            Ok(true)
        })
        .await
    }

    /// The spare volume has taken the place of the stream's volume, which has this size.
    ///
    /// # Errors
    /// `Database`.
    pub async fn stream_replaced(
        &self,
        stream: StreamRow,
        spare: &VolumeId,
        size_bytes: u64,
    ) -> Result<(), CatalogError> {
        let spare = spare.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            has_new_content(&transaction, &stream.volume_id, size_bytes)?;
            from_restoring(&transaction, &stream.volume_id)?;
            transaction.execute("DELETE FROM volumes WHERE id = ?1", [spare.as_str()])?;
            put(&transaction, &stream)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The stream's volume keeps what it has.
    ///
    /// # Errors
    /// `Database`.
    pub async fn stream_not_replaced(&self, stream: StreamRow) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            from_restoring(&transaction, &stream.volume_id)?;
            put(&transaction, &stream)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Whether what a stream has brought is to take the place of this volume.
    ///
    /// # Errors
    /// `Database`.
    pub async fn is_being_replaced(&self, volume: &VolumeId) -> Result<bool, CatalogError> {
        let volume = volume.clone();
        self.call(move |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM streams WHERE volume_id = ?1 AND status = 'replacing')";
            Ok(connection.query_row(sql, [volume.as_str()], |row| row.get(0))?)
        })
        .await
    }
}

/// From being made to available.
fn is_made(
    connection: &Connection,
    volume: &VolumeId,
    size_bytes: u64,
) -> Result<bool, CatalogError> {
    let changed = connection.execute(
        "UPDATE volumes SET status = 'available', previous_status = NULL, size_bytes = ?2
          WHERE id = ?1 AND status = 'creating'",
        params![volume.as_str(), column_of(size_bytes)],
    )?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Metadata, StreamDirection, StreamStatus, VolumeRow, VolumeStatus,
            volumes::tests::volume,
        },
        *,
    };

    /// A stream of this status into a volume, or into the spare one of it.
    fn stream(status: StreamStatus, spare: Option<&str>) -> StreamRow {
        StreamRow {
            id: "str-1".to_owned(),
            direction: StreamDirection::Receive,
            status,
            snapshot_id: None,
            volume_id: "vol-a".parse().unwrap(),
            volume_name: "a".to_owned(),
            spare_volume_id: spare.map(|id| id.parse().unwrap()),
            peer: "192.0.2.1:9000".to_owned(),
            bytes_done: 0,
            bytes_total: 10,
            failure: None,
            metadata: Metadata::new(),
            created_at_us: 1,
            ended_at_us: None,
        }
    }

    async fn statuses(catalog: &Catalog) -> Vec<(String, VolumeStatus)> {
        let volumes = catalog.volumes().await.unwrap();
        let told = |row: VolumeRow| (row.id.to_string(), row.status);
        volumes.into_iter().map(told).collect()
    }

    #[tokio::test]
    async fn a_new_volume_and_its_stream_end_together() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let made = volume("a", VolumeStatus::Creating);
        let id = made.id.clone();
        catalog.insert_volume(made).await.unwrap();
        catalog
            .put_stream(stream(StreamStatus::Running, None))
            .await
            .unwrap();
        let done = stream(StreamStatus::Done, None);
        assert!(catalog.stream_made(done.clone(), 2 << 20).await.unwrap());
        let there = catalog.volume(&id).await.unwrap().unwrap();
        assert_eq!(
            (there.status, there.size_bytes),
            (VolumeStatus::Available, 2 << 20)
        );
        assert_eq!(
            catalog.streams().await.unwrap(),
            std::slice::from_ref(&done)
        );
        // One that is being deleted ends nothing.
        let deleting = VolumeStatus::Deleting;
        let moved = catalog.move_volume(&id, VolumeStatus::Available, deleting, None);
        assert!(moved.await.unwrap());
        let running = stream(StreamStatus::Running, None);
        catalog.put_stream(running.clone()).await.unwrap();
        assert!(!catalog.stream_made(done, 1).await.unwrap());
        assert_eq!(catalog.streams().await.unwrap(), [running]);
    }

    #[tokio::test]
    async fn a_volume_that_is_replaced_is_nobodys_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let there = volume("a", VolumeStatus::Available);
        let (id, spare) = (there.id.clone(), "vol-b".parse().unwrap());
        catalog.insert_volume(there).await.unwrap();
        let replacing = stream(StreamStatus::Replacing, Some("vol-b"));
        for goes_well in [false, true] {
            let row = volume("b", VolumeStatus::Creating);
            catalog.insert_volume(row).await.unwrap();
            let begun = catalog.stream_replaces(replacing.clone(), &spare, 2 << 20);
            assert!(begun.await.unwrap());
            assert_eq!(
                statuses(&catalog).await,
                [
                    ("vol-a".to_owned(), VolumeStatus::Restoring),
                    ("vol-b".to_owned(), VolumeStatus::Available)
                ]
            );
            assert!(catalog.is_being_replaced(&id).await.unwrap());
            assert_eq!(catalog.jobs().await.unwrap().len(), 1);
            // Not a second time.
            let again = catalog.stream_replaces(replacing.clone(), &spare, 1);
            assert!(!again.await.unwrap());
            if goes_well {
                let done = stream(StreamStatus::Done, None);
                catalog
                    .stream_replaced(done, &spare, 2 << 20)
                    .await
                    .unwrap();
            } else {
                let failed = stream(StreamStatus::Failed, None);
                catalog.stream_not_replaced(failed).await.unwrap();
                catalog.remove_volume(&spare).await.unwrap();
            }
            assert_eq!(
                statuses(&catalog).await,
                [("vol-a".to_owned(), VolumeStatus::Available)]
            );
            assert!(!catalog.is_being_replaced(&id).await.unwrap());
            assert!(catalog.jobs().await.unwrap().is_empty());
        }
        let last = catalog.volume(&id).await.unwrap().unwrap();
        assert_eq!(last.size_bytes, 2 << 20);
        // A spare one does not take the place of what somebody uses.
        let row = volume("b", VolumeStatus::Creating);
        catalog.insert_volume(row).await.unwrap();
        let used = VolumeStatus::InUse;
        let moved = catalog.move_volume(&id, VolumeStatus::Available, used, None);
        assert!(moved.await.unwrap());
        let begun = catalog.stream_replaces(replacing, &spare, 1);
        assert!(!begun.await.unwrap());
        assert_eq!(
            statuses(&catalog).await[1],
            ("vol-b".to_owned(), VolumeStatus::Creating)
        );
    }
}

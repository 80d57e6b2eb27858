use super::*;
use crate::catalog::{Deleting, RecordedError, Sent, UploadReason};

/// A snapshot of `vol-1` that is not cut yet.
pub(crate) fn snapshot(name: &str) -> SnapshotRow {
    SnapshotRow {
        id: format!("snap-{name}").parse().unwrap(),
        name: name.to_owned(),
        volume_id: "vol-1".parse().unwrap(),
        volume_name: "one".to_owned(),
        pool: "p".to_owned(),
        size_bytes: None,
        cut_at_us: None,
        profile: "offsite".to_owned(),
        local: CopyState::Pending,
        cloud: CopyState::Pending,
        location: None,
        sent: None,
        reason: None,
        kept_as_base: false,
        consistency: None,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        error: None,
        error_reported: false,
        deleting: None,
        created_at_us: 1,
    }
}

#[tokio::test]
async fn a_snapshot_is_cut_uploaded_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let row = snapshot("a");
    let id = &row.id;
    catalog.insert_snapshot(row.clone()).await.unwrap();
    assert_eq!(catalog.snapshot(id).await.unwrap().unwrap(), row);
    assert!(catalog.jobs().await.unwrap().is_empty());

    catalog.snapshot_cut(id, 4096, 99).await.unwrap();
    let cut = catalog.snapshot_by_name("a").await.unwrap().unwrap();
    assert_eq!((cut.size_bytes, cut.cut_at_us), (Some(4096), Some(99)));
    assert_eq!(cut.local, CopyState::Present);
    assert_eq!(catalog.jobs().await.unwrap().len(), 1);

    let error = RecordedError {
        code: 7,
        text: "denied".to_owned(),
    };
    assert!(catalog.fail_snapshot(id, error).await.unwrap());
    assert!(catalog.jobs().await.unwrap().is_empty());
    let sent = Sent {
        stored_bytes: 5,
        requests: 6,
    };
    let reason = (UploadReason::Compared, "the base is gone".to_owned());
    let uploaded = || catalog.snapshot_uploaded(id, "s3://b", sent, reason.clone(), None);
    assert!(!uploaded().await.unwrap());
    catalog.report_snapshot(id).await.unwrap();
    assert!(catalog.snapshot(id).await.unwrap().unwrap().error_reported);
    assert!(catalog.retry_snapshot(id).await.unwrap());
    assert!(!catalog.retry_snapshot(id).await.unwrap());
    assert_eq!(catalog.jobs().await.unwrap().len(), 1);
    assert!(uploaded().await.unwrap());
    assert!(catalog.jobs().await.unwrap().is_empty());

    catalog
        .mark_snapshot(id, Some(Deleting::Local))
        .await
        .unwrap();
    catalog.local_copy_kept_as_base(id).await.unwrap();
    let kept = catalog.snapshot(id).await.unwrap().unwrap();
    assert!(kept.kept_as_base && kept.local == CopyState::Deleted);
    let in_pool = catalog.bases_kept_in(&kept.pool).await.unwrap();
    let bytes_max = kept.size_bytes.unwrap();
    assert!(bytes_max > 0);
    assert_eq!((in_pool.count, in_pool.bytes_max), (1, bytes_max));
    let elsewhere = catalog.bases_kept_in("elsewhere").await.unwrap();
    assert_eq!((elsewhere.count, elsewhere.bytes_max), (0, 0));
    catalog.base_given_back(id).await.unwrap();
    assert!(!catalog.snapshot(id).await.unwrap().unwrap().kept_as_base);
    catalog.local_copy_removed(id).await.unwrap();
    let left = catalog.snapshots().await.unwrap().remove(0);
    assert_eq!((left.local, left.deleting), (CopyState::Deleted, None));
    assert_eq!(left.location.as_deref(), Some("s3://b"));
    assert_eq!((left.sent, left.reason), (Some(sent), Some(reason.clone())));
    assert!(!catalog.is_abandoned(id).await.unwrap());
    catalog.abandon_snapshot(id).await.unwrap();
    catalog.abandon_snapshot(id).await.unwrap();
    catalog.remove_snapshot(id).await.unwrap();
    assert_eq!(catalog.snapshot(id).await.unwrap(), None);
    assert!(catalog.is_abandoned(id).await.unwrap());
}

#[tokio::test]
async fn a_row_edited_by_hand_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let row = snapshot("a");
    catalog.insert_snapshot(row.clone()).await.unwrap();
    for (column, value) in [
        ("id", "'X y'"),
        ("local_state", "'gone'"),
        ("metadata", "'{'"),
    ] {
        let sql = format!("UPDATE snapshots SET {column} = {value}");
        let hand = Connection::open(dir.path().join("catalog.sqlite")).unwrap();
        hand.execute(&sql, []).unwrap();
        drop(hand);
        let error = catalog.snapshot_by_name("a").await.unwrap_err();
        assert!(matches!(error, CatalogError::Row { .. }), "{error}");
        catalog
            .call(|connection| Ok(connection.execute("DELETE FROM snapshots", [])?))
            .await
            .unwrap();
        catalog.insert_snapshot(row.clone()).await.unwrap();
    }
}

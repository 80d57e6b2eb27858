//! A backup's rows from its beginning to its end, and those of its volume.

use super::{super::BackupSource, *};
use crate::catalog::{CopyState, SnapshotRow, volumes::tests::volume};

pub(in crate::catalog) fn backup(name: &str, row: &super::super::VolumeRow) -> BackupRow {
    BackupRow {
        id: format!("bak-{name}"),
        name: name.to_owned(),
        volume_id: row.id.clone(),
        volume_name: row.name.clone(),
        snapshot_id: format!("snap-{name}").parse().unwrap(),
        profile: "offsite".to_owned(),
        status: BackupStatus::Creating,
        source: BackupSource::Snapshot,
        holds_volume: true,
        temp_snapshot_id: Some(format!("snap-{name}").parse().unwrap()),
        temp_volume_id: None,
        parent: None,
        phase: "cutting".to_owned(),
        bytes_done: 0,
        bytes_total: 0,
        reason: None,
        sent: None,
        location: None,
        failure: None,
        cleaned: false,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        created_at_us: 3,
        cut_at_us: None,
        ended_at_us: None,
        paused: false,
        is_full: false,
        schedule: None,
        consistency: None,
        frozen_us: 0,
    }
}

fn snapshot(of: &BackupRow) -> SnapshotRow {
    SnapshotRow {
        id: of.snapshot_id.clone(),
        name: of.id.clone(),
        volume_id: of.volume_id.clone(),
        volume_name: of.volume_name.clone(),
        pool: "p".to_owned(),
        size_bytes: Some(4096),
        cut_at_us: Some(9),
        profile: of.profile.clone(),
        local: CopyState::None,
        cloud: CopyState::Pending,
        location: None,
        sent: None,
        reason: None,
        kept_as_base: false,
        metadata: [].into(),
        error: None,
        error_reported: false,
        deleting: None,
        created_at_us: 3,
    }
}

/// The upload that is recorded as committed: what it sent, how, and building on what.
async fn upload(
    catalog: &Catalog,
    row: &BackupRow,
) -> (Sent, (UploadReason, String), Option<String>) {
    let sent = Sent {
        stored_bytes: 5,
        requests: 6,
    };
    let reason = (UploadReason::Incremental, String::new());
    let parent = Some("snap-before".to_owned());
    catalog.insert_snapshot(snapshot(row)).await.unwrap();
    assert_eq!(catalog.jobs().await.unwrap().len(), 1);
    let id = &row.snapshot_id;
    let uploaded = catalog.snapshot_uploaded(id, "s3://b", sent, reason.clone(), parent.clone());
    assert!(uploaded.await.unwrap());
    (sent, reason, parent)
}

#[tokio::test]
async fn a_backup_is_begun_cut_committed_and_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let used = volume("used", VolumeStatus::InUse);
    catalog.insert_volume(used.clone()).await.unwrap();
    let status = async || catalog.volume(&used.id).await.unwrap().unwrap().status;
    let row = backup("a", &used);
    let from = VolumeStatus::InUse;
    assert!(
        !catalog
            .begin_backup(row.clone(), VolumeStatus::Available)
            .await
            .unwrap()
    );
    assert_eq!(catalog.backup(&row.id).await.unwrap(), None);
    assert!(catalog.begin_backup(row.clone(), from).await.unwrap());
    assert_eq!(catalog.backup(&row.id).await.unwrap().unwrap(), row);
    assert_eq!(status().await, VolumeStatus::BackingUp);
    // A second one waits for the first one's cut.
    let second = backup("b", &used);
    let refused = catalog
        .begin_backup(second.clone(), VolumeStatus::BackingUp)
        .await;
    assert!(matches!(refused, Err(CatalogError::Transition { .. })));

    catalog.backup_cut(&row.id, 4096, 77).await.unwrap();
    assert_eq!(status().await, VolumeStatus::InUse);
    assert!(catalog.begin_backup(second.clone(), from).await.unwrap());
    // The first one's end does not touch what the second one holds.
    catalog
        .backup_progress(&row.id, "moving data", 9000)
        .await
        .unwrap();
    let now = catalog.backup(&row.id).await.unwrap().unwrap();
    assert_eq!(
        (now.bytes_done, now.bytes_total, now.cut_at_us),
        (4096, 4096, Some(77))
    );
    let (sent, reason, parent) = upload(&catalog, &row).await;
    let (creating, available) = (BackupStatus::Creating, BackupStatus::Available);
    assert!(
        catalog
            .end_backup(&row.id, creating, available, None)
            .await
            .unwrap()
    );
    assert!(
        !catalog
            .end_backup(&row.id, creating, available, None)
            .await
            .unwrap()
    );
    assert_eq!(status().await, VolumeStatus::BackingUp);
    let done = catalog.backup_by_name("a").await.unwrap().unwrap();
    assert_eq!(
        (done.sent, done.reason, done.parent),
        (Some(sent), Some(reason), parent)
    );
    assert!(done.ended_at_us.is_some() && done.temp_snapshot_id.is_some() && !done.cleaned);
    catalog.backup_cleaned(&row.id).await.unwrap();
    let clean = catalog.backup(&row.id).await.unwrap().unwrap();
    assert!(clean.cleaned && clean.temp_snapshot_id.is_none());

    catalog.remove_snapshot(&row.snapshot_id).await.unwrap();
    let gone = catalog.backup(&row.id).await.unwrap().unwrap();
    assert_eq!(gone.status, BackupStatus::Deleted);
    catalog.remove_backup(&row.id).await.unwrap();
    assert_eq!(catalog.backups().await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_that_is_cancelled_before_its_cut_lets_go_of_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let used = volume("used", VolumeStatus::InUse);
    catalog.insert_volume(used.clone()).await.unwrap();
    let row = backup("b", &used);
    let from = VolumeStatus::InUse;
    assert!(catalog.begin_backup(row.clone(), from).await.unwrap());
    assert!(catalog.cancel_backup(&row.id).await.unwrap());
    assert!(!catalog.cancel_backup(&row.id).await.unwrap());
    let (from, to) = (BackupStatus::Cancelling, BackupStatus::Cancelled);
    assert!(catalog.end_backup(&row.id, from, to, None).await.unwrap());
    let volume = catalog.volume(&used.id).await.unwrap().unwrap();
    assert_eq!(volume.status, VolumeStatus::InUse);
    // What has ended does not end otherwise.
    let back = catalog
        .end_backup(&row.id, to, BackupStatus::Available, None)
        .await;
    assert!(matches!(back, Err(CatalogError::Transition { .. })));
}

#[tokio::test]
async fn only_what_is_under_way_is_paused() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let free = volume("free", VolumeStatus::Available);
    catalog.insert_volume(free.clone()).await.unwrap();
    let row = backup("p", &free);
    let from = VolumeStatus::Available;
    assert!(catalog.begin_backup(row.clone(), from).await.unwrap());
    let paused = async || {
        let now = catalog.backup(&row.id).await.unwrap().unwrap();
        (now.paused, now.phase)
    };
    assert!(!catalog.resume_backup(&row.id).await.unwrap());
    for _ in 0..2 {
        assert!(catalog.pause_backup(&row.id).await.unwrap());
    }
    assert_eq!(paused().await, (true, "paused".to_owned()));
    assert!(catalog.resume_backup(&row.id).await.unwrap());
    assert!(!paused().await.0);
    // Neither one that is given up nor one that has ended stays paused, or becomes it.
    assert!(catalog.pause_backup(&row.id).await.unwrap());
    assert!(catalog.cancel_backup(&row.id).await.unwrap());
    assert_eq!(paused().await, (false, "stopping".to_owned()));
    assert!(!catalog.pause_backup(&row.id).await.unwrap());
    let (from, to) = (BackupStatus::Cancelling, BackupStatus::Cancelled);
    assert!(catalog.end_backup(&row.id, from, to, None).await.unwrap());
    assert!(!catalog.pause_backup(&row.id).await.unwrap());
    assert!(!paused().await.0);
}

#[tokio::test]
async fn a_backup_of_a_kept_snapshot_touches_no_volume() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let used = volume("used", VolumeStatus::InUse);
    catalog.insert_volume(used.clone()).await.unwrap();
    let source = "snap-local".parse().unwrap();
    let row = BackupRow {
        source: BackupSource::Kept,
        holds_volume: false,
        temp_snapshot_id: None,
        ..backup("k", &used)
    };
    catalog
        .begin_kept_backup(row.clone(), &source)
        .await
        .unwrap();
    let again = catalog.begin_kept_backup(row.clone(), &source).await;
    assert!(again.unwrap_err().is_taken());
    let status = async || catalog.volume(&used.id).await.unwrap().unwrap().status;
    assert_eq!(status().await, VolumeStatus::InUse);
    let id = &row.snapshot_id;
    assert_eq!(catalog.kept_source(id).await.unwrap(), Some(source.clone()));
    assert_eq!(catalog.kept_source(&source).await.unwrap(), None);
    let of_copy = catalog.backup_of(id).await.unwrap();
    assert_eq!(of_copy, Some(row.clone()));
    let from = catalog.backups_from(&source).await.unwrap();
    assert_eq!(from, std::slice::from_ref(&row));
    let (from, to) = (BackupStatus::Creating, BackupStatus::Error);
    assert!(catalog.end_backup(&row.id, from, to, None).await.unwrap());
    assert_eq!(status().await, VolumeStatus::InUse);
    catalog.remove_backup(&row.id).await.unwrap();
    assert!(catalog.kept_sources().await.unwrap().is_empty());
}

use super::{
    super::{
        BackupSource, BackupStatus, CopyState, InPlaceRow, InPlaceStage, StreamDirection,
        StreamRow, StreamStatus, VolumeStatus, backups::tests::backup, snapshots::tests::snapshot,
        volumes::tests::volume,
    },
    *,
};

async fn made(dir: &Path, names: &[&str]) {
    let catalog = Catalog::open(dir).unwrap();
    for name in names {
        let row = volume(name, VolumeStatus::Available);
        catalog.insert_volume(row).await.unwrap();
    }
    catalog
        .put_export("v.a".to_owned(), vec![1, 2, 3])
        .await
        .unwrap();
    catalog.close(dir).await.unwrap();
}

#[tokio::test]
async fn a_sound_catalog_is_told_from_none_and_from_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let looked = || Site::lock(dir.path()).unwrap().existing().unwrap();
    assert_eq!(looked(), Existing::None);
    made(dir.path(), &[]).await;
    assert_eq!(looked(), Existing::None);
    made(dir.path(), &["a", "b"]).await;
    assert_eq!(looked(), Existing::Sound(2));
    let held = Catalog::open(dir.path()).unwrap();
    assert!(matches!(
        Site::lock(dir.path()),
        Err(CatalogError::Locked { .. })
    ));
    held.close(dir.path()).await.unwrap();
    fs::write(dir.path().join(FILE_NAME), vec![9; 8192]).unwrap();
    assert!(matches!(looked(), Existing::Damaged(_)));
}

#[tokio::test]
async fn the_new_one_takes_the_place_and_the_old_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), &["a", "b"]).await;
    let site = Site::lock(dir.path()).unwrap();
    let said: Vec<_> = site
        .said("volumes")
        .into_iter()
        .map(|(id, said)| (id, said.name))
        .collect();
    assert_eq!(said[0], ("vol-a".to_owned(), "a".to_owned()));
    let new = Catalog::open(&site.new_dir()).unwrap();
    let kept = site.keep(&new).await.unwrap();
    assert!(kept.contains(&("exports".to_owned(), Ok(1))), "{kept:?}");
    let mut cut = snapshot("s");
    (cut.local, cut.cloud) = (CopyState::Deleted, CopyState::Present);
    cut.location = Some("s3://b/x".to_owned());
    cut.kept_as_base = true;
    let only = volume("c", VolumeStatus::Available);
    let filled = new.fill(vec![only.clone()], vec![cut.clone()], Vec::new());
    filled.await.unwrap();
    new.close(&site.new_dir()).await.unwrap();
    let aside = site.put().unwrap().unwrap();
    assert!(aside.exists() && !dir.path().join(NEW_DIR).exists());
    assert!(!dir.path().join("catalog.sqlite-wal").exists());

    let catalog = Catalog::open(dir.path()).unwrap();
    assert_eq!(catalog.volumes().await.unwrap(), [only]);
    let found = catalog.snapshots().await.unwrap();
    assert_eq!(found[0].location, cut.location);
    assert!(found[0].kept_as_base);
    assert_eq!(
        catalog.export("v.a".to_owned()).await.unwrap(),
        Some(vec![1, 2, 3])
    );
    let old = open_old(&aside).unwrap();
    let count: i64 = old
        .query_row("SELECT count(*) FROM volumes", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 2);
}

/// Tables that are not taken over, and why not.
const NOT_KEPT: [(&str, &str); 11] = [
    ("volumes", "found on the storage"),
    ("snapshots", "found on the storage and in the buckets"),
    (
        "attachments",
        "work under way: what is attached is found and let go",
    ),
    ("jobs", "work under way"),
    ("repositories", "found again as the profiles lead to them"),
    (
        "abandoned_snapshots",
        "their repositories are asked again: a deletion that is repeated has to reach them",
    ),
    ("begun_uploads", "written for every snapshot that is found"),
    (
        "adoptions",
        "work under way: it is looked what the storage has",
    ),
    (
        "restores_in_place",
        "work under way: what was filled beside is told and left",
    ),
    (
        "quiesces",
        "work under way: the watchdog thaws, and whoever rebuilds looks whether a database is paused",
    ),
    ("streams", "work under way"),
];

#[tokio::test]
async fn every_table_is_taken_over_or_it_is_said_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let tables = catalog.call(|connection| {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
        let mut statement = connection.prepare(sql)?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(names.collect::<Result<Vec<_>, _>>()?)
    });
    let tables = tables.await.unwrap();
    let mut known: Vec<&str> = KEPT_TABLES.to_vec();
    known.extend(NOT_KEPT.map(|(table, _)| table));
    known.sort_unstable();
    assert_eq!(tables, known);
}

#[tokio::test]
async fn what_kept_snapshots_are_backed_up_as_is_taken_over_with_the_backups() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let used = volume("used", VolumeStatus::InUse);
    let source = snapshot("source").id;
    let mut rows = Vec::new();
    for (name, status) in [
        ("done", BackupStatus::Available),
        ("cut-off", BackupStatus::Creating),
    ] {
        let mut row = backup(name, &used);
        row.source = BackupSource::Kept;
        let begun = catalog.begin_kept_backup(row.clone(), &source);
        begun.await.unwrap();
        if status != BackupStatus::Creating {
            let from = BackupStatus::Creating;
            assert!(
                catalog
                    .end_backup(&row.id, from, status, None)
                    .await
                    .unwrap()
            );
        }
        rows.push(row);
    }
    catalog.close(dir.path()).await.unwrap();
    let site = Site::lock(dir.path()).unwrap();
    let new = Catalog::open(&site.new_dir()).unwrap();
    let kept = site.keep(&new).await.unwrap();
    assert!(kept.iter().all(|(_, rows)| rows.is_ok()), "{kept:?}");
    let sources = new.kept_sources().await.unwrap();
    let expected = [(rows[0].snapshot_id.clone(), source)];
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_cannot_be_read_of_the_old_one_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), vec![9; 8192]).unwrap();
    let site = Site::lock(dir.path()).unwrap();
    assert!(site.said("volumes").is_empty());
    let new = Catalog::open(&site.new_dir()).unwrap();
    let kept = site.keep(&new).await.unwrap();
    assert!(
        kept.iter().all(|(_, rows)| rows.is_err()) && !kept.is_empty(),
        "{kept:?}"
    );
    new.close(&site.new_dir()).await.unwrap();
    site.put().unwrap().unwrap();
    assert!(Catalog::open(dir.path()).is_ok());
}

#[tokio::test]
async fn volumes_that_are_not_whole_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    for (name, status) in [
        ("whole", VolumeStatus::Available),
        ("made", VolumeStatus::Creating),
        ("filled", VolumeStatus::Restoring),
        ("failed", VolumeStatus::Error),
        ("inplace", VolumeStatus::Available),
        ("replaced", VolumeStatus::Available),
    ] {
        catalog.insert_volume(volume(name, status)).await.unwrap();
    }
    let row = InPlaceRow {
        volume_id: "vol-inplace".parse().unwrap(),
        snapshot_id: "snap-1".parse().unwrap(),
        temp_volume_id: "vol-beside".parse().unwrap(),
        stage: InPlaceStage::Filling,
    };
    assert!(catalog.begin_in_place(row).await.unwrap());
    let stream = StreamRow {
        id: "str-1".to_owned(),
        direction: StreamDirection::Receive,
        status: StreamStatus::Replacing,
        snapshot_id: None,
        volume_id: "vol-replaced".parse().unwrap(),
        volume_name: "replaced".to_owned(),
        spare_volume_id: Some("vol-spare".parse().unwrap()),
        peer: "h:1".to_owned(),
        bytes_done: 0,
        bytes_total: 0,
        failure: None,
        metadata: Metadata::new(),
        created_at_us: 1,
        ended_at_us: None,
    };
    catalog.put_stream(stream).await.unwrap();
    catalog.close(dir.path()).await.unwrap();
    let site = Site::lock(dir.path()).unwrap();
    let found: Vec<String> = site.not_whole().into_keys().collect();
    let expected = ["beside", "failed", "filled", "made", "replaced"];
    assert_eq!(found, expected.map(|name| format!("vol-{name}")));
}

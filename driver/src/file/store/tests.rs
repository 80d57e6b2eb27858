//! What is in the directory, whatever happens.

use super::*;
use crate::origin::Origin;

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path().join("root"));
    store.make_root().unwrap();
    store.prepare().unwrap();
    (directory, store)
}

pub(super) fn volume(id: &str) -> Meta {
    Meta::Volume {
        id: id.parse().unwrap(),
        from: Origin::Volume("other".parse().unwrap()),
        made_bytes: 8192,
        becomes: None,
        replaced: None,
    }
}

pub(super) fn fill(image: &File) -> Result<(), DriverError> {
    image
        .set_len(8192)
        .map_err(fail("cannot size", Path::new("image")))
}

#[test]
fn what_is_made_is_found_and_removed() {
    let (_directory, store) = store();
    let snapshot = Meta::Snapshot {
        id: "a".parse().unwrap(),
        source: "a".parse().unwrap(),
        created_at_us: -1,
    };
    for meta in [volume("a"), snapshot] {
        store.make(&meta, fill).unwrap();
        let entry = store.find(&meta.name()).unwrap().unwrap();
        assert_eq!((entry.meta, entry.size_bytes), (meta.clone(), 8192));
    }
    assert_eq!(store.list().unwrap().len(), 2);
    for _ in 0..2 {
        store.remove(&volume("a").name()).unwrap();
    }
    assert_eq!(store.list().unwrap().len(), 1);
}

/// Without the file system that holds the pool nobody can say what is there.
#[test]
fn nothing_is_gone_because_it_is_not_mounted() {
    let (directory, store) = store();
    store.make(&volume("a"), fill).unwrap();
    let away = directory.path().join("away");
    std::fs::rename(store.root(), &away).unwrap();
    std::fs::create_dir(store.root()).unwrap();
    let name = volume("a").name();
    for error in [
        store.find(&name).unwrap_err(),
        store.remove(&name).unwrap_err(),
        store.list().unwrap_err(),
        store.check_prepared().unwrap_err(),
    ] {
        assert!(matches!(error, DriverError::Host(_)), "{error}");
    }
    std::fs::remove_dir(store.root()).unwrap();
    std::fs::rename(&away, store.root()).unwrap();
    store.check_prepared().unwrap();
    store.remove(&name).unwrap();
    assert!(store.find(&name).unwrap().is_none());
}

#[test]
fn the_lock_is_not_waited_for_for_ever() {
    let (_directory, mut store) = store();
    let held = store.lock().unwrap();
    store.lock_patience = Duration::from_millis(60);
    let error = store.lock().unwrap_err();
    assert!(matches!(error, DriverError::InUse { .. }), "{error}");
    drop(held);
    store.lock().unwrap();
}

#[test]
fn a_failed_or_cut_off_making_leaves_nothing() {
    let (_directory, store) = store();
    let error = store
        .make(&volume("a"), |_| Err(volume("a").name().not_found()))
        .unwrap_err();
    assert!(matches!(error, DriverError::NotFound { .. }));
    for debris in [".new-1", ".gone-2"] {
        std::fs::create_dir(store.root().join(debris)).unwrap();
        std::fs::write(store.root().join(debris).join("image"), "x").unwrap();
    }
    store.prepare().unwrap();
    let mut left: Vec<_> = std::fs::read_dir(store.root())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["snapshots", "volumes"]);
}

#[test]
fn what_others_made_is_neither_seen_nor_touched() {
    let (_directory, store) = store();
    let place = store.root().join("volumes/a");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("image"), "theirs").unwrap();
    std::fs::write(store.root().join("volumes/b"), "a file").unwrap();
    for meta in [
        "",
        "{}",
        r#"{"stockpot":2,"kind":"volume","id":"a","from":"empty","made_bytes":1}"#,
        r#"{"stockpot":1,"kind":"volume","id":"other","from":"empty","made_bytes":1}"#,
    ] {
        std::fs::write(place.join("meta.json"), meta).unwrap();
        for id in ["a", "b"] {
            let name = volume(id).name();
            assert!(store.find(&name).unwrap().is_none());
            store.remove(&name).unwrap();
            let error = store.make(&volume(id), fill).unwrap_err();
            assert!(
                matches!(error, DriverError::AlreadyExists { .. }),
                "{error}"
            );
        }
    }
    assert!(store.list().unwrap().is_empty());
    assert_eq!(std::fs::read(place.join("image")).unwrap(), b"theirs");
}

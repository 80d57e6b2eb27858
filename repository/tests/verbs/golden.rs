//! Repositories that earlier versions made are restored for ever.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use stockpot_repository::{
    Progress, Repository,
    format::keys::KeySource,
    snapshots::{self, Status},
    store::{MemoryStore, ObjectStore, PutMode},
    verify::{VerifySettings, verify},
};
use tokio_util::sync::CancellationToken;

use crate::support::Bench;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-fixtures/golden")
}

/// All files below a folder, as a bucket.
async fn load(folder: &Path) -> Arc<dyn ObjectStore> {
    let store = Arc::new(MemoryStore::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(folder).unwrap().to_str().unwrap();
            let body = Bytes::from(fs::read(&path).unwrap());
            store.put(key, body, PutMode::Overwrite).await.unwrap();
        }
    }
    store
}

async fn check(folder: &Path, key: Option<KeySource>) {
    let store = load(&folder.join("bucket")).await;
    let bench = Bench {
        folder: tempfile::tempdir().unwrap(),
        repository: Repository::open(store.clone(), key).await.unwrap(),
        store,
    };
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = verify(&bench.repository, None, &settings, &progress, &none).await;
    assert_eq!(report.unwrap().problems, []);
    let listed = snapshots::list(&bench.repository).await.unwrap();
    let deleted = listed.iter().filter(|s| s.status == Status::Deleted);
    let volumes = fs::read_to_string(folder.join("volumes.txt")).unwrap();
    let expected = volumes.lines().count();
    assert_eq!((listed.len(), deleted.count()), (expected + 1, 1));
    for line in volumes.lines() {
        let [id, size, hash] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let manifest = snapshots::find(&bench.repository, id).await.unwrap();
        assert_eq!(manifest.size_bytes.to_string(), size);
        let restored = fs::read(bench.down(&manifest).await).unwrap();
        assert_eq!(blake3::hash(&restored).to_hex().as_str(), hash, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1() {
    let format = golden().join("format-1");
    let read = |name: &str| fs::read(format.join(name)).unwrap();
    let mut checked = 0;
    for entry in fs::read_dir(&format).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap();
        let key = match name {
            _ if name.ends_with("unsealed") => None,
            _ if name.ends_with("by-secret") => {
                Some(KeySource::from_secret(&read("secret")).unwrap())
            }
            _ => Some(KeySource::from_passphrase(&read("passphrase")).unwrap()),
        };
        println!("{name}");
        check(&folder, key).await;
        checked += 1;
    }
    assert_eq!(checked, 9);
    // One has a second slot.
    let passphrase = KeySource::from_passphrase(&read("passphrase")).unwrap();
    check(
        &format.join("increments-sealed-by-secret"),
        Some(passphrase),
    )
    .await;
}

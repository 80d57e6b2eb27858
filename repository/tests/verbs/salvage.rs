//! What a restore that goes on past damage takes for damage, and where it looks for what it cannot read.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use stockpot_repository::{
    Progress, ReadSettings, Repository, RepositoryError,
    device::{Target, TargetOptions},
    format::manifest::Manifest,
    restore::{Losses, salvage},
    store::{MemoryStore, ObjectStore, PutMode, StoreError, versions::Versions as _},
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::{
    keeping::Keeping,
    layer::{Layer, Over},
    support::{Bench, key},
};

const CHUNK: u64 = 64 << 10;

fn image() -> Image {
    Image::new(70 * CHUNK)
        .extent(0, 2 * CHUNK, Fill::Random(1))
        .extent(66 * CHUNK, 100, Fill::Text(2))
}

/// What becomes of a restore past damage into a new file.
async fn salvaged(
    bench: &Bench,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Losses, RepositoryError> {
    let path = bench.path("target.img");
    let target = Target::open(&path, manifest.size_bytes, TargetOptions::default()).unwrap();
    let (_, lost) = salvage(
        repository,
        manifest,
        target,
        &ReadSettings::default(),
        &Arc::new(Progress::new()),
        &CancellationToken::new(),
    )
    .await?;
    Ok(lost)
}

/// Gives nothing of one pack.
#[derive(Debug)]
struct Refusing {
    memory: MemoryStore,
    pack: String,
    is_denied: bool,
}

#[async_trait]
impl Layer for Refusing {
    fn inner(&self) -> &dyn ObjectStore {
        &self.memory
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let doing = format!("reading {key}");
        match (key == self.pack, self.is_denied) {
            (false, _) => self.memory.get_range(key, range).await,
            (true, true) => Err(StoreError::AccessDenied {
                doing,
                source: "the test".into(),
            }),
            (true, false) => Err(StoreError::Refused {
                endpoint: "the test".to_owned(),
                doing,
                source: "403 InvalidObjectState".into(),
            }),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_not_lost() {
    let memory = MemoryStore::new();
    let bench = Bench::on(Arc::new(memory.clone()), true).await;
    let manifest = bench.up(&image()).await.manifest;
    let packs = memory.keys();
    let packs = packs.iter().filter(|key| key.starts_with("packs/"));
    for (pack, is_denied) in packs.flat_map(|pack| [(pack, false), (pack, true)]) {
        let refusing = Refusing {
            memory: memory.clone(),
            pack: pack.clone(),
            is_denied,
        };
        let store = Arc::new(Over(refusing));
        let repository = Repository::open(store, Some(key())).await.unwrap();
        let ended = salvaged(&bench, &repository, &manifest).await;
        let error = ended.expect_err(pack);
        assert!(error.to_string().contains(pack), "{error}");
        assert!(!bench.path("target.img").exists());
    }
}

/// Somebody who has our credentials overwrites one pack, deletes another, and spoils every one of them in turn.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_below_is_read_before_it_is_lost() {
    for sealed in [false, true] {
        let keeping = Keeping::default();
        let memory = keeping.memory.clone();
        let bench = Bench::on(Arc::new(Over(keeping.clone())), sealed).await;
        let image = image();
        let manifest = bench.up(&image).await.manifest;
        let path = bench.path("target.img");
        let check = async |what: &str, read_first| {
            let lost = salvaged(&bench, &bench.repository, &manifest).await;
            let expected = Losses {
                read_first,
                ..Losses::default()
            };
            assert_eq!(lost.unwrap(), expected, "{what}");
            assert_eq!(image.first_difference(&path).unwrap(), None, "{what}");
            std::fs::remove_file(&path).unwrap();
        };
        check("as it was", false).await;
        let mut packs = memory.keys();
        packs.retain(|key| key.starts_with("packs/"));
        assert!(packs.len() > 2, "data, map and list: {packs:?}");
        for pack in &packs {
            let good = memory.peek(pack).unwrap();
            let mut flipped = good.to_vec();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            for body in [
                Bytes::from(flipped),
                good.slice(..50),
                Bytes::from_static(b"x"),
            ] {
                keeping
                    .put_version(pack, body, PutMode::Overwrite)
                    .await
                    .unwrap();
            }
            check(pack, true).await;
            keeping.hide(pack).await.unwrap();
            check(pack, true).await;
        }
    }
}

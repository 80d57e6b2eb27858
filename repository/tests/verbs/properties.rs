//! Any image, any settings: what comes down is what went up.

use proptest::{prelude::*, test_runner::TestRunner};
use stockpot_repository::{
    CreateOptions, Progress, Repository,
    store::MemoryStore,
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::{
    cases::at_least,
    image::{Fill, Image},
};
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, key};

/// Images are small, so that there can be many: the pipeline's own limits are made small instead.
const SIZE_MAX: u64 = 3 << 20;

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![
        Just(Fill::Zero),
        any::<u8>().prop_map(Fill::Byte),
        any::<u64>().prop_map(Fill::Random),
        any::<u64>().prop_map(Fill::Text),
    ]
}

fn extents() -> impl Strategy<Value = Vec<Extent>> {
    // Offsets that are mostly near the edges of chunks.
    let near = |max: u64| (0..=max >> 16, 0..5_u64).prop_map(|(chunk, odd)| (chunk << 16) + odd);
    prop::collection::vec((near(SIZE_MAX), near(1 << 20), fill()), 0..6)
}

fn image(size: u64, extents: &[Extent]) -> Image {
    extents
        .iter()
        .fold(Image::new(size), |image, (offset, length, fill)| {
            image.extent(*offset, length + 1, *fill)
        })
}

/// Offset, length, content.
type Extent = (u64, u64, Fill);

#[derive(Debug, Clone)]
struct Case {
    sealed: bool,
    chunk_size_bytes: u32,
    workers: usize,
    /// Size, and what is written over the version before.
    versions: Vec<(u64, Vec<Extent>)>,
}

fn case() -> impl Strategy<Value = Case> {
    let version = (1..=SIZE_MAX, extents());
    (
        any::<bool>(),
        (16..=22_u32).prop_map(|bits| 1 << bits),
        1..4_usize,
        prop::collection::vec(version, 1..4),
    )
        .prop_map(|(sealed, chunk_size_bytes, workers, versions)| Case {
            sealed,
            chunk_size_bytes,
            workers,
            versions,
        })
}

/// Each version changes what is there before; every one of them is restored at the end.
async fn up_and_down(case: &Case) -> Result<(), TestCaseError> {
    let store = std::sync::Arc::new(MemoryStore::new());
    let options = CreateOptions {
        key: case.sealed.then(key),
        chunk_size_bytes: case.chunk_size_bytes,
        ..CreateOptions::default()
    };
    let (repository, _) = Repository::open_or_create(store.clone(), options)
        .await
        .unwrap();
    let bench = Bench {
        folder: tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap(),
        store,
        repository,
    };
    let mut known = Vec::new();
    let mut changes: Vec<Extent> = Vec::new();
    for (size, extents) in &case.versions {
        changes.extend(extents);
        let image = image(*size, &changes);
        let mut request = bench.request();
        request.settings.workers = case.workers;
        let report = bench.try_up(&image, request).await.unwrap();
        prop_assert_eq!(report.manifest.size_bytes, *size);
        known.push((report.manifest, image));
    }
    for (manifest, image) in known {
        let restored = bench.down(&manifest).await;
        prop_assert_eq!(image.first_difference(&restored).unwrap(), None);
    }
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let (progress, none) = (
        std::sync::Arc::new(Progress::new()),
        CancellationToken::new(),
    );
    let report = verify(&bench.repository, None, &settings, &progress, &none).await;
    prop_assert_eq!(report.unwrap().problems, []);
    Ok(())
}

#[test]
fn restore_after_upload_is_the_identity() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: at_least(48),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&case(), |case| runtime.block_on(up_and_down(&case)))
        .unwrap();
}

//! Volumes of any size, in little memory.

use std::sync::Arc;

use stockpot_repository::{
    Progress, ReadSettings,
    device::{Source, SourceOptions, Target, TargetOptions},
    restore::restore,
    upload::upload,
};
use stockpot_test_fixtures::image::{Fill, Image, allocated_bytes};
use tokio_util::sync::CancellationToken;

use crate::support::Bench;

/// The largest file that the file system of the test takes, up to 64 TiB.
fn largest(bench: &Bench) -> u64 {
    let file = std::fs::File::create(bench.path("probe")).unwrap();
    [64_u64 << 40, 8 << 40, 1 << 40]
        .into_iter()
        .find(|size| file.set_len(*size).is_ok())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_sparse_volume() {
    let bench = Bench::new(true).await;
    let size = largest(&bench);
    let image = Image::new(size)
        .extent(0, 100, Fill::Random(1))
        .extent(size / 2 - 7, 1 << 20, Fill::Text(2))
        .extent(size - 5, 5, Fill::Random(3));
    let path = bench.path("huge.img");
    image.write_to(&path).unwrap();
    let source = Source::open(&path, SourceOptions::default()).unwrap();
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let report = upload(&bench.repository, source, bench.request(), &progress, &none)
        .await
        .unwrap();
    let manifest = report.manifest;
    assert!(manifest.chunks.mapped < 25, "{:?}", manifest.chunks);
    assert!(manifest.stored_bytes < 1 << 20);
    assert_eq!(progress.snapshot().bytes_scanned, size);
    let down = bench.path("down.img");
    let target = Target::open(&down, size, TargetOptions::default()).unwrap();
    let read = ReadSettings::default();
    restore(
        &bench.repository,
        &manifest,
        target,
        &read,
        &progress,
        &none,
    )
    .await
    .unwrap();
    assert!(allocated_bytes(&down).unwrap() < 4 << 20);
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(&down).unwrap();
    for offset in [0, size / 2 - 64, size / 2 + (1 << 20) - 64, size - 128] {
        let (mut found, mut expected) = ([0; 128], [0; 128]);
        file.read_exact_at(&mut found, offset).unwrap();
        image.read_at(offset, &mut expected);
        assert_eq!(found, expected, "at {offset}");
    }
}

/// What a caller is told of the time left goes by work, and a hole is none.
#[tokio::test(flavor = "multi_thread")]
async fn holes_are_not_counted_as_read() {
    let bench = Bench::new(false).await;
    let (size, chunk): (u64, u64) = (1 << 30, 64 << 10);
    let image =
        Image::new(size)
            .extent(0, 100, Fill::Random(1))
            .extent(size - 5, 5, Fill::Random(3));
    let path = bench.path("sparse.img");
    image.write_to(&path).unwrap();
    let source = Source::open(&path, SourceOptions::default()).unwrap();
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let mut request = bench.request();
    // The third one is zeroes, which only who reads it knows.
    let far = size - chunk;
    request.extents = Some(vec![0..100, 1 << 29..(1 << 29) + 1, far..size]);
    upload(&bench.repository, source, request, &progress, &none)
        .await
        .unwrap();
    let told = progress.snapshot();
    assert_eq!(
        (told.bytes_read, told.bytes_to_read),
        (3 * chunk, 3 * chunk)
    );
    assert_eq!(told.bytes_scanned, size);
}

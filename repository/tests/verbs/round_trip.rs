//! Up and down is the identity, whatever the image.

use stockpot_test_fixtures::image::{Fill, Image, allocated_bytes};

use crate::{files::small_settings, support::Bench};

const MIB: u64 = 1 << 20;

fn mixed() -> Image {
    Image::new(100 * MIB + 1234)
        .extent(0, 3 * MIB, Fill::Text(1))
        .extent(7 * MIB + 13, 9 * MIB, Fill::Random(2))
        .extent(60 * MIB, 20 * MIB, Fill::Text(3))
        .extent(90 * MIB, 5 * MIB, Fill::Zero)
        .extent(100 * MIB, 1234, Fill::Random(4))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_back_as_it_was() {
    for sealed in [false, true] {
        let bench = Bench::new(sealed).await;
        let mut request = bench.request();
        request.settings = small_settings();
        let report = bench.try_up(&mixed(), request).await.unwrap();
        assert_eq!(report.manifest.size_bytes, 100 * MIB + 1234);
        assert!(report.packs >= 4, "{} packs", report.packs);
        let manifest = bench.find(&report.manifest.snapshot_id).await;
        assert_eq!(manifest, report.manifest);
        let restored = bench.down(&manifest).await;
        assert_eq!(mixed().first_difference(&restored).unwrap(), None);
        let allocated = allocated_bytes(&restored).unwrap();
        assert!(
            allocated < 34 * MIB,
            "holes stay holes: {allocated} bytes are allocated"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_sizes_and_holes_only() {
    let bench = Bench::new(true).await;
    for size in [1, 511, 512, 4095, 4097, 65_535, 65_536, 65_537, 5 * MIB + 3] {
        for fill in [None, Some(Fill::Random(size))] {
            let mut image = Image::new(size);
            if let Some(fill) = fill {
                image = image.extent(0, size, fill);
            }
            let report = bench.up(&image).await;
            assert_eq!(report.manifest.map.is_none(), fill.is_none());
            let restored = bench.down(&report.manifest).await;
            assert_eq!(
                image.first_difference(&restored).unwrap(),
                None,
                "{size} bytes"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_image_costs_nothing_and_a_changed_one_little() {
    let bench = Bench::new(true).await;
    let first = bench.up(&mixed()).await.manifest;
    let again = bench.up(&mixed()).await;
    assert_eq!(again.manifest.chunks.stored, 0);
    assert_eq!(again.manifest.map, first.map, "all pages are the base's");
    assert_eq!(again.packs, 0, "so are those of the pack list");
    let changed = mixed().extent(61 * MIB, 1, Fill::Byte(1));
    let third = bench.up(&changed).await.manifest;
    assert_eq!(third.chunks.stored, 1);
    assert_eq!(
        third.base.as_ref().unwrap().snapshot_id,
        again.manifest.snapshot_id
    );
    for (manifest, image) in [
        (first, mixed()),
        (again.manifest, mixed()),
        (third, changed),
    ] {
        let restored = bench.down(&manifest).await;
        assert_eq!(image.first_difference(&restored).unwrap(), None);
    }
}

//! A pack of which little is needed, and that from more leaves of the map than one upload looks at: it is given up in parts.

use std::{ops::Range, time::Duration};

use stockpot_repository::{
    format::manifest::Manifest,
    prune::{PruneSettings, execute, plan},
    snapshots,
    upload::UploadRequest,
};
use stockpot_test_fixtures::image::{Fill, Image};
use tokio_util::sync::CancellationToken;

use crate::support::Bench;

const CHUNK: u64 = 64 << 10;
/// Bytes of the volume below one leaf of the map.
const LEAF: u64 = 64 * CHUNK;
/// More than an upload opens.
const LEAVES: u64 = 1300;

fn image(is_written: impl Fn(u64) -> bool, seed: u64) -> impl Fn(Image) -> Image {
    move |image| {
        (0..LEAVES)
            .filter(|leaf| is_written(*leaf))
            .fold(image, |image, leaf| {
                image.extent(leaf * LEAF, 700, Fill::Random(seed + leaf))
            })
    }
}

fn of_first(bench: &Bench, since: &Manifest, changes: Vec<Range<u64>>) -> UploadRequest {
    let mut request = bench.told(since, changes);
    request.settings.repack_gain_bytes_min = 0;
    request.settings.guard_share_ppm = 0;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_needed_from_too_many_places_goes_in_parts() {
    let bench = Bench::new(false).await;
    let first = image(|_| true, 0)(Image::new(LEAVES * LEAF));
    let second = image(|leaf| leaf % 10 > 0, 1 << 32)(first.clone());
    let changes = (0..LEAVES).filter(|leaf| leaf % 10 > 0);
    let changes = changes.map(|leaf| leaf * LEAF..leaf * LEAF + 700).collect();
    let old = bench.up(&first).await.manifest;
    let request = of_first(&bench, &old, changes);
    let mut newest = bench.try_up(&second, request).await.unwrap().manifest;
    let needed = LEAVES / 10;
    let mut anew = Vec::new();
    for _ in 0..16 {
        let request = of_first(&bench, &newest, Vec::new());
        let report = bench.try_up(&second, request).await.unwrap();
        assert!(report.read_bytes <= needed * CHUNK, "{report:?}");
        anew.push(report.repacked_bytes);
        newest = report.manifest;
    }
    // Not all of it fits at once, and some of it does: how much, goes by how the first upload's writers shared it.
    assert!(anew[0] > 0 && anew[0] < 700 * needed, "{anew:?}");
    for manifest in snapshots::list(&bench.repository).await.unwrap() {
        if manifest.snapshot_id != newest.snapshot_id {
            let (volume, snapshot) = (&newest.volume_id, &manifest.snapshot_id);
            snapshots::delete(&bench.repository, volume, snapshot)
                .await
                .unwrap();
        }
    }
    let settings = PruneSettings {
        give_up_after: Duration::ZERO,
        stale_after: Duration::ZERO,
        ..PruneSettings::default()
    };
    let planned = plan(&bench.repository, &settings, &CancellationToken::new()).await;
    execute(planned.unwrap()).await.unwrap();
    let prefix = format!("packs/{}/{}/", old.volume_id, old.snapshot_id);
    let left = bench.store.list(&prefix, None).await.unwrap().objects;
    assert_eq!(left, [], "{anew:?}");
    bench.is(&newest, &second).await;
}

//! Which backup is which: names as long as they may be, of two namespaces, with signs of their own, and chains by their place.

use serde_json::json;

use crate::{lab::Bench, plugin::Plugin};

#[tokio::test]
async fn long_names_are_names() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    bench.volume("pvc-1", 1).await;
    let schedule = "s".repeat(185);
    let snap = |number: u8| format!("{schedule}-2026112100000{number}");
    assert_eq!(snap(1).len(), 200);
    // Sent, in a bucket, and beside the volume.
    plugin.back_up("pvc-1", &schedule, &snap(1)).await;
    assert_eq!(plugin.restore("pvc-2", &snap(1), None).await.0, "Done");
    plugin.destination = Some("s3://backups/a".to_owned());
    let done = plugin.back_up("pvc-1", &schedule, &snap(2)).await;
    assert_eq!(done["status"], "Done", "{done}");
    plugin.local = true;
    for snap in [snap(3), snap(4)] {
        let (code, text) = plugin.post_backup("pvc-1", &schedule, &snap).await;
        assert_eq!(code, 200, "{text}");
    }
    let done = plugin.status("pvc-1", &schedule, &snap(4)).await;
    assert_eq!(
        (&done["status"], &done["spec"]["prevSnapName"]),
        (&json!("Done"), &json!(snap(3)))
    );
    for snap in [snap(1), snap(3), snap(4)] {
        assert_eq!(plugin.delete(&snap, "pvc-1", &schedule).await, 200);
    }
    assert!(bench.storage.leftovers().snapshots.is_empty());
    bench.stop().await;
}

#[tokio::test]
async fn one_name_of_a_volume_is_one_backup() {
    let bench = Bench::start().await;
    let (mut plugin, mut other) = (
        Plugin::new(&bench, "shop"),
        Plugin::new(&bench, "elsewhere"),
    );
    (plugin.local, other.local) = (true, true);
    bench.volume("pvc-1", 1).await;
    assert_eq!(plugin.post_backup("pvc-1", "b", "b").await.0, 200);
    let (code, text) = other.post_backup("pvc-1", "b", "b").await;
    assert_eq!(code, 409, "{text}");
    assert!(text.contains("another namespace"), "{text}");
    assert_eq!(other.status("pvc-1", "b", "b").await["status"], "Invalid");
    assert_eq!(plugin.status("pvc-1", "b", "b").await["status"], "Done");
    // Volume `a/b` with backup `c`, and volume `a` with backup `b/c`.
    bench.volume("a", 1).await;
    bench.volume("a/b", 1).await;
    for (volume, snap) in [("a/b", "c"), ("a", "b/c")] {
        let (code, text) = plugin.post_backup(volume, snap, snap).await;
        assert_eq!(code, 200, "{text}");
        assert_eq!(plugin.status(volume, snap, snap).await["status"], "Done");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_chain_stays_in_its_bucket() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    bench.volume("pvc-1", 1).await;
    for (place, snap, previous) in [
        ("s3://backups/a", "w-1", ""),
        ("s3://second/b", "w-2", ""),
        ("s3://backups/a/", "w-3", "w-1"),
    ] {
        plugin.destination = Some(place.to_owned());
        let done = plugin.back_up("pvc-1", "w", snap).await;
        assert_eq!(
            (&done["status"], &done["spec"]["prevSnapName"]),
            (&json!("Done"), &json!(previous)),
            "{done}"
        );
    }
    bench.stop().await;
}

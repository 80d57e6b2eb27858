//! More of everything than a page of the manager's lists has.

use serde_json::json;

use crate::{lab::Bench, plugin::Plugin};

#[tokio::test]
async fn what_stands_on_the_last_page_is_found() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    plugin.local = true;
    bench.crowd().await;
    bench.volume("pvc-1", 1).await;
    let before = bench.storage.leftovers().snapshots.len();
    assert!(before > 500);
    let mut previous = "";
    for snap in ["daily-1", "daily-2"] {
        let (code, text) = plugin.post_backup("pvc-1", "daily", snap).await;
        assert_eq!(code, 200, "{text}");
        let found = plugin.status("pvc-1", "daily", snap).await;
        assert_eq!(
            (&found["status"], &found["spec"]["prevSnapName"]),
            (&json!("Done"), &json!(previous))
        );
        previous = snap;
    }
    for snap in ["daily-1", "daily-2"] {
        assert_eq!(plugin.delete(snap, "pvc-1", "daily").await, 200);
    }
    assert_eq!(bench.storage.leftovers().snapshots.len(), before);
    bench.stop().await;
}

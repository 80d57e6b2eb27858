//! What the audit log tells of backups that go.

use serde_json::Value;

use crate::{lab::Bench, plugin::Plugin, support::log};

/// The audit log's events of calls by this method, in their order: id, what was removed, and which copies of it.
fn audited(method: &str, is_it: impl Fn(&Value) -> bool) -> Vec<[String; 3]> {
    let events = log::audited().into_iter();
    events
        .filter(|event| event["method"] == method && is_it(event))
        .map(|event| ["id", "removed", "copies"].map(|key| event[key].as_str().unwrap().to_owned()))
        .collect()
}

fn deletions(snap: &str) -> Vec<[String; 3]> {
    audited("DELETE", |event| {
        event["path"] == format!("/latest/backups/{snap}")
    })
}

#[tokio::test]
async fn what_goes_is_told() {
    log::keep();
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    bench.volume("pvc-1", 1).await;
    // Nobody takes it: it fails, is made anew, fails again, and goes.
    for _ in 0..2 {
        let (code, text) = plugin.post_backup("pvc-1", "told-1", "told-1").await;
        assert_eq!(code, 200, "{text}");
        let ended = plugin.ended("pvc-1", "told-1", "told-1").await;
        assert_eq!(ended["status"], "Failed");
    }
    for _ in 0..2 {
        assert_eq!(plugin.delete("told-1", "pvc-1", "told-1").await, 200);
    }
    let [[id, removed, copies], nothing] = deletions("told-1").try_into().unwrap();
    assert!(id.starts_with("snap-"), "{id}");
    assert_eq!((&removed, copies.as_str()), (&id, "local"));
    assert_eq!(nothing, [""; 3]);
    let [[_, first, copies]] = audited("POST", |event| event["id"] == id)
        .try_into()
        .unwrap();
    assert!(first.starts_with("snap-") && first != id, "{first}");
    assert_eq!(copies, "local");
    // A complete copy in a bucket stays, and goes when that is asked for.
    plugin.destination = Some("s3://backups/a".to_owned());
    plugin.back_up("pvc-1", "told-2", "told-2").await;
    let path = "/latest/backups/told-2?volume=pvc-1&namespace=shop&cloudCopy=delete";
    assert_eq!(plugin.call("DELETE", path, None).await.0, 200);
    let [kept, gone] = deletions("told-2").try_into().unwrap();
    let id = gone[0].clone();
    assert!(id.starts_with("bak-"), "{id}");
    assert_eq!(kept, [id.clone(), String::new(), String::new()]);
    assert_eq!(gone, [id.clone(), id, "cloud".to_owned()]);
    bench.stop().await;
}

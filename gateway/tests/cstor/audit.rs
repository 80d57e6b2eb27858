//! What the audit log tells of backups that go.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::Value;

use crate::{lab::Bench, plugin::Plugin};

/// What is logged in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .init();
        log
    })
}

/// The audit log's events of calls by this method, in their order: id, what was removed, and which copies of it.
fn audited(method: &str, is_it: impl Fn(&Value) -> bool) -> Vec<[String; 3]> {
    let text = String::from_utf8(log().0.lock().unwrap().clone()).unwrap();
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["target"] == "audit")
        .map(|event| event["fields"].clone())
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
    log();
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

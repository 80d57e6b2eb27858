//! The REST of cStor, driven as OpenEBS's plugin for Velero drives it: documents posted, data taken and given on a port of its
//! own that it opens after it has asked, status asked for until the end, and its clean-up after each backup.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod ends;
mod lab;
mod many;
mod names;
mod plugin;

use serde_json::{Value, json};

use crate::{lab::Bench, plugin::Plugin};

#[tokio::test]
async fn a_backup_to_the_plugin_and_back() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    bench.volume("pvc-1", 1).await;
    let done = plugin.back_up("pvc-1", "nightly", "nightly").await;
    assert_eq!(
        (
            done["status"].as_str(),
            done["spec"]["prevSnapName"].as_str()
        ),
        (Some("Done"), Some(""))
    );
    assert_eq!(done["metadata"]["name"], "nightly-pvc-1");
    // A field of another version stays where it was.
    assert_eq!(done["spec"]["pluginField"], "kept");
    // Its snapshot was cleaned up, as of any backup without a schedule.
    assert!(bench.storage.leftovers().snapshots.is_empty());
    bench.assert_tidy();

    let (status, target) = plugin.restore("pvc-2", "nightly", None).await;
    assert_eq!(status, "Done");
    assert_eq!(bench.content("pvc-2").await, bench.content("pvc-1").await);
    // This node exports nothing: there is no portal, in either form of the answer.
    assert_eq!(
        (&target["targetPortal"], &target["spec"]["iqn"]),
        (&json!(""), &json!(""))
    );
    // Into a volume that the orchestrator has made already, as the plugin's claim does.
    bench.volume("pvc-3", 9).await;
    let (status, _) = plugin.restore("pvc-3", "nightly", Some("3Mi")).await;
    assert_eq!(status, "Done");
    assert_eq!(bench.content("pvc-3").await, bench.content("pvc-1").await);
    bench.stop().await;
}

#[tokio::test]
async fn a_schedule_is_a_chain() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    let mut expected = String::new();
    for number in 1..=3_u8 {
        bench.volume("pvc-1", number).await;
        let snap = format!("daily-2026112{number}");
        let done = plugin.back_up("pvc-1", "daily", &snap).await;
        assert_eq!(done["status"], "Done", "{done}");
        assert_eq!(done["spec"]["prevSnapName"], json!(expected), "{done}");
        // The newest stays for the next one, the one before is cleaned up.
        assert_eq!(bench.storage.leftovers().snapshots.len(), 1);
        expected = snap;
    }
    for number in 1..=3_u8 {
        let (snap, volume) = (format!("daily-2026112{number}"), format!("copy-{number}"));
        let (status, _) = plugin.restore(&volume, &snap, None).await;
        assert_eq!(status, "Done");
        assert_eq!(bench.content(&volume).await, Bench::bytes(number));
    }
    // One that is asked to build on nothing has nothing before it.
    plugin.disable_incremental = true;
    let done = plugin.back_up("pvc-1", "daily", "daily-20261124").await;
    assert_eq!(
        (&done["status"], &done["spec"]["prevSnapName"]),
        (&json!("Done"), &json!(""))
    );
    // It is cleaned up at once; of the chain before it the newest stays until somebody deletes it.
    assert_eq!(
        plugin.status("pvc-1", "daily", "daily-20261124").await["status"],
        "Invalid"
    );
    assert_eq!(bench.storage.leftovers().snapshots.len(), 1);
    assert_eq!(plugin.delete("daily-20261123", "pvc-1", "daily").await, 200);
    assert!(bench.storage.leftovers().snapshots.is_empty());
    // With `restoreAllIncrementalSnapshots`: one after the other, into the volume that the claim is bound to.
    bench.volume("claimed", 9).await;
    for number in 1..=3_u8 {
        let snap = format!("daily-2026112{number}");
        let (status, _) = plugin.restore("claimed", &snap, Some("3Mi")).await;
        assert_eq!(status, "Done", "{snap}");
        assert_eq!(bench.content("claimed").await, Bench::bytes(number));
    }
    bench.stop().await;
}

#[tokio::test]
async fn into_a_bucket() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    plugin.destination = Some("s3://backups/a/".to_owned());
    let mut previous = "";
    for (number, snap) in [(1, "weekly-1"), (2, "weekly-2")] {
        bench.volume("pvc-1", number).await;
        let done = plugin.back_up("pvc-1", "weekly", snap).await;
        assert_eq!(
            (&done["status"], &done["spec"]["prevSnapName"]),
            (&json!("Done"), &json!(previous)),
            "{done}"
        );
        previous = snap;
    }
    assert!(bench.storage.leftovers().snapshots.is_empty());
    for (number, snap) in [(1, "weekly-1"), (2, "weekly-2")] {
        // The plugin's clean-up took nothing away that is in the bucket.
        let copy = format!("copy-{number}");
        let (code, _) = plugin.post_restore(&copy, snap, "pvc-1", false, None).await;
        assert_eq!(code, 200);
        assert_eq!(plugin.restored(&copy, snap).await, "Done");
        assert_eq!(bench.content(&copy).await, Bench::bytes(number));
    }
    // Asked for in so many words it goes.
    let path =
        "/latest/backups/weekly-1?volume=pvc-1&namespace=shop&schedule=weekly&cloudCopy=delete";
    assert_eq!(
        plugin.call("DELETE", path, None).await,
        (200, "\"\"".to_owned())
    );
    assert_eq!(
        plugin.status("pvc-1", "weekly", "weekly-1").await["status"],
        "Invalid"
    );
    assert_eq!(
        plugin.status("pvc-1", "weekly", "weekly-2").await["status"],
        "Done"
    );
    plugin.destination = Some("s3://elsewhere/b".to_owned());
    let (code, text) = plugin.post_backup("pvc-1", "weekly", "weekly-3").await;
    assert_eq!(code, 400);
    assert!(
        text.contains("s3://elsewhere/b") && text.contains("s3://backups/a"),
        "{text}"
    );
    bench.stop().await;
}

#[tokio::test]
async fn beside_the_volume() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    plugin.local = true;
    bench.volume("pvc-1", 1).await;
    for _ in 0..2 {
        // Asked again it is the same.
        let (code, text) = plugin.post_backup("pvc-1", "b", "b").await;
        assert_eq!((code, text.as_str()), (200, "\"\""));
    }
    assert_eq!(bench.storage.leftovers().snapshots.len(), 1);
    assert_eq!(plugin.status("pvc-1", "b", "b").await["status"], "Done");
    bench.volume("pvc-1", 2).await;
    let (code, _) = plugin
        .post_restore("clone", "b", "pvc-1", true, Some("4Mi"))
        .await;
    assert_eq!(code, 200);
    assert_eq!(plugin.restored("clone", "b").await, "Done");
    // As a restore beside the volume may name no namespace, nor need the question.
    let asked = json!({"spec": {"restoreName": "b", "volumeName": "clone"}}).to_string();
    let (code, text) = plugin.call("GET", "/latest/restore/", Some(&asked)).await;
    assert_eq!((code, text.as_str()), (200, "\"Done\""));
    assert_eq!(bench.content("clone").await, Bench::bytes(1));
    assert_eq!(plugin.delete("b", "pvc-1", "b").await, 200);
    assert_eq!(plugin.delete("b", "pvc-1", "b").await, 200);
    assert!(bench.storage.leftovers().snapshots.is_empty());
    let (code, text) = plugin.post_restore("again", "b", "pvc-1", true, None).await;
    assert_eq!(code, 400, "{text}");
    bench.stop().await;
}

#[tokio::test]
async fn what_has_no_healthy_volume_has_failed() {
    let bench = Bench::start().await;
    let mut plugin = Plugin::new(&bench, "shop");
    let done = plugin.back_up("pvc-none", "b", "b").await;
    assert_eq!(done["status"], "Failed");
    // It stays so when there is a volume; asked for anew it is made.
    plugin.local = true;
    let (code, _) = plugin.post_backup("pvc-late", "b", "b").await;
    assert_eq!(code, 200);
    bench.volume("pvc-late", 1).await;
    for (snap, status) in [("b", "Failed"), ("c", "Invalid")] {
        let found = plugin.status("pvc-late", snap, snap).await;
        assert_eq!(found["status"], status, "{snap}");
    }
    let (code, _) = plugin.post_backup("pvc-late", "b", "b").await;
    assert_eq!(code, 200);
    assert_eq!(plugin.status("pvc-late", "b", "b").await["status"], "Done");
    assert_eq!(plugin.delete("b", "pvc-late", "b").await, 200);
    assert_eq!(
        plugin.status("pvc-late", "b", "b").await["status"],
        "Invalid"
    );
    plugin.local = false;
    // Nobody waits where it is to be sent: it fails after a while, and its snapshot is cleaned up.
    bench.volume("pvc-1", 1).await;
    let (code, _) = plugin.post_backup("pvc-1", "b", "b").await;
    assert_eq!(code, 200);
    let ended = plugin.ended("pvc-1", "b", "b").await;
    assert_eq!(ended["status"], "Failed");
    plugin.clean_up(&ended).await;
    assert!(bench.storage.leftovers().snapshots.is_empty());
    // One that nobody has asked for.
    assert_eq!(plugin.status("pvc-1", "c", "c").await["status"], "Invalid");
    assert_eq!(plugin.restored("pvc-9", "c").await, "Invalid");
    // A stream that is cut off leaves no volume.
    plugin.back_up("pvc-1", "d", "d").await;
    plugin.truncate("d");
    let (status, _) = plugin.restore("pvc-8", "d", None).await;
    assert_eq!(status, "Failed");
    assert_eq!(bench.storage.leftovers().volumes.len(), 2);
    bench.assert_tidy();
    bench.stop().await;
}

#[tokio::test]
async fn bad_input_is_refused_and_leaves_nothing() {
    let bench = Bench::start().await;
    let plugin = Plugin::new(&bench, "shop");
    bench.volume("pvc-1", 1).await;
    let spec = |change: Value| {
        let mut spec = json!({"backupName": "b", "volumeName": "pvc-1", "snapName": "b", "backupDest": plugin.address()});
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"metadata": {"namespace": "shop"}, "spec": spec}).to_string()
    };
    let long = "x".repeat(300);
    let posts = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        "\u{0}".to_owned(),
        json!({"spec": []}).to_string(),
        json!({"metadata": {}, "spec": {"backupName": "b", "volumeName": "pvc-1", "snapName": "b"}}).to_string(),
        spec(json!({"backupName": ""})),
        spec(json!({"volumeName": " "})),
        spec(json!({"snapName": long})),
        spec(json!({"snapName": "a\nb"})),
        spec(json!({"snapName": 7})),
        spec(json!({"localSnap": "true"})),
        spec(json!({"backupDest": ""})),
        spec(json!({"backupDest": "nonsense"})),
        spec(json!({"backupDest": "http://127.0.0.1:9000/x"})),
        spec(json!({"backupDest": "s3://"})),
        spec(json!({"backupDest": "127.0.0.1:0"})),
        spec(json!({"backupDest": "a b:9000"})),
    ];
    for body in &posts {
        for method in ["POST", "GET"] {
            let (code, text) = plugin.call(method, "/latest/backups/", Some(body)).await;
            let is_refused =
                (400..500).contains(&code) && !text.is_empty() && !text.starts_with('{');
            // Where it would go does not matter to a question.
            let is_question = method == "GET" && body.contains("\"namespace\"") && code == 200;
            assert!(is_refused || is_question, "{method} {body}: {code} {text}");
        }
    }
    let (code, text) = plugin
        .call(
            "POST",
            "/latest/backups/",
            Some(&spec(json!({"backupDest": "192.0.2.1:9000"}))),
        )
        .await;
    assert_eq!(code, 403, "{text}");
    assert!(text.contains("allowedDestinations"), "{text}");
    bench.assert_only_the_volume();
    bench.stop().await;
}

#[tokio::test]
async fn bad_restores_and_deletions_are_refused() {
    let bench = Bench::start().await;
    let plugin = Plugin::new(&bench, "shop");
    bench.volume("pvc-1", 1).await;
    let restore = |change: Value| {
        let mut spec =
            json!({"restoreName": "b", "volumeName": "pvc-7", "restoreSrc": plugin.address()});
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"metadata": {"namespace": "shop"}, "spec": spec}).to_string()
    };
    for body in [
        String::new(),
        "{}".to_owned(),
        restore(json!({"restoreName": ""})),
        restore(json!({"volumeName": ""})),
        restore(json!({"restoreSrc": ""})),
        restore(json!({"restoreSrc": "pvc-none"})),
        restore(json!({"restoreSrc": "192.0.2.1:9000"})),
        restore(json!({"size": "many"})),
        restore(json!({"size": {}})),
        restore(json!({"localRestore": 1})),
    ] {
        let (code, text) = plugin.call("POST", "/latest/restore/", Some(&body)).await;
        assert!(
            (400..500).contains(&code) && !text.is_empty(),
            "{body}: {code} {text}"
        );
    }
    for path in [
        "/latest/backups/b",
        "/latest/backups/b?volume=pvc-1",
        "/latest/backups/b?namespace=shop&schedule=b",
        "/latest/backups?volume=pvc-1&namespace=shop",
        "/latest/backups/b?volume=pvc-1&namespace=shop&cloudCopy=maybe",
    ] {
        let (code, text) = plugin.call("DELETE", path, None).await;
        assert!(
            (400..500).contains(&code) && !text.is_empty(),
            "{path}: {code} {text}"
        );
    }
    for (method, path) in [
        ("PUT", "/latest/backups/"),
        ("GET", "/latest/nothing"),
        ("PATCH", "/latest/restore/"),
    ] {
        let (code, _) = plugin.call(method, path, None).await;
        assert!([404, 405].contains(&code), "{method} {path}: {code}");
    }
    bench.assert_only_the_volume();
    bench.stop().await;
}

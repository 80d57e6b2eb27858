//! The flow of the OpenSDS text: profile, snapshot into the cloud, volume from there.

use std::{fs, io::Read as _};

use serde_json::{Value, json};

use crate::lab::{Lab, until};

const T: &str = "/v1beta/e93b4c0934da416eb9c8d120c5d04d96";

fn profile() -> Value {
    json!({
        "name": "cloud", "description": "another building", "storageType": "block",
        "snapshotProperties": {"topology": {"bucket": "backups", "prefix": "b"}},
    })
}

fn first_bytes(path: &std::path::Path) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut file = fs::File::open(path).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn a_volume_goes_into_the_cloud_and_comes_back() {
    let mut lab = Lab::start().await;
    let client = lab.gateway("{socket: DIR/g.sock}").await;

    let made = client
        .post(&format!("{T}/profiles"), profile())
        .await
        .expect(200);
    let profile_id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(profile_id.len(), 36, "{made}");

    // What two change at once is both changed.
    let path = format!("{T}/profiles/{profile_id}");
    for round in 0..8 {
        let one = format!("one {round}");
        let (a, b) = tokio::join!(
            client.put(&path, json!({"description": one})),
            client.put(
                &path,
                json!({"snapshotProperties": {"topology": {"bucket": "backups", "prefix": "b"},
                                     "retention": {"number": round + 1}}})
            ),
        );
        a.expect(200);
        b.expect(200);
        let now = client.get(&path).await.expect(200);
        assert_eq!(now["description"], one, "{now}");
        let number = &now["snapshotProperties"]["retention"]["number"];
        assert_eq!(*number, json!(round + 1), "{now}");
    }
    for (key, field) in [("profile", "profileId"), ("error", "error")] {
        let asked = json!({"name": "x", "size": 1, "metadata": {key: profile_id}});
        let volumes = format!("{T}/block/volumes");
        let refused = client.post(&volumes, asked).await;
        let message = refused.expect(400)["message"].to_string();
        assert!(
            message.contains(key) && message.contains(field),
            "{message}"
        );
    }

    let asked = json!({"name": "data", "description": "words", "size": 1, "metadata": {"team": "a"},
                       "profileId": profile_id, "AttachStatus": ""});
    let volume = client
        .post(&format!("{T}/block/volumes"), asked.clone())
        .await
        .expect(202);
    let id = volume["id"].as_str().unwrap();
    assert_eq!(volume["size"], 1);
    assert_eq!(volume["tenantId"], "e93b4c0934da416eb9c8d120c5d04d96");
    assert_eq!(volume["metadata"], json!({"team": "a"}));
    assert_eq!(volume["profileId"], profile_id.as_str());
    let volume = until(&client, &format!("{T}/block/volumes/{id}"), "available").await;
    // A caller that heard no answer asks again.
    let again = client
        .post(&format!("{T}/block/volumes"), asked)
        .await
        .expect(202);
    assert_eq!(again["id"], volume["id"]);

    let content: Vec<u8> = (0..4096_u32).map(|n| (n % 251) as u8).collect();
    fs::write(lab.site.storage.volume_file(&id.parse().unwrap()), &content).unwrap();
    let asked = json!({"name": "nightly", "description": "before the change", "volumeId": id,
                       "profileId": profile_id});
    let snapshot = client
        .post(&format!("{T}/block/snapshots"), asked)
        .await
        .expect(202);
    let snapshot_id = snapshot["id"].as_str().unwrap().to_owned();
    let path = format!("{T}/block/snapshots/{snapshot_id}");
    let snapshot = until(&client, &path, "available").await;
    let location = snapshot["metadata"]["location"].as_str().unwrap();
    assert!(location.contains(&snapshot_id), "{location}");
    assert_eq!(snapshot["description"], "before the change");
    assert_eq!(snapshot["volumeId"], id);
    assert_eq!(snapshot["profileId"], profile_id.as_str());

    let asked =
        json!({"name": "back", "size": 2, "snapshotId": snapshot_id, "snapshotFromCloud": true});
    let back = client
        .post(&format!("{T}/block/volumes"), asked)
        .await
        .expect(202);
    let back_id = back["id"].as_str().unwrap();
    let back = until(
        &client,
        &format!("{T}/block/volumes/{back_id}"),
        "available",
    )
    .await;
    assert_eq!(
        (&back["size"], &back["snapshotFromCloud"]),
        (&json!(2), &json!(true))
    );
    let file = lab.site.storage.volume_file(&back_id.parse().unwrap());
    assert_eq!(first_bytes(&file), content);

    for (path, count) in [
        (format!("{T}/block/volumes"), 2),
        (format!("{T}/block/volumes?name=back"), 1),
        (format!("{T}/block/volumes?status=available&limit=1"), 1),
        (format!("{T}/block/snapshots?volumeId={id}"), 1),
        (format!("{T}/profiles"), 2),
    ] {
        let listed = client.get(&path).await.expect(200);
        assert_eq!(listed.as_array().unwrap().len(), count, "{path}: {listed}");
    }
    client.delete(&path).await.expect(202);
    client.get(&path).await.expect(404);
    for id in [id, back_id] {
        client
            .delete(&format!("{T}/block/volumes/{id}"))
            .await
            .expect(202);
        client
            .get(&format!("{T}/block/volumes/{id}"))
            .await
            .expect(404);
    }
    client
        .delete(&format!("{T}/profiles/{profile_id}"))
        .await
        .expect(200);
    let left = lab.site.storage.leftovers();
    assert!(
        left.attached.is_empty() && left.volumes.is_empty(),
        "{left:?}"
    );
    assert_eq!(lab.site.stores.content().1, 0, "multipart uploads are open");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_made_changed_and_removed() {
    let mut lab = Lab::start().await;
    let client = lab.gateway("{socket: DIR/g.sock}").await;
    let made = client
        .post(&format!("{T}/profiles"), profile())
        .await
        .expect(200);
    let path = format!("{T}/profiles/{}", made["id"].as_str().unwrap());
    let again = client
        .post(&format!("{T}/profiles"), profile())
        .await
        .expect(200);
    assert_eq!(again, made);
    let other = json!({"name": "cloud", "description": "other"});
    client
        .post(&format!("{T}/profiles"), other)
        .await
        .expect(409);
    // Only what the body names changes.
    let changed = client
        .put(&path, json!({"description": "new", "storageType": null}))
        .await;
    let changed = changed.expect(200);
    assert_eq!(changed["description"], "new");
    assert_eq!(changed["createdAt"], made["createdAt"]);
    assert_eq!(changed["snapshotProperties"], made["snapshotProperties"]);
    assert!(changed.get("storageType").is_none());
    assert_eq!(client.get(&path).await.expect(200), changed);
    client
        .put(&path, json!({"colour": "red"}))
        .await
        .expect(400);
    client
        .put(&path, json!({"name": "offsite"}))
        .await
        .expect(409);
    assert_eq!(client.get(&path).await.expect(200), changed);
    let by_hand = client
        .get(&format!("{T}/profiles/offsite"))
        .await
        .expect(200);
    assert_eq!(by_hand["id"], "offsite");
    client.delete(&path).await.expect(200);
    client.delete(&path).await.expect(404);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_grow_and_keep_what_they_were_made_with() {
    let mut lab = Lab::start().await;
    let client = lab.gateway("{socket: DIR/g.sock}").await;
    let volume = client
        .post(&format!("{T}/block/volumes"), json!({"size": 1}))
        .await
        .expect(202);
    assert!(
        volume["name"].as_str().unwrap().starts_with("volume-"),
        "{volume}"
    );
    let path = format!("{T}/block/volumes/{}", volume["id"].as_str().unwrap());
    let resize = format!("{path}/resize");
    let grown = client
        .post(&resize, json!({"newSize": 3}))
        .await
        .expect(202);
    assert_eq!(grown["size"], 3);
    for bad in [
        json!({"newSize": 3}),
        json!({"newSize": 0}),
        json!({}),
        json!({"newSize": 1e300}),
    ] {
        client.post(&resize, bad).await.expect(400);
    }
    let same = client
        .put(&path, json!({"name": volume["name"], "description": ""}))
        .await;
    assert_eq!(same.expect(200)["size"], 3);
    client
        .put(&path, json!({"name": "other"}))
        .await
        .expect(400);
    // Without a profile a snapshot is local.
    let asked = json!({"volumeId": volume["id"]});
    let snapshot = client
        .post(&format!("{T}/block/snapshots"), asked)
        .await
        .expect(202);
    let snapshot = until(
        &client,
        &format!("{T}/block/snapshots/{}", snapshot["id"].as_str().unwrap()),
        "available",
    )
    .await;
    assert!(snapshot["metadata"].get("location").is_none(), "{snapshot}");
    // It says so, rather than wait for a copy that never comes.
    let asked = json!({"snapshotId": snapshot["id"], "snapshotFromCloud": true});
    let refused = client.post(&format!("{T}/block/volumes"), asked).await;
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    lab.stop().await;
}

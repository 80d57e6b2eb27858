//! Whatever is sent is answered in the form of its API, and never as our failure.

use serde_json::json;

use crate::lab::Lab;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn nothing_that_is_sent_is_our_failure() {
    let mut lab = Lab::start().await;
    let client = lab
        .gateway(
            "{socket: DIR/g.sock, limits: {requestsPerSecondMax: 10000, requestsBurstMax: 10000}}",
        )
        .await;
    let t = "/v1beta/t";
    let long = "x".repeat(2000);
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let bodies: Vec<Vec<u8>> = [
        "", " ", "{", "[]", "null", "7", "\"x\"", "{\"name\": 7}", "{\"size\": \"1\"}", "{\"size\": -1}",
        "{\"size\": 1.5}", "{\"size\": 99999999999999999999}", "{\"size\": 9223372036854775807}", "{\"size\": 0}",
        "{\"name\": \"\\u0000\", \"size\": 1}", "{\"name\": \"a\\nb\", \"size\": 1}", "{\"metadata\": {\"k\": {}}}",
        "{\"snapshotFromCloud\": true}", "{\"snapshotId\": \"none\"}", "{\"snapshotId\": \"../..\", \"size\": 1}",
        "{\"size\": 1, \"poolId\": \"none\"}", "{\"size\": 1, \"profileId\": \"none\"}",
        "{\"size\": 1, \"availabilityZone\": \"mars\"}", "{\"size\": 1, \"colour\": \"red\"}",
        "{\"size\": 1, \"groupId\": \"g\"}", "{\"volumeId\": \"none\"}", "{\"volumeId\": \"\"}",
        "{\"newSize\": -1}", "{\"newSize\": \"x\"}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        b"\xff\xfe".to_vec(),
        deep.into_bytes(),
        json!({"size": 1, "name": long}).to_string().into_bytes(),
        json!({"size": 1, "metadata": {"k": "v".repeat(9000)}}).to_string().into_bytes(),
        json!({"name": "p", "snapshotProperties": {"topology": {"bucket": ""}}}).to_string().into_bytes(),
        json!({"name": "p", "snapshotProperties": {"topology": {"bucket": "b", "caFile": "/etc/shadow"}}})
            .to_string()
            .into_bytes(),
    ])
    .collect();
    for path in [
        "profiles",
        "profiles/none",
        "block/volumes",
        "block/volumes/none",
        "block/volumes/none/resize",
        "block/snapshots",
        "block/snapshots/none",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            for body in &bodies {
                let path = format!("{t}/{path}");
                let reply = client.send(method, &path, Some(body.clone())).await;
                let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
                assert!(
                    (400..500).contains(&reply.status),
                    "{method} {path} {shown}: {}",
                    reply.text()
                );
                let told = reply.json();
                assert_eq!(told["code"], reply.status, "{method} {path} {shown}");
                assert!(!told["message"].as_str().unwrap().is_empty());
            }
        }
    }
    for path in [
        "/v1beta",
        "/v1beta/t",
        "/v1beta/t/none",
        "/v1beta/t/profiles/%ff",
        "/v1beta/t/profiles/%00",
        "/v1beta/t/profiles/a%2Fb",
        "/v1beta/t/profiles?limit=x",
        "/v1beta/t/block/volumes?sortKey=x",
        "/v1beta/t/block/snapshots?colour=red",
        "/v1beta/t/block/volumes/..",
        "/none",
        "/v9/x",
    ] {
        let reply = client.get(path).await;
        assert!(
            (400..500).contains(&reply.status),
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
        assert_eq!(reply.json()["code"], reply.status, "{path}");
    }
    let reply = client.send("PATCH", "/v1beta/t/profiles", None).await;
    reply.expect(405);
    assert!(
        reply.headers["allow"].contains("GET"),
        "{:?}",
        reply.headers
    );
    let left = lab.site.storage.leftovers();
    assert!(
        left.volumes.is_empty() && left.snapshots.is_empty(),
        "{left:?}"
    );
    let profiles = client.get("/v1beta/t/profiles").await.expect(200);
    assert_eq!(profiles.as_array().unwrap().len(), 1, "{profiles}");
    lab.stop().await;
}

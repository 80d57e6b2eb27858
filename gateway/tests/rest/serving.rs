//! Start, audit log, description, end.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
};

use serde_json::json;

use crate::{
    lab::{Lab, until},
    support::log,
};

/// The audit log's events about a tenant.
fn audited(tenant: &str) -> Vec<serde_json::Value> {
    let part = format!("/v1beta/{tenant}/");
    let events = log::audited().into_iter();
    events
        .filter(|event| event.to_string().contains(&part))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn every_call_that_changes_something_is_written_down_without_its_body() {
    log::keep();
    let mut lab = Lab::start().await;
    let client = lab.gateway("{socket: DIR/g.sock}").await;
    let path = "/v1beta/audited/block/volumes";
    let asked = json!({"name": "data", "size": 1, "description": "hunter2"});
    let volume = client
        .clone()
        .with("X-Auth-Token", "hunter2")
        .post(path, asked)
        .await
        .expect(202);
    let id = volume["id"].as_str().unwrap();
    until(&client, &format!("{path}/{id}"), "available").await;
    client.delete(&format!("{path}/none")).await.expect(404);
    client.delete(&format!("{path}/{id}")).await.expect(202);
    client
        .send("POST", path, Some(b"{".to_vec()))
        .await
        .expect(400);
    let events = audited("audited");
    let short: Vec<_> = events
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            (
                text("method"),
                text("route"),
                text("path"),
                text("id"),
                text("outcome"),
            )
        })
        .collect();
    let one = |method: &str, route: &str, path: &str, id: &str, outcome: &str| {
        let route = format!("/v1beta/{{tenantId}}/block/volumes{route}");
        (
            method.to_owned(),
            route,
            path.to_owned(),
            id.to_owned(),
            outcome.to_owned(),
        )
    };
    assert_eq!(
        short,
        [
            one("POST", "", path, id, "accepted"),
            one(
                "DELETE",
                "/{volumeId}",
                &format!("{path}/none"),
                "",
                "refused"
            ),
            one(
                "DELETE",
                "/{volumeId}",
                &format!("{path}/{id}"),
                "",
                "accepted"
            ),
            one("POST", "", path, "", "refused"),
        ]
    );
    for event in &events {
        let who = event["who"].as_str().unwrap();
        assert!(who.starts_with("uid "), "{event}");
        assert!(
            event["took_ms"].is_u64() && event["status"].is_u64(),
            "{event}"
        );
    }
    assert!(
        !events
            .iter()
            .any(|event| event.to_string().contains("hunter2"))
    );
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_much_does_not_fill_the_audit_log() {
    log::keep();
    let mut lab = Lab::start().await;
    let yaml = "{socket: DIR/g.sock, limits: {requestsPerSecondMax: 1, requestsBurstMax: 20}}";
    let client = lab.gateway(yaml).await;
    let mut refused = 0;
    for _ in 0..40 {
        let reply = client.delete("/v1beta/hurried/profiles/none").await;
        refused += usize::from(reply.status == 429);
    }
    assert!(refused > 1, "{refused}");
    let events = audited("hurried");
    let told = events.iter().filter(|event| event["status"] == 429).count();
    assert_eq!(told, 1, "{events:?}");
    assert_eq!(events.len(), 40 - refused + 1);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_manager_it_says_so_and_goes_on() {
    let mut lab = Lab::without_manager();
    let client = lab.gateway_before_nothing("{socket: DIR/g.sock}").await;
    let reply = client.get("/healthz").await;
    assert_eq!(reply.expect(503)["status"], "unavailable");
    for path in [
        "/v1beta/t/profiles",
        "/v1beta/t/block/volumes",
        "/v1beta/t/block/snapshots/x",
    ] {
        let reply = client.get(path).await;
        assert_eq!(reply.expect(503)["code"], 503, "{path}");
        assert!(reply.headers.contains_key("retry-after"), "{path}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_comes_and_goes_with_the_gateway() {
    let mut lab = Lab::start().await;
    let path = lab.path("run/g.sock");
    // What a killed process left.
    fs::create_dir(lab.path("run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let client = lab
        .gateway("{socket: DIR/run/g.sock, socketMode: group}")
        .await;
    let meta = fs::metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    // Another one does not take it away.
    let config = lab.gateway_config("{socket: DIR/run/g.sock}");
    let error = stockpot_gateway::serve(config, std::future::pending())
        .await
        .unwrap_err();
    let text = stockpot_manager::error::chain(&error);
    assert!(text.contains("another process"), "{text}");
    client.get("/v1beta/t/profiles").await.expect(200);
    let dir = lab.site.dir().to_owned();
    lab.stop().await;
    assert!(!path.exists(), "{}", dir.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_describes_itself() {
    let mut lab = Lab::start().await;
    let client = lab.gateway("{socket: DIR/g.sock}").await;
    let document = client.get("/openapi.json").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    for path in [
        "/v1beta/{tenantId}/profiles",
        "/v1beta/{tenantId}/block/volumes/{volumeId}/resize",
        "/v1beta/{tenantId}/block/snapshots",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(client.get("/docs").await.status, 303);
    let page = client.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("swagger-ui"), "{}", page.text());
    // Nothing is fetched from elsewhere.
    let script = client.get("/docs/swagger-ui-bundle.js").await;
    assert_eq!(script.status, 200);
    lab.stop().await;
}

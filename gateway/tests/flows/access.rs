//! Who is let in.

use serde_json::json;

use crate::lab::{Client, Lab, free_port, write};

/// SHA-256 of "abc".
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const LIST: &str = "/v1beta/t/profiles";

#[tokio::test(flavor = "multi_thread")]
async fn tokens_on_tcp_and_nothing_on_the_socket() {
    let mut lab = Lab::start().await;
    write(&lab.path("tokens"), &format!("ops:{ABC}\n"));
    let yaml = format!(
        "{{socket: DIR/g.sock, listen: ['127.0.0.1:{}'], authentication: {{tokensFile: DIR/tokens}}}}",
        free_port()
    );
    let local = lab.gateway(&yaml).await;
    local.get(LIST).await.expect(200);
    let far = local.clone().on_tcp();
    for (client, status) in [
        (far.clone(), 401),
        (far.clone().with("Authorization", "Bearer abc"), 200),
        (far.clone().with("X-Auth-Token", "abc"), 200),
        (far.clone().with("Authorization", "Bearer abd"), 401),
        (far.clone().with("Authorization", "Basic YWJjOg=="), 401),
        (far.clone().with("X-Auth-Token", ""), 401),
    ] {
        for reply in [
            client.get(LIST).await,
            client.post(LIST, json!({"name": "x"})).await,
        ] {
            assert_eq!(
                reply.status,
                status,
                "{:?}: {}",
                client.headers,
                reply.text()
            );
            if status == 401 {
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
                assert_eq!(reply.json()["code"], 401);
            }
        }
    }
    // Each API says it in its own words.
    let refused = far.get("/v3/p/backups").await.expect(401);
    assert_eq!(refused["unauthorized"]["code"], 401);
    assert_eq!(far.get("/latest/backups").await.status, 401);
    // What says nothing of what is stored is open.
    for path in ["/healthz", "/openapi.json", "/docs/"] {
        assert_eq!(far.get(path).await.status, 200, "{path}");
    }
    assert_eq!(far.post("/openapi.json", json!({})).await.status, 401);
    // A token that is taken out is out.
    write(
        &lab.path("tokens"),
        &format!("# nobody, since {ABC} left\n"),
    );
    let known = far.clone().with("X-Auth-Token", "abc");
    assert_eq!(known.get(LIST).await.status, 401);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_need_to_show_nothing_are_named() {
    let mut lab = Lab::start().await;
    let open = |networks: &str| {
        format!(
            "{{listen: ['127.0.0.1:{}'], authentication: {{allowWithoutAuthentication: [{networks}]}}}}",
            free_port()
        )
    };
    let near = lab.gateway(&open("127.0.0.0/8")).await;
    near.get(LIST).await.expect(200);
    // As OpenStack's clients without authentication do.
    near.with("X-Auth-Token", "user:project")
        .get(LIST)
        .await
        .expect(200);
    let elsewhere: Client = lab.gateway(&open("10.0.0.0/8")).await;
    elsewhere.get(LIST).await.expect(401);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_served_with_settings_that_let_in_whoever_comes() {
    let lab = Lab::without_manager();
    for (yaml, named) in [
        ("{listen: ['127.0.0.1:1']}", "allowWithoutAuthentication"),
        ("{socket: DIR/g.sock, listen: ['0.0.0.0:1']}", "tokensFile"),
        (
            "{socket: DIR/g.sock, listen: ['0.0.0.0:1'], authentication: {tokensFile: DIR/none}}",
            "none",
        ),
    ] {
        let config = lab.gateway_config(yaml);
        let error = stockpot_gateway::serve(config, std::future::pending())
            .await
            .unwrap_err();
        let text = stockpot_manager::error::chain(&error);
        assert!(text.contains(named), "{text}");
        assert!(!lab.path("g.sock").exists());
    }
}

//! What is answered before a handler is asked.

use axum::body::Body;
use http::Method;

use super::*;

/// A gateway without a manager that lets in a network.
fn front(networks: &str) -> Arc<Front> {
    let text = format!("{{allowWithoutAuthentication: [{networks}]}}");
    let config = GatewayConfig {
        manager_socket: "/nonexistent/m.sock".into(),
        authentication: serde_saphyr::from_str(&text).unwrap(),
        ..Default::default()
    };
    let access = Access::read(&config).unwrap();
    let behind = Behind {
        tasks: TaskTracker::new(),
        end: CancellationToken::new(),
    };
    Arc::new(Front::new(config, access, behind))
}

async fn asked(front: &Arc<Front>, from: &str, method: Method, path: &str) -> Response {
    let peer = Peer::Network {
        address: from.parse().unwrap(),
        certificate: Vec::new(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())
        .unwrap();
    front.clone().answer(peer, request).await
}

#[tokio::test]
async fn a_network_that_shows_nothing_gets_cstor_alone() {
    let front = front("10.0.0.0/8, 127.0.0.0/8");
    for (from, method, path, is_refused) in [
        ("10.1.2.3", Method::DELETE, "/v3/p/volumes/x", true),
        ("10.1.2.3", Method::GET, "/v2/p/volumes/", true),
        ("10.1.2.3", Method::GET, "/v1beta/t/profiles", true),
        ("10.1.2.3", Method::DELETE, "/latest/backups/x", false),
        ("10.1.2.3", Method::GET, "/healthz", false),
        ("127.0.0.1", Method::GET, "/v1beta/t/profiles", false),
    ] {
        let status = asked(&front, from, method.clone(), path).await.status();
        let is_forbidden = status == StatusCode::FORBIDDEN;
        assert_eq!(is_forbidden, is_refused, "{from} {method} {path}: {status}");
    }
}

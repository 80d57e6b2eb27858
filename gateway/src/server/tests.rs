//! What is answered before a handler is asked.

use std::{io, sync::Mutex};

use axum::body::Body;
use http::Method;

use super::*;

/// A gateway without a manager that lets in a network.
fn front(networks: &str) -> Arc<Front> {
    front_of(routes::routes().0, networks)
}

fn front_of(router: Router<Gateway>, networks: &str) -> Arc<Front> {
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
    Arc::new(Front::with(router, config, access, behind))
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

/// What is logged.
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

#[tokio::test]
async fn a_call_whose_handler_panics_is_written_down() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    async fn broken() {
        panic!("a mistake of ours");
    }
    let router = Router::new().route("/v1beta/broken", axum::routing::post(broken));
    let front = front_of(router, "127.0.0.0/8");
    let answer = asked(&front, "127.0.0.1", Method::POST, "/v1beta/broken").await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let entries: Vec<_> = log.lines().filter(|line| line.contains("audit")).collect();
    let [entry] = entries[..] else {
        panic!("{log}");
    };
    for said in ["host 127.0.0.1", "/v1beta/broken", "status=500", "failed"] {
        assert!(entry.contains(said), "{said}: {entry}");
    }
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

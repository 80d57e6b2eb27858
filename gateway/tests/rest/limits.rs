//! What a caller may ask for, and how long it is waited for.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    lab::{Lab, free_port, write},
    support::http::{exchange, parse},
};

const LIST: &str = "/v1beta/t/profiles";

#[tokio::test(flavor = "multi_thread")]
async fn size_and_rate() {
    let mut lab = Lab::start().await;
    let yaml = "{socket: DIR/g.sock, limits: {bodySizeBytesMax: 4096, requestsPerSecondMax: 1, requestsBurstMax: 20}}";
    let client = lab.gateway(yaml).await;
    let large = json!({"name": "x", "description": "y".repeat(5000)});
    let refused = client.post(LIST, large).await.expect(413);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("bodySizeBytesMax")
    );
    // Told by its length before a byte is read, too.
    let mut stream = client.connect().await.unwrap();
    let head = "POST /v1beta/t/profiles HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n";
    assert_eq!(exchange(&mut *stream, head.as_bytes()).await.status, 413);
    let long = client.clone().with("X-Long", &"y".repeat(300_000));
    assert_eq!(long.get(LIST).await.status, 431);
    let mut last = client.get(LIST).await;
    for _ in 0..40 {
        if last.status == 429 {
            break;
        }
        last = client.get(LIST).await;
    }
    assert_eq!(last.expect(429)["code"], 429);
    let wait: u64 = last.headers["retry-after"].parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    client.get(LIST).await.expect(200);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_has_places_of_its_own_and_who_is_refused_keeps_none() {
    let mut lab = Lab::start().await;
    write(&lab.path("tokens"), "# nobody\n");
    let yaml = format!(
        "{{socket: DIR/g.sock, listen: ['127.0.0.1:{}'], authentication: {{tokensFile: DIR/tokens}},
           limits: {{connectionsMax: 2, headSecondsMax: 600}}}}",
        free_port()
    );
    let local = lab.gateway(&yaml).await;
    let far = local.clone().on_tcp();
    // It would go on with the connection.
    let mut stream = far.connect().await.unwrap();
    let head = format!("GET {LIST} HTTP/1.1\r\nHost: x\r\n\r\n");
    let reply = exchange(&mut *stream, head.as_bytes()).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.headers["connection"], "close");
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = far.connect().await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        held.push(stream);
    }
    for _ in 0..3 {
        local.get(LIST).await.expect(200);
    }
    drop(held);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_is_not_waited_for() {
    let mut lab = Lab::start().await;
    let yaml = "{socket: DIR/g.sock, limits: {headSecondsMax: 1, requestSecondsMax: 2, connectionsMax: 4}}";
    let client = lab.gateway(yaml).await;
    // More of them than there are places, none of which ever ends its head.
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = client.connect().await.unwrap();
        stream
            .write_all(b"GET /v1beta/t/profiles HTTP/1.1\r\nX-Slow: ")
            .await
            .unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    client.get(LIST).await.expect(200);
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(slow);
    // A body that never comes to its end.
    let mut stream = client.connect().await.unwrap();
    let head = "POST /v1beta/t/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .unwrap()
        .unwrap();
    let reply = parse(&answer);
    assert_eq!(reply.status, 504);
    assert!(began.elapsed() >= Duration::from_secs(2));
    lab.stop().await;
}

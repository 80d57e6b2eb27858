//! The gateway's end while a stream goes on.

use std::time::Duration;

use stockpot_proto::stockpot::v1::StreamStatus;
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::{lab::Bench, plugin::Plugin};

#[tokio::test]
async fn a_stream_that_was_begun_is_waited_for() {
    let bench = Bench::start().await;
    let plugin = Plugin::new(&bench, "shop");
    bench.volume("pvc-1", 1).await;
    let (code, text) = plugin.post_backup("pvc-1", "b", "b").await;
    assert_eq!(code, 200, "{text}");
    // Nobody takes it yet.
    bench.stop_gateway();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(bench.gateway_is_up());
    assert_eq!(bench.streams().await, [StreamStatus::Running]);
    let listener = TcpListener::bind(&plugin.address()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut taken = Vec::new();
    stream.read_to_end(&mut taken).await.unwrap();
    drop(stream);
    let ended = async {
        while bench.gateway_is_up() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let within = Duration::from_secs(20);
    tokio::time::timeout(within, ended).await.unwrap();
    assert_eq!(bench.streams().await, [StreamStatus::Done]);
    bench.stop().await;
}

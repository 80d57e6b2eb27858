//! Faults in front of another server; here the other one is a server in the process as well.

use aws_sdk_s3::Client;
use stockpot_test_fixtures::s3::{Action, Credentials, Fault, FaultProxy, Op};

use crate::client::{bytes, code, config, start};

pub(crate) fn through(proxy: &FaultProxy, credentials: &Credentials) -> Client {
    Client::from_conf(config(&proxy.endpoint(), credentials).build())
}

/// The checks that hold in front of any server with the bucket `bucket`.
pub(crate) async fn check(client: &Client, proxy: &FaultProxy) {
    let put = || {
        client
            .put_object()
            .bucket("bucket")
            .key("k")
            .body(bytes(b"0123456789"))
            .send()
    };
    let get = || client.get_object().bucket("bucket").key("k").send();
    proxy
        .faults()
        .inject(Fault::new(Action::slow_down()).on(Op::PutObject).once());
    assert_eq!(code(put().await), "SlowDown");
    assert_eq!(code(get().await), "NoSuchKey");
    proxy.faults().clear();
    proxy
        .faults()
        .inject(Fault::new(Action::DropAfter).on(Op::PutObject).once());
    assert_eq!(code(put().await), "dispatch");
    let body = get().await.unwrap().body.collect().await.unwrap();
    assert_eq!(body.into_bytes().as_ref(), b"0123456789");
    proxy.faults().inject(
        Fault::new(Action::FlipResponse { at: 0 })
            .on(Op::GetObject)
            .once(),
    );
    let body = get().await.unwrap().body.collect().await.unwrap();
    assert_eq!(body.into_bytes().as_ref(), b"1123456789");
    proxy.faults().inject(
        Fault::new(Action::TruncateBody { keep_bytes: 2 })
            .on(Op::GetObject)
            .once(),
    );
    assert!(get().await.unwrap().body.collect().await.is_err());
    assert_eq!(
        (
            proxy.journal().count(Op::PutObject),
            proxy.journal().count(Op::GetObject)
        ),
        (2, 4)
    );
    client
        .delete_object()
        .bucket("bucket")
        .key("k")
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn faults_in_front_of_another_server() {
    let (server, _direct) = start();
    let proxy = FaultProxy::to(&server.endpoint()).unwrap();
    check(&through(&proxy, server.credentials()), &proxy).await;
    assert_eq!(server.journal().count(Op::PutObject), 1);
    server.stop();
    let client = through(&proxy, server.credentials());
    assert_eq!(
        code(client.head_bucket().bucket("bucket").send().await),
        "dispatch"
    );
}

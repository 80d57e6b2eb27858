//! Faults, seen from the client.

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use stockpot_test_fixtures::s3::{Action, Fault, Op, Server};

use crate::client::{bytes, code, start};

async fn put(client: &Client) -> String {
    code(
        client
            .put_object()
            .bucket("bucket")
            .key("k")
            .body(bytes(b"0123456789"))
            .send()
            .await,
    )
}

async fn get(client: &Client) -> Result<Vec<u8>, String> {
    let got = client.get_object().bucket("bucket").key("k").send().await;
    let got = got.map_err(|error| code(Err::<(), _>(error)))?;
    got.body
        .collect()
        .await
        .map(|data| data.to_vec())
        .map_err(|_| "body".to_owned())
}

fn filled() -> (Server, Client) {
    let (server, client) = start();
    server.put_object("bucket", "k", "0123456789");
    (server, client)
}

#[tokio::test]
async fn statuses() {
    let (server, client) = start();
    for (action, expected) in [
        (Action::slow_down(), "SlowDown"),
        (Action::internal_error(), "InternalError"),
        (Action::access_denied(), "AccessDenied"),
        (Action::expired_token(), "ExpiredToken"),
        (Action::time_too_skewed(), "RequestTimeTooSkewed"),
        (Action::conditional_conflict(), "ConditionalRequestConflict"),
    ] {
        let id = server
            .faults()
            .inject(Fault::new(action).on(Op::PutObject).once());
        assert_eq!(put(&client).await, expected);
        assert_eq!(server.faults().fired(id), 1);
    }
    assert!(server.objects("bucket").is_empty());
    assert_eq!(put(&client).await, "ok");
    let records = server.journal().requests();
    assert_eq!(
        (records[0].status, records[0].fault),
        (Some(503), Some("status"))
    );
    assert_eq!((records[6].status, records[6].fault), (Some(200), None));
}

#[tokio::test]
async fn lost_before_during_and_after() {
    let (server, client) = start();
    server
        .faults()
        .inject(Fault::new(Action::DropBefore).once());
    assert_eq!(put(&client).await, "dispatch");
    server.faults().clear();
    server
        .faults()
        .inject(Fault::new(Action::DropDuring { after_bytes: 3 }).once());
    assert_eq!(put(&client).await, "dispatch");
    assert!(server.objects("bucket").is_empty());
    server.faults().clear();
    server.faults().inject(Fault::new(Action::DropAfter).once());
    assert_eq!(put(&client).await, "dispatch");
    assert_eq!(server.objects("bucket").len(), 1);
    server.faults().clear();
    server.remove_object("bucket", "k");
    server.faults().inject(
        Fault::new(Action::AppliedThenStatus {
            status: 500,
            code: "InternalError",
        })
        .once(),
    );
    assert_eq!(put(&client).await, "InternalError");
    assert_eq!(server.objects("bucket").len(), 1);
}

#[tokio::test]
async fn damaged_answers() {
    let (server, client) = filled();
    for (action, expected) in [
        (
            Action::TruncateBody { keep_bytes: 4 },
            Err("body".to_owned()),
        ),
        (Action::ShortenBody { keep_bytes: 4 }, Ok(b"0123".to_vec())),
        (Action::FlipResponse { at: 3 }, Ok(b"0122456789".to_vec())),
    ] {
        server.faults().inject(Fault::new(action).once());
        assert_eq!(get(&client).await, expected);
        server.faults().clear();
    }
    server
        .faults()
        .inject(Fault::new(Action::StallBody { keep_bytes: 4 }).once());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), get(&client))
            .await
            .is_err()
    );
    server.faults().clear();
    assert_eq!(get(&client).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn damage_on_the_way_in_is_found_by_checksums() {
    let (server, client) = start();
    server
        .faults()
        .inject(Fault::new(Action::FlipRequest { at: 5 }));
    // The signature covers the SHA-256 of the body where the transport is plain.
    assert_eq!(put(&client).await, "XAmzContentSHA256Mismatch");
    assert!(server.objects("bucket").is_empty());
}

#[tokio::test]
async fn waiting() {
    let (server, client) = filled();
    server
        .faults()
        .inject(Fault::new(Action::Delay(Duration::from_millis(200))).once());
    let before = Instant::now();
    assert_eq!(put(&client).await, "ok");
    assert!(before.elapsed() >= Duration::from_millis(200));
    server.faults().clear();
    for action in [Action::Hang, Action::HangAfter] {
        server.faults().inject(Fault::new(action).once());
        assert!(
            tokio::time::timeout(Duration::from_millis(200), put(&client))
                .await
                .is_err()
        );
        server.faults().clear();
    }
    assert_eq!(get(&client).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn listings_lie() {
    let (server, client) = filled();
    server.faults().inject(
        Fault::new(Action::EmptyListing)
            .on(Op::ListObjectsV2)
            .once(),
    );
    let empty = client
        .list_objects_v2()
        .bucket("bucket")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (empty.contents().len(), empty.is_truncated()),
        (0, Some(false))
    );
    let full = client
        .list_objects_v2()
        .bucket("bucket")
        .send()
        .await
        .unwrap();
    assert_eq!(full.contents().len(), 1);
}

#[tokio::test]
async fn other_etags_and_headers() {
    let (server, client) = filled();
    server.faults().inject(Fault::new(Action::WrongEtag).once());
    let put = client
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"x"))
        .send()
        .await
        .unwrap();
    assert!(put.e_tag().unwrap().contains("0000000000"));
    server.faults().clear();
    server.faults().inject(
        Fault::new(Action::SetHeader {
            name: "etag",
            value: None,
        })
        .once(),
    );
    assert_eq!(
        client
            .head_object()
            .bucket("bucket")
            .key("k")
            .send()
            .await
            .unwrap()
            .e_tag(),
        None
    );
}

#[tokio::test]
async fn a_duplicate_arrives_late() {
    let (server, client) = start();
    server.faults().inject(
        Fault::new(Action::LateDuplicate {
            after: Duration::from_millis(150),
        })
        .once(),
    );
    assert_eq!(put(&client).await, "ok");
    client
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"newer"))
        .send()
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.object("bucket", "k").unwrap().as_ref() != b"0123456789" {
        assert!(Instant::now() < deadline, "the duplicate never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_complete_fails_within_its_200() {
    let (server, client) = start();
    let created = client
        .create_multipart_upload()
        .bucket("bucket")
        .key("k")
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap();
    let part = client
        .upload_part()
        .bucket("bucket")
        .key("k")
        .upload_id(id)
        .part_number(1)
        .body(bytes(b"x"));
    let etag = part.send().await.unwrap().e_tag().unwrap().to_owned();
    let list = CompletedMultipartUpload::builder()
        .parts(CompletedPart::builder().part_number(1).e_tag(etag).build())
        .build();
    let complete = || {
        client
            .complete_multipart_upload()
            .bucket("bucket")
            .key("k")
            .upload_id(id)
            .multipart_upload(list.clone())
    };
    server.faults().inject(
        Fault::new(Action::OkWithError {
            code: "InternalError",
        })
        .once(),
    );
    assert_eq!(code(complete().send().await), "InternalError");
    server.faults().clear();
    server.faults().inject(Fault::new(Action::WrongEtag).once());
    let completed = complete().send().await.unwrap();
    assert!(completed.e_tag().unwrap().contains("0000000000"));
}

#[tokio::test]
async fn the_server_dies_and_comes_back() {
    let (server, client) = filled();
    server.stop();
    assert_eq!(get(&client).await.unwrap_err(), "dispatch");
    server.restart().unwrap();
    assert_eq!(get(&client).await.unwrap(), b"0123456789");
    // The connection that the client kept is broken; a new one works.
    server.restart().unwrap();
    assert_eq!(put(&crate::client::client(&server)).await, "ok");
}

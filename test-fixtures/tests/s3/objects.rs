//! Whole objects.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, Delete, ObjectIdentifier};
use stockpot_test_fixtures::s3::Op;

use crate::client::{bytes, code, config, start};

#[tokio::test]
async fn put_get_head_delete() {
    let (server, client) = start();
    let put = client
        .put_object()
        .bucket("bucket")
        .key("dir/a b+ü")
        .body(bytes(b"123456789"))
        .send()
        .await
        .unwrap();
    assert_eq!(put.e_tag(), Some("\"25f9e794323b453885f5181f1b624d0b\""));
    let got = client
        .get_object()
        .bucket("bucket")
        .key("dir/a b+ü")
        .send()
        .await
        .unwrap();
    assert_eq!(got.content_length(), Some(9));
    assert_eq!(
        got.body.collect().await.unwrap().into_bytes().as_ref(),
        b"123456789"
    );
    let part = client
        .get_object()
        .bucket("bucket")
        .key("dir/a b+ü")
        .range("bytes=3-5")
        .send()
        .await
        .unwrap();
    assert_eq!(part.content_range(), Some("bytes 3-5/9"));
    assert_eq!(
        part.body.collect().await.unwrap().into_bytes().as_ref(),
        b"456"
    );
    let head = client
        .head_object()
        .bucket("bucket")
        .key("dir/a b+ü")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(9));
    assert_eq!(server.objects("bucket")[0].key, "dir/a b+ü");
    client
        .delete_object()
        .bucket("bucket")
        .key("dir/a b+ü")
        .send()
        .await
        .unwrap();
    client
        .delete_object()
        .bucket("bucket")
        .key("dir/a b+ü")
        .send()
        .await
        .unwrap();
    assert!(server.objects("bucket").is_empty());
    let journal = server.journal();
    assert_eq!(
        (
            journal.count(Op::PutObject),
            journal.count(Op::GetObject),
            journal.total()
        ),
        (1, 2, 6)
    );
    assert_eq!(journal.requests()[0].bytes_in, 9);
    assert_eq!(journal.requests()[0].key.as_deref(), Some("dir/a b+ü"));
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let (_server, client) = start();
    assert_eq!(
        code(client.get_object().bucket("bucket").key("k").send().await),
        "NoSuchKey"
    );
    assert_eq!(
        code(client.get_object().bucket("other").key("k").send().await),
        "NoSuchBucket"
    );
    assert_eq!(
        code(
            client
                .put_object()
                .bucket("other")
                .key("k")
                .body(bytes(b"x"))
                .send()
                .await
        ),
        "NoSuchBucket"
    );
    assert!(
        client
            .head_object()
            .bucket("bucket")
            .key("k")
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_not_found()
    );
    assert!(
        client
            .head_bucket()
            .bucket("other")
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_not_found()
    );
    assert!(client.head_bucket().bucket("bucket").send().await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_done_is_named() {
    let (_server, client) = start();
    client
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"x"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        code(
            client
                .get_object()
                .bucket("bucket")
                .key("k")
                .range("bytes=5-")
                .send()
                .await
        ),
        "InvalidRange"
    );
    assert_eq!(
        code(client.create_bucket().bucket("bucket").send().await),
        "BucketAlreadyOwnedByYou"
    );
    assert_eq!(
        code(client.delete_bucket().bucket("bucket").send().await),
        "BucketNotEmpty"
    );
    client.create_bucket().bucket("new").send().await.unwrap();
    client.delete_bucket().bucket("new").send().await.unwrap();
}

#[tokio::test]
async fn of_many_conditional_writers_one_wins() {
    let (server, client) = start();
    let writers = (0..16).map(|number: u8| {
        let put = client
            .put_object()
            .bucket("bucket")
            .key("lock")
            .if_none_match("*")
            .body(vec![number].into());
        tokio::spawn(async move { code(put.send().await) })
    });
    let mut codes = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        codes.push(writer.await.unwrap());
    }
    assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 1);
    assert_eq!(
        codes
            .iter()
            .filter(|code| *code == "PreconditionFailed")
            .count(),
        15
    );
    let winner = codes.iter().position(|code| code == "ok").unwrap();
    assert_eq!(
        server.object("bucket", "lock").unwrap().as_ref(),
        [u8::try_from(winner).unwrap()]
    );
}

#[tokio::test]
async fn if_match_reads_what_was_meant() {
    let (_server, client) = start();
    let put = client
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"x"))
        .send()
        .await
        .unwrap();
    let etag = put.e_tag().unwrap();
    assert_eq!(
        code(
            client
                .get_object()
                .bucket("bucket")
                .key("k")
                .if_match(etag)
                .send()
                .await
        ),
        "ok"
    );
    assert_eq!(
        code(
            client
                .get_object()
                .bucket("bucket")
                .key("k")
                .if_match("\"0\"")
                .send()
                .await
        ),
        "PreconditionFailed"
    );
}

#[tokio::test]
async fn checksums_travel_with_the_object() {
    let (server, client) = start();
    let put = client
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"123456789"))
        .checksum_crc32_c("4waSgw==");
    assert_eq!(
        put.send().await.unwrap().checksum_crc32_c(),
        Some("4waSgw==")
    );
    let wrong = client
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"123456788"))
        .checksum_crc32_c("4waSgw==");
    assert_eq!(code(wrong.send().await), "BadDigest");
    let wrong = client
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"123456788"))
        .content_md5("JfnnlDI7RTiF9RgfG2JNCw==");
    assert_eq!(code(wrong.send().await), "BadDigest");
    let head = client.head_object().bucket("bucket").key("k");
    assert_eq!(head.clone().send().await.unwrap().checksum_crc32_c(), None);
    let head = head
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(head.checksum_crc32_c(), Some("4waSgw=="));
    let config = config(&server.endpoint(), server.credentials());
    let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
    let trailing = Client::from_conf(config.build());
    let put = trailing
        .put_object()
        .bucket("bucket")
        .key("t")
        .body(bytes(b"123456789"));
    let put = put
        .checksum_algorithm(ChecksumAlgorithm::Crc32C)
        .send()
        .await
        .unwrap();
    assert_eq!(put.checksum_crc32_c(), Some("4waSgw=="));
    assert_eq!(server.object("bucket", "t").unwrap().as_ref(), b"123456789");
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let (server, client) = start();
    for number in 0..5 {
        server.put_object("bucket", &format!("k{number}"), "x");
    }
    let keys =
        ["k1", "k3", "none"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder()
        .set_objects(Some(keys.to_vec()))
        .build()
        .unwrap();
    let deleted = client
        .delete_objects()
        .bucket("bucket")
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.deleted().len(), 3);
    assert_eq!(server.keys_with_prefix("bucket", "k"), ["k0", "k2", "k4"]);
}

#[tokio::test]
async fn wrong_and_expired_keys_are_refused() {
    use stockpot_test_fixtures::s3::Credentials;
    let (server, client) = start();
    let mut wrong = server.credentials().clone();
    wrong.secret_key = Credentials::random().secret_key;
    let stranger = Client::from_conf(config(&server.endpoint(), &wrong).build());
    assert_eq!(
        code(stranger.get_object().bucket("bucket").key("k").send().await),
        "SignatureDoesNotMatch"
    );
    let stranger = Client::from_conf(config(&server.endpoint(), &Credentials::random()).build());
    assert_eq!(
        code(stranger.get_object().bucket("bucket").key("k").send().await),
        "InvalidAccessKeyId"
    );
    let temporary = Credentials::random_temporary();
    server.keys().add(temporary.clone());
    let guest = Client::from_conf(config(&server.endpoint(), &temporary).build());
    assert_eq!(
        code(guest.list_objects_v2().bucket("bucket").send().await),
        "ok"
    );
    let mut forged = temporary.clone();
    forged.session_token = Some("x".into());
    let forger = Client::from_conf(config(&server.endpoint(), &forged).build());
    assert_eq!(
        code(forger.list_objects_v2().bucket("bucket").send().await),
        "InvalidToken"
    );
    server.keys().expire(&temporary.access_key);
    assert_eq!(
        code(guest.list_objects_v2().bucket("bucket").send().await),
        "ExpiredToken"
    );
    assert_eq!(
        code(client.list_objects_v2().bucket("bucket").send().await),
        "ok"
    );
}

#[tokio::test]
async fn the_store_can_rot_and_go_back() {
    let (server, client) = start();
    server.put_object("bucket", "k", "abc");
    let before = server.snapshot("bucket").unwrap();
    assert!(
        server.flip_byte("bucket", "k", 1)
            && !server.flip_byte("bucket", "k", 3)
            && !server.flip_byte("bucket", "no", 0)
    );
    assert_eq!(server.object("bucket", "k").unwrap().as_ref(), b"acc");
    assert!(server.truncate_object("bucket", "k", 1) && !server.truncate_object("bucket", "k", 1));
    let got = client
        .get_object()
        .bucket("bucket")
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(
        got.body.collect().await.unwrap().into_bytes().as_ref(),
        b"a"
    );
    server.restore("bucket", &before);
    assert_eq!(server.object("bucket", "k").unwrap().as_ref(), b"abc");
    assert!(server.remove_object("bucket", "k") && !server.remove_object("bucket", "k"));
}

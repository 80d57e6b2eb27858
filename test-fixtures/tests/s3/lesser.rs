//! Endpoints that cannot do everything.

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use stockpot_test_fixtures::s3::{Capabilities, ChecksumSupport, Conditional};

use crate::client::{bytes, code, start};

#[tokio::test]
async fn conditions_ignored_or_rejected() {
    let (server, client) = start();
    server.put_object("bucket", "k", "first");
    let put = || {
        client
            .put_object()
            .bucket("bucket")
            .key("k")
            .if_none_match("*")
            .body(bytes(b"second"))
            .send()
    };
    assert_eq!(code(put().await), "PreconditionFailed");
    let rejecting = Capabilities {
        put_if_none_match: Conditional::Rejected,
        ..Capabilities::default()
    };
    server.set_capabilities(rejecting);
    assert_eq!(code(put().await), "NotImplemented");
    server.set_capabilities(Capabilities::default().no_if_none_match());
    assert_eq!(code(put().await), "ok");
    assert_eq!(server.object("bucket", "k").unwrap().as_ref(), b"second");
}

#[tokio::test]
async fn a_complete_without_conditions_overwrites() {
    let (server, client) = start();
    server.set_capabilities(Capabilities::default().no_conditional_complete());
    server.put_object("bucket", "k", "first");
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
        .body(bytes(b"second"));
    let etag = part.send().await.unwrap().e_tag().unwrap().to_owned();
    let list = CompletedMultipartUpload::builder()
        .parts(CompletedPart::builder().part_number(1).e_tag(etag).build())
        .build();
    let complete = client
        .complete_multipart_upload()
        .bucket("bucket")
        .key("k")
        .upload_id(id)
        .if_none_match("*");
    assert_eq!(code(complete.multipart_upload(list).send().await), "ok");
    assert_eq!(server.object("bucket", "k").unwrap().as_ref(), b"second");
}

#[tokio::test]
async fn checksums_refused_or_ignored() {
    let (server, client) = start();
    server.set_capabilities(Capabilities::default().no_checksums());
    let put = || {
        client
            .put_object()
            .bucket("bucket")
            .key("k")
            .body(bytes(b"123456789"))
    };
    assert_eq!(
        code(put().checksum_crc32_c("4waSgw==").send().await),
        "NotImplemented"
    );
    assert_eq!(
        code(
            put()
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .send()
                .await
        ),
        "NotImplemented"
    );
    assert_eq!(code(put().send().await), "ok");
    let create = client
        .create_multipart_upload()
        .bucket("bucket")
        .key("k")
        .checksum_algorithm(ChecksumAlgorithm::Crc32C);
    assert_eq!(code(create.send().await), "NotImplemented");
    server.set_capabilities(Capabilities {
        checksums: ChecksumSupport::Ignored,
        ..Capabilities::default()
    });
    assert_eq!(code(put().checksum_crc32_c("AAAAAA==").send().await), "ok");
    assert_eq!(server.objects("bucket")[0].checksum, None);
}

#[tokio::test]
async fn content_md5_required() {
    let (server, client) = start();
    server.set_capabilities(Capabilities::default().requires_content_md5());
    let put = || {
        client
            .put_object()
            .bucket("bucket")
            .key("k")
            .body(bytes(b"123456789"))
    };
    assert_eq!(code(put().send().await), "InvalidRequest");
    assert_eq!(
        code(put().content_md5("JfnnlDI7RTiF9RgfG2JNCw==").send().await),
        "ok"
    );
    assert_eq!(
        code(
            client
                .create_multipart_upload()
                .bucket("bucket")
                .key("k")
                .send()
                .await
        ),
        "ok"
    );
}

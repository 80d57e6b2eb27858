//! Uploads in parts.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use bytes::Bytes;
use stockpot_test_fixtures::s3::checksum::{Algorithm, Checksum, Coverage};

use crate::client::{bytes, code, start};

const MIB: usize = 1024 * 1024;

fn crc32c(segments: &[Bytes]) -> String {
    let value = Algorithm::Crc32c.compute(segments);
    Checksum {
        algorithm: Algorithm::Crc32c,
        coverage: Coverage::FullObject,
        value,
    }
    .encoded()
}

/// Creates an upload with CRC32C and puts `parts`; gives its id and the list for Complete.
async fn upload(
    client: &Client,
    kind: Option<ChecksumType>,
    parts: &[Bytes],
) -> (String, Vec<CompletedPart>) {
    let create = client
        .create_multipart_upload()
        .bucket("bucket")
        .key("k")
        .set_checksum_type(kind);
    let created = create
        .checksum_algorithm(ChecksumAlgorithm::Crc32C)
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap().to_owned();
    let mut list = Vec::new();
    for (number, data) in (1..).zip(parts) {
        let sum = crc32c(std::slice::from_ref(data));
        let put = client
            .upload_part()
            .bucket("bucket")
            .key("k")
            .upload_id(&id)
            .part_number(number);
        let put = put
            .checksum_crc32_c(&sum)
            .body(ByteStream::from(data.clone()))
            .send()
            .await
            .unwrap();
        assert_eq!(put.checksum_crc32_c(), Some(sum.as_str()));
        let etag = put.e_tag().unwrap();
        list.push(
            CompletedPart::builder()
                .part_number(number)
                .e_tag(etag)
                .checksum_crc32_c(sum)
                .build(),
        );
    }
    (id, list)
}

async fn complete(
    client: &Client,
    id: &str,
    parts: Vec<CompletedPart>,
    if_none_match: bool,
) -> String {
    let list = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = client
        .complete_multipart_upload()
        .bucket("bucket")
        .key("k")
        .upload_id(id)
        .multipart_upload(list);
    code(
        complete
            .set_if_none_match(if_none_match.then(|| "*".to_owned()))
            .send()
            .await,
    )
}

fn three_parts() -> Vec<Bytes> {
    vec![
        vec![1u8; 5 * MIB].into(),
        vec![2u8; 6 * MIB].into(),
        vec![3u8; 10].into(),
    ]
}

#[tokio::test]
async fn composite_and_full_object_checksums() {
    let (server, client) = start();
    let parts = three_parts();
    for kind in [None, Some(ChecksumType::FullObject)] {
        let (id, list) = upload(&client, kind.clone(), &parts).await;
        assert_eq!(server.uploads("bucket")[0].parts, 3);
        assert_eq!(complete(&client, &id, list, false).await, "ok");
        assert!(server.uploads("bucket").is_empty());
        let head = client
            .head_object()
            .bucket("bucket")
            .key("k")
            .checksum_mode(ChecksumMode::Enabled);
        let head = head.send().await.unwrap();
        assert!(head.e_tag().unwrap().ends_with("-3\""));
        let sum = head.checksum_crc32_c().unwrap();
        if kind.is_some() {
            assert_eq!(sum, crc32c(&parts));
        } else {
            let values: Vec<Bytes> = parts
                .iter()
                .map(|part| Algorithm::Crc32c.compute([part]).into())
                .collect();
            assert_eq!(sum, format!("{}-3", crc32c(&values)));
        }
        assert_eq!(server.object("bucket", "k").unwrap(), parts.concat());
    }
    let range = format!("bytes={}-{}", 5 * MIB - 2, 5 * MIB + 1);
    let got = client
        .get_object()
        .bucket("bucket")
        .key("k")
        .range(range)
        .send()
        .await
        .unwrap();
    assert_eq!(
        got.body.collect().await.unwrap().into_bytes().as_ref(),
        [1, 1, 2, 2]
    );
}

#[tokio::test]
async fn complete_checks_its_list() {
    let (server, client) = start();
    let (id, list) = upload(&client, None, &three_parts()).await;
    let mut reversed = list.clone();
    reversed.reverse();
    assert_eq!(
        complete(&client, &id, reversed, false).await,
        "InvalidPartOrder"
    );
    let wrong = CompletedPart::builder()
        .part_number(1)
        .e_tag("\"0\"")
        .checksum_crc32_c("4waSgw==")
        .build();
    assert_eq!(
        complete(&client, &id, vec![wrong], false).await,
        "InvalidPart"
    );
    let missing = CompletedPart::builder()
        .part_number(9)
        .e_tag("\"0\"")
        .build();
    assert_eq!(
        complete(&client, &id, vec![missing], false).await,
        "InvalidPart"
    );
    let etag = list[0].e_tag().unwrap();
    let wrong = CompletedPart::builder()
        .part_number(1)
        .e_tag(etag)
        .checksum_crc32_c("4waSgw==")
        .build();
    assert_eq!(
        complete(&client, &id, vec![wrong], false).await,
        "InvalidPart"
    );
    let silent = CompletedPart::builder().part_number(1).e_tag(etag).build();
    assert_eq!(
        complete(&client, &id, vec![silent], false).await,
        "InvalidRequest"
    );
    assert_eq!(
        complete(&client, &id, Vec::new(), false).await,
        "MalformedXML"
    );
    assert_eq!(
        complete(&client, "other", list.clone(), false).await,
        "NoSuchUpload"
    );
    assert!(server.objects("bucket").is_empty());
    assert_eq!(complete(&client, &id, list.clone(), false).await, "ok");
    assert_eq!(complete(&client, &id, list, false).await, "NoSuchUpload");
}

#[tokio::test]
async fn small_parts_are_refused() {
    let (_server, client) = start();
    let parts = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let (id, list) = upload(&client, None, &parts).await;
    assert_eq!(
        complete(&client, &id, list.clone(), false).await,
        "EntityTooSmall"
    );
    assert_eq!(
        complete(&client, &id, list[..1].to_vec(), false).await,
        "ok"
    );
}

#[tokio::test]
async fn complete_can_be_conditional() {
    let (server, client) = start();
    let parts = [Bytes::from_static(b"a")];
    let (id, list) = upload(&client, None, &parts).await;
    server.put_object("bucket", "k", "first");
    assert_eq!(
        complete(&client, &id, list.clone(), true).await,
        "PreconditionFailed"
    );
    assert_eq!(server.uploads("bucket").len(), 1);
    server.remove_object("bucket", "k");
    assert_eq!(complete(&client, &id, list, true).await, "ok");
    assert_eq!(server.object("bucket", "k").unwrap().as_ref(), b"a");
}

#[tokio::test]
async fn parts_are_checked_on_arrival() {
    let (server, client) = start();
    let (id, _list) = upload(&client, None, &[]).await;
    let part = || {
        client
            .upload_part()
            .bucket("bucket")
            .key("k")
            .upload_id(&id)
            .part_number(1)
            .body(bytes(b"123456788"))
    };
    assert_eq!(
        code(part().checksum_crc32_c("4waSgw==").send().await),
        "BadDigest"
    );
    assert_eq!(code(part().send().await), "InvalidRequest");
    assert_eq!(
        code(part().checksum_crc32("y/Q5Jg==").send().await),
        "BadDigest"
    );
    assert_eq!(code(part().part_number(0).send().await), "InvalidArgument");
    assert_eq!(
        code(part().part_number(10_001).send().await),
        "InvalidArgument"
    );
    assert_eq!(code(part().upload_id("other").send().await), "NoSuchUpload");
    assert_eq!(code(part().key("other").send().await), "NoSuchUpload");
    assert_eq!(server.uploads("bucket")[0].parts, 0);
}

#[tokio::test]
async fn parts_are_listed_and_replaced() {
    let (_server, client) = start();
    let (id, _list) = upload(&client, None, &[]).await;
    for (number, data) in [(7, "old"), (2, "b"), (7, "new"), (10_000, "z")] {
        let data = Bytes::from_static(data.as_bytes());
        let put = client
            .upload_part()
            .bucket("bucket")
            .key("k")
            .upload_id(&id)
            .part_number(number);
        put.checksum_crc32_c(crc32c(std::slice::from_ref(&data)))
            .body(ByteStream::from(data))
            .send()
            .await
            .unwrap();
    }
    let mut parts = client
        .list_parts()
        .bucket("bucket")
        .key("k")
        .upload_id(&id)
        .max_parts(1)
        .into_paginator()
        .send();
    let mut seen = Vec::new();
    while let Some(page) = parts.next().await {
        let page = page.unwrap();
        seen.extend(page.parts().iter().map(|part| {
            (
                part.part_number().unwrap(),
                part.e_tag().unwrap().to_owned(),
            )
        }));
    }
    assert_eq!(
        seen.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [2, 7, 10_000]
    );
    assert_eq!(seen[1].1, "\"22af645d1859cb5ca6da0c484f1f37ea\"");
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let (server, client) = start();
    let (id, _list) = upload(&client, None, &[]).await;
    client
        .abort_multipart_upload()
        .bucket("bucket")
        .key("k")
        .upload_id(&id)
        .send()
        .await
        .unwrap();
    assert!(server.uploads("bucket").is_empty());
    assert_eq!(
        code(
            client
                .abort_multipart_upload()
                .bucket("bucket")
                .key("k")
                .upload_id(&id)
                .send()
                .await
        ),
        "NoSuchUpload"
    );
    assert_eq!(
        code(
            client
                .list_parts()
                .bucket("bucket")
                .key("k")
                .upload_id(&id)
                .send()
                .await
        ),
        "NoSuchUpload"
    );
}

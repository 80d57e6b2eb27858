//! Listings over HTTP.

use stockpot_test_fixtures::s3::Server;

use crate::client::{code, start};

fn fill(server: &Server, count: usize) {
    for number in 0..count {
        server.put_object("bucket", &format!("p/{number:05}"), "x");
    }
    server.put_object("bucket", "q/1", "x");
}

#[tokio::test]
async fn more_than_a_page() {
    let (server, client) = start();
    fill(&server, 2345);
    let first = client
        .list_objects_v2()
        .bucket("bucket")
        .prefix("p/")
        .max_keys(5000)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (first.contents().len(), first.is_truncated()),
        (1000, Some(true))
    );
    let mut pages = client
        .list_objects_v2()
        .bucket("bucket")
        .prefix("p/")
        .into_paginator()
        .send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(
            page.unwrap()
                .contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    assert_eq!(keys, server.keys_with_prefix("bucket", "p/"));
    let late = client
        .list_objects_v2()
        .bucket("bucket")
        .prefix("p/")
        .start_after("p/02340")
        .send()
        .await
        .unwrap();
    assert_eq!(late.contents().len(), 4);
}

#[tokio::test]
async fn prefixes_and_bad_tokens() {
    let (server, client) = start();
    fill(&server, 3);
    let list = client
        .list_objects_v2()
        .bucket("bucket")
        .delimiter("/")
        .send()
        .await
        .unwrap();
    let prefixes: Vec<_> = list
        .common_prefixes()
        .iter()
        .filter_map(|prefix| prefix.prefix())
        .collect();
    assert_eq!(
        (prefixes, list.contents().len(), list.key_count()),
        (vec!["p/", "q/"], 0, Some(2))
    );
    let bad = client
        .list_objects_v2()
        .bucket("bucket")
        .continuation_token("?")
        .send()
        .await;
    assert_eq!(code(bad), "InvalidArgument");
    assert_eq!(
        code(client.list_objects_v2().bucket("other").send().await),
        "NoSuchBucket"
    );
    assert_eq!(
        client.list_buckets().send().await.unwrap().buckets().len(),
        1
    );
}

#[tokio::test]
async fn uploads_are_listed_in_pages() {
    let (server, client) = start();
    for key in ["p/a", "p/b", "p/b", "q/c"] {
        client
            .create_multipart_upload()
            .bucket("bucket")
            .key(key)
            .send()
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    let (mut key, mut id) = (None, None);
    loop {
        let list = client
            .list_multipart_uploads()
            .bucket("bucket")
            .prefix("p/")
            .max_uploads(1);
        let page = list
            .set_key_marker(key)
            .set_upload_id_marker(id)
            .send()
            .await
            .unwrap();
        seen.extend(
            page.uploads()
                .iter()
                .map(|upload| upload.upload_id().unwrap().to_owned()),
        );
        if page.is_truncated() != Some(true) {
            break;
        }
        (key, id) = (
            page.next_key_marker().map(Into::into),
            page.next_upload_id_marker().map(Into::into),
        );
    }
    let open: Vec<_> = server
        .uploads("bucket")
        .into_iter()
        .map(|upload| upload.upload_id)
        .collect();
    assert_eq!(seen, open[..3]);
}

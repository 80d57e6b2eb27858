//! The verbs against a real S3 server in this process: real requests, signatures and checksums.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use stockpot_repository::{
    CreateOptions, Opened, Progress, Repository, RepositoryError,
    device::{Source, SourceOptions},
    snapshots::{self, Status},
    store::{
        S3Store,
        s3::{CredentialSource, Limits, S3Config},
    },
    upload::upload,
    verify::{VerifySettings, verify},
};
use stockpot_test_fixtures::{
    image::{Fill, Image},
    s3::{Action, Fault, Op, Server},
};
use tokio_util::sync::CancellationToken;

use crate::{
    files::small_settings,
    support::{Bench, key},
};

pub(crate) async fn connect(server: &Server) -> Arc<S3Store> {
    let mut config = S3Config::from_url("s3://bucket/some/prefix").unwrap();
    config.endpoint = Some(server.endpoint());
    config.region = Some(Server::REGION.to_owned());
    let credentials = server.credentials();
    config.credentials = CredentialSource::Static {
        access_key_id: credentials.access_key.clone(),
        secret_access_key: SecretString::from(credentials.secret_key.expose_secret()),
        session_token: None,
    };
    config.limits = Limits {
        attempts: 3,
        attempt_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(20),
        pause_first: Duration::from_millis(10),
        pause_max: Duration::from_millis(50),
        ..Limits::default()
    };
    Arc::new(S3Store::connect(config).await.unwrap())
}

fn image() -> Image {
    Image::new(40 << 20)
        .extent(0, 17 << 20, Fill::Random(1))
        .extent(30 << 20, 1 << 20, Fill::Text(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn up_down_and_verified() {
    let server = Server::builder().bucket("bucket").start().unwrap();
    let bench = Bench::on(connect(&server).await, true).await;
    let mut request = bench.request();
    request.settings = small_settings();
    let report = bench.try_up(&image(), request).await.unwrap();
    assert!(report.packs > 3, "{} packs", report.packs);
    // Another process, which knows nothing but the place and the key.
    let (repository, opened) = Repository::open_or_create(
        connect(&server).await,
        CreateOptions {
            key: Some(key()),
            ..CreateOptions::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(opened, Opened::Existing);
    let settings = VerifySettings {
        read_data: true,
        ..VerifySettings::default()
    };
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    let found = verify(&repository, None, &settings, &progress, &none)
        .await
        .unwrap();
    assert_eq!(found.problems, []);
    let restored = bench.down(&report.manifest).await;
    assert_eq!(image().first_difference(&restored).unwrap(), None);
    assert_eq!(bench.store.multipart_list("").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_the_upload_and_a_second_try_works() {
    let server = Server::builder().bucket("bucket").start().unwrap();
    let bench = Bench::on(connect(&server).await, true).await;
    let path = bench.path("stopped.img");
    image().write_to(&path).unwrap();
    let mut request = bench.request();
    request.settings = small_settings();
    let progress = Arc::new(Progress::new());
    let source = Source::open(&path, SourceOptions::default()).unwrap();
    let none = CancellationToken::new();
    let stopping = async {
        while progress.snapshot().bytes_moved == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.stop();
    };
    let uploading = upload(&bench.repository, source, request.clone(), &progress, &none);
    let (uploaded, ()) = tokio::join!(uploading, stopping);
    let error = uploaded.unwrap_err();
    assert!(matches!(error, RepositoryError::Store(_)), "{error:?}");
    server.restart().unwrap();
    let report = bench.try_up(&image(), request).await.unwrap();
    let restored = bench.down(&report.manifest).await;
    assert_eq!(image().first_difference(&restored).unwrap(), None);
}

/// A manifest that never comes as it was sent, or that the server will not give: the others are listed, and backups go on.
#[tokio::test(flavor = "multi_thread")]
async fn one_object_that_cannot_be_had_does_not_stop_the_rest() {
    let server = Server::builder().bucket("bucket").start().unwrap();
    let bench = Bench::on(connect(&server).await, true).await;
    let first = bench.up(&image()).await.manifest;
    let second = bench.up(&image()).await.manifest;
    let archived = Action::Status {
        status: 403,
        code: "InvalidObjectState",
    };
    for action in [Action::FlipResponse { at: 5 }, archived] {
        let fault = Fault::new(action)
            .on(Op::GetObject)
            .key(second.object_key());
        server.faults().inject(fault);
        let listed = snapshots::list(&bench.repository).await.unwrap();
        for (manifest, readable) in [(&first, true), (&second, false)] {
            let id = &manifest.snapshot_id;
            let found = listed.iter().find(|s| s.snapshot_id == *id).unwrap();
            assert_eq!(found.status == Status::Committed, readable, "{found:?}");
        }
        bench.up(&image()).await;
        server.faults().clear();
    }
}

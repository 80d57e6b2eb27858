//! Who may do what: expiry, refusal, trust.

use std::sync::{Arc, Mutex};

use aws_credential_types::{
    Credentials as AwsCredentials,
    provider::{self, ProvideCredentials, SharedCredentialsProvider, future},
};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use stockpot_repository::store::{
    ObjectStore, PutMode, S3Store, StoreError,
    s3::{CredentialSource, S3Config},
};
use stockpot_test_fixtures::{
    s3::{Action, Credentials, Fault, Op, Server},
    tls::TestCa,
};

use super::bed::{BUCKET, Bed, config, fixed, pattern, three_parts};

/// Gives what the test put in it last, and counts.
#[derive(Debug, Clone)]
struct Changing(Arc<Mutex<(Credentials, u32)>>);

impl Changing {
    fn new(credentials: Credentials) -> Self {
        Self(Arc::new(Mutex::new((credentials, 0))))
    }

    fn set(&self, credentials: Credentials) {
        self.0.lock().unwrap().0 = credentials;
    }

    fn asked(&self) -> u32 {
        self.0.lock().unwrap().1
    }

    fn answer(&self) -> provider::Result {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        Ok(AwsCredentials::new(
            state.0.access_key.clone(),
            state.0.secret_key.expose_secret(),
            state
                .0
                .session_token
                .as_ref()
                .map(|token| token.expose_secret().to_owned()),
            None,
            "test",
        ))
    }
}

impl ProvideCredentials for Changing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.answer())
    }
}

async fn changing(server: &Server) -> (Changing, S3Store) {
    let source = Changing::new(server.credentials().clone());
    let config = S3Config {
        credentials: CredentialSource::Provider(SharedCredentialsProvider::new(source.clone())),
        ..config(server)
    };
    (source, S3Store::connect(config).await.unwrap())
}

#[tokio::test]
async fn credentials_that_expire_in_mid_upload_are_renewed() {
    let server = Server::builder()
        .bucket(BUCKET)
        .credentials(Credentials::random_temporary())
        .start()
        .unwrap();
    let (source, store) = changing(&server).await;
    let upload = store.multipart_create("a").await.unwrap();
    let mut receipts = Vec::new();
    for (number, part) in (1..).zip(three_parts()) {
        if number == 2 {
            let fresh = Credentials::random_temporary();
            server.keys().add(fresh.clone());
            server.keys().expire(&server.credentials().access_key);
            source.set(fresh);
        }
        receipts.push(store.multipart_put(&upload, number, part).await.unwrap());
    }
    store.multipart_complete(&upload, &receipts).await.unwrap();
    assert_eq!(source.asked(), 2, "once at first, once for the renewal");
}

/// Keys that were rotated away are not "expired" but unknown.
#[tokio::test]
async fn rotated_keys_are_read_again() {
    let bed = Bed::new().await;
    let (source, store) = changing(&bed.server).await;
    store
        .put("a", Bytes::new(), PutMode::Overwrite)
        .await
        .unwrap();
    let fresh = Credentials::random();
    bed.server.keys().add(fresh.clone());
    bed.server
        .keys()
        .remove(&bed.server.credentials().access_key);
    source.set(fresh);
    let many = (0..8).map(|n| {
        let store = store.clone();
        async move {
            store
                .put(&format!("b{n}"), Bytes::new(), PutMode::Overwrite)
                .await
        }
    });
    for result in futures::future::join_all(many).await {
        result.unwrap();
    }
    assert_eq!(source.asked(), 2, "one renewal serves all");
}

#[tokio::test]
async fn a_credentials_file_is_read_again() {
    let bed = Bed::new().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    let write = |keys: &Credentials| {
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            keys.access_key,
            keys.secret_key.expose_secret()
        );
        std::fs::write(&path, text).unwrap();
    };
    write(bed.server.credentials());
    let config = S3Config {
        credentials: CredentialSource::File {
            path: path.clone(),
            profile: None,
        },
        ..config(&bed.server)
    };
    let store = S3Store::connect(config).await.unwrap();
    store
        .put("a", Bytes::new(), PutMode::Overwrite)
        .await
        .unwrap();
    let fresh = Credentials::random();
    bed.server.keys().add(fresh.clone());
    bed.server
        .keys()
        .expire(&bed.server.credentials().access_key);
    write(&fresh);
    store
        .put("a", Bytes::new(), PutMode::Overwrite)
        .await
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    bed.server.keys().expire(&fresh.access_key);
    let error = store
        .put("a", Bytes::new(), PutMode::Overwrite)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_that_cannot_be_renewed_are_an_error_of_credentials() {
    let bed = Bed::new().await;
    let upload = bed.store.multipart_create("a").await.unwrap();
    bed.store
        .multipart_put(&upload, 1, three_parts()[0].clone())
        .await
        .unwrap();
    bed.server
        .keys()
        .expire(&bed.server.credentials().access_key);
    let error = bed
        .store
        .multipart_put(&upload, 2, pattern(2, 100))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
    // A HEAD's answer has no body, so the reason has to be asked for.
    let error = bed.store.head("a").await.unwrap_err();
    assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
}

#[tokio::test]
async fn wrong_keys_are_an_error_of_credentials_and_not_printed() {
    let bed = Bed::new().await;
    let right = bed.server.credentials().clone();
    let secret = "not-the-secret-hunter2";
    for credentials in [
        Credentials {
            secret_key: SecretString::from(secret),
            ..right
        },
        Credentials {
            secret_key: SecretString::from(secret),
            ..Credentials::random()
        },
    ] {
        let config = S3Config {
            credentials: fixed(&credentials),
            ..config(&bed.server)
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        let store = S3Store::connect(config).await.unwrap();
        let error = store.get("a", usize::MAX).await.unwrap_err();
        assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
        let error = store.probe().await.unwrap_err();
        assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_bucket_says_so() {
    let bed = Bed::new().await;
    let config = S3Config {
        url: "s3://other-bucket/x".parse().unwrap(),
        ..config(&bed.server)
    };
    let store = S3Store::connect(config).await.unwrap();
    let errors = [
        store.get("a", usize::MAX).await.map(drop).unwrap_err(),
        store
            .put("a", Bytes::new(), PutMode::IfAbsent)
            .await
            .unwrap_err(),
        store.list("", None).await.map(drop).unwrap_err(),
        store.multipart_create("a").await.map(drop).unwrap_err(),
        store.probe().await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(&error, StoreError::NoSuchBucket { bucket, .. } if bucket == "other-bucket"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_denied_request_says_what_was_denied() {
    let bed = Bed::new().await;
    bed.server
        .faults()
        .inject(Fault::new(Action::access_denied()).on(Op::PutObject));
    let error = bed
        .store
        .put("snapshots/x", Bytes::new(), PutMode::IfAbsent)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::AccessDenied { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("writing snapshots/x"), "{error}");
    assert_eq!(bed.store.requests().retries, 0, "a refusal is not repeated");
    bed.server
        .faults()
        .inject(Fault::new(Action::access_denied()).on(Op::HeadObject));
    let error = bed.store.head("a").await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::AccessDenied { .. } | StoreError::NotFound { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_untrusted_certificate_says_so_and_a_private_ca_works() {
    let server = Server::builder()
        .bucket(BUCKET)
        .tls(TestCa::new().unwrap())
        .start()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let right = server
        .ca()
        .unwrap()
        .write_certificate(directory.path())
        .unwrap();
    let other = tempfile::tempdir().unwrap();
    let wrong = TestCa::new()
        .unwrap()
        .write_certificate(other.path())
        .unwrap();

    let config_with = |ca_file| S3Config {
        ca_file,
        ..config(&server)
    };
    let store = S3Store::connect(config_with(Some(right))).await.unwrap();
    store
        .put("a", Bytes::from_static(b"x"), PutMode::Overwrite)
        .await
        .unwrap();
    let store = S3Store::connect(config_with(Some(wrong))).await.unwrap();
    let error = store.get("a", usize::MAX).await.unwrap_err();
    assert!(matches!(error, StoreError::Certificate { .. }), "{error:?}");
    assert_eq!(
        store.requests().get,
        1,
        "trust does not come by asking again"
    );
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable() {
    let bed = Bed::new().await;
    let config = S3Config {
        endpoint: Some("http://no-such-host.invalid:9000".to_owned()),
        ..config(&bed.server)
    };
    let store = S3Store::connect(config).await.unwrap();
    let error = store.get("a", usize::MAX).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_region_says_so() {
    let bed = Bed::new().await;
    let answer = Action::Status {
        status: 400,
        code: "AuthorizationHeaderMalformed",
    };
    bed.server.faults().inject(Fault::new(answer));
    let error = bed.store.get("a", usize::MAX).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Config(text) if text.contains("us-east-1")),
        "{error:?}"
    );
}

/// A line break that came along with a copied key would end a header, and the SDK with it.
#[tokio::test]
async fn what_cannot_stand_in_a_header_is_refused_by_name() {
    let bed = Bed::new().await;
    for region in ["eu\nhunter2", "", "eu hunter2", "eu/hunter2", "\u{e9}"] {
        let config = S3Config {
            region: Some(region.to_owned()),
            ..config(&bed.server)
        };
        let error = S3Store::connect(config).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StoreError::Config(_)), "{error:?}");
        assert!(
            text.contains("region") && !text.contains("hunter2"),
            "{text}"
        );
    }
    let with = |id: &str, token: Option<&str>| CredentialSource::Static {
        access_key_id: id.to_owned(),
        secret_access_key: "secret".to_owned().into(),
        session_token: token.map(|token| token.to_owned().into()),
    };
    for (source, named) in [
        (with("AK\nhunter2", None), "access key id"),
        (with("AK hunter2\u{e9}", None), "access key id"),
        (with("AK", Some("hunter2\r")), "session token"),
        (with("AK", Some("hunter2\u{7f}")), "session token"),
    ] {
        let config = S3Config {
            credentials: source,
            ..config(&bed.server)
        };
        let store = S3Store::connect(config).await.unwrap();
        let error = store.get("a", 10).await.unwrap_err();
        let text = format!("{error:?}");
        assert!(matches!(error, StoreError::Credentials { .. }), "{text}");
        assert!(text.contains(named) && !text.contains("hunter2"), "{text}");
        assert_eq!(store.requests().retries, 0);
    }
    assert_eq!(bed.server.journal().total(), 0);
}

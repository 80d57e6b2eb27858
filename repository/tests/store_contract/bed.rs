//! A server with one bucket, and stores that point to it.

use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use stockpot_repository::store::{
    Multipart, ObjectStore, PartReceipt, S3Store,
    s3::{CredentialSource, Limits, S3Config},
};
use stockpot_test_fixtures::s3::{Builder, Credentials, Server};

pub(crate) const BUCKET: &str = "bucket";
pub(crate) const MIB: usize = 1 << 20;

pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) store: S3Store,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(Server::builder()).await
    }

    /// One that does not wait long for silence.
    pub(crate) async fn impatient() -> Self {
        let server = Server::builder().bucket(BUCKET).start().unwrap();
        let mut config = config(&server);
        config.limits.attempt_timeout = Duration::from_millis(700);
        let store = S3Store::connect(config).await.unwrap();
        Self { server, store }
    }

    pub(crate) async fn with(builder: Builder) -> Self {
        let server = builder.bucket(BUCKET).start().unwrap();
        let store = S3Store::connect(config(&server)).await.unwrap();
        Self { server, store }
    }
}

/// Settings with short times, so that a test of giving up does not take minutes.
pub(crate) fn config(server: &Server) -> S3Config {
    let mut config = S3Config::from_url(&format!("s3://{BUCKET}/some/prefix")).unwrap();
    config.endpoint = Some(server.endpoint());
    config.region = Some(Server::REGION.to_owned());
    config.credentials = fixed(server.credentials());
    config.limits = Limits {
        connect_timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_secs(10),
        attempts: 4,
        total_timeout: Duration::from_secs(60),
        pause_first: Duration::from_millis(10),
        pause_max: Duration::from_millis(50),
        ..Limits::default()
    };
    config
}

pub(crate) fn fixed(credentials: &Credentials) -> CredentialSource {
    use secrecy::ExposeSecret as _;
    let copy = |secret: &SecretString| SecretString::from(secret.expose_secret());
    CredentialSource::Static {
        access_key_id: credentials.access_key.clone(),
        secret_access_key: copy(&credentials.secret_key),
        session_token: credentials.session_token.as_ref().map(copy),
    }
}

/// Bytes that differ from each other and from one `seed` to the next.
pub(crate) fn pattern(seed: u8, length: usize) -> Bytes {
    let mut value = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
    (0..length)
        .map(|_| {
            value ^= value << 13;
            value ^= value >> 17;
            value ^= value << 5;
            value.to_le_bytes()[0]
        })
        .collect::<Vec<u8>>()
        .into()
}

/// Three parts of an object, the last one short.
pub(crate) fn three_parts() -> [Bytes; 3] {
    [
        pattern(1, 5 * MIB),
        pattern(2, 5 * MIB),
        pattern(3, MIB + 7),
    ]
}

pub(crate) async fn send_parts(
    store: &dyn ObjectStore,
    upload: &Multipart,
    parts: &[Bytes],
) -> Vec<PartReceipt> {
    let mut receipts = Vec::new();
    for (number, part) in (1..).zip(parts) {
        receipts.push(
            store
                .multipart_put(upload, number, part.clone())
                .await
                .unwrap(),
        );
    }
    receipts
}

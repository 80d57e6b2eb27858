//! Where these tests run: in memory, on the server in this process, and on those that `STOCKPOT_TEST_S3` names.

use std::{any::Any, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use stockpot_repository::store::{
    MemoryStore, ObjectStore, S3Store,
    s3::{CredentialSource, S3Config},
};
use stockpot_test_fixtures::s3::{
    Credentials, Server,
    real::{RealServer, requested},
};

/// A store, and what has to live as long.
pub(crate) struct Bed {
    pub(crate) name: &'static str,
    server: Option<(String, Credentials)>,
    _running: Box<dyn Any + Send>,
}

impl Bed {
    /// An empty place on it.
    pub(crate) async fn store(&self, prefix: &str) -> Arc<dyn ObjectStore> {
        let Some((endpoint, keys)) = &self.server else {
            return Arc::new(MemoryStore::new());
        };
        let url = format!("s3://bucket/{prefix}");
        let mut config = S3Config::from_url(&url).unwrap();
        config.endpoint = Some(endpoint.clone());
        config.region = Some("us-east-1".to_owned());
        config.credentials = CredentialSource::Static {
            access_key_id: keys.access_key.clone(),
            secret_access_key: SecretString::from(keys.secret_key.expose_secret()),
            session_token: None,
        };
        Arc::new(S3Store::connect(config).await.unwrap())
    }

    /// A bucket in memory, without anything else.
    pub(crate) fn memory() -> Self {
        Self {
            name: "memory",
            server: None,
            _running: Box::new(()),
        }
    }
}

/// All of them.
pub(crate) async fn beds() -> Vec<Bed> {
    let server = Server::builder().bucket("bucket").start().unwrap();
    let own = (server.endpoint(), server.credentials().clone());
    let mut beds = vec![
        Bed::memory(),
        Bed {
            name: "in-process",
            server: Some(own),
            _running: Box::new(server),
        },
    ];
    beds.extend(real_beds().await);
    beds
}

/// Those that others wrote, where they were asked for.
pub(crate) async fn real_beds() -> Vec<Bed> {
    let mut beds = Vec::new();
    for kind in requested().unwrap() {
        let server = RealServer::start(kind).unwrap_or_else(|e| panic!("{}: {e}", kind.name()));
        let keys = server.credentials().clone();
        server
            .client()
            .create_bucket()
            .bucket("bucket")
            .send()
            .await
            .unwrap();
        beds.push(Bed {
            name: kind.name(),
            server: Some((server.endpoint(), keys)),
            _running: Box::new(server),
        });
    }
    beds
}

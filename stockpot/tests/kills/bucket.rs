//! The bucket of a real server, looked at past the binary under test.

use std::collections::BTreeSet;

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use stockpot_repository::store::{
    ObjectStore as _, S3Store,
    s3::{CredentialSource, S3Config},
};
use stockpot_test_fixtures::s3::{Credentials, Server};
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Bucket {
    runtime: Runtime,
    store: S3Store,
}

impl Bucket {
    /// What lies below `url`.
    pub(crate) fn open(
        url: &str,
        endpoint: &str,
        credentials: &Credentials,
    ) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut config = S3Config::from_url(url)?;
        config.endpoint = Some(endpoint.to_owned());
        config.region = Some(Server::REGION.to_owned());
        config.credentials = CredentialSource::Static {
            access_key_id: credentials.access_key.clone(),
            secret_access_key: SecretString::from(credentials.secret_key.expose_secret()),
            session_token: None,
        };
        let store = runtime.block_on(S3Store::connect(config))?;
        Ok(Self { runtime, store })
    }

    /// Every key below a prefix.
    pub(crate) fn keys(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        self.runtime.block_on(async {
            let mut keys = Vec::new();
            let mut from: Option<String> = None;
            loop {
                let page = self.store.list(prefix, from.as_deref()).await?;
                keys.extend(page.objects.into_iter().map(|meta| meta.key));
                from = page.next;
                if from.is_none() {
                    return Ok(keys);
                }
            }
        })
    }

    pub(crate) fn remove(&self, key: &str) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.store.delete(key))?)
    }

    /// Those of these keys for which a multipart upload is open. Asked for one by one: MinIO lists only those of a whole key.
    pub(crate) fn open_uploads(&self, keys: BTreeSet<String>) -> anyhow::Result<Vec<String>> {
        let mut open = Vec::new();
        for key in keys {
            let found = self.runtime.block_on(self.store.multipart_list(&key));
            let found = found.with_context(|| format!("open uploads of {key}"))?;
            open.extend(found.into_iter().map(|upload| upload.key));
        }
        Ok(open)
    }
}

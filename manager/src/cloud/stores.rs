//! From a profile's topology to an object store.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use stockpot_repository::store::{
    Bandwidth, ObjectStore, S3Store, StoreError,
    s3::{CredentialSource, PathStyle as S3PathStyle, S3Config},
};

use super::secrets;
use crate::profile::{PathStyle, Topology};

/// Opens stores. The real one is [`S3Stores`]; tests have one in memory.
#[async_trait]
pub trait Stores: Send + Sync + fmt::Debug {
    /// The store of a topology. Nothing is asked of the bucket yet.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the topology cannot work.
    async fn open(&self, topology: &Topology) -> Result<Arc<dyn ObjectStore>, StoreError>;
}

/// Stores on S3.
#[derive(Debug, Clone, Default)]
pub struct S3Stores {
    /// Limits that all of them keep together.
    pub bandwidth: Bandwidth,
}

#[async_trait]
impl Stores for S3Stores {
    async fn open(&self, topology: &Topology) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut config = config_of(topology)?;
        if let CredentialSource::File { path, .. } = &config.credentials {
            let path = path.clone();
            // A file that is not there is told when it is read.
            let _ = tokio::task::spawn_blocking(move || secrets::warn_of_readers(&path)).await;
        }
        config.bandwidth.clone_from(&self.bandwidth);
        let store = S3Store::connect(config).await?;
        Ok(Arc::new(store))
    }
}

fn config_of(topology: &Topology) -> Result<S3Config, StoreError> {
    let mut config = S3Config::from_url(&topology.location())?;
    config.endpoint.clone_from(&topology.endpoint);
    config.region.clone_from(&topology.region);
    config.ca_file.clone_from(&topology.ca_file);
    config.path_style = match topology.path_style {
        PathStyle::Auto => S3PathStyle::Auto,
        PathStyle::Path => S3PathStyle::Path,
        PathStyle::Virtual => S3PathStyle::Virtual,
    };
    if let Some(credentials) = &topology.credentials {
        match &credentials.file {
            Some(path) => {
                config.credentials = CredentialSource::File {
                    path: path.clone(),
                    profile: credentials.profile.clone(),
                };
            }
            None => config.profile.clone_from(&credentials.profile),
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_becomes_settings() {
        let text = "{bucket: backups, prefix: a/b/, endpoint: 'https://s3.example.net', pathStyle: virtual,
                     credentials: {file: /c, profile: p}, caFile: /ca}";
        let topology: Topology = serde_saphyr::from_str(text).unwrap();
        let config = config_of(&topology).unwrap();
        assert_eq!(config.url.to_string(), "s3://backups/a/b");
        assert_eq!(config.path_style, S3PathStyle::Virtual);
        assert!(matches!(
            &config.credentials,
            CredentialSource::File { profile: Some(profile), .. } if profile == "p"
        ));
        let text = "{bucket: backups, credentials: {profile: p}}";
        let config = config_of(&serde_saphyr::from_str(text).unwrap()).unwrap();
        assert_eq!(config.profile.as_deref(), Some("p"));
        assert!(matches!(config.credentials, CredentialSource::Chain));
        let bad = config_of(&serde_saphyr::from_str("{bucket: 'x y'}").unwrap());
        assert!(matches!(bad, Err(StoreError::Config(_))));
    }
}

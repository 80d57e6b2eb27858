//! From settings to a client: endpoint, region, trust, credentials, one pool of connections.

use std::{path::Path, sync::Arc};

use aws_config::{
    BehaviorVersion, SdkConfig, environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain, profile::ProfileFileRegionProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::{
    Client,
    config::{
        AppName, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig,
    },
};
use aws_smithy_http_client::{
    Builder as HttpClientBuilder, Connector,
    proxy::ProxyConfig,
    tls::{self, TlsContext, TrustStore},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{
    answers::bounded,
    config::{CredentialSource, PathStyle, S3Config},
    credentials::RenewingCredentials,
    url::check_endpoint,
};
use crate::store::StoreError;

/// The region of a store that has none, and AWS's own default.
const DEFAULT_REGION: &str = "us-east-1";

/// A client, and what is known of where it goes.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) credentials: Arc<RenewingCredentials>,
    /// The endpoint in words, for messages.
    pub(super) endpoint: String,
    pub(super) region: String,
}

/// Reads what convention says of settings left open, and builds the client. Nothing is sent.
///
/// # Errors
/// [`StoreError::Config`].
pub(super) async fn connect(config: &S3Config) -> Result<Connection, StoreError> {
    config.url.check()?;
    let ambient = load_ambient(config).await;
    let endpoint = config
        .endpoint
        .clone()
        .or_else(|| ambient_endpoint(&ambient));
    let is_tls = match &endpoint {
        Some(endpoint) => check_endpoint(endpoint)?.scheme_str() == Some("https"),
        None => true,
    };
    let region = ambient
        .region()
        .map_or(DEFAULT_REGION, |region| region.as_ref())
        .to_owned();
    check_region(&region)?;
    let ca_file = config
        .ca_file
        .clone()
        .or_else(|| ambient_value(&ambient, "AWS_CA_BUNDLE", "ca_bundle").map(Into::into));
    let http = http_client(
        config,
        trust_store(ca_file.as_deref(), needs_system_cas(config, is_tls))?,
    );
    let credentials = Arc::new(RenewingCredentials::new(
        config.credentials.clone(),
        config.profile.clone(),
        Region::new(region.clone()),
        http.clone(),
    ));
    let mut builder = client_config(config, endpoint.is_some())
        .region(Region::new(region.clone()))
        .http_client(http)
        .credentials_provider(SharedCredentialsProvider::new(Shared(Arc::clone(
            &credentials,
        ))));
    if endpoint.is_none() {
        builder.set_use_fips(ambient.use_fips());
        builder.set_use_dual_stack(ambient.use_dual_stack());
    }
    builder.set_endpoint_url(endpoint.clone());
    Ok(Connection {
        client: Client::from_conf(builder.build()),
        credentials,
        endpoint: endpoint.unwrap_or_else(|| format!("AWS S3 in {region}")),
        region,
    })
}

/// It goes into headers and host names.
fn check_region(region: &str) -> Result<(), StoreError> {
    let is_sound = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !region.is_empty() && region.chars().all(is_sound) {
        return Ok(());
    }
    Err(StoreError::Config(
        "the region (AWS_REGION, --region) is not one: letters, digits and hyphens".to_owned(),
    ))
}

/// What is ours to do is switched off in the SDK: retries, caching of credentials, checksums.
fn client_config(config: &S3Config, has_endpoint: bool) -> aws_sdk_s3::config::Builder {
    let is_path_style = match config.path_style {
        PathStyle::Auto => has_endpoint,
        PathStyle::Path => true,
        PathStyle::Virtual => false,
    };
    let timeouts = TimeoutConfig::builder().connect_timeout(config.limits.connect_timeout);
    // Downloads only: a slow but steady upload sits in the socket's queue and looks stalled from here. Uploads
    // are bounded by the time that an attempt may take.
    let stalls = StalledStreamProtectionConfig::enabled()
        .upload_enabled(false)
        .grace_period(config.limits.attempt_timeout);
    let builder = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .stalled_stream_protection(stalls.build())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .disable_s3_express_session_auth(true)
        .force_path_style(is_path_style);
    match AppName::new("stockpot") {
        Ok(name) => builder.app_name(name),
        Err(_) => builder,
    }
}

/// What environment and profile say. Asks no metadata service: a bucket's region is not the machine's.
async fn load_ambient(config: &S3Config) -> SdkConfig {
    let mut profile_region = ProfileFileRegionProvider::builder();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).no_credentials();
    if let Some(profile) = &config.profile {
        profile_region = profile_region.profile_name(profile);
        loader = loader.profile_name(profile);
    }
    let region = RegionProviderChain::first_try(config.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile_region.build())
        .or_else(DEFAULT_REGION);
    loader.region(region).load().await
}

fn ambient_endpoint(ambient: &SdkConfig) -> Option<String> {
    ambient_value(ambient, "AWS_ENDPOINT_URL", "endpoint_url")
        .or_else(|| ambient.endpoint_url().map(str::to_owned))
        .filter(|endpoint| !endpoint.is_empty())
}

fn ambient_value(ambient: &SdkConfig, env: &str, profile: &str) -> Option<String> {
    let key = aws_types_key(env, profile)?;
    ambient.service_config()?.load_config(key)
}

fn aws_types_key<'a>(
    env: &'a str,
    profile: &'a str,
) -> Option<aws_types::service_config::ServiceConfigKey<'a>> {
    aws_types::service_config::ServiceConfigKey::builder()
        .service_id("S3")
        .env(env)
        .profile(profile)
        .build()
        .ok()
}

/// Whether anything may be asked over TLS that the system's CAs have to vouch for.
fn needs_system_cas(config: &S3Config, is_tls: bool) -> bool {
    let asks_elsewhere = !matches!(
        config.credentials,
        CredentialSource::Static { .. } | CredentialSource::Provider(_)
    );
    is_tls || asks_elsewhere
}

/// A CA file takes the place of the system's CAs, as `AWS_CA_BUNDLE` does for the AWS command line.
fn trust_store(ca_file: Option<&Path>, with_system: bool) -> Result<TrustStore, StoreError> {
    let Some(path) = ca_file else {
        return Ok(TrustStore::empty().with_native_roots(with_system));
    };
    let wrong = |why: String| StoreError::Config(format!("CA file {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    // Checked here because the HTTP client would panic on what it cannot read.
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(format!("not PEM ({error:?})")))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("not a CA certificate ({error})")))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate in PEM form".to_owned()));
    }
    Ok(TrustStore::empty().with_pem_certificate(pem))
}

fn http_client(config: &S3Config, trust: TrustStore) -> SharedHttpClient {
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .expect("a context of a trust store alone is valid");
    let idle = config.limits.requests_in_flight;
    let client = HttpClientBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .pool_max_idle_per_host(idle)
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::AwsLc,
            ))
            .tls_context(context.clone())
            .build()
    });
    bounded(client)
}

/// The cache as the SDK takes it: shared with the retries, which renew what it holds.
#[derive(Debug)]
struct Shared(Arc<RenewingCredentials>);

impl aws_credential_types::provider::ProvideCredentials for Shared {
    fn provide_credentials<'a>(
        &'a self,
    ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_s3::presigning::PresigningConfig;

    use super::*;

    /// The URL that an object would be asked for at, without asking.
    async fn url(endpoint: Option<&str>, path_style: PathStyle) -> String {
        let config = S3Config {
            endpoint: endpoint.map(str::to_owned),
            region: Some("eu-central-1".to_owned()),
            path_style,
            credentials: CredentialSource::Static {
                access_key_id: "AK".to_owned(),
                secret_access_key: "secret".to_owned().into(),
                session_token: None,
            },
            ..S3Config::from_url("s3://bucket/prefix").unwrap()
        };
        let connection = connect(&config).await.unwrap();
        let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        let get = connection
            .client
            .get_object()
            .bucket("bucket")
            .key("prefix/a");
        let request = get.presigned(presigning).await.unwrap();
        let (url, _query) = request.uri().split_once('?').unwrap();
        url.to_owned()
    }

    #[tokio::test]
    async fn buckets_are_named_in_the_path_or_in_the_host() {
        let endpoint = Some("http://storage.example:9000");
        let in_path = "http://storage.example:9000/bucket/prefix/a";
        assert_eq!(url(endpoint, PathStyle::Auto).await, in_path);
        assert_eq!(url(endpoint, PathStyle::Path).await, in_path);
        assert_eq!(
            url(endpoint, PathStyle::Virtual).await,
            "http://bucket.storage.example:9000/prefix/a"
        );
    }

    #[test]
    fn ca_files_are_checked_before_they_are_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        assert!(matches!(
            trust_store(Some(&path), false),
            Err(StoreError::Config(_))
        ));
        for bad in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(
                matches!(trust_store(Some(&path), false), Err(StoreError::Config(_))),
                "{bad:?}"
            );
        }
    }
}

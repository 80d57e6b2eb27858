//! Credentials that outlive themselves.
//!
//! A long upload sees its credentials expire, by the clock or because somebody revoked them. The SDK's own cache
//! goes by the clock alone and its providers keep the files they once read; this one also lets go of
//! credentials that the store has refused, and builds the chain anew for each renewal, so that a rotated file,
//! token or profile is read again.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use aws_config::{
    default_provider::credentials::DefaultCredentialsChain, imds,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_s3::config::Region;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use super::config::CredentialSource;

/// Credentials that end sooner than this are renewed before they are used.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
/// How long a source may take to answer.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the instance's metadata service may take; it is the last in the chain and mostly not there.
const IMDS_TIMEOUT: Duration = Duration::from_secs(1);

/// A cache over a source of credentials.
pub(super) struct RenewingCredentials {
    source: CredentialSource,
    profile: Option<String>,
    region: Region,
    http: SharedHttpClient,
    cached: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    credentials: Option<Credentials>,
    refused: Option<Credentials>,
    loaded_at: Option<Instant>,
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Other credentials are in place.
    Renewed,
    /// The source has none but those that were refused.
    Same,
}

impl fmt::Debug for RenewingCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewingCredentials")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl RenewingCredentials {
    pub(super) fn new(
        source: CredentialSource,
        profile: Option<String>,
        region: Region,
        http: SharedHttpClient,
    ) -> Self {
        Self {
            source,
            profile,
            region,
            http,
            cached: Mutex::default(),
        }
    }

    /// Replaces credentials that the store refused in a request that began at `used_since`.
    ///
    /// # Errors
    /// As the source answers.
    pub(super) async fn renew(&self, used_since: Instant) -> Result<Renewal, CredentialsError> {
        let mut cached = self.cached.lock().await;
        if cached.loaded_at.is_some_and(|at| at > used_since) {
            // Another request has renewed them meanwhile.
            return Ok(Renewal::Renewed);
        }
        let fresh = self.load().await?;
        let is_same = cached
            .credentials
            .as_ref()
            .is_some_and(|old| same(old, &fresh));
        if is_same {
            cached.refused = Some(fresh);
            return Ok(Renewal::Same);
        }
        cached.credentials = Some(fresh);
        cached.refused = None;
        cached.loaded_at = Some(Instant::now());
        Ok(Renewal::Renewed)
    }

    async fn current(&self) -> provider::Result {
        let mut cached = self.cached.lock().await;
        if let Some(credentials) = &cached.credentials {
            let is_refused = cached
                .refused
                .as_ref()
                .is_some_and(|refused| same(refused, credentials));
            if !expires_soon(credentials) && !is_refused {
                return Ok(credentials.clone());
            }
        }
        let fresh = self.load().await?;
        if cached
            .refused
            .as_ref()
            .is_some_and(|refused| !same(refused, &fresh))
        {
            cached.refused = None;
        }
        cached.credentials = Some(fresh.clone());
        cached.loaded_at = Some(Instant::now());
        Ok(fresh)
    }

    async fn load(&self) -> provider::Result {
        match tokio::time::timeout(LOAD_TIMEOUT, self.ask_source()).await {
            Ok(Ok(credentials)) => match unsendable(&credentials) {
                None => Ok(credentials),
                Some(problem) => Err(CredentialsError::invalid_configuration(problem)),
            },
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CredentialsError::provider_timed_out(LOAD_TIMEOUT)),
        }
    }

    async fn ask_source(&self) -> provider::Result {
        match &self.source {
            CredentialSource::Chain => self.ask_chain().await,
            CredentialSource::File { path, profile } => {
                #[expect(
                    deprecated,
                    reason = "the SDK takes the profile files only in this type"
                )]
                let files = aws_config::profile::profile_file::ProfileFiles::builder()
                    .with_file(
                        aws_config::profile::profile_file::ProfileFileKind::Credentials,
                        path,
                    )
                    .build();
                ProfileFileCredentialsProvider::builder()
                    .configure(&self.provider_config())
                    .profile_files(files)
                    .profile_name(profile.as_deref().unwrap_or("default"))
                    .build()
                    .provide_credentials()
                    .await
            }
            CredentialSource::Static {
                access_key_id,
                secret_access_key,
                session_token,
            } => Ok(Credentials::new(
                access_key_id.clone(),
                secret_access_key.expose_secret(),
                session_token
                    .as_ref()
                    .map(|token| token.expose_secret().to_owned()),
                None,
                "settings",
            )),
            CredentialSource::Provider(provider) => provider.provide_credentials().await,
        }
    }

    /// A profile that was asked for by name is meant, whatever the environment has; one that `AWS_PROFILE` names is a part of
    /// the usual chain.
    async fn ask_chain(&self) -> provider::Result {
        let Some(profile) = &self.profile else {
            return self.chain().await.provide_credentials().await;
        };
        ProfileFileCredentialsProvider::builder()
            .configure(&self.provider_config())
            .profile_name(profile)
            .build()
            .provide_credentials()
            .await
    }

    async fn chain(&self) -> DefaultCredentialsChain {
        let config = self.provider_config();
        let imds = imds::Client::builder()
            .configure(&config)
            .connect_timeout(IMDS_TIMEOUT)
            .read_timeout(IMDS_TIMEOUT)
            .max_attempts(1)
            .build();
        DefaultCredentialsChain::builder()
            .configure(config)
            .region(self.region.clone())
            .imds_client(imds)
            .build()
            .await
    }

    fn provider_config(&self) -> ProviderConfig {
        ProviderConfig::default()
            .with_region(Some(self.region.clone()))
            .with_http_client(self.http.clone())
    }
}

/// What of credentials cannot stand in a header, in words and without its value: the SDK would panic on it, or take it
/// for a failure that passes.
fn unsendable(credentials: &Credentials) -> Option<&'static str> {
    let is_sendable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_sendable(credentials.access_key_id()) {
        return Some(
            "the access key id has characters that none can have (a line break, a space?)",
        );
    }
    if !credentials.session_token().is_none_or(is_sendable) {
        return Some(
            "the session token has characters that none can have (a line break, a space?)",
        );
    }
    None
}

fn same(a: &Credentials, b: &Credentials) -> bool {
    a.access_key_id() == b.access_key_id()
        && a.secret_access_key() == b.secret_access_key()
        && a.session_token() == b.session_token()
}

fn expires_soon(credentials: &Credentials) -> bool {
    credentials
        .expiry()
        .is_some_and(|expiry| expiry < SystemTime::now() + EXPIRY_MARGIN)
}

impl ProvideCredentials for RenewingCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

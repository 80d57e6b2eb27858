//! Settings of an S3 store. What is not set here follows the conventions of the AWS command line.

use std::{fmt, path::PathBuf, time::Duration};

use aws_credential_types::provider::SharedCredentialsProvider;
use secrecy::SecretString;

use super::url::S3Url;
use crate::store::{Bandwidth, StoreError};

/// How the bucket is named in requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathStyle {
    /// In the path where an endpoint was given, in the host name at AWS.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    Virtual,
}

/// Where credentials come from.
#[derive(Clone, Default)]
pub enum CredentialSource {
    /// Environment, profile (with its `credential_process`, SSO and roles), web identity, container, instance. With
    /// [`S3Config::profile`] that profile alone.
    #[default]
    Chain,
    /// A file in the form of `~/.aws/credentials`, read anew whenever credentials are renewed.
    File {
        /// The file.
        path: PathBuf,
        /// The section of it; `default` when `None`.
        profile: Option<String>,
    },
    /// These, for good.
    Static {
        /// The access key's id.
        access_key_id: String,
        /// The access key's secret.
        secret_access_key: SecretString,
        /// The token of temporary credentials.
        session_token: Option<SecretString>,
    },
    /// Whatever a provider gives, asked again when they expire.
    Provider(SharedCredentialsProvider),
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("Chain"),
            Self::File { path, profile } => f
                .debug_struct("File")
                .field("path", path)
                .field("profile", profile)
                .finish(),
            Self::Static { access_key_id, .. } => f
                .debug_struct("Static")
                .field("access_key_id", access_key_id)
                .finish_non_exhaustive(),
            Self::Provider(_) => f.write_str("Provider(..)"),
        }
    }
}

/// How long to wait, and how often to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time for one attempt, besides what its bytes may take at `bytes_per_second_min`.
    pub attempt_timeout: Duration,
    /// How long nothing may come from the server, besides what bytes may take, before that is said in the log.
    pub silent_after: Duration,
    /// Slowest transfer that is waited for.
    pub bytes_per_second_min: u64,
    /// Most attempts of one request, the first included.
    pub attempts: u32,
    /// No attempt begins later than this after the first.
    pub total_timeout: Duration,
    /// First pause between attempts; it doubles, with jitter.
    pub pause_first: Duration,
    /// Longest pause between attempts.
    pub pause_max: Duration,
    /// Most requests under way at once.
    pub requests_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(30),
            silent_after: Duration::from_secs(5),
            bytes_per_second_min: 128 << 10,
            attempts: 8,
            total_timeout: Duration::from_secs(300),
            pause_first: Duration::from_millis(200),
            pause_max: Duration::from_secs(10),
            requests_in_flight: 32,
        }
    }
}

/// Everything needed to reach a bucket.
///
/// `endpoint`, `region`, `profile` and `ca_file` fall back to what the AWS command line reads: the environment
/// (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_PROFILE`, `AWS_CA_BUNDLE`, …), then the profile.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// Bucket and prefix.
    pub url: S3Url,
    /// `http(s)://host[:port]`; AWS when there is none anywhere.
    pub endpoint: Option<String>,
    /// The bucket's region; `us-east-1` when there is none anywhere.
    pub region: Option<String>,
    /// How the bucket is named in requests.
    pub path_style: PathStyle,
    /// PEM file of CAs that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Profile of the AWS configuration files. One that is given here is the only place where [`CredentialSource::Chain`] looks,
    /// also if the environment has keys; it has to exist.
    pub profile: Option<String>,
    /// Where credentials come from.
    pub credentials: CredentialSource,
    /// Time-outs and retries.
    pub limits: Limits,
    /// How fast bodies go and come.
    pub bandwidth: Bandwidth,
}

impl S3Config {
    /// Settings for `s3://bucket/prefix`, everything else by convention.
    ///
    /// # Errors
    /// [`StoreError::Config`] when the URL cannot be one.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        Ok(Self::new(url.parse()?))
    }

    /// Settings for a bucket and prefix, everything else by convention.
    #[must_use]
    pub fn new(url: S3Url) -> Self {
        Self {
            url,
            endpoint: None,
            region: None,
            path_style: PathStyle::Auto,
            ca_file: None,
            profile: None,
            credentials: CredentialSource::Chain,
            limits: Limits::default(),
            bandwidth: Bandwidth::unlimited(),
        }
    }
}

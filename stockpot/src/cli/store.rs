//! How a bucket is reached, and what opens the repository in it.

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Args, ValueEnum};

use crate::limits::parse_rate;

/// The repository's key.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// File with the repository's secret, at least 32 bytes; makes a new repository sealed.
    /// [env: STOCKPOT_KEY_FILE, if neither option is given]
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with the repository's passphrase; makes a new repository sealed.
    /// [env: STOCKPOT_PASSPHRASE_FILE, if neither option is given]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Try this key slot only, also where there are more than are tried (see `repository key list`).
    #[arg(long, value_name = "SLOT")]
    pub(crate) key_slot: Option<String>,
}

/// How the object store is reached; what is not given comes from the AWS environment and profile.
#[derive(Debug, Args)]
#[command(next_help_heading = "Object store")]
pub(crate) struct S3Args {
    /// Endpoint, for stores other than AWS.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// Region.
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Profile of ~/.aws to take credentials from.
    #[arg(long, value_name = "NAME")]
    pub(crate) aws_profile: Option<String>,
    /// How the bucket is addressed; auto: by path at an endpoint that is given, else by host name.
    #[arg(long, value_enum, default_value_t = Addressing::Auto)]
    pub(crate) addressing: Addressing,
    /// PEM file with the CA of the endpoint's certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Most that is sent per second (2MiB), over longer than one part.
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub(crate) limit_upload: Option<NonZeroU64>,
    /// Most that is received per second (2MiB), over longer than one range.
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub(crate) limit_download: Option<NonZeroU64>,
    /// File with both limits, read again at each SIGHUP: lines "upload 2MiB" and "download none".
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit_upload", "limit_download"])]
    pub(crate) limit_file: Option<PathBuf>,
}

/// How a bucket is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Addressing {
    /// By path at an endpoint that is given, else by host name.
    Auto,
    /// `endpoint/bucket/key`.
    Path,
    /// `bucket.endpoint/key`.
    Virtual,
}

//! From arguments to an open repository.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, anyhow};
use stockpot_repository::{
    CreateOptions, Opened, Repository, RepositoryError,
    format::keys::KeySource,
    store::{
        ObjectStore,
        s3::{PathStyle, S3Config, S3Store},
    },
};
use zeroize::Zeroizing;

use crate::{
    cli::{Addressing, KeyArgs, S3Args},
    usage::Usage,
};

/// What can be checked without asking anybody: the URL, the settings.
///
/// # Errors
/// [`Usage`] for a malformed URL.
pub(crate) fn s3_config(url: &str, s3: &S3Args) -> anyhow::Result<S3Config> {
    let mut config = S3Config::from_url(url).map_err(Usage::new)?;
    config.endpoint.clone_from(&s3.endpoint_url);
    config.region.clone_from(&s3.region);
    config.profile.clone_from(&s3.aws_profile);
    config.ca_file.clone_from(&s3.ca_file);
    config.path_style = match s3.addressing {
        Addressing::Auto => PathStyle::Auto,
        Addressing::Path => PathStyle::Path,
        Addressing::Virtual => PathStyle::Virtual,
    };
    Ok(config)
}

/// Reads the key that the arguments name.
///
/// # Errors
/// When the file cannot be read or is too short.
pub(crate) fn key(args: &KeyArgs) -> anyhow::Result<Option<KeySource>> {
    match (&args.key_file, &args.passphrase_file) {
        (Some(path), _) => {
            let content = read_secret(path)?;
            let key = KeySource::from_secret(&content);
            Ok(Some(key.with_context(|| {
                format!("the key in {} cannot be used", path.display())
            })?))
        }
        (None, Some(path)) => {
            let content = read_secret(path)?;
            let key = KeySource::from_passphrase(&content);
            Ok(Some(key.with_context(|| {
                format!("the passphrase in {} cannot be used", path.display())
            })?))
        }
        (None, None) => Ok(None),
    }
}

/// Opens a repository that is there.
///
/// # Errors
/// As the repository says, with the options of this command line named.
pub(crate) async fn open(config: S3Config, key: Option<KeySource>) -> anyhow::Result<Repository> {
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(config).await?);
    Repository::open(store, key).await.map_err(name_options)
}

/// Opens a repository, or makes it where there is nothing, and says so on standard error.
///
/// # Errors
/// As [`open`]; a prefix that holds something else is refused.
pub(crate) async fn open_or_create(
    config: S3Config,
    key: Option<KeySource>,
    chunk_size_bytes: u32,
) -> anyhow::Result<Repository> {
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(config).await?);
    let options = CreateOptions {
        key,
        chunk_size_bytes,
        endpoint: None,
    };
    let (repository, opened) = Repository::open_or_create(store, options)
        .await
        .map_err(name_options)?;
    if let Opened::Created(report) = opened {
        eprintln!(
            "made repository {} at {}, {}, chunks of {}",
            repository.short_id(),
            repository.location(),
            if repository.is_sealed() {
                "sealed"
            } else {
                "not sealed: whoever reads the bucket reads everything"
            },
            crate::sizes::human_size(u64::from(repository.chunk_size_bytes())),
        );
        for line in report.to_string().lines() {
            eprintln!("  {line}");
        }
    }
    Ok(repository)
}

/// Names the options that help.
fn name_options(error: RepositoryError) -> anyhow::Error {
    match error {
        RepositoryError::KeyNeeded { .. } => anyhow!("{error} (--key-file or --passphrase-file)"),
        error => error.into(),
    }
}

fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Zeroizing::new(content))
}

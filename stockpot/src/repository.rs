//! From arguments to an open repository.

use std::{path::PathBuf, sync::Arc};

use anyhow::{anyhow, bail};
use stockpot_repository::{
    CreateOptions, DEFAULT_CHUNK_SIZE_BYTES, Opened, Repository, RepositoryError,
    format::{ids::ObjectId, keys::KeySource},
    lock,
    store::{
        ObjectStore,
        s3::{PathStyle, S3Config, S3Store},
    },
};

use crate::{
    cli::{Addressing, Cli, KeyArgs, S3Args},
    history,
    interrupt::Interrupt,
    limits, printable, secret_file,
    sizes::human_size,
    usage::Usage,
};

/// What can be checked without asking anybody: the URL, the settings.
///
/// # Errors
/// [`Usage`] for a malformed URL; limits that cannot be read.
pub(crate) fn s3_config(url: &str, s3: &S3Args) -> anyhow::Result<S3Config> {
    let mut config = S3Config::from_url(url).map_err(Usage::new)?;
    config.endpoint.clone_from(&s3.endpoint_url);
    config.region.clone_from(&s3.region);
    config.profile.clone_from(&s3.aws_profile);
    config.ca_file.clone_from(&s3.ca_file);
    limits::follow(s3, &config.bandwidth)?;
    if config.profile.is_none() {
        warn_of_half_credentials();
    }
    config.path_style = match s3.addressing {
        Addressing::Auto => PathStyle::Auto,
        Addressing::Path => PathStyle::Path,
        Addressing::Virtual => PathStyle::Virtual,
    };
    Ok(config)
}

/// Half of a pair in the environment is passed over by all AWS tools, and what they then use may be anybody's.
#[expect(
    clippy::disallowed_methods,
    reason = "where the AWS tools' environment is part of the configuration"
)]
fn warn_of_half_credentials() {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let id = is_set("AWS_ACCESS_KEY_ID");
    let secret = is_set("AWS_SECRET_ACCESS_KEY") || is_set("SECRET_ACCESS_KEY");
    let (has, lacks) = match (id, secret) {
        (true, false) => ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (false, true) => ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        _ => return,
    };
    tracing::warn!("{has} is set without {lacks}: credentials are looked for elsewhere");
}

/// Reads the key that the arguments name. A FIFO may keep it waiting as long as no signal comes.
///
/// # Errors
/// When the file cannot be read, or is too short or too long; [`Usage`] for what is no id of a slot.
pub(crate) async fn key(
    args: &KeyArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<KeySource>> {
    let slot = match &args.key_slot {
        Some(text) => Some(slot_id("--key-slot", text)?),
        None => None,
    };
    let (file, passphrase) = match (&args.key_file, &args.passphrase_file) {
        // What is typed wins over what lies in the environment.
        (None, None) => key_of_environment()?,
        (file, passphrase) => (file.clone(), passphrase.clone()),
    };
    let key = secret_file::key(file.as_deref(), passphrase.as_deref(), interrupt).await?;
    Ok(match slot {
        Some(slot) => key.map(|key| key.for_slot(slot)),
        None => key,
    })
}

/// The key file and passphrase file that the environment names.
///
/// # Errors
/// [`Usage`] where it names both.
#[expect(
    clippy::disallowed_methods,
    reason = "these variables stand for options that were not given"
)]
fn key_of_environment() -> Result<(Option<PathBuf>, Option<PathBuf>), Usage> {
    const NAMES: [&str; 2] = ["STOCKPOT_KEY_FILE", "STOCKPOT_PASSPHRASE_FILE"];
    let [file, passphrase] = NAMES.map(|name| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    });
    if file.is_some() && passphrase.is_some() {
        let [file, passphrase] = NAMES;
        return Err(Usage::new(format!(
            "{file} and {passphrase} are both set in the environment: unset one, or give --key-file or --passphrase-file"
        )));
    }
    Ok((file, passphrase))
}

/// An id of a key slot. What does not look like one is not repeated: it may be a key that was put in the wrong place.
///
/// # Errors
/// [`Usage`].
pub(crate) fn slot_id(option: &str, text: &str) -> Result<ObjectId, Usage> {
    let wrong = || {
        Usage::new(format!(
            "{option}: no id of a key slot, and not repeated, since it may be a secret; `stockpot repository key list` shows them"
        ))
    };
    ObjectId::new(text).map_err(|_| wrong())
}

/// The chunk size that was asked for, if any.
///
/// # Errors
/// [`Usage`] for one that cannot be.
pub(crate) fn chunk_size(asked: Option<u64>) -> anyhow::Result<Option<u32>> {
    let Some(bytes) = asked else {
        return Ok(None);
    };
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && (64 << 10..=4 << 20).contains(&bytes) => {
            Ok(Some(bytes))
        }
        _ => Err(
            Usage::new("--chunk-size: the chunk size is a power of two from 64KiB to 4MiB").into(),
        ),
    }
}

/// A repository's chunks have one size for ever: a wish for another is not passed over.
fn check_chunk_size(repository: &Repository, asked: Option<u32>) -> anyhow::Result<()> {
    let size = repository.chunk_size_bytes();
    match asked {
        Some(asked) if asked != size => bail!(
            "--chunk-size: the repository at {} has chunks of {}, which cannot be changed; leave the option out, or choose \
             another prefix",
            repository.location(),
            human_size(size.into()),
        ),
        _ => Ok(()),
    }
}

/// Opens a repository that is there.
///
/// # Errors
/// As the repository says, with the options of this command line named.
pub(crate) async fn open(config: S3Config, key: Option<KeySource>) -> anyhow::Result<Repository> {
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(config).await?);
    let opened = Repository::open(store.clone(), key).await;
    let opened = history::explained(&*store, opened).await;
    opened.map_err(name_options)
}

/// As [`open`], for a caller that tries what was written first by itself where that may help.
///
/// # Errors
/// As [`open`].
pub(crate) async fn open_as_it_is(
    config: S3Config,
    key: Option<KeySource>,
) -> anyhow::Result<Repository> {
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(config).await?);
    let opened = Repository::open(store, key).await;
    opened.map_err(|error| name_options(error.into()))
}

/// Opens a repository as it was first written.
///
/// # Errors
/// As [`open`]; where the bucket keeps no versions.
pub(crate) async fn open_first(
    config: S3Config,
    key: Option<KeySource>,
) -> anyhow::Result<Repository> {
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(config).await?);
    let opened = Repository::open_first(store, key).await;
    opened.map_err(|error| name_options(error.into()))
}

/// Opens a repository, or makes it where there is nothing, and says so on standard error if it may. Whether it was
/// made is the second result. A signal ends the opening at once; making one goes on, so that its trials of the endpoint
/// are taken back.
///
/// # Errors
/// As [`open`]; a prefix that holds something else is refused.
pub(crate) async fn open_or_create(
    cli: &Cli,
    interrupt: &Interrupt,
    config: S3Config,
    key: Option<KeySource>,
    chunk_size: Option<u32>,
    is_locked: bool,
) -> anyhow::Result<(Repository, bool)> {
    let opening = async {
        let store: Arc<dyn ObjectStore> = Arc::new(S3Store::connect(config).await?);
        if is_locked {
            lock::require(&*store).await?;
        }
        match Repository::open(store.clone(), key.clone()).await {
            Err(RepositoryError::NoRepository { .. }) => Ok((store, None)),
            opened => {
                let opened = history::explained(&*store, opened).await;
                Ok((store, Some(opened.map_err(name_options)?)))
            }
        }
    };
    let store = match interrupt.unless(opening).await? {
        (_, Some(repository)) => {
            check_chunk_size(&repository, chunk_size)?;
            return Ok((repository, false));
        }
        (store, None) => store,
    };
    key.as_ref().map_or(Ok(()), secret_file::require_strength)?;
    let options = CreateOptions {
        key,
        chunk_size_bytes: chunk_size.unwrap_or(DEFAULT_CHUNK_SIZE_BYTES),
        endpoint: None,
    };
    let opened = Repository::open_or_create(store.clone(), options).await;
    let opened = history::explained(&*store, opened).await;
    let (repository, opened) = opened.map_err(name_options)?;
    let Opened::Created(report) = opened else {
        check_chunk_size(&repository, chunk_size)?;
        return Ok((repository, false));
    };
    if !cli.quiet {
        remark!(
            "made repository {} at {}, {}, chunks of {}",
            repository.short_id(),
            repository.location(),
            if repository.is_sealed() {
                "sealed"
            } else {
                "not sealed: whoever reads the bucket reads everything"
            },
            human_size(u64::from(repository.chunk_size_bytes())),
        );
        for line in report.to_string().lines() {
            remark!("  {}", printable::line(line));
        }
    }
    Ok((repository, true))
}

/// Names the options that help.
fn name_options(error: anyhow::Error) -> anyhow::Error {
    let error = match error.downcast() {
        Ok(error) => error,
        Err(other) => return other,
    };
    match error {
        RepositoryError::KeyNeeded { .. } => anyhow!("{error} (--key-file or --passphrase-file)"),
        RepositoryError::WrongKey { slots: 0, .. } => anyhow!(
            "{error}: somebody removed them all. A file that `stockpot repository key export` wrote still opens it (--key-file); \
             where the bucket keeps versions, --first-versions reads the slots that were there first"
        ),
        RepositoryError::WrongKey { ref untried, .. } if !untried.is_empty() => {
            anyhow!("{error} (--key-slot)")
        }
        error => error.into(),
    }
}

//! `stockpot restore`: a snapshot from a bucket into a device or file, without any daemon.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, anyhow, bail};
use serde::Serialize;
use stockpot_repository::{
    DEFAULT_CHUNK_SIZE_BYTES, Progress, ReadSettings, RepositoryError,
    device::{DeviceKind, Target, TargetOptions},
    format::{keys::KeySource, manifest::Manifest},
    restore::{Losses, LostRange, restore, salvage},
    store::{StoreError, s3::S3Config},
};

use crate::{
    cli::{Cli, RestoreArgs},
    context,
    interrupt::Interrupt,
    pick::{hint_at_deleted, pick, pick_deleted},
    printable,
    progress::Display,
    repository, signature,
    sizes::human_size,
    usage::{Incomplete, Usage, within_budget},
};

/// Lost places that a person is shown.
const SHOWN_MAX: usize = 100;

/// What is printed at the end; the names stay.
#[derive(Debug, Serialize)]
struct Report {
    snapshot_id: String,
    volume: String,
    target: String,
    size_bytes: u64,
    data_bytes: u64,
    received_bytes: u64,
    requests: u64,
    seconds: f64,
    /// What was written first under the same names was read, because something on top of it is gone or damaged, or because
    /// it was asked for.
    first_versions: bool,
    /// With --skip-damaged: what could not be read, and is zeroes.
    lost: Vec<LostRow>,
    lost_bytes: u64,
    /// What of `lost_bytes` is at places that `lost` leaves out: there are too many of them.
    lost_unlisted_bytes: u64,
}

/// A part of the volume that is zeroes because it could not be read; in bytes.
#[derive(Debug, Serialize)]
struct LostRow {
    offset: u64,
    length: u64,
    error: String,
}

/// What came of filling the target.
struct Filled {
    manifest: Manifest,
    progress: Arc<Progress>,
    lost: Losses,
    first_versions: bool,
}

pub(crate) async fn run(
    cli: &Cli,
    args: &RestoreArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let start = Instant::now();
    settings(args, DEFAULT_CHUNK_SIZE_BYTES)?;
    let config = repository::s3_config(&args.from, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    let job = Job {
        cli,
        args,
        interrupt,
    };
    let done = job.fill_or_first(config, key).await;
    let Filled {
        manifest,
        progress,
        lost,
        first_versions,
    } = done?;
    let moved = progress.snapshot();
    let report = Report {
        first_versions,
        lost_bytes: lost.bytes,
        lost_unlisted_bytes: lost.unlisted_bytes,
        lost: lost.ranges.into_iter().map(lost_row).collect(),
        snapshot_id: manifest.snapshot_id.to_string(),
        volume: manifest.volume_id.to_string(),
        target: args.target.display().to_string(),
        size_bytes: manifest.size_bytes,
        data_bytes: manifest.data_bytes,
        received_bytes: moved.bytes_moved,
        requests: moved.requests,
        seconds: start.elapsed().as_secs_f64(),
    };
    context::print(cli.output, &report, || text(&report))?;
    match report.lost.len() {
        0 => Ok(()),
        _ => Err(Incomplete::new(format!(
            "{} of {} cannot be read and {} zeroes in {}",
            human_size(report.lost_bytes),
            report.snapshot_id,
            if report.lost.len() == 1 { "is" } else { "are" },
            report.target
        ))
        .into()),
    }
}

fn lost_row(lost: LostRange) -> LostRow {
    LostRow {
        offset: lost.bytes.start,
        length: lost.bytes.end - lost.bytes.start,
        error: lost.why,
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} restored to {}: {}, of which {} is data, {}, {:.1} s",
        report.snapshot_id,
        report.target,
        human_size(report.size_bytes),
        human_size(report.data_bytes),
        match report.lost.len() {
            0 => "every byte checked",
            _ => "all but these bytes checked, which are zeroes",
        },
        report.seconds
    );
    let shown = report.lost.len().min(SHOWN_MAX);
    for lost in &report.lost[..shown] {
        text.push_str(&format!(
            "\n  {} bytes at {}: {}",
            lost.length,
            lost.offset,
            printable::line(&lost.error)
        ));
    }
    let listed: u64 = (report.lost[..shown].iter()).map(|lost| lost.length).sum();
    match report.lost_bytes - listed {
        0 => {}
        bytes => text.push_str(&format!(
            "\n  {bytes} bytes more, at other places{}",
            match report.lost.len() > shown {
                true => " (-o json lists more of them)",
                false => "",
            }
        )),
    }
    text
}

/// What is damaged keeps a restore from giving anything: what can be done then.
fn with_advice(error: anyhow::Error, args: &RestoreArgs) -> anyhow::Error {
    let is_damage = |error: &RepositoryError| {
        matches!(
            error,
            RepositoryError::Damaged { .. }
                | RepositoryError::Inconsistent { .. }
                | RepositoryError::Store(
                    StoreError::NotFound { .. } | StoreError::Integrity { .. }
                )
        )
    };
    match error.downcast_ref() {
        Some(damage) if is_damage(damage) => anyhow!(
            "{}; what the target holds now is no volume. `stockpot verify` names what else is damaged: another snapshot may be whole, and the next backup of \
             the volume stores what is marked as bad again{}",
            context::chain(&error),
            match args.skip_damaged {
                true => "",
                false =>
                    ". --skip-damaged restores the rest of this one, with zeroes where nothing can be read",
            }
        ),
        _ => error,
    }
}

/// What the arguments make of the defaults.
fn settings(args: &RestoreArgs, chunk_size_bytes: u32) -> anyhow::Result<ReadSettings> {
    let mut settings = match args.memory {
        Some(bytes) => ReadSettings::within_memory(bytes, chunk_size_bytes).map_err(Usage::new)?,
        None => ReadSettings::default(),
    };
    if let Some(reads) = args.reads_in_flight {
        settings.gets_in_flight = usize::from(reads);
    }
    if let Some(workers) = args.workers {
        settings.workers = usize::from(workers);
    }
    settings.check().map_err(Usage::new)?;
    within_budget(args.memory, settings.memory_bytes(chunk_size_bytes))?;
    Ok(settings)
}

/// What fills the target, perhaps twice.
struct Job<'a> {
    cli: &'a Cli,
    args: &'a RestoreArgs,
    interrupt: &'a Interrupt,
}

impl Job<'_> {
    /// Reads what is there, and where that looks like the work of somebody who deletes, what was written first.
    async fn fill_or_first(
        &self,
        config: S3Config,
        key: Option<KeySource>,
    ) -> anyhow::Result<Filled> {
        let Job {
            args, interrupt, ..
        } = *self;
        match self
            .fill(config.clone(), key.clone(), args.first_versions)
            .await
        {
            Err(error) if !args.first_versions && may_be_deleted(&error) => {
                tracing::debug!("trying what was written first");
                match self.fill(config, key, true).await {
                    Ok(done) => {
                        remark!(
                            "stockpot: {}; what was written first under the same names was restored instead. {}",
                            context::chain(&error),
                            match error.downcast_ref() {
                                Some(RepositoryError::WrongKey { .. }) =>
                                    "This key opened a slot that was removed, by its owner or by somebody else",
                                _ =>
                                    "Somebody has deleted or overwritten objects of this repository",
                            }
                        );
                        Ok(done)
                    }
                    Err(also) if interrupt.happened() => Err(also),
                    Err(also) => {
                        say_unless_same(&error, &also);
                        Err(with_advice(error, args))
                    }
                }
            }
            done => done.map_err(|error| with_advice(error, args)),
        }
    }

    async fn fill(
        &self,
        config: S3Config,
        key: Option<KeySource>,
        first_versions: bool,
    ) -> anyhow::Result<Filled> {
        let args = self.args;
        let finding = async {
            let repository = if first_versions {
                repository::open_first(config, key).await?
            } else {
                repository::open_as_it_is(config, key).await?
            };
            let picked = match args.deleted {
                true => pick_deleted(&repository, &args.snapshot).await,
                false => pick(&repository, &args.snapshot).await,
            };
            let manifest = picked.map_err(|error| hint_at_deleted(error, args.first_versions))?;
            Ok((repository, manifest))
        };
        let (repository, manifest) = self.interrupt.unless(finding).await?;
        let settings = settings(args, repository.chunk_size_bytes())?;
        let options = TargetOptions {
            force: args.force,
            zeroed: false,
        };
        // It waits for others who look at the device.
        let (path, size_bytes) = (args.target.clone(), manifest.size_bytes);
        let opening = move || Ok(Target::open(path, size_bytes, options)?);
        let target = self.interrupt.unless_blocking(opening).await?;
        if target.kind() == DeviceKind::Block && !args.force {
            refuse_content(&target)?;
        }
        let progress = Arc::new(Progress::new());
        let display = Display::start(self.cli, "restore", &progress);
        let token = self.interrupt.token();
        let done = if args.skip_damaged {
            let salvaged = salvage(&repository, &manifest, target, &settings, &progress, token);
            salvaged.await.map(|(_, lost)| lost)
        } else {
            let restored = restore(&repository, &manifest, target, &settings, &progress, token);
            restored.await.map(|_| Losses::default())
        };
        display.finish().await;
        let lost = done?;
        Ok(Filled {
            first_versions: first_versions || lost.read_first,
            lost,
            manifest,
            progress,
        })
    }
}

/// A device that is not in use may be somebody's all the same.
fn refuse_content(target: &Target) -> anyhow::Result<()> {
    let path = target.path();
    let found = signature::find(path).with_context(|| format!("cannot read {}", path.display()))?;
    match found {
        Some(what) => bail!(
            "{} carries {what}: give another device, or --force to overwrite it",
            path.display()
        ),
        None => Ok(()),
    }
}

/// What was wrong with the second try, where it tells something new.
fn say_unless_same(error: &anyhow::Error, also: &anyhow::Error) {
    let has_no_versions = matches!(
        also.downcast_ref::<RepositoryError>(),
        Some(
            RepositoryError::NoVersions { .. }
                | RepositoryError::Store(StoreError::Unsupported { .. })
        )
    );
    let also = context::chain(also);
    if !has_no_versions && also != context::chain(error) {
        remark!("stockpot: what was written first cannot be restored either: {also}");
    }
}

/// Whether an error is what is met where objects were deleted or overwritten.
fn may_be_deleted(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<RepositoryError>()
        .is_some_and(|error| {
            error.is_of_one_object()
                || matches!(
                    error,
                    RepositoryError::NoRepository { .. }
                        | RepositoryError::Foreign { .. }
                        | RepositoryError::NotSealed { .. }
                        | RepositoryError::UnknownSnapshot { .. }
                        | RepositoryError::WrongKey { .. }
                )
        })
}

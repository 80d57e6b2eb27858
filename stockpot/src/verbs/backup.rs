//! `stockpot backup`: a device or file to a bucket, without any daemon.

mod report;
mod request;
mod settings;

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
    time::Instant,
};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use stockpot_driver::lvm::live::{LiveSnapshot, LiveVolume};
use stockpot_repository::{
    DEFAULT_CHUNK_SIZE_BYTES, Progress, Repository,
    device::{Source, SourceOptions},
    forget,
    format::{
        ids::{SnapshotId, VolumeId},
        keys::KeySource,
    },
    store::s3::S3Config,
    upload::{UploadReport, upload},
};

use self::settings::settings;
use crate::{
    changed,
    cli::{BackupArgs, Cli},
    context, history,
    interrupt::{GRACE, Interrupt, Interrupted},
    progress::Display,
    repository,
    usage::Usage,
};

/// This machine's clock and the store's may be apart by this much before it is said.
const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(1);

pub(crate) async fn run(cli: &Cli, args: &BackupArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let start = Instant::now();
    // All that can be wrong without asking anybody comes first.
    let chunk_size = repository::chunk_size(args.chunk_size)?;
    settings(args, chunk_size.unwrap_or(DEFAULT_CHUNK_SIZE_BYTES))?;
    let changed = changes(args, interrupt).await?;
    let named = args.volume.as_deref().map(volume_id).transpose()?;
    let config = repository::s3_config(&args.to, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;

    let live = if args.force {
        None
    } else {
        let finding = async { Ok(LiveVolume::find(&args.source).await?) };
        interrupt.unless(finding).await?
    };
    let volume = match named {
        Some(id) => id,
        None => default_volume(&args.source, live.as_ref())?,
    };
    // Before the cut: what is written after this moment may be missing from the backup.
    let cut_at = Timestamp::now();
    // Not broken off: half a snapshot is of no use to anybody.
    let snapshot = match &live {
        Some(live) => Some(
            live.snapshot()
                .await
                .with_context(|| format!("cannot snapshot {}", live.name()))?,
        ),
        None => None,
    };
    let job = Job {
        cli,
        args,
        interrupt,
        volume,
        changed,
        snapshot: snapshot.as_ref(),
        cut_at,
        started: OnceLock::new(),
    };
    let outcome = job.run_within(config, key, chunk_size).await;
    let done = finish_snapshot(snapshot.as_ref(), outcome).await?;
    report::print(cli, &done, start.elapsed().as_secs_f64())
}

/// What all that happens while the temporary snapshot exists needs.
struct Job<'a> {
    cli: &'a Cli,
    args: &'a BackupArgs,
    interrupt: &'a Interrupt,
    volume: VolumeId,
    /// Ranges of bytes that changed, if that is known.
    changed: Option<Vec<Range<u64>>>,
    snapshot: Option<&'a LiveSnapshot>,
    cut_at: Timestamp,
    /// What may be half-open in the bucket: the repository's location and the snapshot's id.
    started: OnceLock<(String, SnapshotId)>,
}

/// What was done, and where.
struct Done {
    report: UploadReport,
    location: String,
    repository_created: bool,
    sealed: bool,
}

impl Job<'_> {
    /// Runs it; after a signal an endpoint has some seconds to take back what is half-open, and then no more.
    async fn run_within(
        &self,
        config: S3Config,
        key: Option<KeySource>,
        chunk_size: Option<u32>,
    ) -> anyhow::Result<Done> {
        let work = self.run(config, key, chunk_size);
        if let Some(done) = self.interrupt.within(GRACE, work).await {
            return done;
        }
        if let Some((location, snapshot)) = self.started.get() {
            remark!(
                "stockpot: the bucket did not answer within {} s: multipart uploads of snapshot {snapshot} of volume {} at \
                 {location} may be open still; they stay until a lifecycle rule of the bucket aborts them",
                GRACE.as_secs(),
                self.volume,
            );
        }
        Err(Interrupted.into())
    }

    async fn run(
        &self,
        config: S3Config,
        key: Option<KeySource>,
        chunk_size: Option<u32>,
    ) -> anyhow::Result<Done> {
        let force = self.args.force;
        let path = self
            .snapshot
            .map_or_else(|| self.args.source.clone(), LiveSnapshot::path);
        let source = Source::open(&path, SourceOptions { force })?;
        let opening = repository::open_or_create(
            self.cli,
            self.interrupt,
            config,
            key,
            chunk_size,
            self.args.lock.lock_days.is_some(),
        );
        let (repository, repository_created) = opening.await?;
        if self.interrupt.happened() {
            return Err(Interrupted.into());
        }
        self.interrupt.unless(warn_of_clocks(&repository)).await?;
        let request = self.request(&repository, source.size_bytes()).await?;
        // It is set once: a job runs once.
        let _ = self
            .started
            .set((repository.location(), request.snapshot_id.clone()));
        let progress = Arc::new(Progress::new());
        let display = Display::start(self.cli, "backup", &progress);
        let token = self.interrupt.token();
        let report = upload(&repository, source, request, &progress, token).await;
        display.finish().await;
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                // Reads of a void snapshot fail: then that is what has to be known.
                if let (Some(snapshot), false) = (self.snapshot, error.is_cancelled()) {
                    snapshot.check().await?;
                }
                return history::explained(&**repository.store(), Err(error)).await;
            }
        };
        Ok(Done {
            report,
            location: repository.location(),
            repository_created,
            sealed: repository.is_sealed(),
        })
    }
}

/// A snapshot carries this machine's time, and by that it is the latest or not, and is kept or forgotten.
async fn warn_of_clocks(repository: &Repository) -> anyhow::Result<()> {
    let now = match forget::now(repository).await {
        Ok(now) => now,
        // A backup needs nothing else of what may be refused here.
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the store's clock cannot be asked"
            );
            return Ok(());
        }
    };
    let own = Timestamp::now();
    if now.duration_since(own).abs() > CLOCKS_APART {
        history::say(&format!(
            "it is {own} by this machine's clock and {now} by the store's: the snapshot gets this machine's time, by which `latest:` and `stockpot \
             forget` choose. Set the clock that is wrong"
        ));
    }
    Ok(())
}

/// What is said to have changed, if anything is said.
async fn changes(
    args: &BackupArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<Vec<Range<u64>>>> {
    let Some(path) = args.changed.clone() else {
        return Ok(None);
    };
    let mut ranges = interrupt
        .unless_blocking(move || changed::read(&path))
        .await?;
    ranges.retain(|range| !range.is_empty());
    Ok(Some(ranges))
}

/// Removes the snapshot whatever happened.
async fn finish_snapshot<T>(
    snapshot: Option<&LiveSnapshot>,
    outcome: anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Some(snapshot) = snapshot else {
        return outcome;
    };
    let removed = snapshot
        .remove()
        .await
        .context("the temporary snapshot could not be removed");
    match (outcome, removed) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(_), Err(error)) => Err(error),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(also)) => {
            remark!("stockpot: {}", context::chain(&also));
            Err(error)
        }
    }
}

fn volume_id(name: &str) -> anyhow::Result<VolumeId> {
    VolumeId::new(name).map_err(|_| {
        Usage::new(format!(
            "--volume {name:?}: a volume's name has 1 to 63 of a-z, 0-9 and '-', and starts with a letter"
        ))
        .into()
    })
}

/// A name from what is read: the logical volume's, or the file's without its suffix.
fn default_volume(source: &Path, live: Option<&LiveVolume>) -> anyhow::Result<VolumeId> {
    let text = match live {
        Some(live) => live.lv_name().to_owned(),
        None => source
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let mut name: String = text
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "v-");
    }
    name.truncate(63);
    VolumeId::new(&name).map_err(|_| Usage::new("give the volume a name with --volume").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_after_its_file() {
        for (path, name) in [
            ("/a/disk.img", "disk"),
            ("Web_1.raw", "web-1"),
            ("/dev/7up", "v-7up"),
            ("/x/é", "v--"),
        ] {
            assert_eq!(
                default_volume(path.as_ref(), None).unwrap().to_string(),
                name
            );
        }
    }
}

//! `stockpot restore`: a snapshot from a bucket into a device or file, without any daemon.

use std::{sync::Arc, time::Instant};

use serde::Serialize;
use stockpot_repository::{
    DEFAULT_CHUNK_SIZE_BYTES, Progress, ReadSettings,
    device::{Target, TargetOptions},
    restore::restore,
};

use crate::{
    cli::{Cli, RestoreArgs},
    context,
    interrupt::Interrupt,
    pick::pick,
    progress::Display,
    repository,
    sizes::human_size,
    usage::{Usage, within_budget},
};

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
    let finding = async {
        let repository = repository::open(config, key).await?;
        let manifest = pick(&repository, &args.snapshot).await?;
        Ok((repository, manifest))
    };
    let (repository, manifest) = interrupt.unless(finding).await?;
    let settings = settings(args, repository.chunk_size_bytes())?;
    let options = TargetOptions {
        force: args.force,
        zeroed: false,
    };
    let target = Target::open(&args.target, manifest.size_bytes, options)?;
    let progress = Arc::new(Progress::new());
    let display = Display::start(cli, "restore", &progress);
    let done = restore(
        &repository,
        &manifest,
        target,
        &settings,
        &progress,
        interrupt.token(),
    )
    .await;
    display.finish().await;
    done?;
    let moved = progress.snapshot();
    let report = Report {
        snapshot_id: manifest.snapshot_id.to_string(),
        volume: manifest.volume_id.to_string(),
        target: args.target.display().to_string(),
        size_bytes: manifest.size_bytes,
        data_bytes: manifest.data_bytes,
        received_bytes: moved.bytes_moved,
        requests: moved.requests,
        seconds: start.elapsed().as_secs_f64(),
    };
    context::print(cli.output, &report, || {
        format!(
            "{} restored to {}: {}, of which {} is data, every byte checked, {:.1} s",
            report.snapshot_id,
            report.target,
            human_size(report.size_bytes),
            human_size(report.data_bytes),
            report.seconds
        )
    })
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

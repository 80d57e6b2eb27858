//! `stockpot restore`: a snapshot from a bucket into a device or file, without any daemon.

use std::{sync::Arc, time::Instant};

use serde::Serialize;
use stockpot_repository::{
    Progress, ReadSettings,
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
    usage::Usage,
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
    let settings = ReadSettings {
        gets_in_flight: usize::from(args.reads_in_flight),
        ..ReadSettings::default()
    };
    settings.check().map_err(Usage::new)?;
    let config = repository::s3_config(&args.from, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    let finding = async {
        let repository = repository::open(config, key).await?;
        let manifest = pick(&repository, &args.snapshot).await?;
        Ok((repository, manifest))
    };
    let (repository, manifest) = interrupt.unless(finding).await?;
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

//! `stockpot backup`: a device or file to a bucket, without any daemon.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use stockpot_driver::lvm::live::{LiveSnapshot, LiveVolume};
use stockpot_repository::{
    DEFAULT_CHUNK_SIZE_BYTES, Progress, Repository, UploadSettings,
    device::{Source, SourceOptions},
    format::ids::VolumeId,
    snapshots,
    upload::{BaseChoice, UploadReport, UploadRequest, upload},
};

use crate::{
    cli::{BackupArgs, Cli, UploadTuning},
    context,
    interrupt::Interrupt,
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
    location: String,
    size_bytes: u64,
    created_at: Timestamp,
    parent: Option<String>,
    reason: String,
    data_bytes: u64,
    stored_bytes: u64,
    packs: u64,
    requests: u64,
    seconds: f64,
    direct_reads: bool,
}

pub(crate) async fn run(cli: &Cli, args: &BackupArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let start = Instant::now();
    // All that can be wrong without asking anybody comes first.
    let settings = settings(&args.tuning)?;
    let chunk_size_bytes = chunk_size(args.chunk_size)?;
    let named = args.volume.as_deref().map(volume_id).transpose()?;
    let config = repository::s3_config(&args.to, &args.s3)?;
    let key = repository::key(&args.key)?;

    let live = if args.force {
        None
    } else {
        LiveVolume::find(&args.source).await?
    };
    let volume = match named {
        Some(id) => id,
        None => default_volume(&args.source, live.as_ref())?,
    };
    let snapshot = match &live {
        Some(live) => Some(
            live.snapshot()
                .await
                .with_context(|| format!("cannot snapshot {}", live.name()))?,
        ),
        None => None,
    };
    let cut_at = Timestamp::now();
    let path = snapshot
        .as_ref()
        .map_or_else(|| args.source.clone(), LiveSnapshot::path);
    let request = |repository: &Repository| UploadRequest {
        snapshot_id: repository.new_snapshot_id(),
        volume_name: volume.to_string(),
        volume_id: volume.clone(),
        metadata: metadata(args),
        cut_at,
        extents: None,
        base: BaseChoice::Newest,
        settings,
    };
    let outcome = async {
        let source = Source::open(&path, SourceOptions { force: args.force })?;
        let repository = repository::open_or_create(config, key, chunk_size_bytes).await?;
        let progress = Arc::new(Progress::new());
        let display = Display::start(cli, "backup", &progress);
        let report = upload(
            &repository,
            source,
            request(&repository),
            &progress,
            interrupt.token(),
        )
        .await;
        display.finish().await;
        let report = report?;
        if let Some(snapshot) = &snapshot
            && let Err(void) = snapshot.check().await
        {
            // Reads of a void snapshot fail, so this cannot have been read; but nothing is left to doubt.
            let manifest = &report.manifest;
            snapshots::delete(&repository, &manifest.volume_id, &manifest.snapshot_id).await?;
            return Err(void.into());
        }
        anyhow::Ok((repository.location(), report))
    }
    .await;
    let outcome = finish_snapshot(snapshot, outcome).await;
    let (location, report) = outcome?;
    print(cli, &location, &report, start.elapsed().as_secs_f64())
}

/// Removes the snapshot whatever happened, and does not let a void one pass for a backup.
async fn finish_snapshot<T>(
    snapshot: Option<LiveSnapshot>,
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
            eprintln!("stockpot: {}", context::chain(&also));
            Err(error)
        }
    }
}

fn settings(tuning: &UploadTuning) -> anyhow::Result<UploadSettings> {
    let mut settings = UploadSettings::default();
    if let Some(parts) = tuning.parts_in_flight {
        settings.parts_in_flight = usize::from(parts);
    }
    if let Some(bytes) = tuning.part_size {
        settings.part_size_bytes = usize::try_from(bytes).map_err(Usage::new)?;
    }
    if let Some(bytes) = tuning.pack_size {
        settings.pack_size_bytes = bytes;
    }
    if let Some(workers) = tuning.workers {
        settings.workers = usize::from(workers);
    }
    if let Some(level) = tuning.compression_level {
        settings.zstd_level = level;
    }
    settings.check().map_err(Usage::new)?;
    Ok(settings)
}

fn chunk_size(asked: Option<u64>) -> anyhow::Result<u32> {
    let Some(bytes) = asked else {
        return Ok(DEFAULT_CHUNK_SIZE_BYTES);
    };
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && (64 << 10..=4 << 20).contains(&bytes) => Ok(bytes),
        _ => Err(
            Usage::new("--chunk-size: the chunk size is a power of two from 64KiB to 4MiB").into(),
        ),
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

fn metadata(args: &BackupArgs) -> BTreeMap<String, String> {
    let mut metadata: BTreeMap<_, _> = args
        .labels
        .iter()
        .cloned()
        .map(|(k, v)| (format!("label.{k}"), v))
        .collect();
    metadata.insert("source".to_owned(), args.source.display().to_string());
    metadata
}

fn print(cli: &Cli, location: &str, report: &UploadReport, seconds: f64) -> anyhow::Result<()> {
    let manifest = &report.manifest;
    let report = Report {
        snapshot_id: manifest.snapshot_id.to_string(),
        volume: manifest.volume_id.to_string(),
        location: location.to_owned(),
        size_bytes: manifest.size_bytes,
        created_at: manifest.cut_at,
        parent: manifest
            .base
            .as_ref()
            .map(|base| base.snapshot_id.to_string()),
        reason: manifest.reason.to_string(),
        data_bytes: manifest.data_bytes,
        stored_bytes: manifest.stored_bytes,
        packs: report.packs,
        requests: report.requests,
        seconds,
        direct_reads: report.direct,
    };
    context::print(cli.output, &report, || {
        format!(
            "{}  volume {}, {} of data in {}, {} stored ({}), {:.1} s",
            report.snapshot_id,
            report.volume,
            human_size(report.data_bytes),
            human_size(report.size_bytes),
            human_size(report.stored_bytes),
            report.reason,
            report.seconds
        )
    })
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

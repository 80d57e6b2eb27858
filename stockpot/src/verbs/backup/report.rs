//! What a backup prints at its end.

use jiff::Timestamp;
use serde::Serialize;

use super::Done;
use crate::{
    cli::Cli,
    context,
    sizes::{count, human_size},
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
    /// full, compared or incremental.
    reason: String,
    /// Why, in words.
    why: String,
    data_bytes: u64,
    stored_bytes: u64,
    packs: u64,
    requests: u64,
    /// Of the source, without what was sampled.
    read_bytes: u64,
    /// Chunks said to be unchanged that were read to make sure.
    sampled_chunks: u64,
    /// Packs of an interrupted backup that were used again, and their size.
    adopted_packs: u64,
    adopted_bytes: u64,
    /// Earlier packs that were given up because little of them was needed, and what of them was sent anew.
    repacked_packs: u64,
    repacked_bytes: u64,
    seconds: f64,
    direct_reads: bool,
    /// This backup was the first into its prefix.
    repository_created: bool,
    /// Without the key nobody reads it.
    sealed: bool,
    /// Until when all that the snapshot needs is locked.
    locked_until: Option<Timestamp>,
}

/// Prints what was done, and why it was done that way.
pub(super) fn print(cli: &Cli, done: &Done, seconds: f64) -> anyhow::Result<()> {
    let manifest = &done.report.manifest;
    let report = Report {
        snapshot_id: manifest.snapshot_id.to_string(),
        volume: manifest.volume_id.to_string(),
        location: done.location.clone(),
        size_bytes: manifest.size_bytes,
        created_at: manifest.cut_at,
        parent: manifest
            .base
            .as_ref()
            .map(|base| base.snapshot_id.to_string()),
        reason: manifest.reason.to_string(),
        why: manifest.why.clone(),
        data_bytes: manifest.data_bytes,
        stored_bytes: manifest.stored_bytes,
        packs: done.report.packs,
        requests: done.report.requests,
        read_bytes: done.report.read_bytes,
        sampled_chunks: done.report.sampled_chunks,
        adopted_packs: done.report.adopted_packs,
        adopted_bytes: done.report.adopted_bytes,
        repacked_packs: done.report.repacked_packs,
        repacked_bytes: done.report.repacked_bytes,
        seconds,
        direct_reads: done.report.direct,
        repository_created: done.repository_created,
        sealed: done.sealed,
        locked_until: manifest.lock.map(|lock| lock.until),
    };
    context::print(cli.output, &report, || {
        format!(
            "{}  volume {}, {} of data in {}, {} stored ({}: {}), {:.1} s{}{}{}",
            report.snapshot_id,
            report.volume,
            human_size(report.data_bytes),
            human_size(report.size_bytes),
            human_size(report.stored_bytes),
            report.reason,
            report.why,
            report.seconds,
            match report.adopted_packs {
                0 => String::new(),
                packs => format!(
                    "; {} of an interrupted backup used again, {}",
                    count(packs, "pack"),
                    human_size(report.adopted_bytes)
                ),
            },
            match report.repacked_packs {
                0 => String::new(),
                packs => format!(
                    "; {} given up, {} of it sent anew",
                    count(packs, "sparse pack"),
                    human_size(report.repacked_bytes)
                ),
            },
            match (report.repository_created, report.sealed) {
                (false, _) => "",
                (true, true) => "; in a new repository, sealed",
                (true, false) => "; in a new repository, not sealed",
            }
        )
    })
}

//! How volumes are printed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use stockpot_proto::stockpot::v1::{Volume, VolumeStatus};

use super::{
    super::driver::{client, created},
    find::volumes,
    watch::received,
};
use crate::{
    cli::{Cli, SocketArgs},
    context, printable,
    sizes::human_size,
    table::Table,
};

/// A volume as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Row {
    volume_id: String,
    name: String,
    size_bytes: u64,
    pool: String,
    status: &'static str,
    /// What it is again when what is done with it now ends, or is refused.
    previous_status: Option<&'static str>,
    /// What it is on this node, while it is attached.
    device_path: Option<String>,
    /// Why making it failed, or what was to be restored into it could not be.
    error: Option<String>,
    source_snapshot_id: Option<String>,
    source_volume_id: Option<String>,
    created_at: Option<Timestamp>,
    /// While it is restored.
    phase: Option<String>,
    bytes_done: u64,
    bytes_total: u64,
    bytes_transferred: u64,
    bytes_per_second: u64,
    metadata: BTreeMap<String, String>,
}

pub(super) async fn list(cli: &Cli, at: &SocketArgs) -> anyhow::Result<()> {
    let all = volumes(&mut client(at), at).await?;
    let rows: Vec<Row> = all.into_iter().map(row).collect();
    context::print(cli.output, &rows, || {
        let mut table = Table::new([
            "VOLUME", "NAME", "SIZE", "POOL", "STATUS", "CREATED", "FROM",
        ]);
        for row in &rows {
            table.row([
                row.volume_id.clone(),
                row.name.clone(),
                human_size(row.size_bytes),
                row.pool.clone(),
                row.status.to_owned(),
                created(row.created_at),
                source(row).cloned().unwrap_or_default(),
            ]);
        }
        table.to_string()
    })
}

/// Prints one.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print(cli: &Cli, volume: Volume) -> anyhow::Result<()> {
    let now = volume.progress.as_ref().map(received);
    let row = row(volume);
    context::print(cli.output, &row, || text(&row, now.as_ref()))
}

fn text(row: &Row, now: Option<&String>) -> String {
    let mut text = format!(
        "{}  {}, {} in pool {}",
        printable::line(&row.volume_id),
        row.status,
        human_size(row.size_bytes),
        printable::line(&row.pool),
    );
    let times = created(row.created_at);
    let labels: Vec<String> = row
        .metadata
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let labels = Some(labels.join(", ")).filter(|text| !text.is_empty());
    for (what, value) in [
        ("name", Some(&row.name)),
        ("device", row.device_path.as_ref()),
        ("made", Some(&times)),
        ("from", source(row)),
        ("labels", labels.as_ref()),
        ("now", now),
        ("error", row.error.as_ref()),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("\n{what}: {}", printable::line(value)));
        }
    }
    text
}

fn source(row: &Row) -> Option<&String> {
    row.source_snapshot_id
        .as_ref()
        .or(row.source_volume_id.as_ref())
}

fn row(volume: Volume) -> Row {
    let status = word(volume.status());
    let previous = volume.previous_status();
    let previous_status = (previous != VolumeStatus::Unspecified).then(|| word(previous));
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let progress = volume.progress;
    let phase = progress.as_ref().map(|progress| progress.phase.clone());
    let progress = progress.unwrap_or_default();
    let created_at = volume.created_at;
    Row {
        volume_id: volume.volume_id,
        name: volume.name,
        size_bytes: volume.size_bytes,
        pool: volume.pool,
        status,
        previous_status,
        device_path: given(volume.device_path),
        error: given(volume.error),
        source_snapshot_id: volume.source_snapshot.map(|source| source.snapshot_id),
        source_volume_id: given(volume.source_volume_id),
        created_at: created_at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()),
        phase,
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        bytes_transferred: progress.bytes_transferred,
        bytes_per_second: progress.bytes_per_second,
        metadata: volume.metadata.into_iter().collect(),
    }
}

/// The word of a status.
pub(in crate::verbs) fn word(status: VolumeStatus) -> &'static str {
    match status {
        VolumeStatus::Creating => "creating",
        VolumeStatus::Restoring => "restoring",
        VolumeStatus::Available => "available",
        VolumeStatus::InUse => "in-use",
        VolumeStatus::BackingUp => "backing-up",
        VolumeStatus::Extending => "extending",
        VolumeStatus::Deleting => "deleting",
        VolumeStatus::Error => "error",
        VolumeStatus::Unspecified => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_volume_in_words() {
        let volume = Volume {
            volume_id: "vol-1".to_owned(),
            name: "data\u{1b}[2J".to_owned(),
            size_bytes: 10 << 30,
            pool: "fast".to_owned(),
            status: VolumeStatus::Available.into(),
            device_path: "/dev/loop7".to_owned(),
            error: "the restore failed".to_owned(),
            metadata: [("a".to_owned(), "b".to_owned())].into(),
            ..Volume::default()
        };
        assert_eq!(
            text(&row(volume), None),
            "vol-1  available, 10.0 GiB in pool fast\nname: data\\u{1b}[2J\ndevice: /dev/loop7\nmade: ?\nlabels: a=b\nerror: the restore failed"
        );
    }
}

//! Volumes and snapshots on record, and those that the pools hold.

use std::collections::BTreeMap;

use stockpot_driver::{SnapshotInfo, VolumeInfo, volume_driver::temporary_volume};

use super::{Kind, Place, Report, Rows};
use crate::{
    Manager, ManagerError,
    catalog::{CopyState, SnapshotRow, VolumeRow, VolumeStatus},
    error::chain,
};

/// What a pool holds.
#[derive(Debug)]
pub(super) struct Held {
    volumes: Vec<VolumeInfo>,
    snapshots: Vec<SnapshotInfo>,
}

/// The pools that can be asked, by name.
pub(super) type Pools = BTreeMap<String, Held>;

/// Asks every pool what it holds.
pub(super) async fn look(manager: &Manager, report: &mut Report) -> Pools {
    let mut pools = Pools::new();
    for pool in manager.pools.keys() {
        match ask(manager, pool).await {
            Ok(held) => {
                report.looked_at(format!(
                    "pool {pool}: {} volumes, {} snapshots",
                    held.volumes.len(),
                    held.snapshots.len()
                ));
                pools.insert(pool.clone(), held);
            }
            Err(error) => report
                .find(Place::Storage, Kind::Missing, "pool", pool)
                .say(
                    format!("it cannot be asked: {}", chain(&error)),
                    "bring it back; what lies in it was not looked at",
                )
                .passes_if(error.is_passing()),
        }
    }
    pools
}

async fn ask(manager: &Manager, pool: &str) -> Result<Held, ManagerError> {
    let driver = manager.driver(pool)?;
    Ok(Held {
        volumes: driver.list_volumes().await?,
        snapshots: driver.list_snapshots().await?,
    })
}

/// `rows` stood all the time, `after` is newer than what the pools said.
pub(super) fn compare(
    manager: &Manager,
    rows: &Rows,
    after: &Rows,
    pools: &Pools,
    report: &mut Report,
) {
    strays(manager, rows, report);
    for row in &rows.volumes {
        if let Some(held) = pools.get(&row.pool) {
            volume(row, held, report);
        }
    }
    for row in &rows.snapshots {
        if let Some(held) = pools.get(&row.pool) {
            snapshot(row, held, report);
        }
    }
    for (pool, held) in pools {
        unknown_volumes(manager, pool, held, after, report);
        unknown_snapshots(manager, pool, held, rows, after, report);
    }
}

/// Rows in pools that the configuration does not name.
fn strays(manager: &Manager, rows: &Rows, report: &mut Report) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let local = rows.snapshots.iter().filter(|row| has_device(row));
    let named = rows.volumes.iter().map(|row| row.pool.as_str());
    for pool in named.chain(local.map(|row| row.pool.as_str())) {
        if !manager.pools.contains_key(pool) {
            *counts.entry(pool).or_default() += 1;
        }
    }
    for (pool, count) in counts {
        report
            .find(Place::Catalog, Kind::Different, "pool", pool)
            .say(
                format!("{count} volumes and snapshots are on record in it, and the configuration does not name it"),
                "name it in the configuration, by that name",
            )
            .passes_if(false);
    }
}

fn volume(row: &VolumeRow, held: &Held, report: &mut Report) {
    let id = row.id.as_str();
    let found = held.volumes.iter().find(|info| info.id == row.id);
    match (row.status, found) {
        (status, None) if status.is_there() => report
            .find(Place::Storage, Kind::Missing, "volume", id)
            .say(
                format!("volume {:?} is {status} on record, and pool {} does not have it", row.name, row.pool),
                "if a disk is away bring it back; else delete the volume (`stockpot volume delete`) and make it again from a cloud copy",
            )
            .passes_if(false),
        (VolumeStatus::Available | VolumeStatus::InUse | VolumeStatus::BackingUp, Some(info))
            if info.size_bytes != row.size_bytes =>
        {
            report
                .find(Place::Storage, Kind::Different, "volume", id)
                .say(
                    format!("it has {} bytes, and {} on record", info.size_bytes, row.size_bytes),
                    "it was grown past the driver: extend it to that size (`stockpot volume extend`), which settles it",
                )
                .passes_if(false);
        }
        (VolumeStatus::Error, Some(_)) => report
            .find(Place::Storage, Kind::Different, "volume", id)
            .say(
                "making it failed, and something of it is there",
                "delete the volume, or make it again; the next start removes what is left too",
            )
            .passes_if(false),
        _ => {}
    }
}

fn has_device(row: &SnapshotRow) -> bool {
    row.local == CopyState::Present || row.kept_as_base
}

fn snapshot(row: &SnapshotRow, held: &Held, report: &mut Report) {
    let id = row.id.as_str();
    let found = held.snapshots.iter().find(|info| info.id == row.id);
    let passing = row.deleting.is_some();
    match found {
        None if has_device(row) => {
            let advice = match (row.kept_as_base, row.cloud) {
                (true, _) => "nothing: the next upload of the volume reads all of it and compares",
                (false, CopyState::Present) => {
                    "the copy in the cloud is there; `stockpot snapshot delete ID --copy local` settles it"
                }
                _ => "if a disk is away bring it back; else delete the snapshot",
            };
            report
                .find(Place::Storage, Kind::Missing, "snapshot", id)
                .say(
                    format!(
                        "its local copy is on record, and pool {} does not have it",
                        row.pool
                    ),
                    advice,
                )
                .passes_if(passing);
        }
        Some(info) if has_device(row) => {
            let is_same = info.volume_id == row.volume_id
                && row.size_bytes.is_none_or(|size| size == info.size_bytes);
            if !is_same {
                report
                    .find(Place::Storage, Kind::Different, "snapshot", id)
                    .say(
                        format!(
                            "it is of volume {} with {} bytes, and on record of volume {} with {}",
                            info.volume_id,
                            info.size_bytes,
                            row.volume_id,
                            row.size_bytes.unwrap_or_default()
                        ),
                        "it is not what was cut: delete its local copy",
                    )
                    .passes_if(passing);
            }
        }
        Some(_) if row.local != CopyState::Pending => report
            .find(Place::Storage, Kind::Different, "snapshot", id)
            .say(
                format!(
                    "its local copy is {} on record, and its device is there",
                    row.local
                ),
                "`stockpot snapshot delete ID --copy local` removes it",
            )
            .passes_if(passing),
        _ => {}
    }
}

fn unknown_volumes(manager: &Manager, pool: &str, held: &Held, after: &Rows, report: &mut Report) {
    for info in &held.volumes {
        let id = info.id.as_str();
        let is_adopted = after.adoptions.iter().any(|row| row.volume_id == info.id);
        // The restore that fills it removes it, or puts it in its volume's place.
        let is_beside = after
            .in_place
            .iter()
            .any(|row| row.temp_volume_id == info.id);
        if after.volume(id).is_some() || is_adopted || is_beside || manager.is_lent(&info.id) {
            continue;
        }
        let of = after
            .snapshots
            .iter()
            .find(|row| temporary_volume(&row.id) == info.id);
        let Some(of) = of else {
            report
                .find(Place::Storage, Kind::Unknown, "volume", id)
                .say(
                    format!(
                        "pool {pool} has it, with {} bytes, and it is on no record",
                        info.size_bytes
                    ),
                    taken_on_record(manager, pool, id),
                )
                .passes_if(after.is_restoring());
            continue;
        };
        report
            .find(Place::Storage, Kind::Unknown, "volume", id)
            .say(
                format!("it is what snapshot {} was read through", of.id),
                "the next start removes it",
            )
            .passes_if(after.reads_snapshot(of.id.as_str()));
    }
}

/// How a volume that is there comes on record.
fn taken_on_record(manager: &Manager, pool: &str, id: &str) -> String {
    let mut pools = manager.config.pools.iter();
    let vg = pools
        .find(|p| p.name() == pool)
        .and_then(|p| p.volume_group());
    match vg {
        Some(vg) => format!(
            "`stockpot volume adopt {vg}/stockpot.v.{}` takes it on record; `stockpot volume delete {id}` removes it",
            id.replace('-', ".")
        ),
        None => format!(
            "`stockpot catalog rebuild --force` takes it on record; `stockpot volume delete {id}` removes it"
        ),
    }
}

fn unknown_snapshots(
    manager: &Manager,
    pool: &str,
    held: &Held,
    rows: &Rows,
    after: &Rows,
    report: &mut Report,
) {
    for info in &held.snapshots {
        let id = info.id.as_str();
        if after.snapshot(id).is_some()
            || rows.snapshot(id).is_some()
            || manager.is_lent(&info.volume_id)
        {
            continue;
        }
        report
            .find(Place::Storage, Kind::Unknown, "snapshot", id)
            .say(
                format!("pool {pool} has it, of volume {}, and it is on no record", info.volume_id),
                format!("`stockpot snapshot delete {id}` removes it; `stockpot catalog rebuild --force` takes it on record"),
            )
            .passes_if(false);
    }
}

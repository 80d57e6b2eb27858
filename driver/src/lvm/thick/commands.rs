//! The LVM and device-mapper commands for thick volumes.

use std::time::Duration;

use stockpot_command::Command;

use super::super::{
    commands::{lvm, run, tagged, words},
    names::Marks,
};
use crate::DriverError;

/// Unit of a classic snapshot: smaller ones cost memory for each, larger ones a copy of more than was written.
pub(super) const COW_CHUNK_BYTES: u64 = 16 << 10;

/// Makes a logical volume, active, with whatever bytes its extents hold: its mark says so, by the same command. LVM wipes the
/// signatures of what was there before it lets udev look: an old file system of this identifier may live elsewhere, and this
/// volume would take its links.
pub(super) async fn create(
    vg: &str,
    name: &str,
    size_bytes: u64,
    tags: &[String],
) -> Result<(), DriverError> {
    let args = format!(
        "lvcreate --yes --type linear --size {size_bytes}b --name {name} --addtag {} \
         --wipesignatures y --zero y --activate y --setactivationskip y --ignoreactivationskip {vg}",
        Marks::CREATING
    );
    run(format!("cannot create {vg}/{name}"), tagged(&args, tags)).await
}

/// Makes room that a volume is going to grow by, active.
pub(super) async fn create_room(
    vg: &str,
    name: &str,
    size_bytes: u64,
    tag: &str,
) -> Result<(), DriverError> {
    let args = format!(
        "lvcreate --yes --type linear --size {size_bytes}b --name {name} --addtag {tag} \
         --wipesignatures n --zero n {vg}"
    );
    run(format!("cannot create {vg}/{name}"), words(&args)).await
}

/// Makes a classic read-only snapshot with that much room for changes, as active as its origin.
pub(super) async fn create_snapshot(
    vg: &str,
    origin: &str,
    name: &str,
    cow_bytes: u64,
    tags: &[String],
) -> Result<(), DriverError> {
    let tags: String = tags.iter().map(|tag| format!("--addtag {tag} ")).collect();
    let args = format!(
        "lvcreate --yes --snapshot --permission r --chunksize {COW_CHUNK_BYTES}b --size {cow_bytes}b {tags} \
         --name {name} {vg}/{origin}"
    );
    run(
        format!("cannot snapshot {vg}/{origin} as {name}"),
        words(&args),
    )
    .await
}

/// Adds or removes a mark.
pub(super) async fn mark(vg: &str, name: &str, tag: &str, on: bool) -> Result<(), DriverError> {
    let option = if on { "--addtag" } else { "--deltag" };
    let args = format!("lvchange {option} {tag} {vg}/{name}");
    run(format!("cannot mark {vg}/{name}"), words(&args)).await
}

/// Grows a logical volume by exactly these extents (`/dev/sda:10-20`), whose order is that of the disk: what is added to a striped
/// one is not striped.
pub(super) async fn extend_onto(
    vg: &str,
    name: &str,
    is_striped: bool,
    size_bytes: u64,
    extents: &[String],
) -> Result<(), DriverError> {
    let stripes = if is_striped { "--stripes 1" } else { "" };
    let mut args = words(&format!(
        "lvextend {stripes} --size {size_bytes}b {vg}/{name}"
    ));
    args.extend_from_slice(extents);
    run(format!("cannot extend {vg}/{name}"), args).await
}

/// The physical extents of a logical volume, as `lvextend` takes them.
pub(super) async fn extents(vg: &str, name: &str) -> Result<Vec<String>, DriverError> {
    let doing = format!("cannot read the extents of {vg}/{name}");
    let args = format!("lvs --noheadings --segments -o seg_pe_ranges {vg}/{name}");
    let output = lvm(&words(&args))
        .await
        .map_err(|source| DriverError::command(doing.clone(), source))?;
    let text = output.stdout_text();
    let ranges: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if ranges.is_empty() || !ranges.iter().all(|range| range.starts_with("/dev/")) {
        return Err(DriverError::Unexpected {
            doing,
            answer: text.chars().take(200).collect(),
        });
    }
    Ok(ranges)
}

/// How full a classic snapshot is, by device-mapper's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) dm_name: String,
    pub(super) content_sectors: u64,
    pub(super) used_sectors: u64,
    pub(super) total_sectors: u64,
}

/// How full the active classic snapshots of this machine are; void ones are left out.
pub(super) async fn fills() -> Result<Vec<Fill>, DriverError> {
    let output = Command::new("dmsetup")
        .package("dmsetup")
        .deadline(Duration::from_secs(30))
        .args(["status", "--target", "snapshot"])
        .run()
        .await
        .map_err(|source| DriverError::command("cannot ask device-mapper for snapshots", source))?;
    Ok(output
        .stdout_text()
        .lines()
        .filter_map(parse_fill)
        .collect())
}

/// `NAME: 0 LENGTH snapshot USED/TOTAL METADATA`, in sectors (the kernel's `device-mapper/snapshot` document).
fn parse_fill(line: &str) -> Option<Fill> {
    let (dm_name, status) = line.rsplit_once(": ")?;
    let mut fields = status.split_whitespace().skip(1);
    let content_sectors = fields.next()?.parse().ok()?;
    if fields.next()? != "snapshot" {
        return None;
    }
    let (used, total) = fields.next()?.split_once('/')?;
    Some(Fill {
        dm_name: dm_name.to_owned(),
        content_sectors,
        used_sectors: used.parse().ok()?,
        total_sectors: total.parse().ok().filter(|total| *total > 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_understood() {
        let fill = parse_fill("vg--0-stockpot.s.a: 0 131072 snapshot 2072/16384 24").unwrap();
        assert_eq!(fill.dm_name, "vg--0-stockpot.s.a");
        assert_eq!((fill.used_sectors, fill.total_sectors), (2072, 16384));
        assert_eq!(fill.content_sectors, 131_072);
        for other in [
            "",
            "No devices found",
            "a: 0 131072 snapshot Invalid",
            "a: 0 131072 snapshot-origin ",
            "a: 0 131072 snapshot 1/0 0",
            "a: 0 131072 snapshot x/y 0",
        ] {
            assert_eq!(parse_fill(other), None, "{other}");
        }
    }
}

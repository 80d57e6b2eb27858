//! `stockpot catalog rebuild`: a catalog that was lost is made again, in-process, while no driver runs.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;
use stockpot_manager::{
    Parts,
    rebuild::{Options, Rebuilt, rebuild},
};

use super::super::snapshot::copy_word;
use crate::{
    cli::{CatalogRebuildArgs, Cli},
    config, context,
    interrupt::Interrupt,
    printable,
    sizes::{count, human_size},
    table::Table,
};

/// What was made, as it is printed; the names stay.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether the new catalog is in place.
    done: bool,
    /// What was there before, in words.
    before: String,
    /// Where the old file is now.
    old_file: Option<PathBuf>,
    volumes: Vec<Volume>,
    snapshots: Vec<Snapshot>,
    /// Backups found in buckets.
    backups: Vec<String>,
    /// What was taken over from the old catalog.
    kept: Vec<Kept>,
    /// What is not known any more, and what was left out.
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Volume {
    volume_id: String,
    name: String,
    pool: String,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Snapshot {
    snapshot_id: String,
    name: String,
    volume_id: String,
    local: &'static str,
    cloud: &'static str,
    kept_as_base: bool,
}

#[derive(Debug, Serialize)]
struct Kept {
    table: String,
    rows: u64,
    error: Option<String>,
}

pub(super) async fn run(
    cli: &Cli,
    args: &CatalogRebuildArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let path = args.config.clone();
    let config = interrupt
        .unless_blocking(move || config::read(&path))
        .await?;
    let options = Options {
        dry_run: args.dry_run,
        force: args.force,
        skip_unreachable: args.skip_unreachable,
    };
    let making = async {
        let parts = Parts::new(&config.manager)?;
        let rebuilt = rebuild(&config.manager, parts, options).await;
        rebuilt.context("the catalog was not made again, and nothing is changed")
    };
    let report = Report::of(interrupt.unless(making).await?);
    context::print(cli.output, &report, || text(&report))
}

impl Report {
    fn of(rebuilt: Rebuilt) -> Self {
        Self {
            done: rebuilt.done,
            before: rebuilt.before,
            old_file: rebuilt.aside,
            volumes: rebuilt
                .volumes
                .into_iter()
                .map(|row| Volume {
                    volume_id: row.id.to_string(),
                    name: row.name,
                    pool: row.pool,
                    size_bytes: row.size_bytes,
                })
                .collect(),
            snapshots: rebuilt
                .snapshots
                .into_iter()
                .map(|row| Snapshot {
                    snapshot_id: row.id.to_string(),
                    name: row.name,
                    volume_id: row.volume_id.to_string(),
                    local: row.local.as_str(),
                    cloud: row.cloud.as_str(),
                    kept_as_base: row.kept_as_base,
                })
                .collect(),
            backups: rebuilt.backups.into_iter().map(|row| row.id).collect(),
            kept: rebuilt
                .kept
                .into_iter()
                .map(|(table, rows)| match rows {
                    Ok(rows) => Kept {
                        table,
                        rows,
                        error: None,
                    },
                    Err(error) => Kept {
                        table,
                        rows: 0,
                        error: Some(error),
                    },
                })
                .collect(),
            remarks: rebuilt.remarks,
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = format!("{}\n", printable::line(&report.before));
    let mut volumes = Table::new(["VOLUME", "NAME", "POOL", "SIZE"]);
    for row in &report.volumes {
        volumes.row([
            row.volume_id.clone(),
            row.name.clone(),
            row.pool.clone(),
            human_size(row.size_bytes),
        ]);
    }
    let mut snapshots = Table::new(["SNAPSHOT", "NAME", "VOLUME", "LOCAL", "CLOUD"]);
    for row in &report.snapshots {
        snapshots.row([
            row.snapshot_id.clone(),
            row.name.clone(),
            row.volume_id.clone(),
            copy_word(row.local, row.kept_as_base).to_owned(),
            copy_word(row.cloud, false).to_owned(),
        ]);
    }
    text.push_str(&format!("{volumes}{snapshots}"));
    for kept in &report.kept {
        text.push_str(&match (&kept.error, kept.rows) {
            // There was nothing to take over.
            (None, 0) => String::new(),
            (None, rows) => format!(
                "{} of {} taken over from the old catalog\n",
                count(rows, "row"),
                kept.table
            ),
            (Some(why), _) => format!(
                "{} of the old catalog cannot be read: {}\n",
                kept.table,
                printable::line(why)
            ),
        });
    }
    for remark in &report.remarks {
        text.push_str(&format!("note: {}\n", printable::line(remark)));
    }
    let found = format!(
        "{}, {} and {}",
        count(report.volumes.len() as u64, "volume"),
        count(report.snapshots.len() as u64, "snapshot"),
        count(report.backups.len() as u64, "backup")
    );
    text.push_str(&match (report.done, &report.old_file) {
        (false, _) => format!("{found} would be on record; nothing was changed\n"),
        (true, None) => format!("{found} are on record\n"),
        (true, Some(old)) => format!("{found} are on record; the old file is {}\n", old.display()),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_told_from_what_is_done() {
        let mut report = Report {
            done: false,
            before: "there is no catalog".to_owned(),
            old_file: None,
            volumes: vec![Volume {
                volume_id: "vol-1".to_owned(),
                name: "db".to_owned(),
                pool: "fast".to_owned(),
                size_bytes: 1 << 30,
            }],
            snapshots: Vec::new(),
            backups: vec!["bak-1".to_owned()],
            kept: vec![
                Kept {
                    table: "exports".to_owned(),
                    rows: 0,
                    error: Some("malformed".to_owned()),
                },
                Kept {
                    table: "schedules".to_owned(),
                    rows: 0,
                    error: None,
                },
                Kept {
                    table: "pauses".to_owned(),
                    rows: 2,
                    error: None,
                },
            ],
            remarks: vec!["a note".to_owned()],
        };
        let planned = text(&report);
        for part in [
            "vol-1",
            "db",
            "1.00 GiB",
            "exports of the old catalog cannot be read",
            "2 rows of pauses taken over",
            "note: a note",
        ] {
            assert!(planned.contains(part), "{part}: {planned}");
        }
        assert!(!planned.contains("schedules"), "{planned}");
        assert!(planned.ends_with(
            "1 volume, 0 snapshots and 1 backup would be on record; nothing was changed\n"
        ));
        report.done = true;
        report.old_file = Some("/x/old".into());
        assert!(text(&report).ends_with("are on record; the old file is /x/old\n"));
    }
}

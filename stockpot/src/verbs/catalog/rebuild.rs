//! `stockpot catalog rebuild`: a catalog that was lost is made again, in-process, while no driver runs.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;
use stockpot_manager::{
    Parts,
    rebuild::{Options, Rebuilt, rebuild},
};

use crate::{
    cli::{CatalogRebuildArgs, Cli},
    config, context,
    interrupt::Interrupt,
    printable,
    sizes::human_size,
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
    error: String,
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
                        error: String::new(),
                    },
                    Err(error) => Kept {
                        table,
                        rows: 0,
                        error,
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
        let local = if row.kept_as_base { "base" } else { row.local };
        snapshots.row([
            row.snapshot_id.clone(),
            row.name.clone(),
            row.volume_id.clone(),
            local.to_owned(),
            row.cloud.to_owned(),
        ]);
    }
    text.push_str(&format!("{volumes}{snapshots}"));
    for kept in &report.kept {
        text.push_str(&match kept.error.as_str() {
            "" => format!(
                "{} rows of {} were taken over from the old catalog\n",
                kept.rows, kept.table
            ),
            why => format!(
                "{} of the old catalog cannot be read: {}\n",
                kept.table,
                printable::line(why)
            ),
        });
    }
    for remark in &report.remarks {
        text.push_str(&format!("note: {}\n", printable::line(remark)));
    }
    let (volumes, snapshots) = (report.volumes.len(), report.snapshots.len());
    let backups = report.backups.len();
    let found = format!("{volumes} volumes, {snapshots} snapshots and {backups} backups");
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
            kept: vec![Kept {
                table: "exports".to_owned(),
                rows: 0,
                error: "malformed".to_owned(),
            }],
            remarks: vec!["a note".to_owned()],
        };
        let planned = text(&report);
        for part in [
            "vol-1",
            "db",
            "1.00 GiB",
            "exports of the old catalog cannot be read",
            "note: a note",
        ] {
            assert!(planned.contains(part), "{part}: {planned}");
        }
        assert!(planned.ends_with(
            "1 volumes, 0 snapshots and 1 backups would be on record; nothing was changed\n"
        ));
        report.done = true;
        report.old_file = Some("/x/old".into());
        assert!(text(&report).ends_with("are on record; the old file is /x/old\n"));
    }
}

//! `stockpot forget`: gives snapshots up, those that are named or those that no rule keeps.

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use stockpot_repository::{
    Repository,
    forget::{self, Choice, Retention, Target},
    format::ids::{SnapshotId, VolumeId},
    snapshots::{self, SnapshotSummary, Status},
};

use crate::{
    cli::{Cli, ForgetArgs, KeepArgs},
    context, history,
    interrupt::Interrupt,
    repository,
    table::Table,
    usage::Usage,
};

/// Tombstones put at the same time.
const ENDS_IN_FLIGHT: usize = 8;

/// What is printed; the names stay.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    forgotten: Vec<Row>,
    /// Named, and given up earlier. What was left of them is cleared away once more.
    already_forgotten: Vec<Row>,
    kept: Vec<Row>,
}

/// A snapshot and what becomes of it.
#[derive(Debug, Serialize)]
struct Row {
    snapshot_id: String,
    volume: String,
    created_at: Option<Timestamp>,
    /// What keeps it.
    rules: Vec<&'static str>,
    #[serde(skip)]
    place: Option<(VolumeId, SnapshotId)>,
}

pub(crate) async fn run(cli: &Cli, args: &ForgetArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let retention = retention(&args.keep);
    if args.snapshots.is_empty() && retention.is_empty() {
        return Err(Usage::new(
            "say what to forget: snapshots by their ids, or a policy with at least one --keep-… above 0",
        )
        .into());
    }
    check_names(&args.snapshots)?;
    let config = repository::s3_config(&args.from, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    let looking = async {
        let repository = repository::open(config, key).await?;
        let found = snapshots::list(&repository).await?;
        let report = if args.snapshots.is_empty() {
            by_policy(args, &repository, &found, &retention).await?
        } else {
            let targets = forget::named(&repository, &found, &args.snapshots).await;
            let targets = history::explained(&**repository.store(), targets).await?;
            by_name(args, &found, targets)
        };
        Ok((repository, report))
    };
    let (repository, report) = interrupt.unless(looking).await?;
    if !args.dry_run {
        interrupt.unless(carry_out(&repository, &report)).await?;
    }
    context::print(cli.output, &report, || text(&report))
}

fn retention(keep: &KeepArgs) -> Retention {
    Retention {
        last: keep.keep_last,
        daily: keep.keep_daily,
        weekly: keep.keep_weekly,
        monthly: keep.keep_monthly,
        yearly: keep.keep_yearly,
        within: keep
            .keep_within
            .filter(|age| !age.is_zero())
            .map(|age| SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX)),
    }
}

async fn by_policy(
    args: &ForgetArgs,
    repository: &Repository,
    found: &[SnapshotSummary],
    retention: &Retention,
) -> anyhow::Result<Report> {
    let of_volume = |summary: &&SnapshotSummary| {
        args.volume.as_deref().is_none_or(|name| {
            let id = summary.volume_id.as_ref();
            summary.volume() == Some(name) || id.is_some_and(|id| id.as_str() == name)
        })
    };
    let found: Vec<SnapshotSummary> = found.iter().filter(of_volume).cloned().collect();
    if let Some(name) = &args.volume
        && found.is_empty()
    {
        anyhow::bail!("no snapshot of a volume {name} is there; `stockpot snapshots` lists them");
    }
    let items = forget::items(&found);
    let now = forget::now(repository).await?;
    forget::check_clocks(repository, &items, now, Timestamp::now())?;
    let choices = forget::plan(&items, retention, now);
    let (kept, forgotten): (Vec<Choice>, Vec<Choice>) =
        choices.into_iter().partition(Choice::stays);
    let row = |choice: Choice| Row {
        volume: name_of(&found, &choice.item.snapshot_id, &choice.item.volume_id),
        snapshot_id: choice.item.snapshot_id.to_string(),
        created_at: Some(choice.item.cut_at),
        rules: choice.kept_by.iter().map(|rule| rule.word()).collect(),
        place: Some((choice.item.volume_id, choice.item.snapshot_id)),
    };
    let unjudged = found
        .iter()
        .filter(|summary| summary.manifest.is_none() && summary.status != Status::Deleted)
        .map(|summary| Row {
            snapshot_id: summary.snapshot_id.to_string(),
            volume: summary.volume().unwrap_or("?").to_owned(),
            created_at: summary.started_at,
            rules: vec![match summary.status {
                Status::Unreadable(_) => "unreadable",
                _ => "uploading",
            }],
            place: None,
        });
    Ok(Report {
        dry_run: args.dry_run,
        forgotten: forgotten.into_iter().map(row).collect(),
        already_forgotten: Vec::new(),
        kept: kept.into_iter().map(row).chain(unjudged).collect(),
    })
}

fn by_name(args: &ForgetArgs, found: &[SnapshotSummary], targets: Vec<Target>) -> Report {
    let row = |target: Target| Row {
        volume: name_of(found, &target.snapshot_id, &target.volume_id),
        created_at: found
            .iter()
            .find(|summary| summary.snapshot_id == target.snapshot_id)
            .and_then(SnapshotSummary::created_at),
        snapshot_id: target.snapshot_id.to_string(),
        rules: Vec::new(),
        place: Some((target.volume_id, target.snapshot_id)),
    };
    let (already, new): (Vec<Target>, Vec<Target>) =
        targets.into_iter().partition(|target| target.is_gone);
    Report {
        dry_run: args.dry_run,
        forgotten: new.into_iter().map(row).collect(),
        already_forgotten: already.into_iter().map(row).collect(),
        kept: Vec::new(),
    }
}

/// Asked again after it was broken off, `latest:VOLUME` would be the next older one.
fn check_names(names: &[String]) -> Result<(), Usage> {
    match names.iter().find(|name| name.starts_with("latest:")) {
        None => Ok(()),
        Some(name) => Err(Usage::new(format!(
            "{name}: name what is to be forgotten by its id (`stockpot snapshots` shows it); the latest one is another each time"
        ))),
    }
}

/// The volume as people call it.
fn name_of(found: &[SnapshotSummary], snapshot: &SnapshotId, volume: &VolumeId) -> String {
    found
        .iter()
        .find(|s| s.snapshot_id == *snapshot && s.volume_id.as_ref() == Some(volume))
        .and_then(SnapshotSummary::volume)
        .unwrap_or(volume.as_str())
        .to_owned()
}

/// Broken off, the same command goes on.
async fn carry_out(repository: &Repository, report: &Report) -> anyhow::Result<()> {
    let rows = report.forgotten.iter().chain(&report.already_forgotten);
    let places: Vec<_> = rows.filter_map(|row| row.place.as_ref()).collect();
    let all = places.len();
    let mut ending = stream::iter(places)
        .map(|(volume, snapshot)| async move {
            let ended = snapshots::delete(repository, volume, snapshot).await;
            (snapshot, ended)
        })
        .buffer_unordered(ENDS_IN_FLIGHT);
    let mut done = 0;
    while let Some((snapshot, ended)) = ending.next().await {
        ended.with_context(|| {
            format!("giving up {snapshot} ({done} of {all} were given up before)")
        })?;
        done += 1;
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let mut table = Table::new(["SNAPSHOT", "VOLUME", "CREATED", "WHAT"]);
    let would = if report.dry_run {
        "would be forgotten"
    } else {
        "forgotten"
    };
    let gone_before = "was forgotten before";
    let kept = report.kept.iter();
    let kept = kept.map(|row| (row, format!("kept: {}", row.rules.join(", "))));
    let forgotten = report.forgotten.iter().map(|row| (row, would.to_owned()));
    let already = report.already_forgotten.iter();
    let already = already.map(|row| (row, gone_before.to_owned()));
    for (row, what) in kept.chain(forgotten).chain(already) {
        table.row([
            row.snapshot_id.clone(),
            row.volume.clone(),
            row.created_at.map_or_else(
                || "?".to_owned(),
                |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            ),
            what,
        ]);
    }
    let (gone, kept) = (report.forgotten.len(), report.kept.len());
    let rest = if report.forgotten.is_empty() || report.dry_run {
        ""
    } else {
        "; `stockpot prune` frees their room"
    };
    let mut counted = format!("{gone} {would}");
    if kept > 0 {
        counted.push_str(&format!(", {kept} kept"));
    }
    if !report.already_forgotten.is_empty() {
        counted.push_str(&format!(
            ", {} {gone_before}",
            report.already_forgotten.len()
        ));
    }
    format!("{table}{counted}{rest}")
}

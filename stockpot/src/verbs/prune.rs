//! `stockpot prune`: removes from a bucket what no snapshot needs.

use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use stockpot_repository::{
    Repository,
    prune::{self, Plan, PruneSettings, Report as Pruned, Upload, UploadState},
};

use crate::{
    cli::{Cli, Output, PruneArgs},
    context, history,
    interrupt::Interrupt,
    printable, repository,
    sizes::{self, human_size},
};

/// What is printed; the names stay.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    snapshots: u64,
    kept_packs: u64,
    kept_bytes: u64,
    /// Of the kept bytes, so many are needed at least.
    live_bytes: u64,
    to_delete_packs: u64,
    to_delete_bytes: u64,
    spared_packs: u64,
    spared_bytes: u64,
    /// Some of the packs that snapshots need and that are not in the bucket; empty if all are.
    missing_packs: Vec<String>,
    uploads: Vec<Row>,
    foreign_objects: u64,
    /// Only when something was done.
    done: Option<Done>,
    seconds: f64,
    /// Without a sign of life for so long an upload is given up.
    give_up_after_seconds: u64,
}

/// An upload that intents tell of.
#[derive(Debug, Serialize)]
struct Row {
    snapshot_id: String,
    volume_id: String,
    host: String,
    started_at: Timestamp,
    state: &'static str,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    deleted_packs: u64,
    deleted_bytes: u64,
    /// Of the deleted packs, those of which the bucket keeps old versions.
    hidden_packs: u64,
    hidden_bytes: u64,
    held_packs: u64,
    held_bytes: u64,
    held_because: Option<String>,
    given_up: Vec<String>,
    aborted_multiparts: u64,
    multiparts_listed: bool,
    /// Those that the store did not let go.
    held_multiparts: u64,
    /// Why they could not be listed, or the first of those not be aborted.
    multiparts_because: Option<String>,
    /// Lists of prunes that were killed.
    removed_lists: u64,
    /// Marks all of whose packs are gone.
    removed_marks: u64,
}

pub(crate) async fn run(cli: &Cli, args: &PruneArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let start = Instant::now();
    let config = repository::s3_config(&args.from, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    let settings = PruneSettings {
        give_up_after: args.give_up_after,
        ..PruneSettings::default()
    };
    let planning = async {
        let repository = repository::open(config, key).await?;
        let plan = prune::plan(&repository, &settings, interrupt.token()).await;
        let plan = history::explained(&**repository.store(), plan).await?;
        Ok((plan, repository))
    };
    let (plan, repository) = interrupt.unless(planning).await?;
    let mut report = report(args, &plan);
    if !args.dry_run {
        if cli.output == Output::Text && !cli.quiet {
            remark!("{}", printable::own_lines(&planned(&report)));
        }
        // Not dropped on a signal: it stops by itself, and takes its list away.
        let pruned = prune::execute(plan).await;
        report.take(&history::explained(&**repository.store(), pruned).await?);
    }
    say_what_is_missing(&repository, &report.missing_packs).await;
    report.seconds = start.elapsed().as_secs_f64();
    context::print(cli.output, &report, || text(&report))
}

/// No reason to stop: nothing of what is missing is deleted by it.
async fn say_what_is_missing(repository: &Repository, missing: &[String]) {
    let Some(first) = missing.first() else {
        return;
    };
    history::say(&format!(
        "{first}{} not in the bucket, and snapshots need {}: `stockpot verify` names them",
        match missing.len() {
            1 => " is".to_owned(),
            packs => format!(
                " and at least {} more are",
                sizes::count(packs as u64 - 1, "pack")
            ),
        },
        if missing.len() == 1 { "it" } else { "them" },
    ));
    let objects: Vec<&str> = missing.iter().map(String::as_str).collect();
    if let Some(remark) = history::remark_on(&**repository.store(), &objects).await {
        history::say(&remark);
    }
}

fn report(args: &PruneArgs, plan: &Plan) -> Report {
    Report {
        dry_run: args.dry_run,
        snapshots: plan.snapshots,
        kept_packs: plan.kept.packs,
        kept_bytes: plan.kept.bytes,
        live_bytes: plan.live_bytes,
        to_delete_packs: plan.to_delete.packs,
        to_delete_bytes: plan.to_delete.bytes,
        spared_packs: plan.spared.packs,
        spared_bytes: plan.spared.bytes,
        missing_packs: plan.missing.iter().map(ToString::to_string).collect(),
        uploads: plan.uploads.iter().map(row).collect(),
        foreign_objects: plan.foreign_objects,
        done: None,
        seconds: 0.0,
        give_up_after_seconds: args.give_up_after.as_secs(),
    }
}

fn row(upload: &Upload) -> Row {
    Row {
        snapshot_id: upload.snapshot_id.to_string(),
        volume_id: upload.volume_id.to_string(),
        host: upload.host.clone(),
        started_at: upload.started_at,
        state: match upload.state {
            UploadState::UnderWay => "under way",
            UploadState::Dead => "dead",
            UploadState::LeftOver => "left over",
        },
    }
}

impl Report {
    fn take(&mut self, pruned: &Pruned) {
        (self.kept_packs, self.kept_bytes) = (pruned.kept.packs, pruned.kept.bytes);
        self.live_bytes = pruned.live_bytes;
        (self.spared_packs, self.spared_bytes) = (pruned.spared.packs, pruned.spared.bytes);
        let given_up = pruned.given_up.iter();
        self.done = Some(Done {
            deleted_packs: pruned.deleted.packs,
            deleted_bytes: pruned.deleted.bytes,
            hidden_packs: pruned.hidden.packs,
            hidden_bytes: pruned.hidden.bytes,
            held_packs: pruned.held.packs,
            held_bytes: pruned.held.bytes,
            held_because: pruned.held_because.clone(),
            given_up: given_up.map(|(_, snapshot)| snapshot.to_string()).collect(),
            aborted_multiparts: pruned.aborted_multiparts,
            multiparts_listed: pruned.multiparts_listed,
            held_multiparts: pruned.held_multiparts,
            multiparts_because: pruned.multiparts_because.clone(),
            removed_lists: pruned.removed_lists,
            removed_marks: pruned.removed_marks,
        });
    }
}

fn packs(count: u64, bytes: u64) -> String {
    format!("{}, {}", sizes::count(count, "pack"), human_size(bytes))
}

fn planned(report: &Report) -> String {
    let mut text = format!(
        "{} {} {} ({}); {} of no use\n",
        sizes::count(report.snapshots, "snapshot"),
        if report.snapshots == 1 {
            "needs"
        } else {
            "need"
        },
        packs(report.kept_packs, report.kept_bytes),
        utilisation(report),
        packs(report.to_delete_packs, report.to_delete_bytes),
    );
    if report.spared_packs > 0 {
        text.push_str(&format!(
            "spared because of uploads under way: {}\n",
            packs(report.spared_packs, report.spared_bytes)
        ));
    }
    for upload in &report.uploads {
        text.push_str(&format!(
            "upload of {} ({}) from {}, begun {}: {}\n",
            printable::line(&upload.snapshot_id),
            printable::line(&upload.volume_id),
            printable::line(&upload.host),
            upload.started_at.strftime("%Y-%m-%d %H:%M:%SZ"),
            match upload.state {
                "dead" => "dead, it is given up".to_owned(),
                "left over" => "decided, its intent was left over".to_owned(),
                state => format!(
                    "{state}; it is given up, and what it left is removed, after {} without a sign of life (--give-up-after), or by \
                     `stockpot forget {}`",
                    sizes::human_duration(report.give_up_after_seconds),
                    printable::line(&upload.snapshot_id),
                ),
            },
        ));
    }
    if report.foreign_objects > 0 {
        text.push_str(&format!(
            "{} below packs/ that {} and stay\n",
            sizes::count(report.foreign_objects, "object"),
            if report.foreign_objects == 1 {
                "is no pack"
            } else {
                "are no packs"
            },
        ));
    }
    text.truncate(text.trim_end().len());
    text
}

/// How much of what is kept is needed: at least, because what several snapshots need in one pack is not added up.
fn utilisation(report: &Report) -> String {
    if report.kept_bytes == 0 {
        return "nothing is kept".to_owned();
    }
    let percent = u128::from(report.live_bytes) * 100 / u128::from(report.kept_bytes);
    format!("at least {percent} % of that is live")
}

/// What became of things that cost little, on a line each.
fn left_over(done: &Done) -> String {
    let mut text = String::new();
    if done.aborted_multiparts > 0 {
        text.push_str(&format!(
            "\naborted {} that crashes left open",
            sizes::count(done.aborted_multiparts, "multipart upload")
        ));
    }
    let because = done.multiparts_because.as_deref().map(printable::line);
    let because = because.map_or_else(String::new, |why| format!(" ({why})"));
    if !done.multiparts_listed {
        text.push_str(&format!(
            "\nopen multipart uploads cannot be listed{because}: a lifecycle rule has to abort what crashes left open"
        ));
    } else if done.held_multiparts > 0 {
        text.push_str(&format!(
            "\nthe store did not let go of {} multipart uploads that crashes left open{because}",
            done.held_multiparts
        ));
    }
    if done.removed_lists > 0 {
        text.push_str(&format!(
            "\nremoved {} of prunes that were killed",
            sizes::count(done.removed_lists, "list")
        ));
    }
    if done.removed_marks > 0 {
        text.push_str(&format!(
            "\nremoved {} whose packs are gone",
            sizes::count(done.removed_marks, "mark")
        ));
    }
    text
}

fn text(report: &Report) -> String {
    let Some(done) = &report.done else {
        return format!("{}\nnothing was deleted: dry run", planned(report));
    };
    let mut text = format!(
        "deleted {}; {} kept, {}; {:.1} s",
        packs(done.deleted_packs, done.deleted_bytes),
        packs(report.kept_packs, report.kept_bytes),
        utilisation(report),
        report.seconds
    );
    if report.spared_packs > 0 {
        text.push_str(&format!(
            "\nspared because of uploads under way: {}",
            packs(report.spared_packs, report.spared_bytes)
        ));
    }
    for snapshot in &done.given_up {
        text.push_str(&format!(
            "\ngave up the upload of {}",
            printable::line(snapshot)
        ));
    }
    text.push_str(&left_over(done));
    if done.hidden_packs > 0 {
        text.push_str(&format!(
            "\nthe bucket keeps old versions of {} that were deleted: what they take is not free",
            packs(done.hidden_packs, done.hidden_bytes)
        ));
    }
    if let Some(why) = &done.held_because {
        text.push_str(&format!(
            "\nthe store did not let go of {}: {}",
            packs(done.held_packs, done.held_bytes),
            printable::line(why)
        ));
    }
    text
}

//! `stockpot verify`: whether snapshots in a bucket can be restored.

use std::{sync::Arc, time::Instant};

use anyhow::bail;
use serde::Serialize;
use stockpot_repository::{
    Progress, Repository,
    format::{ids::SnapshotId, keys::KeySource},
    store::s3::S3Config,
    verify::{Problem, Sample, VerifySettings, verify},
};

use crate::{
    cli::{Cli, VerifyArgs},
    context,
    history::{self, Records},
    interrupt::Interrupt,
    pick::{hint_at_deleted, pick, pick_deleted},
    printable,
    progress::Display,
    repository,
    sizes::{count, human_size},
    usage::Usage,
};

/// What is printed at the end; the names stay.
#[derive(Debug, Serialize)]
struct Report {
    snapshots: usize,
    packs: u64,
    received_bytes: u64,
    read_data: bool,
    /// Which share of the data was read, and how to choose it again.
    sample: Option<SampleRow>,
    /// Bytes of packs whose content was checked.
    data_bytes: u64,
    seconds: f64,
    /// Bad chunks and pages that the next backup will not refer to, marked by this run.
    marked: u64,
    /// Why they could not be marked.
    unmarked: Option<String>,
    /// Bad ones that no snapshot needs.
    unneeded: u64,
    /// Snapshots that were deleted while this ran, and of which nothing is said.
    ended: Vec<String>,
    problems: Vec<Row>,
}

/// A sample as it is printed.
#[derive(Debug, Serialize)]
struct SampleRow {
    share_ppm: u32,
    seed: u64,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Row {
    object: String,
    offset: Option<u64>,
    problem: String,
    snapshots: Vec<String>,
}

pub(crate) async fn run(cli: &Cli, args: &VerifyArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let start = Instant::now();
    if args.read_data && args.sample.is_some() {
        return Err(Usage::new(
            "--sample reads a share of the data and --read-data all of it: give one of them",
        )
        .into());
    }
    let config = repository::s3_config(&args.from, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    let finding = find(args, config, key);
    let (repository, only) = interrupt.unless(finding).await?;
    let sample = args.sample.map(|share_ppm| Sample {
        share_ppm,
        seed: args.sample_seed.unwrap_or_else(random),
    });
    if let Some(sample) = sample
        && !cli.quiet
    {
        remark!("the sample is that of --sample-seed {}", sample.seed);
    }
    let settings = VerifySettings {
        read_data: args.read_data || sample.is_some(),
        sample,
        deleted: args.deleted,
        no_marks: args.no_marks || args.first_versions,
        ..VerifySettings::default()
    };
    let progress = Arc::new(Progress::new());
    let display = Display::start(cli, "verify", &progress);
    let only = only.as_ref().map(<[_; 1]>::as_slice);
    let found = verify(&repository, only, &settings, &progress, interrupt.token()).await;
    display.finish().await;
    let found = history::explained(&**repository.store(), found).await?;
    let report = Report {
        snapshots: found.snapshots.len(),
        packs: found.packs,
        received_bytes: found.received_bytes,
        read_data: settings.read_data,
        sample: sample.map(|Sample { share_ppm, seed }| SampleRow { share_ppm, seed }),
        data_bytes: found.data_bytes,
        marked: found.marked,
        unmarked: found.unmarked,
        unneeded: found.unneeded,
        ended: found.ended.iter().map(ToString::to_string).collect(),
        seconds: start.elapsed().as_secs_f64(),
        problems: found.problems.into_iter().map(row).collect(),
    };
    context::print(cli.output, &report, || text(&report))?;
    if let Some(why) = &report.unmarked {
        remark!(
            "stockpot: what is bad could not be marked, and later backups may refer to it: {}",
            printable::line(why)
        );
    }
    say_what_is_covered(&repository, &report, only.is_none()).await;
    match report.problems.len() {
        0 => Ok(()),
        1 => bail!("1 problem was found"),
        n => bail!("{n} problems were found"),
    }
}

/// The repository, and the snapshot that is meant if not all are.
async fn find(
    args: &VerifyArgs,
    config: S3Config,
    key: Option<KeySource>,
) -> anyhow::Result<(Repository, Option<[SnapshotId; 1]>)> {
    let repository = if args.first_versions {
        repository::open_first(config, key).await?
    } else {
        repository::open(config, key).await?
    };
    let only = match &args.snapshot {
        Some(text) => {
            let picked = match args.deleted {
                true => pick_deleted(&repository, text).await,
                false => pick(&repository, text).await,
            };
            let picked = picked.map_err(|error| hint_at_deleted(error, args.first_versions));
            let picked = history::explained(&**repository.store(), picked).await?;
            Some([picked.snapshot_id])
        }
        None => None,
    };
    Ok((repository, only))
}

/// What has a problem may have an older version below, and a record that was deleted was not verified at all.
async fn say_what_is_covered(repository: &Repository, report: &Report, is_whole: bool) {
    let store = &**repository.store();
    let objects: Vec<&str> = (report.problems.iter())
        .map(|problem| problem.object.as_str())
        .collect();
    let of_objects = history::remark_on(store, &objects).await;
    let of_records = match is_whole {
        true => Records::look(store).await.remark(&[]),
        false => None,
    };
    for remark in of_records.iter().chain(&of_objects) {
        history::say(remark);
    }
}

/// A number that nobody can foresee; the hasher's keys are drawn anew for each.
fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

fn row(problem: Problem) -> Row {
    Row {
        object: problem.object,
        offset: problem.offset,
        problem: problem.what,
        snapshots: problem.snapshots.iter().map(ToString::to_string).collect(),
    }
}

/// So many bad chunks or pages, and the verb that goes with them.
fn bad(number: u64, [one, many]: [&str; 2]) -> String {
    match number {
        1 => format!("1 bad chunk or page {one}"),
        number => format!("{number} bad chunks or pages {many}"),
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        text.push_str(&printable::line(&problem.object));
        if let Some(offset) = problem.offset {
            text.push_str(&format!(" at byte {offset}"));
        }
        text.push_str(&format!(": {}", printable::line(&problem.problem)));
        if !problem.snapshots.is_empty() {
            text.push_str(&format!(" (needed by {})", problem.snapshots.join(", ")));
        }
        text.push('\n');
    }
    if report.marked > 0 {
        text.push_str(&format!(
            "{} marked: the next backup of a volume that still has the data stores them again\n",
            bad(report.marked, ["was", "were"])
        ));
    }
    if report.unneeded > 0 {
        text.push_str(&format!(
            "{} needed by none of these snapshots\n",
            bad(report.unneeded, ["is", "are"])
        ));
    }
    if !report.ended.is_empty() {
        text.push_str(&format!(
            "deleted meanwhile, so not verified: {}\n",
            report.ended.join(", ")
        ));
    }
    if report.problems.is_empty() {
        text.push_str(&format!(
            "{} in {} {} sound: {}, {} received, {:.1} s",
            count(report.snapshots as u64, "snapshot"),
            count(report.packs, "pack"),
            if report.snapshots == 1 { "is" } else { "are" },
            match (&report.sample, report.read_data) {
                (Some(sample), _) => format!(
                    "a sample of {} was checked (--sample-seed {})",
                    human_size(report.data_bytes),
                    sample.seed
                ),
                (None, true) => "every byte was checked".to_owned(),
                (None, false) => "structure checked, --read-data reads every byte".to_owned(),
            },
            human_size(report.received_bytes),
            report.seconds
        ));
    }
    text
}

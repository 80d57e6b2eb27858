//! `stockpot verify`: whether snapshots in a bucket can be restored.

use std::{sync::Arc, time::Instant};

use anyhow::bail;
use serde::Serialize;
use stockpot_repository::{
    Progress,
    verify::{Problem, VerifySettings, verify},
};

use crate::{
    cli::{Cli, VerifyArgs},
    context,
    interrupt::Interrupt,
    pick::pick,
    printable,
    progress::Display,
    repository,
    sizes::human_size,
};

/// What is printed at the end; the names stay.
#[derive(Debug, Serialize)]
struct Report {
    snapshots: usize,
    packs: u64,
    received_bytes: u64,
    read_data: bool,
    seconds: f64,
    problems: Vec<Row>,
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
    let config = repository::s3_config(&args.from, &args.s3)?;
    let key = repository::key(&args.key, interrupt).await?;
    let finding = async {
        let repository = repository::open(config, key).await?;
        let only = match &args.snapshot {
            Some(text) => Some([pick(&repository, text).await?.snapshot_id]),
            None => None,
        };
        Ok((repository, only))
    };
    let (repository, only) = interrupt.unless(finding).await?;
    let settings = VerifySettings {
        read_data: args.read_data,
        ..VerifySettings::default()
    };
    let progress = Arc::new(Progress::new());
    let display = Display::start(cli, "verify", &progress);
    let only = only.as_ref().map(<[_; 1]>::as_slice);
    let found = verify(&repository, only, &settings, &progress, interrupt.token()).await;
    display.finish().await;
    let found = found?;
    let report = Report {
        snapshots: found.snapshots.len(),
        packs: found.packs,
        received_bytes: found.received_bytes,
        read_data: args.read_data,
        seconds: start.elapsed().as_secs_f64(),
        problems: found.problems.into_iter().map(row).collect(),
    };
    context::print(cli.output, &report, || text(&report))?;
    match report.problems.len() {
        0 => Ok(()),
        1 => bail!("1 problem was found"),
        n => bail!("{n} problems were found"),
    }
}

fn row(problem: Problem) -> Row {
    Row {
        object: problem.object,
        offset: problem.offset,
        problem: problem.what,
        snapshots: problem.snapshots.iter().map(ToString::to_string).collect(),
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
    if report.problems.is_empty() {
        text.push_str(&format!(
            "{} snapshots in {} packs are sound: {}, {} read, {:.1} s",
            report.snapshots,
            report.packs,
            if report.read_data {
                "every byte was checked"
            } else {
                "structure checked, --read-data reads every byte"
            },
            human_size(report.received_bytes),
            report.seconds
        ));
    }
    text
}

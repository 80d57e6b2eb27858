//! Shows how far the work is: a bar on a terminal, a plain line now and then elsewhere. Always on standard error.

use std::{
    io::IsTerminal,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stockpot_repository::{Progress, ProgressSnapshot};
use tokio::task::JoinHandle;

use crate::{cli::Cli, sizes::human_size};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A display that follows a [`Progress`] until it is finished or dropped.
#[derive(Debug)]
pub(crate) struct Display {
    task: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts to follow `progress`; with `--quiet` nothing is shown.
    pub(crate) fn start(cli: &Cli, verb: &'static str, progress: &Arc<Progress>) -> Self {
        if cli.quiet {
            return Self { task: None };
        }
        let progress = Arc::clone(progress);
        let task = if std::io::stderr().is_terminal() {
            tokio::spawn(draw_bar(verb, progress))
        } else {
            tokio::spawn(print_lines(verb, progress))
        };
        Self { task: Some(task) }
    }

    /// Takes the bar away, so that what is printed next stands on a line of its own.
    pub(crate) async fn finish(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // It was aborted: its outcome says nothing.
            let _ = task.await;
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Clears its bar also when its task is aborted.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

async fn draw_bar(verb: &'static str, progress: Arc<Progress>) {
    let bar = Cleared(ProgressBar::with_draw_target(
        None,
        ProgressDrawTarget::stderr(),
    ));
    let style = |template| {
        ProgressStyle::with_template(template).expect("the templates are constants that parse")
    };
    // As long as nobody knows how much there is, neither a bar nor a time left means anything.
    bar.0.set_style(style("{prefix} {spinner} {msg} {elapsed}"));
    bar.0.set_prefix(verb);
    let mut is_bar = false;
    loop {
        let now = progress.snapshot();
        if now.bytes_total == 0 {
            bar.0.set_message(counted(&now));
            bar.0.tick();
        } else {
            if !is_bar {
                is_bar = true;
                bar.0.reset();
                bar.0.set_style(style(
                    "{prefix} {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
                ));
            }
            bar.0.set_length(now.bytes_total);
            bar.0.set_position(now.bytes_scanned);
            bar.0.set_message(now.phase.to_string());
        }
        tokio::time::sleep(BAR_EVERY).await;
    }
}

async fn print_lines(verb: &'static str, progress: Arc<Progress>) {
    let start = Instant::now();
    loop {
        tokio::time::sleep(LINE_EVERY).await;
        let now = progress.snapshot();
        if now.bytes_total == 0 {
            remark!("{verb}: {}", counted(&now));
            continue;
        }
        remark!(
            "{}",
            line(
                verb,
                &now.phase.to_string(),
                now.bytes_scanned,
                now.bytes_total,
                start.elapsed()
            )
        );
    }
}

/// What can be said while the whole is not known.
fn counted(now: &ProgressSnapshot) -> String {
    format!(
        "{}, {} requests, {}",
        now.phase,
        now.requests,
        human_size(now.bytes_moved)
    )
}

/// One plain line: what, how far, how fast, how long still.
fn line(verb: &str, phase: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let percent = if total == 0 {
        0
    } else {
        u128::from(done) * 100 / u128::from(total)
    };
    let millis = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(done) * 1000 / millis).unwrap_or(u64::MAX);
    let left = total
        .saturating_sub(done)
        .checked_div(rate)
        .map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds} s"));
    format!(
        "{verb}: {phase}, {percent}% ({} of {}), {}/s, {left} left",
        human_size(done),
        human_size(total),
        human_size(rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far() {
        let text = line(
            "backup",
            "reading",
            1 << 30,
            4 << 30,
            Duration::from_secs(2),
        );
        assert_eq!(
            text,
            "backup: reading, 25% (1.00 GiB of 4.00 GiB), 512 MiB/s, 6 s left"
        );
        assert!(line("backup", "reading", 0, 0, Duration::ZERO).ends_with("unknown left"));
    }
}

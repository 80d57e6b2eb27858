//! The overview in words.

use super::{
    super::driver::created,
    overview::{Due, Ended, Freezes, Overview, Pool, Transfer},
};
use crate::{
    printable,
    sizes::{count, human_size},
    table::Table,
};

/// One screen.
pub(super) fn text(overview: &Overview) -> String {
    let readiness = match overview.ready {
        true => "ready".to_owned(),
        false => {
            let why = overview.not_ready_reason.as_deref().unwrap_or("?");
            format!("not ready: {}", printable::line(why))
        }
    };
    let mut text = format!(
        "node {}  {readiness}  (version {})\n",
        printable::line(&overview.node),
        printable::line(&overview.version)
    );
    if !overview.ready {
        return text;
    }
    text.push_str(&pools(&overview.pools));
    text.push_str(&volumes(overview));
    text.push_str(&transfers(&overview.transfers));
    text.push_str(&schedules(overview));
    text.push_str(&ended("last backups", &overview.last_backups));
    text.push_str(&ended("last failures", &overview.last_failures));
    if let Some(freezes) = &overview.freezes {
        text.push_str(&frozen(freezes));
    }
    text
}

fn pools(pools: &[Pool]) -> String {
    let mut table = Table::new(["POOL", "DRIVER", "SIZE", "FREE", "USED"]);
    for pool in pools {
        let unknown = || "?".to_owned();
        table.row([
            pool.pool.clone(),
            // Why it cannot be asked stands where there is room for it.
            pool.error
                .clone()
                .or(pool.driver.clone())
                .unwrap_or_default(),
            pool.total_bytes.map_or_else(unknown, human_size),
            pool.available_bytes.map_or_else(unknown, human_size),
            pool.used_percent
                .map_or_else(unknown, |percent| format!("{percent} %")),
        ]);
    }
    format!("\n{table}")
}

fn volumes(overview: &Overview) -> String {
    let statuses: Vec<String> = overview
        .volumes
        .iter()
        .map(|(status, number)| format!("{number} {status}"))
        .collect();
    let mut text = match statuses.is_empty() {
        true => "\nvolumes: none\n".to_owned(),
        false => format!("\nvolumes: {}\n", statuses.join(", ")),
    };
    if !overview.volumes_in_error.is_empty() {
        let names: Vec<String> = overview
            .volumes_in_error
            .iter()
            .map(|name| printable::line(name))
            .collect();
        text.push_str(&format!("in error: {}\n", names.join(", ")));
    }
    text
}

fn transfers(transfers: &[Transfer]) -> String {
    if transfers.is_empty() {
        return "transfers: none\n".to_owned();
    }
    let mut table = Table::new(["TRANSFER", "NAME", "PHASE", "DONE", "OF", "RATE", "LEFT"]);
    for one in transfers {
        table.row([
            one.kind.to_owned(),
            one.name.clone(),
            one.phase.clone(),
            human_size(one.bytes_done),
            human_size(one.bytes_total),
            format!("{}/s", human_size(one.bytes_per_second)),
            one.seconds_left.map_or_else(|| "?".to_owned(), time_left),
        ]);
    }
    let errors = transfers.iter().filter_map(|one| {
        let error = one.error.as_ref()?;
        let (name, error) = (printable::line(&one.name), printable::line(error));
        Some(format!("{name} is tried again: {error}\n"))
    });
    errors.fold(format!("\n{table}"), |text, line| text + &line)
}

fn schedules(overview: &Overview) -> String {
    if overview.schedules.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["SCHEDULE", "NEXT RUN", "LAST RUN"]);
    for due in &overview.schedules {
        table.row([
            due.name.clone(),
            created(Some(due.next_run_at)),
            last_run(due),
        ]);
    }
    format!("\n{table}")
}

/// When the last run was, and what it came to.
fn last_run(due: &Due) -> String {
    let Some(at) = due.last_run_at else {
        return "never".to_owned();
    };
    let counts = [
        (due.last_ok, "done"),
        (due.last_failed, "failed"),
        (due.last_skipped, "left out"),
        (due.last_running, "under way"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    match counts.is_empty() {
        true => format!("{}: no volume", created(Some(at))),
        false => format!("{}: {}", created(Some(at)), counts.join(", ")),
    }
}

fn ended(title: &str, backups: &[Ended]) -> String {
    let mut text = String::new();
    for backup in backups {
        let how = match (&backup.error, &backup.reason) {
            (Some(error), _) => error.clone(),
            (None, Some(reason)) => format!(
                "{reason}, {} sent of {}",
                human_size(backup.bytes_transferred),
                human_size(backup.bytes_total)
            ),
            (None, None) => String::new(),
        };
        text.push_str(&format!(
            "  {}  {} of {}: {}\n",
            created(backup.ended_at),
            printable::line(&backup.name),
            printable::line(&backup.volume_name),
            printable::line(&how)
        ));
    }
    match text.is_empty() {
        true => text,
        false => format!("\n{title}:\n{text}"),
    }
}

fn frozen(freezes: &Freezes) -> String {
    let millis = |us: u64| format!("{}.{:03} ms", us / 1000, us % 1000);
    format!(
        "\nfile systems frozen for {}: {} in the median, {} at worst\n",
        count(freezes.count as u64, "backup"),
        millis(freezes.median_us),
        millis(freezes.worst_us)
    )
}

/// `1 h 02 min`, `3 min 20 s`, `7 s`.
fn time_left(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {:02} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn one_screen_with_all_that_is_under_way() {
        let overview = Overview {
            node: "node-1".to_owned(),
            version: "1.2.3".to_owned(),
            ready: true,
            pools: vec![
                Pool {
                    pool: "fast".to_owned(),
                    driver: Some("lvm-thin".to_owned()),
                    total_bytes: Some(8 << 30),
                    available_bytes: Some(2 << 30),
                    used_percent: Some(75),
                    error: None,
                },
                Pool {
                    pool: "far".to_owned(),
                    error: Some("no answer".to_owned()),
                    ..Pool::default()
                },
            ],
            volumes: [("available", 2), ("error", 1)].into(),
            volumes_in_error: vec!["bad\n".to_owned()],
            transfers: vec![Transfer {
                kind: "restore",
                id: "vol-1".to_owned(),
                name: "data".to_owned(),
                phase: "reading".to_owned(),
                bytes_done: 1 << 30,
                bytes_total: 4 << 30,
                bytes_per_second: 100 << 20,
                seconds_left: Some(3725),
                error: Some("no route".to_owned()),
            }],
            freezes: Some(Freezes {
                count: 3,
                median_us: 12_345,
                worst_us: 1_000_001,
            }),
            ..Overview::default()
        };
        let text = text(&overview);
        for line in [
            "node node-1  ready  (version 1.2.3)",
            "fast  lvm-thin   8.00 GiB  2.00 GiB  75 %",
            "far   no answer  ?         ?         ?",
            "volumes: 2 available, 1 error",
            "in error: bad\\n",
            "restore   data  reading  1.00 GiB  4.00 GiB  100 MiB/s  1 h 02 min",
            "data is tried again: no route",
            "file systems frozen for 3 backups: 12.345 ms in the median, 1000.001 ms at worst",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn one_that_is_not_ready_says_why() {
        let overview = Overview {
            node: "n".to_owned(),
            not_ready_reason: Some("recovering".to_owned()),
            ..Overview::default()
        };
        assert_eq!(
            text(&overview),
            "node n  not ready: recovering  (version )\n"
        );
    }

    #[test]
    fn a_run_that_went_well_is_told_from_none() {
        let mut due = Due {
            name: "nightly".to_owned(),
            next_run_at: Timestamp::UNIX_EPOCH,
            last_run_at: None,
            last_ok: 0,
            last_failed: 0,
            last_skipped: 0,
            last_running: 0,
        };
        assert_eq!(last_run(&due), "never");
        due.last_run_at = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(last_run(&due), "1970-01-01 00:00:00Z: no volume");
        (due.last_ok, due.last_failed) = (3, 1);
        assert_eq!(last_run(&due), "1970-01-01 00:00:00Z: 3 done, 1 failed");
    }

    #[test]
    fn times_left() {
        for (seconds, text) in [(7, "7 s"), (200, "3 min 20 s"), (3725, "1 h 02 min")] {
            assert_eq!(time_left(seconds), text);
        }
    }
}

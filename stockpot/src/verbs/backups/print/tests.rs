use stockpot_proto::stockpot::v1::Progress;

use super::*;

#[test]
fn what_was_sent_and_what_failed_stand_in_the_list() {
    let backup = |name: &str, status: BackupStatus, error: &str| {
        row(Backup {
            name: name.to_owned(),
            status: status.into(),
            error: error.to_owned(),
            progress: Some(Progress {
                bytes_total: 100 << 20,
                bytes_done: 45 << 20,
                bytes_transferred: 3 << 20,
                ..Progress::default()
            }),
            ..Backup::default()
        })
    };
    let text = table(&[
        backup("b1", BackupStatus::Error, "no bucket"),
        backup("b2", BackupStatus::Creating, ""),
    ]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0][3..6], ["STATUS", "SIZE", "SENT"]);
    assert_eq!(lines[1][2..], ["error", "100", "MiB", "3.00", "MiB"]);
    assert_eq!(lines[2][2..5], ["creating", "45", "%"]);
    assert_eq!(lines[3], ["b1:", "no", "bucket"]);
    assert_eq!(lines.len(), 4);
}

#[test]
fn the_attempt_that_runs_is_told_from_those_before() {
    let mut backup = Backup {
        attempts: 1,
        error: "no route".to_owned(),
        ..Backup::default()
    };
    let waits = "waiting (1 attempt so far; the last error: no route)";
    assert_eq!(now(&backup), waits);
    backup.progress = Some(Progress {
        phase: "moving data".to_owned(),
        ..Progress::default()
    });
    backup.attempts = 2;
    let text = now(&backup);
    assert!(text.starts_with("moving data: "), "{text}");
    assert!(
        text.ends_with("(2 attempts so far; the last error: no route)"),
        "{text}"
    );
}

#[test]
fn what_a_restore_shows_is_told() {
    let mut shown = row(Backup {
        consistency: "file-system".to_owned(),
        consistency_text: "ext4 at /data".to_owned(),
        frozen_us: 20_000,
        ..Backup::default()
    });
    assert_eq!(
        shows(&shown),
        "file-system: ext4 at /data (frozen for 20.000 ms)"
    );
    let json = serde_json::to_value(&shown).unwrap();
    assert_eq!(json["consistency"], "file-system");
    assert_eq!(json["consistency_text"], "ext4 at /data");
    assert_eq!(json["frozen_us"], 20_000);
    (shown.consistency_text, shown.frozen_us) = (None, 0);
    assert_eq!(shows(&shown), "file-system");
}

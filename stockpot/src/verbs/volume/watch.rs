//! Following a volume until it is there.

use std::time::Duration;

use stockpot_proto::stockpot::v1::{GetVolumeRequest, Progress, Volume, VolumeStatus};

use super::super::{
    driver::{client, said},
    patience::Patience,
};
use crate::{
    cli::{Cli, SocketArgs},
    printable,
    sizes::human_size,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits until a volume is neither made nor restored any more, and says on standard error how far it is.
///
/// # Errors
/// If it is gone, or the driver cannot be asked.
pub(super) async fn watch(cli: &Cli, volume: Volume, at: &SocketArgs) -> anyhow::Result<Volume> {
    let is_under_way = matches!(
        volume.status(),
        VolumeStatus::Creating | VolumeStatus::Restoring | VolumeStatus::Deleting
    );
    if !is_under_way {
        return Ok(volume);
    }
    let request = GetVolumeRequest {
        volume_id: volume.volume_id,
    };
    let mut patience = Patience::default();
    let mut last = String::new();
    loop {
        // The driver tells the end itself; looking in between is for those who watch.
        let (mut waiting, mut looking) = (client(at), client(at));
        let mut ended = std::pin::pin!(waiting.wait_volume(request.clone()));
        let met = loop {
            tokio::select! {
                ended = &mut ended => match ended {
                    Ok(volume) => return Ok(volume.into_inner()),
                    Err(status) => break status,
                },
                () = tokio::time::sleep(LOOK_EVERY) => {
                    // What is wrong with it the other call says as well.
                    let Ok(now) = looking.get_volume(request.clone()).await else {
                        continue;
                    };
                    patience.heard();
                    let line = now.into_inner().progress.as_ref().map(line).unwrap_or_default();
                    if !cli.quiet && !line.is_empty() && line != last {
                        remark!("{line}");
                        last = line;
                    }
                }
            }
        };
        let waited = patience.wait(cli, met).await;
        waited.map_err(|status| said(at, &status))?;
    }
}

/// One line: how far, how fast, and how long still at that rate.
fn line(progress: &Progress) -> String {
    match progress.bytes_total {
        0 => received(progress),
        _ => format!("{}, {} left", received(progress), left(progress)),
    }
}

/// How far a restore is, and how fast.
pub(super) fn received(progress: &Progress) -> String {
    if progress.bytes_total == 0 {
        // Nobody knows yet how much there is.
        return "starting".to_owned();
    }
    format!(
        "{}: {} of {}, {} received, {}/s",
        printable::line(&progress.phase),
        human_size(progress.bytes_done),
        human_size(progress.bytes_total),
        human_size(progress.bytes_transferred),
        human_size(progress.bytes_per_second)
    )
}

/// The time that is left at the rate so far, in words.
fn left(progress: &Progress) -> String {
    match seconds_left(progress) {
        Some(seconds) => format!("{seconds} s"),
        None => "unknown".to_owned(),
    }
}

/// Seconds left at the rate so far: what came over the network took a time, and that is what all of it took. `None` where that
/// cannot be told.
pub(in crate::verbs) fn seconds_left(progress: &Progress) -> Option<u64> {
    let elapsed = progress
        .bytes_transferred
        .checked_div(progress.bytes_per_second)?;
    let left = progress.bytes_total.checked_sub(progress.bytes_done)?;
    let whole = u128::from(elapsed.max(1)) * u128::from(left);
    u64::try_from(whole.checked_div(u128::from(progress.bytes_done))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_receives() {
        let mut progress = Progress {
            phase: "moving data".to_owned(),
            bytes_done: 1 << 20,
            bytes_transferred: 5 << 20,
            bytes_per_second: 1 << 20,
            ..Progress::default()
        };
        assert_eq!(line(&progress), "starting");
        progress.bytes_total = 4 << 20;
        assert_eq!(
            line(&progress),
            "moving data: 1.00 MiB of 4.00 MiB, 5.00 MiB received, 1.00 MiB/s, 15 s left"
        );
    }

    #[test]
    fn what_is_left_follows_from_what_was_done() {
        let progress = Progress {
            bytes_total: 1000,
            bytes_done: 250,
            bytes_transferred: 100,
            bytes_per_second: 10,
            ..Progress::default()
        };
        assert_eq!(seconds_left(&progress), Some(30));
        assert_eq!(seconds_left(&Progress::default()), None);
        let ended = Progress {
            bytes_done: 1001,
            ..progress
        };
        assert_eq!(seconds_left(&ended), None);
    }
}

//! Following a run until each of its backups has ended.

use std::time::Duration;

use anyhow::bail;
use stockpot_proto::stockpot::v1::{GetScheduleRequest, Schedule};

use super::{super::patience::Patience, client, said};
use crate::{
    cli::{Cli, SocketArgs},
    printable,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the run that a schedule tells of, and says on standard error how far it is.
///
/// # Errors
/// If the schedule is gone, another run has begun, or the driver cannot be asked.
pub(super) async fn watch(cli: &Cli, begun: Schedule, at: &SocketArgs) -> anyhow::Result<Schedule> {
    let name = begun.name.clone();
    let run = begun.last_run_at;
    let (mut now, mut last) = (begun, String::new());
    let mut patience = Patience::default();
    loop {
        if now.last_run_at != run {
            bail!(
                "another run of {} has begun meanwhile: `stockpot backup list` tells how this one ended",
                printable::line(&name)
            );
        }
        let line = how_far(&now);
        if !cli.quiet && line != last {
            remark!("{}: {line}", printable::line(&name));
            last = line;
        }
        if now.last_running == 0 {
            return Ok(now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let request = GetScheduleRequest { name: name.clone() };
        match client(at).get_schedule(request).await {
            Ok(found) => {
                patience.heard();
                now = found.into_inner();
            }
            Err(status) => {
                let waited = patience.wait(cli, status).await;
                waited.map_err(|status| said(at, &status))?;
            }
        }
    }
}

/// What became of its volumes so far.
pub(super) fn how_far(schedule: &Schedule) -> String {
    format!(
        "{} done, {} failed, {} left out, {} under way",
        schedule.last_ok, schedule.last_failed, schedule.last_skipped, schedule.last_running
    )
}

//! Following a run until it has ended: its backups, and the retention after them.

use std::time::Duration;

use anyhow::bail;
use stockpot_proto::stockpot::v1::{GetScheduleRequest, Schedule};
use tonic::Status;

use super::{super::patience::Patience, client, said};
use crate::{
    cli::{Cli, SocketArgs},
    printable,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the run that an answer tells of, whatever else begins meanwhile, and says on standard error how far it is.
///
/// # Errors
/// If the schedule is gone, the run is not on record any more, or the driver cannot be asked.
pub(super) async fn watch(cli: &Cli, begun: Schedule, at: &SocketArgs) -> anyhow::Result<Schedule> {
    let ask = async |request| {
        tokio::time::sleep(LOOK_EVERY).await;
        let found = client(at).get_schedule(request).await?;
        Ok(found.into_inner())
    };
    follow(cli, begun, at, ask).await
}

async fn follow(
    cli: &Cli,
    begun: Schedule,
    at: &SocketArgs,
    mut ask: impl AsyncFnMut(GetScheduleRequest) -> Result<Schedule, Status>,
) -> anyhow::Result<Schedule> {
    let request = GetScheduleRequest {
        name: begun.name.clone(),
        run_id: begun.last_run_id,
    };
    let name = printable::line(&request.name);
    if request.run_id == 0 {
        bail!(
            "a run of {name} has begun, and the driver, of an earlier version, cannot tell when it ends: look with `stockpot \
             schedule show`"
        );
    }
    let (mut now, mut last) = (begun, String::new());
    let mut patience = Patience::default();
    loop {
        let line = how_far(&now);
        if !cli.quiet && line != last {
            remark!("{}: {line}", printable::line(&name));
            last = line;
        }
        if now.last_run_ended_at.is_some() {
            return Ok(now);
        }
        match ask(request.clone()).await {
            Ok(found) => {
                patience.heard();
                now = found;
            }
            Err(status) => {
                let waited = patience.wait(cli, status).await;
                waited.map_err(|status| said(at, &status))?;
            }
        }
    }
}

/// What became of its volumes so far.
fn how_far(schedule: &Schedule) -> String {
    let mut text = format!(
        "{} done, {} failed, {} left out, {} under way",
        schedule.last_ok, schedule.last_failed, schedule.last_skipped, schedule.last_running
    );
    if schedule.last_running == 0 && schedule.last_run_ended_at.is_none() {
        text.push_str(", retention under way");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{ScheduleVerb, Verb};

    /// Follows run 7 through what the driver answers: the last answer, or why not.
    async fn followed(first: Schedule, answers: Vec<Schedule>) -> anyhow::Result<Schedule> {
        let line = ["stockpot", "schedule", "run", "n", "--watch", "-q"];
        let cli = Cli::try_parse_from(line).unwrap();
        let Verb::Schedule(verb) = &cli.verb else {
            panic!("{:?}", cli.verb);
        };
        let ScheduleVerb::Run(args) = verb.as_ref() else {
            panic!("{verb:?}");
        };
        let mut answers = answers.into_iter();
        let ask = async |request: GetScheduleRequest| {
            assert_eq!((request.name.as_str(), request.run_id), ("n", 7));
            answers.next().ok_or_else(|| Status::not_found("run 7"))
        };
        follow(&cli, first, &args.socket, ask).await
    }

    fn run(last_running: u32) -> Schedule {
        Schedule {
            name: "n".to_owned(),
            last_run_id: 7,
            last_running,
            ..Schedule::default()
        }
    }

    #[tokio::test]
    async fn a_run_is_followed_until_its_retention_has_ended() {
        let ended = Schedule {
            last_run_ended_at: Some(Default::default()),
            last_error: "retention: refused".to_owned(),
            ..run(0)
        };
        let answers = vec![run(1), run(0), ended.clone()];
        assert_eq!(followed(run(2), answers).await.unwrap(), ended);
        assert!(how_far(&run(0)).ends_with("retention under way"));
        assert!(how_far(&ended).ends_with("0 under way"));
    }

    #[tokio::test]
    async fn a_run_that_cannot_be_followed_is_an_error() {
        let gone = followed(run(1), vec![run(1)]).await.unwrap_err();
        assert!(gone.to_string().contains("run 7"), "{gone}");
        let unnamed = Schedule {
            last_run_id: 0,
            ..run(0)
        };
        let old = followed(unnamed, Vec::new()).await.unwrap_err();
        assert!(old.to_string().contains("earlier version"), "{old}");
    }
}

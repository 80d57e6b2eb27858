//! `stockpot schedule create`, `list`, `show`, …: asks a running driver over its socket.

mod print;
mod watch;

use anyhow::bail;
use serde::Serialize;
use stockpot_proto::{
    socket,
    stockpot::v1::{
        ApplyRetentionRequest, GetScheduleRequest, ListSchedulesRequest, Retention, Schedule,
        schedules_client::SchedulesClient,
    },
};
use tonic::{Code, Response, Status, transport::Channel};

use super::driver::said;
use crate::{
    cli::{
        Cli, ScheduleKeep, ScheduleNameArgs, ScheduleRetainArgs, ScheduleRunArgs,
        ScheduleUpdateArgs, ScheduleVerb, ScheduleWhat, SocketArgs,
    },
    context, printable,
    usage::Usage,
};

/// How often a change is tried again where others change the same.
const TRIES_MAX: u32 = 8;

pub(super) async fn run(cli: &Cli, verb: &ScheduleVerb) -> anyhow::Result<()> {
    match verb {
        ScheduleVerb::Create(args) => {
            let mut schedule = Schedule {
                name: args.name.clone(),
                paused: args.paused,
                ..Schedule::default()
            };
            if args.what.calendar.is_none()
                && args.what.first.is_none()
                && args.what.every.is_none()
            {
                return Err(Usage::new(
                    "say when: --calendar '30 2 * * *', or --every daily, with --first TIME if it is not to begin at midnight",
                )
                .into());
            }
            apply(&args.what, &mut schedule);
            let made = client(&args.socket).create_schedule(schedule).await;
            show(cli, &args.socket, made)
        }
        ScheduleVerb::List { socket } => {
            let listed = client(socket).list_schedules(ListSchedulesRequest {}).await;
            let listed = listed.map_err(|status| said(socket, &status))?.into_inner();
            print::list(cli, listed.schedules)
        }
        ScheduleVerb::Show(args) => {
            let found = client(&args.socket).get_schedule(named(&args.name)).await;
            show(cli, &args.socket, found)
        }
        ScheduleVerb::Update(args) => update(cli, args).await,
        ScheduleVerb::Delete(args) => delete(cli, args).await,
        ScheduleVerb::Run(args) => run_now(cli, args).await,
        ScheduleVerb::Pause(args) => set_paused(cli, args, true).await,
        ScheduleVerb::Resume(args) => set_paused(cli, args, false).await,
        ScheduleVerb::Retain(args) => retain(cli, args).await,
    }
}

async fn run_now(cli: &Cli, args: &ScheduleRunArgs) -> anyhow::Result<()> {
    let at = &args.socket;
    let begun = client(at).run_schedule(named(&args.name)).await;
    if !args.watch {
        return show(cli, at, begun);
    }
    let begun = begun.map_err(|status| said(at, &status))?.into_inner();
    let ended = watch::watch(cli, begun, at).await?;
    let (failed, error) = (ended.last_failed, ended.last_error.clone());
    print::one(cli, ended)?;
    match failed {
        0 if error.is_empty() => Ok(()),
        0 => bail!("{}", printable::line(&error)),
        1 => bail!("one backup of the run failed"),
        failed => bail!("{failed} backups of the run failed"),
    }
}

async fn update(cli: &Cli, args: &ScheduleUpdateArgs) -> anyhow::Result<()> {
    change(cli, &args.socket, &args.name, |schedule| {
        if args.all_volumes {
            schedule.volumes.clear();
            schedule.selector.clear();
        }
        apply(&args.what, schedule);
    })
    .await
}

async fn set_paused(cli: &Cli, args: &ScheduleNameArgs, paused: bool) -> anyhow::Result<()> {
    change(cli, &args.socket, &args.name, |schedule| {
        schedule.paused = paused;
    })
    .await
}

/// Changes a schedule as it is now: what somebody else changes meanwhile stays.
async fn change(
    cli: &Cli,
    at: &SocketArgs,
    name: &str,
    change: impl Fn(&mut Schedule),
) -> anyhow::Result<()> {
    let mut tries = 1;
    loop {
        // With its version, by which the manager tells whether it is still so.
        let mut schedule = get(at, name).await?;
        change(&mut schedule);
        match client(at).update_schedule(schedule).await {
            Err(status) if status.code() == Code::Aborted && tries < TRIES_MAX => tries += 1,
            changed => return show(cli, at, changed),
        }
    }
}

/// What a deletion removed; the names stay.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    removed: bool,
}

/// What is not there is a slip of the pen, and told: to the manager, which is asked again, it is success.
async fn delete(cli: &Cli, args: &ScheduleNameArgs) -> anyhow::Result<()> {
    let name = get(&args.socket, &args.name).await?.name;
    let deleted = client(&args.socket)
        .delete_schedule(named(&args.name))
        .await;
    deleted.map_err(|status| said(&args.socket, &status))?;
    let deleted = Deleted {
        name,
        removed: true,
    };
    context::print(cli.output, &deleted, || {
        format!("removed schedule {}", printable::line(&deleted.name))
    })
}

async fn retain(cli: &Cli, args: &ScheduleRetainArgs) -> anyhow::Result<()> {
    let request = ApplyRetentionRequest {
        schedule: args.name.clone().unwrap_or_default(),
        dry_run: args.dry_run,
    };
    let applied = client(&args.socket).apply_retention(request).await;
    let applied = applied.map_err(|status| said(&args.socket, &status))?;
    print::retained(cli, args.dry_run, applied.into_inner().items)
}

async fn get(at: &SocketArgs, name: &str) -> anyhow::Result<Schedule> {
    let found = client(at).get_schedule(named(name)).await;
    Ok(found.map_err(|status| said(at, &status))?.into_inner())
}

fn show(
    cli: &Cli,
    at: &SocketArgs,
    answer: Result<Response<Schedule>, Status>,
) -> anyhow::Result<()> {
    let schedule = answer.map_err(|status| said(at, &status))?;
    print::one(cli, schedule.into_inner())
}

/// Changes what is named.
fn apply(what: &ScheduleWhat, schedule: &mut Schedule) {
    if let Some(calendar) = &what.calendar {
        schedule.calendar.clone_from(calendar);
        schedule.datetime.clear();
        schedule.occurrence.clear();
    }
    if what.first.is_some() || what.every.is_some() {
        schedule.calendar.clear();
    }
    set(&mut schedule.datetime, what.first.clone());
    set(
        &mut schedule.occurrence,
        what.every.map(|often| often.word().to_owned()),
    );
    set(&mut schedule.time_zone, what.time_zone.clone());
    set(&mut schedule.profile, what.profile.clone());
    set(&mut schedule.full_every, what.full_every);
    set(&mut schedule.skip_in_use, what.skip_in_use);
    let jitter = what
        .jitter
        .map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    set(&mut schedule.jitter_seconds, jitter);
    if !what.volumes.is_empty() {
        schedule.volumes.clone_from(&what.volumes);
    }
    if !what.selector.is_empty() {
        schedule.selector = what.selector.iter().cloned().collect();
    }
    keep(&what.keep, schedule.retention.get_or_insert_default());
}

fn keep(said: &ScheduleKeep, retention: &mut Retention) {
    set(&mut retention.keep_last, said.keep_last);
    set(&mut retention.keep_daily, said.keep_daily);
    set(&mut retention.keep_weekly, said.keep_weekly);
    set(&mut retention.keep_monthly, said.keep_monthly);
    set(&mut retention.keep_yearly, said.keep_yearly);
    set(&mut retention.keep_days, said.keep_days);
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn named(name: &str) -> GetScheduleRequest {
    GetScheduleRequest {
        name: name.to_owned(),
        run_id: 0,
    }
}

fn client(at: &SocketArgs) -> SchedulesClient<Channel> {
    SchedulesClient::new(socket::channel(at.socket.clone()))
}

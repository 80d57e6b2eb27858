//! Every command of open-iscsi's that is ever run, with typed results (exit codes: iscsiadm(8)).

use std::{net::SocketAddr, time::Duration};

use stockpot_command::{Command, CommandError, Exit};

use super::INTERFACE;
use crate::ConnectorError;

/// The target refuses the initiator, or the initiator the target.
const LOGIN_REFUSED: [i32; 2] = [24, 19];
const SESSION_NOT_FOUND: i32 = 2;
const SESSION_EXISTS: i32 = 15;
const NO_DAEMON: [i32; 2] = [18, 20];
const NOTHING_FOUND: i32 = 21;
/// A record could not be read. Each command looks through the records of all targets, so one that goes away meanwhile, by
/// whomever, fails it.
const DATABASE: i32 = 6;
/// How often a command is run again for that, and the pause before.
const DATABASE_TRIES: u32 = 20;
const DATABASE_PAUSE: Duration = Duration::from_millis(50);

fn iscsiadm() -> Command {
    Command::new("iscsiadm").package("open-iscsi")
}

/// Makes our interface record, if it is not there.
pub(super) async fn ensure_interface() -> Result<(), ConnectorError> {
    let show = iscsiadm().args(["-m", "iface", "-I", INTERFACE]);
    if show.run().await.is_ok() {
        return Ok(());
    }
    let made = || iscsiadm().args(["-m", "iface", "-I", INTERFACE, "-o", "new"]);
    done(&made, "making open-iscsi's interface record", &[]).await
}

/// Makes a node record.
pub(super) async fn new_record(target: &str, portal: SocketAddr) -> Result<(), ConnectorError> {
    let command = || node(target, portal).args(["-o", "new"]);
    done(&command, "making a node record", &[]).await
}

/// Removes a node record. None is success.
pub(super) async fn delete_record(target: &str, portal: SocketAddr) -> Result<(), ConnectorError> {
    let command = || node(target, portal).args(["-o", "delete"]);
    done(&command, "removing a node record", &[NOTHING_FOUND]).await
}

/// Logs in by a node record. A session that is there is success.
pub(super) async fn login(
    target: &str,
    portal: SocketAddr,
    limit: Duration,
) -> Result<(), ConnectorError> {
    // open-iscsi keeps to its own limits; the command's is for the case that it does not.
    let deadline = limit * 2 + Duration::from_secs(10);
    let command = || node(target, portal).arg("--login").deadline(deadline);
    match run(&command, "logging in").await {
        Err(ConnectorError::Command { source, .. }) => match code(&source) {
            Some(SESSION_EXISTS) => Ok(()),
            Some(code) if LOGIN_REFUSED.contains(&code) => Err(ConnectorError::Refused {
                target: target.to_owned(),
                portal,
            }),
            _ => Err(ConnectorError::Unreachable {
                target: target.to_owned(),
                portal,
                source,
            }),
        },
        result => result,
    }
}

/// Logs out of exactly one session. None is success.
pub(super) async fn logout(session: u32) -> Result<(), ConnectorError> {
    let command = || {
        iscsiadm()
            .args(["-m", "session", "-r"])
            .arg(session.to_string())
            .arg("--logout")
    };
    done(&command, "logging out", &[NOTHING_FOUND, SESSION_NOT_FOUND]).await
}

fn node(target: &str, portal: SocketAddr) -> Command {
    let portal = portal.to_string();
    iscsiadm().args(["-m", "node", "-T", target, "-p", &portal, "-I", INTERFACE])
}

/// Runs a command for which some exit codes mean that there was nothing to do.
async fn done(
    command: &(dyn Fn() -> Command + Sync),
    doing: &'static str,
    also_good: &[i32],
) -> Result<(), ConnectorError> {
    match run(command, doing).await {
        Err(ConnectorError::Command { source, .. })
            if code(&source).is_some_and(|code| also_good.contains(&code)) =>
        {
            Ok(())
        }
        result => result,
    }
}

async fn run(
    command: &(dyn Fn() -> Command + Sync),
    doing: &'static str,
) -> Result<(), ConnectorError> {
    let mut outcome = command().run().await;
    for _ in 1..DATABASE_TRIES {
        // All of them may be done twice: what was there or gone already has a code of its own.
        if !matches!(&outcome, Err(error) if code(error) == Some(DATABASE)) {
            break;
        }
        tokio::time::sleep(DATABASE_PAUSE).await;
        outcome = command().run().await;
    }
    match outcome {
        Ok(_) => Ok(()),
        Err(missing @ CommandError::Missing { .. }) => {
            Err(ConnectorError::Host(missing.to_string()))
        }
        Err(source) if code(&source).is_some_and(|code| NO_DAEMON.contains(&code)) => {
            Err(ConnectorError::Host(format!(
                "open-iscsi's daemon does not answer; start it (`systemctl start iscsid`, or `iscsid`): {}",
                source.stderr().lines().next().unwrap_or_default()
            )))
        }
        Err(source) => Err(ConnectorError::Command { doing, source }),
    }
}

fn code(error: &CommandError) -> Option<i32> {
    match error.exit() {
        Some(Exit::Code(code)) => Some(code),
        _ => None,
    }
}

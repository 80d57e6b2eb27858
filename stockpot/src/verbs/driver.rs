//! How a running driver is asked over its socket, and how what it says is told.

use std::io;

use anyhow::anyhow;
use jiff::Timestamp;
use stockpot_proto::{
    socket,
    stockpot::v1::{Progress, manager_client::ManagerClient},
};
use tonic::{Status, transport::Channel};

use crate::{cli::SocketArgs, printable, sizes::human_size};

/// What asks the driver.
pub(super) fn client(at: &SocketArgs) -> ManagerClient<Channel> {
    socket::manager(at.socket.clone())
}

/// What the driver said, or why it cannot be asked.
pub(super) fn said(at: &SocketArgs, status: &Status) -> anyhow::Error {
    let socket = at.socket.display();
    if status.code() == tonic::Code::Unavailable {
        match refusal(status) {
            Some(io::ErrorKind::PermissionDenied) => {
                return anyhow!(
                    "no permission to open {socket}: it is for the user that `stockpot serve` runs as, as a rule root"
                );
            }
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return anyhow!(
                    "no driver is running at {socket}: start `stockpot serve`, or give its socket with --socket"
                );
            }
            _ => {}
        }
    }
    match status.message() {
        "" => anyhow!("{}", status.code()),
        message => anyhow!("{message}"),
    }
}

/// What the system said to opening the socket, if that is what failed.
fn refusal(status: &Status) -> Option<io::ErrorKind> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// How far something is, in one line.
pub(super) fn progress_line(progress: &Progress) -> String {
    format!(
        "{}: {} of {}, {} sent, {}/s",
        printable::line(&progress.phase),
        human_size(progress.bytes_done),
        human_size(progress.bytes_total),
        human_size(progress.bytes_transferred),
        human_size(progress.bytes_per_second)
    )
}

/// When something was made.
pub(super) fn created(at: Option<Timestamp>) -> String {
    at.map_or_else(
        || "?".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn why_the_driver_cannot_be_asked_is_said() {
        use stockpot_proto::stockpot::v1::GetInfoRequest;
        let dir = tempfile::tempdir().unwrap();
        let at = SocketArgs {
            socket: dir.path().join("m.sock"),
        };
        let asked = client(&at).get_info(GetInfoRequest {}).await.unwrap_err();
        let text = said(&at, &asked).to_string();
        assert!(text.starts_with("no driver is running"), "{text}");
        // Left by one that was killed.
        drop(std::os::unix::net::UnixListener::bind(&at.socket).unwrap());
        let asked = client(&at).get_info(GetInfoRequest {}).await.unwrap_err();
        let text = said(&at, &asked).to_string();
        assert!(text.starts_with("no driver is running"), "{text}");
        let mut denied = Status::unavailable("");
        denied.set_source(std::sync::Arc::new(io::Error::from(
            io::ErrorKind::PermissionDenied,
        )));
        let text = said(&at, &denied).to_string();
        assert!(text.starts_with("no permission"), "{text}");
        let missing = said(&at, &Status::not_found("snapshot s does not exist"));
        assert_eq!(missing.to_string(), "snapshot s does not exist");
    }
}

//! Errors to statuses and back. The code is for whoever sees the call from outside; the [`api::Failure`] in the details
//! is what the error is made of again.

use std::error::Error;

use stockpot_proto::stockpot::v1::storage as api;
use tonic::{Code, Status, TimeoutExpired};

use prost::Message;

use super::NodeError;
use crate::DriverError;

/// Why the storage node does not do what it is asked.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its driver says so.
    Driver(DriverError),
    /// The caller is not allowed to.
    Denied(String),
    /// What the caller proves itself by is not valid any more.
    Expired(String),
    /// It is starting or stopping.
    NotReady(String),
    /// The caller asks for too much at once.
    Busy(String),
}

impl From<DriverError> for Refusal {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        use api::failure::Kind;
        let may_go_on = matches!(&refusal, Refusal::Driver(error) if error.may_go_on());
        let (code, kind, text) = match refusal {
            Refusal::Denied(why) => (Code::PermissionDenied, Kind::Denied(why.clone()), why),
            Refusal::Expired(why) => (Code::Unauthenticated, Kind::Denied(why.clone()), why),
            Refusal::NotReady(why) => (Code::Unavailable, Kind::NotReady(why.clone()), why),
            // For its caller the same: a little later it may do.
            Refusal::Busy(why) => (Code::ResourceExhausted, Kind::NotReady(why.clone()), why),
            Refusal::Driver(error) => {
                let text = chain(&error);
                let (code, kind) = kind_of(error);
                if code == Code::Internal {
                    tracing::error!(error = text, "a call of another node failed");
                }
                (code, kind, text)
            }
        };
        let failure = api::Failure {
            kind: Some(kind),
            may_go_on,
        };
        Self::with_details(code, text, failure.encode_to_vec().into())
    }
}

fn kind_of(error: DriverError) -> (Code, api::failure::Kind) {
    use api::failure::Kind;
    let conflict = |what: String, how: String| api::Conflict { what, how };
    match error {
        DriverError::NotFound { what } => (Code::NotFound, Kind::NotFound(what)),
        DriverError::AlreadyExists { what, difference } => (
            Code::AlreadyExists,
            Kind::AlreadyExists(conflict(what, difference)),
        ),
        DriverError::InvalidArgument(text) => (Code::InvalidArgument, Kind::InvalidArgument(text)),
        DriverError::OutOfRange(text) => (Code::OutOfRange, Kind::OutOfRange(text)),
        DriverError::ResourceExhausted(text) => {
            (Code::ResourceExhausted, Kind::ResourceExhausted(text))
        }
        DriverError::InUse { what, by } => {
            (Code::FailedPrecondition, Kind::InUse(conflict(what, by)))
        }
        DriverError::Void { what, why } => {
            (Code::FailedPrecondition, Kind::Void(conflict(what, why)))
        }
        DriverError::Unsupported(what) => {
            (Code::InvalidArgument, Kind::Unsupported(what.into_owned()))
        }
        DriverError::Host(text) => (Code::FailedPrecondition, Kind::Host(text)),
        DriverError::Unexpected { doing, answer } => {
            (Code::Internal, Kind::Unexpected(conflict(doing, answer)))
        }
        error @ (DriverError::Command { .. }
        | DriverError::Target(_)
        | DriverError::Node(_)
        | DriverError::Io { .. }) => (Code::Internal, Kind::Failed(chain(&error))),
    }
}

/// What a call of `node` at `address` ended with.
pub(super) fn error_of(
    status: &Status,
    node: &str,
    address: &str,
    call: &'static str,
    waited_seconds: u64,
) -> DriverError {
    if let Ok(failure) = api::Failure::decode(status.details())
        && let Some(kind) = failure.kind
    {
        return driver_error(kind, node, failure.may_go_on);
    }
    let node = node.to_owned();
    // Without details the storage node's driver was not asked: it is the connection that speaks.
    let error = match status.code() {
        _ if is_late(status) => NodeError::NoAnswer {
            node,
            call,
            waited_seconds,
        },
        Code::Unauthenticated | Code::PermissionDenied => NodeError::Refused {
            node,
            why: status.message().to_owned(),
        },
        Code::Unimplemented => NodeError::Lacks {
            node,
            what: format!("its version is older and does not know the call {call}: update it"),
        },
        Code::OutOfRange | Code::ResourceExhausted => NodeError::Malformed {
            node,
            call,
            what: status.message().to_owned(),
        },
        _ => NodeError::Unreachable {
            node,
            address: address.to_owned(),
            why: what_broke(status),
        },
    };
    error.into()
}

fn driver_error(kind: api::failure::Kind, node: &str, may_go_on: bool) -> DriverError {
    use api::failure::Kind;
    let node = node.to_owned();
    match kind {
        Kind::NotFound(what) => DriverError::NotFound { what },
        Kind::AlreadyExists(it) => DriverError::AlreadyExists {
            what: it.what,
            difference: it.how,
        },
        Kind::InvalidArgument(text) => DriverError::InvalidArgument(text),
        Kind::OutOfRange(text) => DriverError::OutOfRange(text),
        Kind::ResourceExhausted(text) => DriverError::ResourceExhausted(text),
        Kind::InUse(it) => DriverError::InUse {
            what: it.what,
            by: it.how,
        },
        Kind::Void(it) => DriverError::Void {
            what: it.what,
            why: it.how,
        },
        Kind::Unsupported(what) => DriverError::Unsupported(what.into()),
        Kind::Unexpected(it) => DriverError::Unexpected {
            doing: it.what,
            answer: it.how,
        },
        Kind::Host(what) => NodeError::Lacks { node, what }.into(),
        Kind::Failed(text) => NodeError::Failed {
            node,
            text,
            may_go_on,
        }
        .into(),
        Kind::Denied(why) => NodeError::Refused { node, why }.into(),
        Kind::NotReady(why) => NodeError::NotReady { node, why }.into(),
    }
}

/// Whether the time was up; a connection that is closed under a call cancels it as well.
fn is_late(status: &Status) -> bool {
    match status.code() {
        Code::DeadlineExceeded => true,
        Code::Cancelled => status.message() == TimeoutExpired(()).to_string(),
        _ => false,
    }
}

/// The transport's error down to its first cause, which alone says something.
fn what_broke(status: &Status) -> String {
    match status.source() {
        Some(cause) => chain(cause),
        None => status.message().to_owned(),
    }
}

/// An error with its causes, none of them twice.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(error: DriverError) -> (Code, DriverError) {
        let status = Status::from(Refusal::Driver(error));
        let back = error_of(&status, "storage-1", "192.0.2.1:1", "create_volume", 9);
        (status.code(), back)
    }

    #[test]
    fn errors_arrive_as_what_they_were() {
        let text = || "text".to_owned();
        let same = [
            (Code::NotFound, DriverError::NotFound { what: text() }),
            (
                Code::AlreadyExists,
                DriverError::AlreadyExists {
                    what: text(),
                    difference: "other".to_owned(),
                },
            ),
            (Code::InvalidArgument, DriverError::InvalidArgument(text())),
            (Code::OutOfRange, DriverError::OutOfRange(text())),
            (
                Code::ResourceExhausted,
                DriverError::ResourceExhausted(text()),
            ),
            (
                Code::FailedPrecondition,
                DriverError::InUse {
                    what: text(),
                    by: "other".to_owned(),
                },
            ),
            (
                Code::FailedPrecondition,
                DriverError::Void {
                    what: text(),
                    why: "other".to_owned(),
                },
            ),
            (
                Code::InvalidArgument,
                DriverError::Unsupported("that".into()),
            ),
            (
                Code::Internal,
                DriverError::Unexpected {
                    doing: text(),
                    answer: "other".to_owned(),
                },
            ),
        ];
        for (code, error) in same {
            let before = format!("{error:?}");
            let (status, after) = there_and_back(error);
            assert_eq!(format!("{after:?}"), before);
            assert_eq!(status, code, "{before}");
        }
    }

    #[test]
    fn what_is_the_storage_nodes_own_trouble_names_it() {
        let (_, lacks) = there_and_back(DriverError::Host("no lvm".to_owned()));
        assert!(
            matches!(&lacks, DriverError::Node(error) if matches!(**error, NodeError::Lacks { .. }))
        );
        let io = DriverError::Io {
            doing: "cannot open",
            path: "/dev/x".into(),
            source: std::io::Error::from_raw_os_error(5),
        };
        let (code, failed) = there_and_back(io);
        assert_eq!(code, Code::Internal);
        for text in [lacks.to_string(), failed.to_string()] {
            assert!(text.contains("storage-1"), "{text}");
        }
        assert!(failed.to_string().contains("os error 5"), "{failed}");
    }

    /// A command that ran out of time over there may still make something: the caller must not forget it.
    #[test]
    fn what_may_go_on_over_there_is_known_here() {
        let command = |source| DriverError::Command {
            doing: "making a volume".to_owned(),
            source,
        };
        let late = stockpot_command::CommandError::Deadline {
            command: "lvcreate".to_owned(),
            deadline: std::time::Duration::from_secs(60),
            stderr: String::new(),
        };
        let ended = stockpot_command::CommandError::Start {
            command: "lvcreate".to_owned(),
            source: std::io::Error::from_raw_os_error(12),
        };
        for (error, goes_on) in [(command(late), true), (command(ended), false)] {
            let (_, after) = there_and_back(error);
            assert_eq!(after.may_go_on(), goes_on, "{after}");
        }
        // Nor is it known what became of a call whose answer is lost.
        let broken = Status::new(Code::Unavailable, "connection closed");
        let error = error_of(&broken, "storage-1", "192.0.2.1:1", "create_volume", 9);
        assert!(error.may_go_on(), "{error}");
        let (_, refused) = there_and_back(DriverError::ResourceExhausted("full".to_owned()));
        assert!(!refused.may_go_on(), "{refused}");
    }

    /// It is no pool that is full: the call is to be made again, and made nothing.
    #[test]
    fn a_caller_that_asks_too_much_is_told_to_ask_again() {
        let status = Status::from(Refusal::Busy("64 calls".to_owned()));
        assert_eq!(status.code(), Code::ResourceExhausted);
        let error = error_of(&status, "storage-1", "192.0.2.1:1", "create_volume", 9);
        assert!(!error.may_go_on(), "{error}");
        assert!(
            matches!(&error, DriverError::Node(error) if error.is_passing()
                && error.to_string().contains("64 calls")),
            "{error}"
        );
    }

    #[test]
    fn what_the_connection_says_is_no_answer_of_the_driver() {
        for (code, passing) in [
            (Code::Unavailable, true),
            (Code::Unknown, true),
            (Code::Internal, true),
            (Code::DeadlineExceeded, true),
            (Code::PermissionDenied, false),
            (Code::Unimplemented, false),
            // A message that is too large, not the driver's refusal of a size.
            (Code::OutOfRange, false),
        ] {
            let status = Status::new(code, "said");
            let error = error_of(&status, "storage-1", "192.0.2.1:1", "list_volumes", 9);
            let DriverError::Node(error) = error else {
                panic!("{code:?}: {error:?}");
            };
            assert_eq!(error.is_passing(), passing, "{code:?}: {error}");
        }
        let odd = Status::with_details(Code::NotFound, "said", vec![0xff, 0xff].into());
        let error = error_of(&odd, "storage-1", "192.0.2.1:1", "list_volumes", 9);
        assert!(matches!(error, DriverError::Node(_)), "{error:?}");
    }
}

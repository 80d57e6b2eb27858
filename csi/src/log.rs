//! One span and one line per call, without secrets.
//!
//! Requests are written out at debug level after the values of their `csi_secret` fields were replaced; which
//! messages have such fields is compared with the specification's own file by a test.

use std::{collections::HashMap, fmt::Debug, future::Future, time::Instant};

use stockpot_proto::csi::v1 as csi;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;

use crate::deadline::Deadline;

/// A request that can be written to the log.
pub(crate) trait Loggable: Clone + Debug {
    /// The name of the message in the specification.
    const MESSAGE: &'static str;

    /// The volume, snapshot or name that the request is about; empty if it is about none.
    fn subject(&self) -> &str {
        ""
    }

    /// The fields marked `csi_secret`.
    fn secrets(&mut self) -> Option<&mut HashMap<String, String>> {
        None
    }
}

macro_rules! loggable {
    ($($message:ident { $(subject: $subject:ident)? $(, secrets: $secrets:ident)? })*) => {
        $(impl Loggable for csi::$message {
            const MESSAGE: &'static str = stringify!($message);
            $(fn subject(&self) -> &str { &self.$subject })?
            $(fn secrets(&mut self) -> Option<&mut HashMap<String, String>> { Some(&mut self.$secrets) })?
        })*

        /// Every message above and whether it has secrets.
        #[cfg(test)]
        fn all() -> Vec<(&'static str, bool)> {
            vec![$((
                <csi::$message as Loggable>::MESSAGE,
                csi::$message::default().secrets().is_some(),
            )),*]
        }
    };
}

loggable! {
    GetPluginInfoRequest {}
    GetPluginCapabilitiesRequest {}
    ProbeRequest {}
    CreateVolumeRequest { subject: name, secrets: secrets }
    DeleteVolumeRequest { subject: volume_id, secrets: secrets }
    ValidateVolumeCapabilitiesRequest { subject: volume_id, secrets: secrets }
    ListVolumesRequest {}
    GetCapacityRequest {}
    ControllerGetCapabilitiesRequest {}
    CreateSnapshotRequest { subject: name, secrets: secrets }
    DeleteSnapshotRequest { subject: snapshot_id, secrets: secrets }
    ListSnapshotsRequest { subject: snapshot_id, secrets: secrets }
    ControllerExpandVolumeRequest { subject: volume_id, secrets: secrets }
    NodeStageVolumeRequest { subject: volume_id, secrets: secrets }
    NodeUnstageVolumeRequest { subject: volume_id }
    NodePublishVolumeRequest { subject: volume_id, secrets: secrets }
    NodeUnpublishVolumeRequest { subject: volume_id }
    NodeGetVolumeStatsRequest { subject: volume_id }
    NodeExpandVolumeRequest { subject: volume_id, secrets: secrets }
    NodeGetCapabilitiesRequest {}
    NodeGetInfoRequest {}
}

/// The request with the value of each secret replaced.
fn stripped<Q: Loggable>(request: &Q) -> Q {
    let mut request = request.clone();
    if let Some(secrets) = request.secrets() {
        for value in secrets.values_mut() {
            "***stripped***".clone_into(value);
        }
    }
    request
}

/// Answers one call: span, work, one line about how it ended.
pub(crate) async fn call<Q, A, F, Fut>(request: Request<Q>, work: F) -> Result<Response<A>, Status>
where
    Q: Loggable,
    F: FnOnce(Q, Deadline) -> Fut,
    Fut: Future<Output = Result<A, Status>>,
{
    let deadline = Deadline::of(request.metadata());
    let request = request.into_inner();
    let rpc = Q::MESSAGE.strip_suffix("Request").unwrap_or(Q::MESSAGE);
    let span = tracing::info_span!("csi", rpc, subject = request.subject());
    let started = Instant::now();
    async move {
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(request = ?stripped(&request), "asked");
        }
        let result = work(request, deadline).await;
        let elapsed_ms = started.elapsed().as_millis();
        match &result {
            Ok(_) => tracing::debug!(elapsed_ms, "done"),
            Err(status) if is_grave(status.code()) => {
                tracing::error!(elapsed_ms, code = ?status.code(), error = status.message(), "failed");
            }
            Err(status) => {
                tracing::info!(elapsed_ms, code = ?status.code(), error = status.message(), "refused");
            }
        }
        result.map(Response::new)
    }
    .instrument(span)
    .await
}

/// Whether someone has to look: the other codes are answers that the caller knows what to do with.
fn is_grave(code: Code) -> bool {
    matches!(code, Code::Internal | Code::DataLoss | Code::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the messages of a `.proto` file that have a field marked `csi_secret`.
    fn messages_with_secrets(proto: &str) -> Vec<&str> {
        let mut found = Vec::new();
        let mut message = "";
        for line in proto.lines() {
            if let Some(rest) = line.strip_prefix("message ") {
                message = rest.split_whitespace().next().unwrap_or_default();
            }
            if line.contains("(csi_secret) = true") && !line.trim_start().starts_with("//") {
                found.push(message);
            }
        }
        found.dedup();
        found
    }

    #[test]
    fn every_secret_of_the_specification_is_stripped() {
        let proto = include_str!("../../proto/csi/v1/csi.proto");
        let with_secrets = messages_with_secrets(proto);
        assert!(with_secrets.len() > 10, "{with_secrets:?}");
        for (message, is_stripped) in all() {
            assert_eq!(is_stripped, with_secrets.contains(&message), "{message}");
        }
    }

    #[test]
    fn a_stripped_request_shows_keys_only() {
        let request = csi::CreateVolumeRequest {
            name: "v".to_owned(),
            secrets: [("user".to_owned(), "hunter2".to_owned())].into(),
            ..Default::default()
        };
        let text = format!("{:?}", stripped(&request));
        assert!(text.contains("user") && !text.contains("hunter2"), "{text}");
    }
}

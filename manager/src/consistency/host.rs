//! Attachments, and the devices and iSCSI sessions of this host.

use std::collections::BTreeSet;

use stockpot_connector::ConnectorError;
use stockpot_driver::ConnectionInfo;

use super::{Kind, Place, Report, Rows};
use crate::{
    catalog::{Attachment, AttachmentStep},
    error::chain,
};

pub(super) async fn compare(
    rows: &Rows,
    after: &Rows,
    sessions: Result<Vec<String>, ConnectorError>,
    report: &mut Report,
) {
    for row in &rows.attachments {
        let Some(path) = row.device_path.as_ref().filter(|_| row.step == AttachmentStep::Attached) else {
            continue;
        };
        if !tokio::fs::try_exists(path).await.unwrap_or(true) {
            report
                .find(Place::Host, Kind::Missing, "device", &row.id)
                .say(
                    format!("{} {} is attached as {}, which is not there", row.kind, row.id, path.display()),
                    "attach it again, which makes sure of it, or detach it",
                )
                .passes_if(false);
        }
    }
    let sessions: BTreeSet<String> = match sessions {
        Ok(sessions) => sessions.into_iter().collect(),
        Err(error) => {
            return report
                .find(Place::Host, Kind::Different, "session", "")
                .say(format!("sessions cannot be looked at: {}", chain(&error)), "see the log")
                .passes_if(false);
        }
    };
    report.looked_at(format!("{} iSCSI targets that this host is logged in to", sessions.len()));
    let known: BTreeSet<&str> = after.attachments.iter().chain(&rows.attachments).filter_map(target).collect();
    for session in sessions.iter().filter(|name| !known.contains(name.as_str())) {
        report
            .find(Place::Host, Kind::Unknown, "session", session)
            .say("this host is logged in, and nothing is attached by it", "the next start logs out, if nobody holds its disk")
            .passes_if(false);
    }
    for row in rows.attachments.iter().filter(|row| row.step == AttachmentStep::Attached) {
        let gone = target(row).filter(|name| !sessions.contains(*name));
        if let Some(name) = gone {
            report
                .find(Place::Host, Kind::Missing, "session", name)
                .say(format!("{} {} is attached by it, and this host is not logged in", row.kind, row.id), "attach it again")
                .passes_if(false);
        }
    }
}

/// The iSCSI target that something is attached by.
fn target(row: &Attachment) -> Option<&str> {
    match row.connection.as_ref()? {
        ConnectionInfo::Iscsi(iscsi) => Some(&iscsi.target_iqn),
        ConnectionInfo::Local(_) => None,
    }
}

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
        let Some(path) = row
            .device_path
            .as_ref()
            .filter(|_| row.step == AttachmentStep::Attached)
        else {
            continue;
        };
        if !tokio::fs::try_exists(path).await.unwrap_or(true) {
            report
                .find(Place::Host, Kind::Missing, "device", &row.id)
                .say(
                    format!(
                        "{} {} is attached as {}, which is not there",
                        row.kind,
                        row.id,
                        path.display()
                    ),
                    "attach it again, which makes sure of it, or detach it",
                )
                .passes_if(false);
        }
    }
    match sessions {
        Ok(names) => compare_sessions(rows, after, &names.into_iter().collect(), report),
        Err(error) => report
            .find(Place::Host, Kind::Different, "session", "")
            .say(
                format!("sessions cannot be looked at: {}", chain(&error)),
                "see the log",
            )
            .passes_if(false),
    }
}

fn compare_sessions(rows: &Rows, after: &Rows, there: &BTreeSet<String>, report: &mut Report) {
    report.looked_at(format!(
        "{} iSCSI targets that this host is logged in to",
        there.len()
    ));
    let recorded = after.attachments.iter().chain(&rows.attachments);
    let known: BTreeSet<&str> = recorded.filter_map(target).collect();
    for name in there.iter().filter(|name| !known.contains(name.as_str())) {
        report
            .find(Place::Host, Kind::Unknown, "session", name)
            .say(
                "this host is logged in, and nothing is attached by it",
                "the next start logs out, if nobody holds its disk",
            )
            .passes_if(false);
    }
    let attached = rows.attachments.iter();
    for row in attached.filter(|row| row.step == AttachmentStep::Attached) {
        let gone = target(row).filter(|name| !there.contains(*name));
        if let Some(name) = gone {
            report
                .find(Place::Host, Kind::Missing, "session", name)
                .say(
                    format!(
                        "{} {} is attached by it, and this host is not logged in",
                        row.kind, row.id
                    ),
                    "attach it again",
                )
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

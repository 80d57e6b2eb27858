//! What a crash left: sessions and records that are bound to our interface record.

use std::collections::BTreeSet;

use stockpot_driver::IscsiConnection;

use super::{IscsiConfig, detach, record, sysfs};
use crate::{ConnectorError, Recovered, error::in_full};

/// Keeps the wanted connections that have a session; removes all else, unless somebody holds it.
pub(super) async fn recover(
    config: &IscsiConfig,
    wanted: &[IscsiConnection],
) -> Result<(Vec<IscsiConnection>, Recovered), ConnectorError> {
    let sessions = sysfs::sessions()?;
    let mut targets: BTreeSet<String> = sessions
        .iter()
        .map(|session| session.target.clone())
        .collect();
    targets.extend(
        record::records(config)?
            .into_iter()
            .map(|record| record.target),
    );
    let (mut adopted, mut recovered) = (Vec::new(), Recovered::default());
    for target in targets {
        let connected = sessions.iter().any(|session| session.target == target);
        let connection = wanted
            .iter()
            .find(|connection| connection.target_iqn == target);
        if let (true, Some(connection)) = (connected, connection) {
            adopted.push(connection.clone());
            continue;
        }
        match detach::disconnect(config, &target).await {
            Ok(()) => recovered
                .removed
                .push(format!("iSCSI session with {target}")),
            Err(error @ ConnectorError::InUse { .. }) => {
                tracing::warn!(target_iqn = %target, %error, "attached by an earlier run and in use, left as it is");
            }
            Err(error) => {
                let what = format!("iSCSI session with {target}");
                recovered.failed.push((what, in_full(&error)));
            }
        }
    }
    record::remove_leftovers(config, &mut recovered)?;
    Ok((adopted, recovered))
}

//! What a killed one had attached over iSCSI is wanted again: as at a start of the daemons on both hosts.

use std::{collections::BTreeMap, fs};

use stockpot_connector::Connector;
use stockpot_driver::{ConnectionInfo, exporting::recover_exports, target::ExportName};

use super::{Kind, close, open, patient_worker, read};
use crate::lab::Lab;

/// Attaches all that is on record again, reads it and detaches it; how many sessions outlived the killed one and were used again.
pub(super) async fn all(lab: &Lab, kinds: &[Kind]) -> usize {
    let worker = patient_worker();
    let properties = worker.properties().await.unwrap();
    let mut wanted = Vec::new();
    for kind in kinds {
        for is_snapshot in [false, true] {
            let name = match is_snapshot {
                true => ExportName::Snapshot(kind.snapshot()),
                false => ExportName::Volume(kind.volume()),
            };
            if lab.targets.mode(&name).await.unwrap().is_some() {
                wanted.push((kind, is_snapshot, name));
            }
        }
    }
    // The storage node starts.
    let names: Vec<_> = wanted.iter().map(|(.., name)| name.clone()).collect();
    let drivers: Vec<_> = kinds.iter().map(|kind| kind.driver.clone()).collect();
    let done = recover_exports(&lab.targets, &drivers, &names).await;
    let done = done.unwrap();
    assert_eq!((done.failed, done.unknown), (vec![], vec![]));
    // The worker starts, and is told the connections that it had on record.
    let mut connections = Vec::new();
    for (kind, is_snapshot, _) in &wanted {
        connections.push(open(kind, *is_snapshot, &properties).await);
    }
    let before = sessions();
    let recovered = worker.recover(&connections).await.unwrap();
    assert_eq!(recovered.failed, []);
    for connection in &connections {
        let is_adopted = recovered.adopted.contains(connection);
        assert!(is_adopted || !before.contains_key(target(connection)));
    }
    for ((_, is_snapshot, _), connection) in wanted.iter().zip(&connections) {
        read(&worker, connection, *is_snapshot).await;
    }
    let after = sessions();
    let kept = connections.iter().map(target);
    let kept = kept.filter_map(|target| Some((before.get(target)?, &after[target])));
    let kept: Vec<_> = kept.collect();
    assert!(
        kept.iter().all(|(before, after)| before == after),
        "{kept:?}"
    );
    for ((kind, is_snapshot, _), connection) in wanted.iter().zip(&connections) {
        worker.disconnect(connection).await.unwrap();
        close(kind, *is_snapshot, &properties).await;
    }
    kept.len()
}

fn target(connection: &ConnectionInfo) -> &str {
    match connection {
        ConnectionInfo::Iscsi(connection) => &connection.target_iqn,
        ConnectionInfo::Local(local) => panic!("not over iSCSI: {local:?}"),
    }
}

/// The sessions that are logged in, by their targets.
fn sessions() -> BTreeMap<String, String> {
    let sessions = fs::read_dir("/sys/class/iscsi_session").unwrap();
    let sessions = sessions.flatten().filter_map(|entry| {
        let read = |name| fs::read_to_string(entry.path().join(name)).ok();
        let is_logged_in = read("state")?.trim() == "LOGGED_IN";
        let target = read("targetname")?.trim().to_owned();
        is_logged_in.then(|| Some((target, entry.file_name().into_string().ok()?)))?
    });
    sessions.collect()
}

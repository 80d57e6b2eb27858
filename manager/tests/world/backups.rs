//! Backups: of volumes that nobody uses and of volumes in use, cancelled, broken and killed at each of their calls.

mod broken;
mod records;
mod volumes;

use stockpot_manager::fakes::Fault;
use stockpot_proto::stockpot::v1::{self as api, VolumeStatus};

use crate::{
    lab::{self, Backups, Client, Run, until},
    world::{World, filled_volume},
};

pub(super) fn attach(volume_id: &str) -> api::AttachVolumeRequest {
    api::AttachVolumeRequest {
        volume_id: volume_id.to_owned(),
        read_only: false,
        as_attached: false,
    }
}

pub(super) async fn status(client: &mut Client, volume_id: &str) -> VolumeStatus {
    let volume_id = volume_id.to_owned();
    let volume = client.get_volume(api::GetVolumeRequest { volume_id }).await;
    volume.unwrap().into_inner().status()
}

/// Waits until what was asked of a backup is on record.
pub(super) async fn until_shown(
    backups: &mut Backups,
    id: &str,
    is_it: impl Fn(&api::Backup) -> bool,
) {
    until("what was asked is on record", async || {
        let shown = backups.get_backup(lab::backup(id)).await;
        is_it(&shown.unwrap().into_inner()).then_some(())
    })
    .await;
}

pub(super) async fn listed(backups: &mut Backups) -> Vec<api::Backup> {
    let listed = backups.list_backups(api::ListBackupsRequest::default());
    listed.await.unwrap().into_inner().backups
}

/// A manager, and a volume with content; with `in_use` it is attached.
pub(super) fn begin(world: &World, in_use: bool) -> (Run, Client, Backups, String) {
    let run = world.start();
    let (mut client, backups) = (run.client(), run.backups());
    let volume = run.block_on(async {
        let volume = filled_volume(world, &mut client).await.volume_id;
        if in_use {
            client.attach_volume(attach(&volume)).await.unwrap();
        }
        volume
    });
    (run, client, backups, volume)
}

/// Goes on while a fault strikes; where that makes the manager hang it is killed, and the next one goes on. Which call was hit, if
/// one was.
pub(super) fn struck(
    world: &World,
    (run, client, mut backups): (Run, Client, Backups),
    fault: Fault,
    going: impl AsyncFnOnce(&mut Backups),
) -> (Option<&'static str>, (Run, Client, Backups)) {
    let is_kill = matches!(fault, Fault::Hang | Fault::DoneThenHang);
    let hit = run.block_on(async {
        tokio::select! {
            () = going(&mut backups) => None,
            name = world.faults.happened(), if is_kill => Some(name),
        }
    });
    let hit = world.faults.clear().or(hit);
    if !is_kill {
        return (hit, (run, client, backups));
    }
    drop((client, backups));
    run.kill();
    let run = world.start();
    let (client, backups) = (run.client(), run.backups());
    (hit, (run, client, backups))
}

/// Nothing but what the node service attached is attached, and nothing is half-open.
pub(super) fn assert_tidy(world: &World, in_use: bool, when: &str) {
    let attached = world.storage.leftovers().attached;
    let expected = if in_use { 3 } else { 0 };
    assert_eq!(attached.len(), expected, "{when}: {attached:?}");
    assert_eq!(world.stores.content().1, 0, "{when}: multipart uploads");
}

//! Limits on what goes over the network, changed while an upload runs.

use std::{num::NonZeroU64, time::Duration};

use stockpot_manager::Parts;
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::store::Bandwidth;

use super::{Kind, World, content, filled_volume, snapshot};
use crate::lab::{self, Run};

#[test]
fn an_upload_that_waits_goes_on_when_its_limit_is_lifted() {
    let world = World::new(Kind::LvmThin);
    let mut config = world.config();
    // Five minutes for a part.
    config.transfers.upload_bytes_per_second_max = NonZeroU64::new(16 << 10);
    let bandwidth = Bandwidth::unlimited();
    let parts = Parts::within(&config, bandwidth.clone()).unwrap();
    let run = Run::start(config, parts);
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&mut client, &content(1)).await.volume_id;
        let request = lab::snapshot_of(&volume, "slow", "offsite");
        let cut = lab::cut(&mut client, &request).await;
        // Behind the first part nothing is sent for minutes; without the limit it would soon be there, and nothing would wait.
        while bandwidth.uploads_waiting() == 0 || world.server.uploads(super::BUCKET).is_empty() {
            let waiting = snapshot(&mut client, &cut.snapshot_id).await;
            assert_eq!(waiting.cloud(), api::CopyState::Pending);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bandwidth.set_upload(None);
        let ready = lab::ready_snapshot(&mut client, &request).await.unwrap();
        assert_eq!(ready.cloud(), api::CopyState::Present);
        lab::delete_snapshot(&mut client, &cut.snapshot_id)
            .await
            .unwrap();
        lab::delete_volume(&mut client, &volume).await.unwrap();
    });
    run.stop();
    world.close();
}

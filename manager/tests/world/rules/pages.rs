//! Lists, page by page.

use stockpot_proto::stockpot::v1 as api;
use tonic::Code;

use crate::{
    lab::{self, Client},
    world::{World, filled_volume},
};

#[test]
fn pages_of_snapshots_and_volumes() {
    let world = World::new();
    let run = world.start();
    let mut client = run.client();
    run.block_on(async {
        let volume = filled_volume(&world, &mut client).await.volume_id;
        for n in 0..5 {
            let request = lab::snapshot_of(
                &volume,
                &format!("s{n}"),
                if n % 2 == 0 { "" } else { "offsite" },
            );
            lab::ready_snapshot(&mut client, &request).await.unwrap();
        }
        let mut told = Vec::new();
        let mut starting_token = String::new();
        loop {
            let request = api::ListSnapshotsRequest {
                max_entries: 2,
                starting_token,
                ..Default::default()
            };
            let (ids, next) = page(&mut client, request).await;
            told.extend(ids);
            starting_token = next;
            if starting_token.is_empty() {
                break;
            }
        }
        assert_eq!(told.len(), 5);
        let one = api::ListSnapshotsRequest {
            snapshot_id: told[3].clone(),
            ..Default::default()
        };
        let only = (vec![told[3].clone()], String::new());
        assert_eq!(page(&mut client, one).await, only);
        let none = api::ListSnapshotsRequest {
            source_volume_id: "vol-x".to_owned(),
            ..Default::default()
        };
        assert!(page(&mut client, none).await.0.is_empty());
        let request = api::ListSnapshotsRequest {
            starting_token: "x".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            client.list_snapshots(request).await.unwrap_err().code(),
            Code::Aborted
        );
        let request = api::ListVolumesRequest {
            max_entries: 1,
            ..Default::default()
        };
        let page = client.list_volumes(request).await.unwrap().into_inner();
        assert_eq!((page.volumes.len(), page.next_token.as_str()), (1, ""));
    });
    run.stop();
}

/// The ids on a page, and the token of the next one.
async fn page(client: &mut Client, request: api::ListSnapshotsRequest) -> (Vec<String>, String) {
    let page = client.list_snapshots(request).await.unwrap().into_inner();
    let ids = page.snapshots.into_iter().map(|s| s.snapshot_id);
    (ids.collect(), page.next_token)
}

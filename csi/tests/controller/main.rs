//! Identity and Controller, over a real socket, against a manager in memory.

#![expect(
    clippy::unwrap_used,
    reason = "helpers fail as the test that calls them"
)]

mod capabilities;
mod identity;
mod lists;
mod node;
mod restores;
mod snapshots;
#[expect(dead_code, reason = "shared with the tests of the node")]
#[path = "../support/mod.rs"]
mod support;
mod volumes;

use stockpot_proto::csi::v1::{
    self as csi,
    volume_content_source::{self as content, Type as Content},
};
use support::{Bench, create_volume, map};
use tonic::Code;

const MIB: i64 = 1 << 20;

fn code<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> Code {
    let status = result.expect_err("it has to fail");
    assert!(status.details().is_empty());
    assert!(!status.message().is_empty());
    status.code()
}

fn create_snapshot(name: &str, volume_id: &str, profile: &str) -> csi::CreateSnapshotRequest {
    csi::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: volume_id.to_owned(),
        parameters: match profile {
            "" => map(&[]),
            profile => map(&[("profile", profile)]),
        },
        ..Default::default()
    }
}

fn from_snapshot(name: &str, snapshot_id: &str, size_bytes: i64) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        volume_content_source: Some(csi::VolumeContentSource {
            r#type: Some(Content::Snapshot(content::SnapshotSource {
                snapshot_id: snapshot_id.to_owned(),
            })),
        }),
        ..create_volume(name, size_bytes)
    }
}

async fn volume(bench: &mut Bench, request: csi::CreateVolumeRequest) -> csi::Volume {
    let answer = bench.controller.create_volume(request).await.unwrap();
    answer.into_inner().volume.unwrap()
}

async fn snapshot(bench: &mut Bench, request: csi::CreateSnapshotRequest) -> csi::Snapshot {
    let answer = bench.controller.create_snapshot(request).await.unwrap();
    answer.into_inner().snapshot.unwrap()
}

//! The Node service with real devices, file systems and mounts; runs in the test host.

#![expect(
    clippy::unwrap_used,
    reason = "helpers fail as the test that calls them"
)]

mod block;
mod file_systems;
mod growth;
#[expect(dead_code, reason = "shared with the tests of the controller")]
#[path = "../support/mod.rs"]
mod support;
mod trouble;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use stockpot_command::Command;
use stockpot_proto::csi::v1::{self as csi, VolumeCapability, volume_content_source as content};
use support::{Bench, create_volume};

const MIB: i64 = 1 << 20;

/// `mkfs.xfs` makes nothing smaller.
const XFS_SIZE: i64 = 320 * MIB;

/// One volume, where it is staged and where published.
struct Volume {
    id: String,
    capability: VolumeCapability,
    staging: PathBuf,
    target: PathBuf,
}

impl Volume {
    async fn make(bench: &mut Bench, request: csi::CreateVolumeRequest) -> Self {
        let name = request.name.clone();
        let capability = request.volume_capabilities[0].clone();
        let answer = bench.controller.create_volume(request).await.unwrap();
        let staging = bench.path(&format!("{name}-staging"));
        std::fs::create_dir(&staging).unwrap();
        Self {
            id: answer.into_inner().volume.unwrap().volume_id,
            capability,
            staging,
            target: bench.path(&format!("{name}-target")),
        }
    }

    fn stage(&self) -> csi::NodeStageVolumeRequest {
        csi::NodeStageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
            volume_capability: Some(self.capability.clone()),
            ..Default::default()
        }
    }

    fn publish(&self, target: &Path, readonly: bool) -> csi::NodePublishVolumeRequest {
        csi::NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
            target_path: target.display().to_string(),
            volume_capability: Some(self.capability.clone()),
            readonly,
            ..Default::default()
        }
    }

    fn unpublish(&self, target: &Path) -> csi::NodeUnpublishVolumeRequest {
        csi::NodeUnpublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: target.display().to_string(),
        }
    }

    fn unstage(&self) -> csi::NodeUnstageVolumeRequest {
        csi::NodeUnstageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: self.staging.display().to_string(),
        }
    }

    async fn up(&self, bench: &mut Bench) {
        bench.node.node_stage_volume(self.stage()).await.unwrap();
        let publish = self.publish(&self.target, false);
        bench.node.node_publish_volume(publish).await.unwrap();
    }

    async fn down(&self, bench: &mut Bench) {
        let unpublish = self.unpublish(&self.target);
        bench.node.node_unpublish_volume(unpublish).await.unwrap();
        bench
            .node
            .node_unstage_volume(self.unstage())
            .await
            .unwrap();
        assert!(!self.target.exists());
        assert_eq!(mounts_under(&self.staging), 0);
        assert!(!bench.manager.state().attached.contains_key(&self.id));
    }
}

fn mounts_under(path: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.display().to_string();
    table
        .lines()
        .filter(|l| l.split(' ').nth(4).is_some_and(|p| p.starts_with(&path)))
        .count()
}

async fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).run().await;
    output.unwrap().stdout_text()
}

fn with_capability(
    name: &str,
    size: i64,
    capability: VolumeCapability,
) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        volume_capabilities: vec![capability],
        ..create_volume(name, size)
    }
}

fn from_volume(mut request: csi::CreateVolumeRequest, id: &str) -> csi::CreateVolumeRequest {
    request.volume_content_source = Some(csi::VolumeContentSource {
        r#type: Some(content::Type::Volume(content::VolumeSource {
            volume_id: id.to_owned(),
        })),
    });
    request
}

async fn finish(bench: Bench) {
    let dir = bench.dir.path().to_owned();
    assert!(bench.manager.state().attached.is_empty());
    assert_eq!(mounts_under(&dir), 0);
    bench.stop().await;
    // A detached loop device goes when whoever just looks at it (a program that another test starts) has closed it.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let loops = run("losetup", &["--list", "--noheadings"]).await;
        if !loops.contains(&dir.display().to_string()) {
            return;
        }
        assert!(Instant::now() < deadline, "{loops}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! The contract of `VolumeDriver`, on every driver but `lvm-thick` (`thick`), with real volume groups and loop devices.
//!
//! Runs in the test host: each test makes a volume group of its own on the first of `STOCKPOT_TEST_DISKS`, and
//! checks at the end that no device, mount or loop device is left.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod contract;
mod file;
#[expect(dead_code, reason = "shared with other test programs")]
mod fixture;
mod guard;
mod lvm;
mod ranges;
mod remote;
mod without_attach;

use std::{path::PathBuf, sync::Arc, time::Duration};

use contract::Nature;
use stockpot_driver::{
    file::{FileConfig, FileDriver},
    lvm::{LvmThinConfig, LvmThinDriver},
};
use without_attach::WithoutAttach;

fn lvm_thin(host: &fixture::Host) -> LvmThinDriver {
    let mut config = LvmThinConfig::new(host.vg(), "pool");
    config.pool_size_bytes = Some(1 << 30);
    config.close_patience = CLOSE_PATIENCE;
    LvmThinDriver::new(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_lvm_thin() {
    let host = fixture::Host::new().await;
    contract::run(Arc::new(lvm_thin(&host)), Nature::THIN).await;
    host.close().await;
}

/// In a test nobody but the test itself has a device open for long.
const CLOSE_PATIENCE: Duration = Duration::from_millis(300);

fn file(directory: PathBuf) -> FileDriver {
    let mut config = FileConfig::new(directory);
    config.close_patience = CLOSE_PATIENCE;
    FileDriver::new(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_file() {
    let host = fixture::Host::new().await;
    let xfs = host.file_system("xfs", 1 << 30).await;
    let driver = file(xfs.path().join("images"));
    contract::run(Arc::new(driver), Nature::THIN).await;
    xfs.unmount().await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_without_attach() {
    let host = fixture::Host::new().await;
    // LVM's commands are slow in a guest: here, only what the temporary volumes change.
    let attaches = |case: &str| {
        ["attach", "snapshot", "open"]
            .iter()
            .any(|word| case.contains(word))
    };
    contract::run_some(
        Arc::new(WithoutAttach(lvm_thin(&host))),
        Nature::THIN,
        attaches,
    )
    .await;
    let btrfs = host.file_system("btrfs", 512 << 20).await;
    let driver = file(btrfs.path().join("images"));
    contract::run(Arc::new(WithoutAttach(driver)), Nature::THIN).await;
    btrfs.unmount().await;
    host.close().await;
}

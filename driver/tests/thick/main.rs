//! The driver `lvm-thick`: the contract, what only it can get wrong, and what is inside volumes of both LVM drivers.
//!
//! Runs in the test host, beside the other drivers' tests in a guest of its own.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[expect(dead_code, reason = "shared with other test programs")]
#[path = "../contract/mod.rs"]
mod contract;
#[path = "../fixture/mod.rs"]
mod fixture;
mod inside;
mod metadata_area;
mod others;
mod snapshots;

use std::{sync::Arc, time::Duration};

use contract::Nature;
use stockpot_driver::lvm::{LvmThickConfig, LvmThickDriver, LvmThinConfig, LvmThinDriver};

fn lvm_thin(host: &fixture::Host) -> LvmThinDriver {
    let mut config = LvmThinConfig::new(host.vg(), "pool");
    config.pool_size_bytes = Some(1 << 30);
    LvmThinDriver::new(config).unwrap()
}

fn lvm_thick(host: &fixture::Host) -> LvmThickDriver {
    let mut config = LvmThickConfig::new(host.vg());
    config.close_patience = Duration::from_millis(300);
    LvmThickDriver::new(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_lvm_thick() {
    let host = fixture::Host::new().await;
    contract::run(Arc::new(lvm_thick(&host)), Nature::THICK).await;
    host.close().await;
}

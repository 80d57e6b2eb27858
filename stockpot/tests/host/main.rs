//! The command line on real block devices: logical volumes, mounts, full disks. Runs in the test host.

#[path = "../integration/bench.rs"]
#[expect(
    dead_code,
    reason = "the bench is shared with the tests that need no devices"
)]
mod bench;
mod devices;
mod live_lvm;
mod tool;

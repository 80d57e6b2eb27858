//! Both sides of iSCSI on one host: the kernel's target on real logical volumes, and open-iscsi.
//!
//! Runs in the test host with iscsid. The volumes' host goes by another name than the one that attaches, so everything
//! goes over iSCSI, from this kernel to this kernel.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod attach;
mod contract;
mod cycles;
#[expect(dead_code, reason = "shared with another test program")]
#[path = "../fixture/mod.rs"]
mod fixture;
mod held;
mod inside;
mod lab;
mod liar;
mod lifetime;
mod moved;
mod paths;
mod records;
mod refusals;
mod speed;
mod void;

//! iSCSI targets on this host: the kernel's own target (LIO), driven by configfs.
//!
//! Each export is one target with one logical unit, a serial number of its own and an entry for exactly the initiators
//! that asked, each with secrets of its own (CHAP in both directions). Nobody else may log in. What is exported lives in
//! the kernel, so it outlives this process; [`Targets::recover`] makes it again after a reboot, from the
//! [`ExportRecords`], and removes what is not wanted any more.
//!
//! Ours is what lies in a target whose name starts with the configured prefix, and the backstores named `stockpot.`, a hash
//! of that prefix and so on below one host bus adapter number. Nothing else is ever touched. One daemon per kernel.
//!
//! | module | what it is |
//! | --- | --- |
//! | `targets` | the calls, one at a time, each bounded in time |
//! | `work` | what a call does when it is its turn |
//! | `asking` | who asks, and whether it is the host that it was |
//! | `moved` | a name whose device is another one now |
//! | `config` | portals and names; what is exported, and the answer |
//! | `recover` | what happens at the start |
//! | `unrecorded` | hosts that the kernel lets in and no record names |
//! | `lio` | the objects that make one export: made, read back, removed in reverse order |
//! | `backstore` | the block device below an export |
//! | `configfs` | every access to configfs |
//! | `portal` | whether an address can be listened on, and why not |
//! | `names` | names of exports, targets and backstores; serial numbers |
//! | `records` | what must survive a reboot, with its secrets |
//! | `seal` | how records are sealed |
//! | `sealed` | records as sealed files in a directory, for tests |
//! | `secret` | fresh secrets |

mod asking;
mod backstore;
mod config;
mod configfs;
mod error;
mod lio;
mod moved;
mod names;
mod portal;
mod records;
mod recover;
mod seal;
#[cfg(any(test, feature = "host-tests"))]
mod sealed;
mod secret;
mod targets;
mod unrecorded;
mod work;

pub use config::{ExportSource, ExportedTarget, TargetsConfig};
pub use error::TargetError;
pub use names::ExportName;
pub use records::{ExportRecord, ExportRecords, Grant, Recorded, RecordsError};
pub use recover::RecoveredExports;
pub(crate) use recover::in_full;
pub use seal::Sealer;
#[cfg(any(test, feature = "host-tests"))]
pub use sealed::SealedDirectory;
pub use targets::Targets;
pub use unrecorded::Unrecorded;

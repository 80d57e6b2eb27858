//! The storage side of Stockpot: makes volumes and snapshots and hands them out.
//!
//! Everything above this crate speaks to storage through one seam, [`VolumeDriver`]. Its calls carry the
//! names that Cinder and Hotpot gave them, and each is idempotent: calling it again after a
//! crash, or after an answer was lost, ends in the same state and the same answer. What is made here can be
//! found again without any database ([`VolumeDriver::list_volumes`], [`VolumeDriver::list_snapshots`]).
//!
//! | module | what it is |
//! | --- | --- |
//! | [`volume_driver`] | the trait, with the temporary-volume default for drivers that cannot attach a snapshot |
//! | [`adoption`] | storage that was there before, and what storage knows by itself |
//! | [`model`] | ids, sizes, what a volume and a snapshot are |
//! | [`connection`] | what travels between a driver and a connector |
//! | [`lvm`] | the drivers `lvm-thin` (a thin pool) and `lvm-thick` (plain logical volumes) of a volume group |
//! | [`file`] | the driver `file`: image files and loop devices, where there is no LVM |
//! | [`target`] | iSCSI targets of this host: the kernel's own, by configfs |
//! | [`exporting`] | a driver around another: hosts other than its own get iSCSI |
//! | [`remote`] | the driver's calls over the network: pools of other nodes, and the service that answers |
//! | [`in_use`] | who holds a block device |
//! | [`error`] | what can go wrong, by what the caller can do about it |

pub mod adoption;
pub mod connection;
pub mod error;
pub mod exporting;
pub mod file;
pub mod in_use;
pub mod lvm;
pub mod model;
mod name;
mod origin;
mod ranges;
pub mod remote;
mod sizes;
pub mod target;
mod task;
pub mod volume_driver;

pub use adoption::{
    Adoptable, Remembered, RememberedSnapshot, RememberedSource, RememberedVolume, Standing,
};
pub use connection::{
    AccessMode, ChapCredentials, ConnectionInfo, ConnectorProperties, IscsiAuth, IscsiConnection,
    LocalConnection,
};
pub use error::DriverError;
pub use exporting::ExportingDriver;
pub use model::{
    ByteRange, Capacity, Headroom, InvalidId, SnapshotId, SnapshotInfo, VolumeId, VolumeInfo,
};
pub use volume_driver::VolumeDriver;

//! The host side of Stockpot: turns the connection that a driver hands out into a device of this host, and back.
//!
//! A [`Connector`] knows nothing of pools, snapshots or buckets: it gets a
//! [`ConnectionInfo`](stockpot_driver::ConnectionInfo), gives back a path whose size and access mode it has
//! checked, and can undo that after a crash.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`connector`] | the trait and what it returns |
//! | [`local`] | devices that are on this host already |
//! | [`iscsi`] | devices that another host exports, attached by open-iscsi |
//! | [`host`] | the connector of a host: picks by kind of connection, says what the host is |
//! | [`shield`] | udev's rules and LVM's settings that keep the host out of volumes |
//! | [`error`] | what can go wrong, by what the caller can do about it |

mod blkdev;
pub mod connector;
pub mod error;
pub mod host;
mod in_use;
pub mod iscsi;
pub mod local;
pub mod shield;

pub use connector::{AttachedDevice, Connector, Recovered};
pub use error::ConnectorError;
pub use host::{HostConfig, HostConnector};
pub use iscsi::{IscsiConfig, IscsiConnector};
pub use local::LocalConnector;

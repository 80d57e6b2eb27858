//! The brain of Stockpot: what volumes and snapshots there are, what is being done with them, and what has to be
//! finished or undone after a crash.
//!
//! Frontends reach it by one API, `stockpot.v1` on a unix socket ([`serve`]). Below it are three seams: a
//! [`VolumeDriver`](stockpot_driver::VolumeDriver) per pool, a [`Connector`](stockpot_connector::Connector) for this host,
//! and [`Stores`](cloud::Stores) for buckets.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`], [`profile`] | what an administrator says |
//! | [`catalog`] | what is on record: a row before each side effect; the only module with SQL |
//! | `snapshots`, `volumes`, `backups`, `profiles` | the operations |
//! | [`schedules`] | when backups are made by themselves, and which of them are kept |
//! | `attach` | attaching in steps that are on record, taken down again in reverse order |
//! | `owners` | whose a target is, so that no storage node names another volume's |
//! | `attempts`, `transfers` | uploads and restores: repeated while what stops them may pass, watched, cancelled |
//! | `streams` | snapshots sent to, and volumes received from, whoever waits at an allowed address |
//! | [`cloud`] | the repositories that profiles name |
//! | [`fakes`] | storage, host and buckets in memory, that fail or hang at the k-th call |
//! | `fault` | named points at which tests kill the process; only with the feature `fault-points` |
//! | `parts` | drivers, connector and stores, as the configuration names them |
//! | `exports` | how other hosts get volumes of this one, and what of that survives a reboot |
//! | `storage_node` | what managers on other nodes may do here |
//! | `pools` | those that cannot be used as they are, and what is on record in none of them |
//! | [`quiesce`] | the moment of the cut: file systems frozen around it, commands before and after |
//! | `consistency` | what is on record against what is there |
//! | [`rebuild`] | a catalog that was lost, made again from the storage and the buckets |
//! | `guard` | pools that run full |
//! | `recovery` | what is done at start |
//! | `service`, `server`, `codes`, `translate` | the interface |
//!
//! # What is true at any moment
//! - A snapshot with a profile is ready when its cloud copy is committed and was read back.
//! - A volume from a cloud copy is available when its last byte was flushed and it is detached again.
//! - Everything that a crash could leave (an export, an attached device, a half-filled volume, a snapshot nobody
//!   knows of) is named by a row that recovery finishes or undoes.
//! - One operation at a time works on a volume, a snapshot or a name; the next one waits a little, then is told to
//!   ask again (`ABORTED`).

mod attach;
mod attempts;
mod backups;
pub mod catalog;
mod claims;
pub mod cloud;
mod codes;
pub mod config;
mod consistency;
pub mod error;
mod exports;
mod facts;
pub mod fakes;
#[cfg(feature = "fault-points")]
pub mod fault;
#[cfg(not(feature = "fault-points"))]
mod fault;
mod guard;
pub mod ids;
mod joined;
mod locks;
mod manager;
mod owners;
mod page;
mod parts;
mod pools;
pub mod profile;
mod profiles;
pub mod quiesce;
pub mod rebuild;
mod recovery;
mod request;
pub mod schedules;
mod server;
mod service;
mod snapshots;
mod storage_node;
mod streams;
mod transfers;
mod translate;
mod volumes;

pub use config::{Config, ConfigError};
pub use error::ManagerError;
pub use manager::Manager;
pub use parts::Parts;
pub use server::{serve, serve_manager};
pub use streams::StreamError;

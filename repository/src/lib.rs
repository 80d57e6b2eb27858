//! Block device to bucket and back.
//!
//! A [`Repository`] is one bucket and prefix. [`upload::upload`] reads a [`device::Source`] and makes a snapshot of it there;
//! [`restore::restore`] fills a [`device::Target`] from it; [`snapshots`] lists, finds and deletes; [`forget`] applies
//! retention; [`prune`] removes what nothing needs; [`verify::verify`] checks that everything a snapshot needs is there and sound. What lies in the bucket is laid down in
//! `docs/bucket-format.md` and coded in [`format`](mod@format); how a bucket is spoken to is [`store`].
//!
//! # What is true at any moment
//! - A snapshot exists when its manifest does, and the manifest is written last, conditionally. Whatever breaks off
//!   before leaves packs and an intent, which a later attempt or a prune finds; never a half-open multipart upload,
//!   except after a crash or while the bucket is out of reach.
//! - A restore is complete when the verb returns `Ok`: every chunk of the map was checked against its hash and
//!   written, holes are zero, and the target was flushed.
//! - Memory is bounded by the settings, never by the size of a volume. Only the list of packs is held as a whole.
//! - Nothing here starts a process, reads the environment or knows of volume groups.

mod buffers;
pub mod device;
mod error;
mod fetch;
pub mod forget;
pub mod format;
mod indexes;
mod joined;
pub mod lock;
mod pages;
mod progress;
pub mod prune;
mod repository;
pub mod restore;
mod settings;
pub mod snapshots;
mod stop;
pub mod store;
pub mod upload;
pub mod verify;

pub use error::RepositoryError;
pub use progress::{Phase, Progress, ProgressSnapshot};
pub use repository::{CreateOptions, DEFAULT_CHUNK_SIZE_BYTES, Opened, Repository, SlotSummary};
pub use settings::{ReadSettings, UploadSettings};

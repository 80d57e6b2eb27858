//! Snapshots: cut now, in the bucket later.

mod bases;
mod create;
mod delete;
mod find;
mod list;
pub(crate) mod metadata;
mod upload;

pub(crate) use create::check_cloud_metadata;
pub(crate) use find::CloudCopy;

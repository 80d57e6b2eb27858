//! Cinder's API, asked over HTTP, with a manager on storage, hosts and buckets that are fakes.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod backups;
mod lab;
mod lists;
mod records;
mod refusals;
mod restores;
mod things;

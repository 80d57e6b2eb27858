//! The verbs, end to end: up, down, list, delete, verify, on a bucket in memory.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "verbs/damage.rs"]
mod damage;
#[path = "verbs/devices.rs"]
mod devices;
#[path = "verbs/errors_logged.rs"]
mod errors_logged;
#[path = "verbs/faults.rs"]
mod faults;
#[path = "verbs/files.rs"]
mod files;
#[path = "verbs/flooded.rs"]
mod flooded;
#[path = "verbs/golden.rs"]
mod golden;
#[path = "verbs/healing.rs"]
mod healing;
#[path = "verbs/incremental.rs"]
mod incremental;
#[path = "verbs/keeping.rs"]
mod keeping;
#[path = "verbs/keys.rs"]
mod keys;
#[path = "verbs/layer.rs"]
mod layer;
#[path = "verbs/lock_memory.rs"]
mod lock_memory;
#[path = "verbs/lock_versions.rs"]
mod lock_versions;
#[path = "verbs/locks.rs"]
mod locks;
#[path = "verbs/meanwhile.rs"]
mod meanwhile;
#[path = "verbs/newest.rs"]
mod newest;
#[path = "verbs/odd_objects.rs"]
mod odd_objects;
#[path = "verbs/opening.rs"]
mod opening;
#[path = "verbs/properties.rs"]
mod properties;
#[path = "verbs/protocol.rs"]
mod protocol;
#[path = "verbs/prune/mod.rs"]
mod prune;
#[path = "verbs/repack.rs"]
mod repack;
#[path = "verbs/repack_scattered.rs"]
mod repack_scattered;
#[path = "verbs/resume.rs"]
mod resume;
#[path = "verbs/robbed_upload.rs"]
mod robbed_upload;
#[path = "verbs/round_trip.rs"]
mod round_trip;
#[path = "verbs/salvage.rs"]
mod salvage;
#[path = "verbs/server.rs"]
mod server;
#[path = "verbs/size.rs"]
mod size;
#[path = "verbs/snapshots.rs"]
mod snapshots;
#[path = "verbs/support.rs"]
mod support;

//! Profiles: named policies in the shape that OpenSDS gave them, one file each, YAML or JSON.
//!
//! ```yaml
//! name: offsite
//! description: nightly, in another building
//! snapshotProperties:
//!   schedule: {datetime: "2026-01-01T02:00:00", occurrence: Daily}
//!   retention: {number: 14, duration: 90}        # snapshots, days
//!   topology:
//!     bucket: backups
//!     prefix: cluster-a
//!     endpoint: https://s3.example.net
//!     region: us-east-1
//!     pathStyle: auto                            # auto, path, virtual
//!     caFile: ca.pem
//!     credentials: {profile: backups}            # or {file: s3-credentials}; left out: the AWS chain
//!     key: {file: repository.key}                # or {passphraseFile: …}; left out: not sealed
//!     lock: {days: 30, mode: compliance}         # or governance; left out: nothing is locked
//!   quiesce:                                     # around the cut; see [`Quiesce`]
//!     pre: [/usr/local/bin/pause-database]
//!     post: [/usr/local/bin/resume-database]
//! ```
//!
//! The topology is where the cloud copy lies. Secrets stand in files that a profile names, never in the profile.
//! Files are read anew when they change.

mod error;
mod files;
mod model;
mod quiesce;
mod vetted;
mod write;

pub use self::{
    error::ProfileError,
    files::Profiles,
    model::{
        Credentials, Key, Lock, Occurrence, PathStyle, Profile, Retention, Schedule,
        SnapshotProperties, Topology,
    },
    quiesce::{OnFailure, Quiesce},
    write::{Change, ProfileText},
};

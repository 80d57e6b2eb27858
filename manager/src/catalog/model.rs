//! What the rows hold.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use stockpot_driver::{AccessMode, ConnectionInfo, SnapshotId, VolumeId};

use super::codec::text_enum;

/// Free words kept with a volume or snapshot.
pub type Metadata = BTreeMap<String, String>;

text_enum! {
    /// Where a volume is in its life.
    VolumeStatus {
        /// The storage is making it.
        Creating = "creating",
        /// It is being filled from a cloud copy.
        Restoring = "restoring",
        /// It can be attached.
        Available = "available",
        /// It is attached to this node.
        InUse = "in-use",
        /// It is being backed up: until its temporary snapshot is cut, or until it is read.
        BackingUp = "backing-up",
        /// It is growing.
        Extending = "extending",
        /// It is being removed.
        Deleting = "deleting",
        /// Making it failed; nothing of it is left in the storage.
        Error = "error",
    }
}

text_enum! {
    /// Where one copy of a snapshot is in its life.
    CopyState {
        /// There is none and none is on its way.
        None = "none",
        /// It is being cut or uploaded.
        Pending = "pending",
        /// It is there; a cloud copy is committed and was read back.
        Present = "present",
        /// It was tried and given up.
        Failed = "failed",
        /// It was removed.
        Deleted = "deleted",
    }
}

text_enum! {
    /// How an upload knew what to send.
    UploadReason {
        /// It sent all data.
        Full = "full",
        /// It read all data and sent what differs from an earlier snapshot.
        Compared = "compared",
        /// It was told what changed since an earlier snapshot, and read only that.
        Incremental = "incremental",
    }
}

text_enum! {
    /// Which copies of a snapshot are being removed.
    Deleting {
        /// All of it.
        Both = "both",
        /// The local copy alone.
        Local = "local",
        /// The cloud copy alone.
        Cloud = "cloud",
    }
}

text_enum! {
    /// Which copy of a snapshot a volume is asked to be made from.
    SourceCopy {
        /// The local one if it is there, else the cloud one.
        Auto = "auto",
        /// The local one.
        Local = "local",
        /// The cloud one.
        Cloud = "cloud",
    }
}

text_enum! {
    /// What is attached.
    AttachmentKind {
        /// A volume.
        Volume = "volume",
        /// A snapshot.
        Snapshot = "snapshot",
    }
}

text_enum! {
    /// Who it is attached for.
    Purpose {
        /// The node service: stays over restarts.
        Node = "node",
        /// An upload or a restore: taken down when that ends, or at the next start.
        Transfer = "transfer",
    }
}

text_enum! {
    /// The last step of attaching that was begun. It, and all before it, may have to be undone.
    AttachmentStep {
        /// `create_export`
        Export = "export",
        /// `initialize_connection`
        Connection = "connection",
        /// `connect`
        Device = "device",
        /// All are done.
        Attached = "attached",
    }
}

text_enum! {
    /// What a job does.
    JobKind {
        /// A snapshot to the bucket.
        Upload = "upload",
        /// A volume from the bucket.
        Restore = "restore",
    }
}

text_enum! {
    /// Where a backup is in its life.
    BackupStatus {
        /// It is being cut or uploaded.
        Creating = "creating",
        /// Its cloud copy is committed and was read back.
        Available = "available",
        /// It is being given up because somebody asked for that.
        Cancelling = "cancelling",
        /// It was given up because somebody asked for that.
        Cancelled = "cancelled",
        /// It was given up because it failed.
        Error = "error",
        /// Its cloud copy was deleted.
        Deleted = "deleted",
    }
}

text_enum! {
    /// What a backup reads.
    BackupSource {
        /// The volume itself, which nobody uses.
        Volume = "volume",
        /// A temporary snapshot of it.
        Snapshot = "snapshot",
        /// A local snapshot that was there before, and stays.
        Kept = "kept",
    }
}

text_enum! {
    /// What a restore of a backup shows.
    Consistency {
        /// Its file systems were frozen around the cut.
        FileSystem = "file-system",
        /// Nobody wrote to the volume.
        Unused = "unused",
        /// The same as after a power cut.
        Crash = "crash",
    }
}

/// What a volume was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// Nothing: it read as zeroes.
    Empty,
    /// A snapshot, and which copy was asked for.
    Snapshot(SnapshotId, SourceCopy),
    /// Another volume.
    Volume(VolumeId),
    /// It was there before: whatever is in it is somebody's, and it is never formatted.
    Adopted,
}

/// A failure as it is kept: the whole chain of causes in one text, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedError {
    /// gRPC code.
    pub code: i32,
    /// The text.
    pub text: String,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// Its id.
    pub id: VolumeId,
    /// The caller's name for it, unique.
    pub name: String,
    /// Exact size of the device; what was asked for until the device is made.
    pub size_bytes: u64,
    /// The pool it lies in.
    pub pool: String,
    /// Where it is in its life.
    pub status: VolumeStatus,
    /// What it was before what is under way; it goes back to that.
    pub previous_status: Option<VolumeStatus>,
    /// What it was made from.
    pub source: VolumeSource,
    /// The caller's words.
    pub metadata: Metadata,
    /// Why it is in `Error`.
    pub error: Option<RecordedError>,
    /// Whether a caller has been told of the error.
    pub error_reported: bool,
    /// When it was asked for, in microseconds since the Unix epoch.
    pub created_at_us: i64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its id.
    pub id: SnapshotId,
    /// The caller's name for it, unique.
    pub name: String,
    /// The volume it was cut from, which may be gone.
    pub volume_id: VolumeId,
    /// That volume's name.
    pub volume_name: String,
    /// The pool it lies in.
    pub pool: String,
    /// Exact size of the source device; `None` until it is cut.
    pub size_bytes: Option<u64>,
    /// When it was cut, in microseconds since the Unix epoch; `None` until it is.
    pub cut_at_us: Option<i64>,
    /// The profile it was asked for with; empty without.
    pub profile: String,
    /// The local copy.
    pub local: CopyState,
    /// The cloud copy.
    pub cloud: CopyState,
    /// Where the cloud copy lies.
    pub location: Option<String>,
    /// What its upload sent; `None` until it is committed.
    pub sent: Option<Sent>,
    /// How its upload knew what to send, and why not less; `None` until it is committed.
    pub reason: Option<(UploadReason, String)>,
    /// The local copy was deleted; its device is kept to compute the next delta.
    pub kept_as_base: bool,
    /// What a restore of it shows, and why that is no better; known once it is cut.
    pub consistency: Option<(Consistency, String)>,
    /// The caller's words.
    pub metadata: Metadata,
    /// Why the cloud copy failed.
    pub error: Option<RecordedError>,
    /// Whether a caller has been told of the error.
    pub error_reported: bool,
    /// Which copies are being removed.
    pub deleting: Option<Deleting>,
    /// When it was asked for, in microseconds since the Unix epoch.
    pub created_at_us: i64,
}

/// A backup: the act and the record of making one cloud copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRow {
    /// Its id.
    pub id: String,
    /// The caller's name for it, unique; its id without one.
    pub name: String,
    /// The volume, which may be gone.
    pub volume_id: VolumeId,
    /// That volume's name.
    pub volume_name: String,
    /// The cloud copy: its id in the repository.
    pub snapshot_id: SnapshotId,
    /// The profile it was asked for with.
    pub profile: String,
    /// Where it is in its life.
    pub status: BackupStatus,
    /// What it reads.
    pub source: BackupSource,
    /// Whether the volume is backing-up because of it.
    pub holds_volume: bool,
    /// The temporary snapshot, until it is removed.
    pub temp_snapshot_id: Option<SnapshotId>,
    /// The temporary volume through which that is read where the storage cannot attach a snapshot, until it is removed.
    pub temp_volume_id: Option<VolumeId>,
    /// The cloud copy that it builds on; known when it is committed.
    pub parent: Option<String>,
    /// What it is doing, in words.
    pub phase: String,
    /// Bytes of the volume that are dealt with.
    pub bytes_done: u64,
    /// All of them; 0 until it is cut.
    pub bytes_total: u64,
    /// How it knew what to send, and why not less; known when it is committed.
    pub reason: Option<(UploadReason, String)>,
    /// What it sent; known when it is committed.
    pub sent: Option<Sent>,
    /// Where the cloud copy lies; known when it is committed.
    pub location: Option<String>,
    /// Why it failed.
    pub failure: Option<RecordedError>,
    /// Nothing temporary is left of it.
    pub cleaned: bool,
    /// The caller's words.
    pub metadata: Metadata,
    /// When it was asked for, in microseconds since the Unix epoch.
    pub created_at_us: i64,
    /// The moment that it shows; `None` until it is cut.
    pub cut_at_us: Option<i64>,
    /// When it ended.
    pub ended_at_us: Option<i64>,
    /// Its upload is stopped until somebody asks to go on.
    pub paused: bool,
    /// It shares nothing with earlier ones because that was asked for.
    pub is_full: bool,
    /// The schedule that asked for it.
    pub schedule: Option<String>,
    /// What a restore of it shows, and why that is no better; known once it is cut.
    pub consistency: Option<(Consistency, String)>,
    /// How long its file systems were frozen, in microseconds.
    pub frozen_us: u64,
}

/// What the upload that was committed sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Bytes that it put into the bucket.
    pub stored_bytes: u64,
    /// Requests that it made; 0 when a run that was killed made them.
    pub requests: u64,
}

/// A cut around which commands run and file systems are frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiescing {
    /// What is being cut.
    pub snapshot_id: SnapshotId,
    /// The volume.
    pub volume_id: VolumeId,
    /// What is to be done if it ends in the middle.
    pub undo: Undo,
}

/// What puts right what a cut that ended in the middle left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// File systems that may be frozen.
    pub frozen: Vec<FrozenPath>,
    /// Commands that are to be run.
    pub post: Vec<Vec<String>>,
    /// How long each of them may take.
    pub timeout_seconds: u64,
    /// What they are told.
    pub environment: BTreeMap<String, String>,
    /// The process that runs a command now, as [`stockpot_command::Process`] is written.
    #[serde(default)]
    pub running: Option<String>,
}

/// A file system that may be frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenPath {
    /// Where it is mounted.
    pub path: PathBuf,
    /// The number of its device, as `stat` tells it.
    pub device: u64,
}

/// What is attached to this host, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Volume or snapshot.
    pub kind: AttachmentKind,
    /// Its id, as text of that kind.
    pub id: String,
    /// The pool it lies in.
    pub pool: String,
    /// Who for.
    pub purpose: Purpose,
    /// What may be done with it.
    pub access: AccessMode,
    /// How far attaching has come.
    pub step: AttachmentStep,
    /// What the driver answered; known from [`AttachmentStep::Device`] on.
    pub connection: Option<ConnectionInfo>,
    /// The device; known when attached.
    pub device_path: Option<PathBuf>,
}

/// An upload or restore that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What it does.
    pub kind: JobKind,
    /// The snapshot (upload) or volume (restore).
    pub target_id: String,
    /// How often it was begun.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

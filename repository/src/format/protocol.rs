//! Records of work under way: intents, condemned lists, marks, what a prune saw (sections 10 and 11 of the specification).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    FormatError,
    crypto::Hash,
    ids::{
        ObjectId, PackName, Run, SnapshotId, VolumeId, condemned_key, intent_key, marks_key,
        seen_key,
    },
    limits::{ADOPTS_MAX, LIST_OBJECT_MAX, SMALL_OBJECT_MAX},
    manifest::{Base, check_key, check_text},
    record::{Record, RecordKind},
};

/// A former attempt whose packs an upload may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedRun {
    /// Volume of its packs.
    pub volume_id: VolumeId,
    /// Snapshot of its packs.
    pub snapshot_id: SnapshotId,
    /// The attempt.
    pub run: Run,
}

/// An upload under way: put before anything else, so that a prune spares what the upload refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The snapshot being uploaded.
    pub snapshot_id: SnapshotId,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The attempt.
    pub run: Run,
    /// What it builds on.
    pub base: Option<Base>,
    /// Whose packs it may use.
    pub adopts: Vec<AdoptedRun>,
    /// When it began.
    pub started_at: Timestamp,
    /// Where it runs, for people.
    pub host: String,
    /// What wrote it.
    pub tool: String,
    /// What it read was not what it was to read: nothing of it is to be taken up by a later attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void: bool,
}

impl Record for Intent {
    const KIND: RecordKind = RecordKind::Intent;
    const OBJECT_MAX: usize = SMALL_OBJECT_MAX;

    fn check(&self, object_key: &str) -> Result<(), FormatError> {
        check_key(
            "intent",
            object_key,
            &intent_key(&self.snapshot_id, self.run),
        )?;
        FormatError::check_limit(
            "the number of adopted runs",
            self.adopts.len() as u64,
            ADOPTS_MAX as u64,
        )?;
        check_text("the length of the host's name", &self.host)?;
        check_text("the length of the tool's name", &self.tool)
    }
}

/// A prune under way: the packs it is about to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// The prune.
    pub prune_id: ObjectId,
    /// Object keys of the packs.
    pub packs: Vec<PackName>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What wrote it.
    pub tool: String,
}

impl Record for Condemned {
    const KIND: RecordKind = RecordKind::Condemned;
    const OBJECT_MAX: usize = LIST_OBJECT_MAX;

    fn check(&self, object_key: &str) -> Result<(), FormatError> {
        check_key("condemned list", object_key, &condemned_key(&self.prune_id))?;
        check_text("the length of the tool's name", &self.tool)
    }
}

/// A frame that cannot be read, or does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadFrame {
    /// Its pack.
    pub pack: PackName,
    /// Its offset, bytes.
    pub offset: u32,
    /// The hash that its content should have.
    pub hash: Hash,
}

/// What a verify found: a hint not to refer to these frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The verify.
    pub verify_id: ObjectId,
    /// The frames.
    pub bad: Vec<BadFrame>,
    /// When they were found.
    pub found_at: Timestamp,
    /// What wrote it.
    pub tool: String,
}

impl Record for Mark {
    const KIND: RecordKind = RecordKind::Mark;
    const OBJECT_MAX: usize = LIST_OBJECT_MAX;

    fn check(&self, object_key: &str) -> Result<(), FormatError> {
        check_key("marks", object_key, &marks_key(&self.verify_id))?;
        check_text("the length of the tool's name", &self.tool)
    }
}

/// The snapshots of one volume that a prune saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenVolume {
    /// The volume.
    pub volume_id: VolumeId,
    /// Those with a manifest, which may have a tombstone by now.
    pub committed: Vec<SnapshotId>,
    /// Those with a tombstone, which stays.
    pub ended: Vec<SnapshotId>,
}

/// What a prune saw: a snapshot named here that a later prune does not find stops that prune.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The prune, or a part of what it saw.
    pub prune_id: ObjectId,
    /// The snapshots.
    pub volumes: Vec<SeenVolume>,
    /// When they were seen.
    pub seen_at: Timestamp,
    /// What wrote it.
    pub tool: String,
}

impl Record for Seen {
    const KIND: RecordKind = RecordKind::Seen;
    const OBJECT_MAX: usize = LIST_OBJECT_MAX;

    fn check(&self, object_key: &str) -> Result<(), FormatError> {
        check_key(
            "list of snapshots seen",
            object_key,
            &seen_key(&self.prune_id),
        )?;
        check_text("the length of the tool's name", &self.tool)
    }
}

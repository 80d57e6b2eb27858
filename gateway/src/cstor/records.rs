//! What the manager has on record of the backups that were asked for here.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use stockpot_proto::stockpot::v1::{self as api, BackupStatus, CopyState, StreamStatus};

use super::{
    destination::{BUCKET, Destination, LOCAL},
    documents::{BackupDocument, KEPT_BYTES_MAX, Status},
};
use crate::{listed, manager::Manager, problem::Problem};

const NAMESPACE: &str = "cstor.namespace";
const VOLUME: &str = "cstor.volume";
const SNAPSHOT: &str = "cstor.snapshot";
const SCHEDULE: &str = "cstor.schedule";
const DESTINATION: &str = "cstor.destination";
const PREVIOUS: &str = "cstor.previous";
const DOCUMENT: &str = "cstor.document";
/// Of a volume: the restore that filled it.
pub(super) const RESTORE: &str = "cstor.restore";

/// Longest name at the manager, in bytes.
const MANAGER_NAME_BYTES_MAX: usize = 128;

/// The words that a backup is found by.
type Words = HashMap<String, String>;

/// Which backup is meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    /// Empty: of any.
    pub(super) namespace: &'a str,
    pub(super) volume: &'a str,
    pub(super) snapshot: &'a str,
}

impl<'a> Key<'a> {
    pub(super) fn of(document: &'a BackupDocument) -> Self {
        Self {
            namespace: &document.metadata.namespace,
            volume: &document.spec.volume_name,
            snapshot: &document.spec.snap_name,
        }
    }

    /// Its name at the manager, which is unique there: a hash where the names in it are too long for that.
    pub(super) fn name(&self) -> String {
        // So that no slash of theirs is taken for the one between them.
        let plain = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        let name = format!("cstor/{}/{}", plain(self.volume), plain(self.snapshot));
        if name.len() <= MANAGER_NAME_BYTES_MAX {
            return name;
        }
        let hash = digest(&SHA256, name.as_bytes());
        let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        format!("cstor/{hex}")
    }

    /// Its name as an object of Kubernetes.
    pub(super) fn object(&self) -> String {
        format!("{}-{}", self.snapshot, self.volume)
    }
}

/// The words to keep with a backup.
pub(super) fn words(
    document: &BackupDocument,
    posted: &Value,
    destination: &Destination,
    previous: &str,
) -> Words {
    let spec = &document.spec;
    let mut words: Words = [
        (NAMESPACE, document.metadata.namespace.as_str()),
        (VOLUME, &spec.volume_name),
        (SNAPSHOT, &spec.snap_name),
        (SCHEDULE, &spec.backup_name),
        (DESTINATION, destination.text()),
        (PREVIOUS, previous),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let posted = posted.to_string();
    if posted.len() <= KEPT_BYTES_MAX {
        words.insert(DOCUMENT.to_owned(), posted);
    }
    words
}

/// A backup on record.
#[derive(Debug)]
pub(super) struct Record {
    words: Words,
    pub(super) what: What,
}

/// What it is at the manager.
#[derive(Debug)]
pub(super) enum What {
    /// A snapshot beside the volume.
    Local(api::Snapshot),
    /// A snapshot, and how sending it went.
    Sent(api::Snapshot, Option<api::Stream>),
    /// A copy in a bucket.
    Uploaded(api::Backup),
}

impl Record {
    fn word(&self, key: &str) -> &str {
        self.words.get(key).map_or("", String::as_str)
    }

    pub(super) fn is(&self, key: Key<'_>) -> bool {
        self.is_named(key) && (key.namespace.is_empty() || self.namespace() == key.namespace)
    }

    /// The same, of whatever namespace: its name at the manager is this one's, too.
    pub(super) fn is_named(&self, key: Key<'_>) -> bool {
        self.word(VOLUME) == key.volume && self.word(SNAPSHOT) == key.snapshot
    }

    pub(super) fn namespace(&self) -> &str {
        self.word(NAMESPACE)
    }

    /// The manager's id of it.
    pub(super) fn id(&self) -> &str {
        match &self.what {
            What::Local(snapshot) | What::Sent(snapshot, _) => &snapshot.snapshot_id,
            What::Uploaded(backup) => &backup.backup_id,
        }
    }

    /// Where the copies of it lie.
    pub(super) fn copies(&self) -> &'static str {
        match &self.what {
            What::Local(_) | What::Sent(..) => "local",
            What::Uploaded(_) => "cloud",
        }
    }

    pub(super) fn schedule(&self) -> &str {
        self.word(SCHEDULE)
    }

    pub(super) fn destination(&self) -> &str {
        self.word(DESTINATION)
    }

    pub(super) fn previous(&self) -> &str {
        self.word(PREVIOUS)
    }

    /// What was posted, if it was kept.
    pub(super) fn document(&self) -> Option<Value> {
        serde_json::from_str(self.word(DOCUMENT)).ok()
    }

    /// When its moment was.
    fn cut_at(&self) -> (i64, i32) {
        let at = match &self.what {
            What::Local(snapshot) | What::Sent(snapshot, _) => snapshot.cut_at,
            What::Uploaded(backup) => backup.cut_at.or(backup.created_at),
        };
        at.map_or((0, 0), |at| (at.seconds, at.nanos))
    }

    pub(super) fn status(&self) -> Status {
        match &self.what {
            What::Local(snapshot) => match snapshot.local() {
                CopyState::Present => Status::Done,
                CopyState::Pending => Status::InProgress,
                _ => Status::Failed,
            },
            // Whoever cut it did not live to send it.
            What::Sent(_, None) => Status::Failed,
            What::Sent(_, Some(stream)) => of_stream(stream),
            What::Uploaded(backup) => match backup.status() {
                BackupStatus::Creating if backup.paused => Status::Pending,
                BackupStatus::Creating if backup.cut_at.is_none() => Status::Init,
                BackupStatus::Creating | BackupStatus::Cancelling => Status::InProgress,
                BackupStatus::Available => Status::Done,
                BackupStatus::Cancelled | BackupStatus::Error => Status::Failed,
                BackupStatus::Deleted | BackupStatus::Unspecified => Status::Invalid,
            },
        }
    }

    /// Why it is no better, in words.
    pub(super) fn why(&self) -> &str {
        match &self.what {
            What::Local(snapshot) | What::Sent(snapshot, None) => &snapshot.error,
            What::Sent(_, Some(stream)) => &stream.error,
            What::Uploaded(backup) => &backup.error,
        }
    }
}

/// The status of a stream.
pub(super) fn of_stream(stream: &api::Stream) -> Status {
    match stream.status() {
        StreamStatus::Running => Status::InProgress,
        StreamStatus::Done => Status::Done,
        StreamStatus::Failed => Status::Failed,
        StreamStatus::Unspecified => Status::Invalid,
    }
}

/// The backups of a volume that were asked for here, however they went.
pub(super) async fn of_volume(manager: &Manager, volume: &str) -> Result<Vec<Record>, Problem> {
    let is_of = |words: &Words| words.get(VOLUME).is_some_and(|name| name == volume);
    let snapshots = listed::snapshots_on_record(manager).await?;
    let asked = api::ListStreamsRequest::default();
    let streams = manager.streams().list_streams(asked).await?.into_inner();
    let backups = listed::backups(manager, "").await?;
    let mut records = Vec::new();
    for snapshot in snapshots {
        let words = snapshot.metadata.clone();
        let destination = words.get(DESTINATION).map_or("", String::as_str);
        // What is read by an upload is told by its backup.
        if !is_of(&words) || destination.is_empty() || destination.starts_with(BUCKET) {
            continue;
        }
        let what = match destination {
            LOCAL => What::Local(snapshot),
            _ => {
                let mut of_it = streams.streams.iter();
                let newest = of_it.rfind(|s| s.sending && s.snapshot_id == snapshot.snapshot_id);
                What::Sent(snapshot, newest.cloned())
            }
        };
        records.push(Record { words, what });
    }
    for backup in backups {
        let words = backup.metadata.clone();
        let destination = words.get(DESTINATION).map_or("", String::as_str);
        if is_of(&words) && destination.starts_with(BUCKET) {
            let what = What::Uploaded(backup);
            records.push(Record { words, what });
        }
    }
    Ok(records)
}

/// The name of the last one that was completed before, of the same schedule and place; empty without one.
pub(super) fn last_completed(
    records: &[Record],
    document: &BackupDocument,
    destination: &Destination,
) -> String {
    let is_same_place = |text: &str| match destination {
        Destination::Local | Destination::Bucket { .. } => text == destination.text(),
        // Whoever waits at an address passes it on to a place that is not told, and gets another address when it starts anew.
        Destination::Address(_) => text != LOCAL && !text.starts_with(BUCKET),
    };
    let is_before = |record: &&Record| {
        record.schedule() == document.spec.backup_name
            && record.namespace() == document.metadata.namespace
            && record.word(SNAPSHOT) != document.spec.snap_name
            && is_same_place(record.destination())
            && record.status() == Status::Done
    };
    let last = records.iter().filter(is_before).max_by_key(|r| r.cut_at());
    last.map(|record| record.word(SNAPSHOT).to_owned())
        .unwrap_or_default()
}

/// The volume of a name or id, if it is there.
pub(super) async fn volume(manager: &Manager, name: &str) -> Result<Option<api::Volume>, Problem> {
    let mut volumes = listed::volumes(manager).await?;
    let found = volumes
        .iter()
        .position(|volume| volume.volume_id == name)
        .or_else(|| volumes.iter().position(|volume| volume.name == name));
    Ok(found.map(|at| volumes.swap_remove(at)))
}

/// Whether a volume is there with its content.
pub(super) fn is_healthy(volume: &api::Volume) -> bool {
    use api::VolumeStatus::{Available, BackingUp, Extending, InUse};
    matches!(volume.status(), Available | InUse | BackingUp | Extending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(volume: &str, snapshot: &str) -> String {
        let namespace = "shop";
        Key {
            namespace,
            volume,
            snapshot,
        }
        .name()
    }

    #[test]
    fn names_at_the_manager_differ_and_are_short_enough() {
        assert_eq!(name("pvc-1", "daily-1"), "cstor/pvc-1/daily-1");
        for (one, other) in [
            (name("a/b", "c"), name("a", "b/c")),
            (name("a/b", "c"), name("a%2Fb", "c")),
            (name(&"x".repeat(253), "a"), name(&"x".repeat(253), "b")),
        ] {
            assert_ne!(one, other);
            assert!(one.len() <= MANAGER_NAME_BYTES_MAX, "{one}");
        }
        // A hash is no two names.
        assert_eq!(name("v", &"x".repeat(200)).matches('/').count(), 1);
    }
}

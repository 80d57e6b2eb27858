//! What can go wrong with a repository, by what a caller can do about it.

use crate::{
    device::DeviceError,
    format::{FormatError, object_keys::is_ours},
    store::{FLOODED, StoreError},
};

/// Failures of the verbs.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing is at the place.
    #[error(
        "{location} holds no repository: are bucket and prefix right? (Where none was yet, a first backup makes one)"
    )]
    NoRepository {
        /// The place.
        location: String,
    },
    /// The place holds something that is not a repository.
    #[error(
        "{location} holds other objects (such as {found}) and no repository; {}", instead(.found)
    )]
    Foreign {
        /// The place.
        location: String,
        /// One of the objects.
        found: String,
    },
    /// There is a repository already where one was to be made.
    #[error("{location} holds a repository already")]
    AlreadyThere {
        /// The place.
        location: String,
    },
    /// A repository was here, and somebody deleted its marker: a new one must not come to lie over it.
    #[error(
        "{location} held a repository, and its marker was deleted: the bucket still has it as an older version. With \
         --first-versions `stockpot snapshots`, `verify` and `restore` read what was written first; a new repository needs another \
         prefix, or the older versions removed"
    )]
    Hidden {
        /// The place.
        location: String,
    },
    /// The marker was there when the repository was opened, and is not any more.
    #[error(
        "the marker of {location} is gone: somebody deleted repository.json since the repository was opened, and without it nothing there \
         can be read. Nothing is written or deleted there; put repository.json back, from a copy or an older version of it. Where all of \
         it was deleted on purpose, the next backup makes a new repository"
    )]
    MarkerGone {
        /// The place.
        location: String,
    },
    /// Another repository was made at the place since this one was opened.
    #[error(
        "{location} is repository {found} now, and was {opened} when it was opened: somebody replaced repository.json. Nothing is written or \
         deleted there; to go on with the former one put its repository.json back, from a copy or an older version of it; the next backup goes to what is there"
    )]
    MarkerReplaced {
        /// The place.
        location: String,
        /// Short id of what is there.
        found: String,
        /// Short id of what was there.
        opened: String,
    },
    /// The repository, or an object in it, needs a format or features that this version does not know.
    #[error("{object} was made by a newer version of Stockpot")]
    Newer {
        /// The object.
        object: String,
        /// Where in it, if known.
        offset: Option<u64>,
        /// What is not known here.
        #[source]
        source: FormatError,
    },
    /// The repository is sealed, and the verb needs its content.
    #[error("{location} is sealed: give its key file or passphrase")]
    KeyNeeded {
        /// The place.
        location: String,
    },
    /// A key was given and the repository is not sealed: writing to it would not keep what the user expects.
    #[error(
        "{location} is not sealed, but a key was given; leave the key out, or choose another prefix"
    )]
    NotSealed {
        /// The place.
        location: String,
    },
    /// Something with keys was asked of a repository that is not sealed.
    #[error("{location} is not sealed: it has no key")]
    NoKeys {
        /// The place.
        location: String,
    },
    /// No key slot opens with what was given.
    #[error("wrong {given} for {location}: it opens none of the repository's {slots} key slots{}", not_tried(.untried))]
    WrongKey {
        /// The place.
        location: String,
        /// Passphrase or key file.
        given: &'static str,
        /// How many slots were looked at.
        slots: usize,
        /// Slots that were not tried: there are too many of them, or trying them takes too long.
        untried: Vec<String>,
    },
    /// The exported key is that of another repository.
    #[error("the exported key is not that of {location}, but of another repository")]
    OtherKey {
        /// The place.
        location: String,
    },
    /// There is no key slot of this id.
    #[error("{location} has no {}", named_slot(.slot))]
    UnknownSlot {
        /// The slot asked for.
        slot: String,
        /// The place.
        location: String,
    },
    /// No more key slots would be looked at.
    #[error("{location} has {slots} key slots already; remove one that is not needed any more")]
    TooManySlots {
        /// The place.
        location: String,
        /// How many there are.
        slots: usize,
    },
    /// Without this slot nobody could open the repository.
    #[error(
        "{slot} is the last usable key slot of {location}: without it nobody could open the repository. \
         Add another one first, or export the key and show the exported file"
    )]
    LastSlot {
        /// The slot.
        slot: String,
        /// The place.
        location: String,
    },
    /// The slot is the one that opened the repository, and nothing shows that another one opens it.
    #[error(
        "{slot} of {location} is the slot that was opened just now, and nothing shows that another one opens: open the repository \
         through the slot that is to stay, or show an exported key"
    )]
    OwnSlot {
        /// The slot.
        slot: String,
        /// The place.
        location: String,
    },
    /// The newest snapshot of the volume was made from something else.
    #[error(
        "the newest snapshot of volume {volume} was made from {found}, and this is {source_path}: say with --volume {volume} that they \
         are the same volume, or give this one another name with --volume"
    )]
    OtherSource {
        /// The volume.
        volume: String,
        /// What its newest snapshot was made from.
        found: String,
        /// What was to be uploaded.
        source_path: String,
    },
    /// No snapshot of this name.
    #[error("no snapshot {snapshot} in {location}")]
    UnknownSnapshot {
        /// What was asked for.
        snapshot: String,
        /// The place.
        location: String,
    },
    /// A prefix fits several snapshots.
    #[error("{prefix} fits {count} snapshots (such as {first} and {second}); give more of the id")]
    AmbiguousSnapshot {
        /// What was asked for.
        prefix: String,
        /// How many fit.
        count: usize,
        /// One.
        first: String,
        /// Another.
        second: String,
    },
    /// The snapshot was deleted, or its upload cancelled.
    #[error("snapshot {snapshot} was deleted")]
    Deleted {
        /// Its id.
        snapshot: String,
    },
    /// The snapshot's upload is not committed.
    #[error("snapshot {snapshot} is not complete: its upload is under way or was broken off")]
    NotCommitted {
        /// Its id.
        snapshot: String,
    },
    /// The id was committed by another upload.
    #[error("snapshot {snapshot} is in the repository already")]
    AlreadyCommitted {
        /// Its id.
        snapshot: String,
    },
    /// An object's content is not what it has to be.
    #[error("{object} is damaged{}", .offset.map(|o| format!(" at byte {o}")).unwrap_or_default())]
    Damaged {
        /// The object's key.
        object: String,
        /// Where in it, if known.
        offset: Option<u64>,
        /// What is wrong.
        #[source]
        source: FormatError,
    },
    /// Objects that are each well-formed do not fit together.
    #[error("{object} does not fit: {problem}")]
    Inconsistent {
        /// The object's key.
        object: String,
        /// What does not fit.
        problem: String,
    },
    /// A lock was asked for, and the bucket cannot lock.
    #[error(
        "{location}: the bucket was made without Object Lock, so nothing in it can be locked; make another one with it, or leave \
         the lock out"
    )]
    NoObjectLock {
        /// The place.
        location: String,
    },
    /// When a lock would end, or how old a snapshot is, is not certain.
    #[error(
        "{location}: it is {server} by the store's clock and {own} by this machine's, so a lock would end at the wrong time and a snapshot's age \
         is not known: nothing is locked, and no policy applied. Set the clock that is wrong; or leave the lock out, or name snapshots by their ids"
    )]
    Clocks {
        /// The place.
        location: String,
        /// The store's time.
        server: String,
        /// Our own.
        own: String,
    },
    /// A snapshot says that it was committed at a time that is still to come.
    #[error(
        "{snapshot} says that it was committed at {committed_at}, and by the store's clock it is {now}: the clock of the machine that made it was \
         wrong, so which snapshots are the newest is not known, and no policy is applied. Forget it by its id, or leave its volume out with --volume"
    )]
    AheadOfTime {
        /// The snapshot.
        snapshot: String,
        /// When it was committed, by its machine's clock.
        committed_at: String,
        /// The store's time.
        now: String,
    },
    /// The bucket does not keep versions.
    #[error("{location}: the store keeps no versions of its objects, so what was deleted is gone")]
    NoVersions {
        /// The place.
        location: String,
    },
    /// A value that cannot be stored.
    #[error("cannot be stored: {what}")]
    Unstorable {
        /// Which value.
        what: String,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The device or file.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is more below a prefix than a repository of ours can have: it is not taken into memory.
    #[error(
        "the bucket shows more than {limit} {what} below {prefix}; no repository has so many: {}",
        FLOODED
    )]
    TooMany {
        /// Where.
        prefix: String,
        /// Of what.
        what: &'static str,
        /// The most that is read.
        limit: usize,
    },
    /// Packs that a snapshot needs are not in the bucket as they were put, before it is committed.
    #[error(
        "{first}{} is not in the bucket as it was put, and the snapshot needs it: somebody deletes or replaces packs; nothing was committed. \
         Once nobody does so any more, try again: what is missing is sent anew", and_others(*.others)
    )]
    PacksGone {
        /// The object key of the first one.
        first: String,
        /// How many more.
        others: usize,
    },
    /// A setting out of range.
    #[error("{0}")]
    Settings(String),
    /// The source's owner says that what was read is not to be relied on. Nothing was committed.
    #[error("what was read cannot be relied on, so nothing was committed")]
    SourceVoid {
        /// What the owner says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
    /// A part of the program ended without a result: a defect here, or threads that cannot be started.
    #[error("internal failure: {0}")]
    Internal(String),
}

/// What to do where there is no marker, by what else is there.
fn instead(found: &str) -> &'static str {
    match is_ours(found) {
        true => {
            "these are a repository's, so somebody deleted its marker: put repository.json back, from a copy or an older version of it"
        }
        false => "choose an empty prefix",
    }
}

/// What does not look like the name of a slot may be a key that was put in the wrong place.
fn named_slot(slot: &str) -> String {
    match slot.starts_with("slot-") {
        true => format!("key slot {slot}"),
        false => "such key slot (its name is not repeated, since it may be a secret)".to_owned(),
    }
}

fn not_tried(slots: &[String]) -> String {
    match slots {
        [] => String::new(),
        [first, others @ ..] => format!(
            " that were tried; {first}{} not tried, because there are too many slots or trying takes too long: name the slot \
             to try it",
            match others.len() {
                0 => " was".to_owned(),
                others => format!(" and {others} more were"),
            }
        ),
    }
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and so {others} more)"),
    }
}

impl RepositoryError {
    /// What is wrong with an object, or with what lies at an offset of it.
    pub(crate) fn object(
        object: impl Into<String>,
        offset: Option<u64>,
        source: FormatError,
    ) -> Self {
        let object = object.into();
        match source {
            FormatError::Newer { .. } => Self::Newer {
                object,
                offset,
                source,
            },
            _ => Self::Damaged {
                object,
                offset,
                source,
            },
        }
    }

    /// Whether it tells something of one object alone: the bucket answers, and others may be sound.
    #[must_use]
    pub fn is_of_one_object(&self) -> bool {
        match self {
            Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Inconsistent { .. }
            | Self::PacksGone { .. } => true,
            Self::Store(error) => error.is_of_one_object(),
            _ => false,
        }
    }

    /// Whether it is the caller's wish to stop, not a failure.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

//! What can be wrong with profiles.

use std::path::PathBuf;

/// The error of every profile call.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none of that name.
    #[error("there is no profile {name} in {}{}", dir.display(), hint(*unreadable))]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
        /// How many files there could not be read.
        unreadable: usize,
    },
    /// Two files have that name.
    #[error("profile {name} is there twice: {} and {}", first.display(), second.display())]
    Ambiguous {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a profile.
    #[error("{} is no profile: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the field's name where it is one field.
        problem: String,
    },
    /// It says nothing of where a cloud copy would lie.
    #[error("profile {name} has no topology, so there is no place for a cloud copy")]
    NoTopology {
        /// The name.
        name: String,
    },
    /// It has policies that are not about snapshots.
    #[error(
        "profile {name} has {properties}, which are not about snapshots; use one with snapshotProperties only"
    )]
    NotAboutSnapshots {
        /// The name.
        name: String,
        /// Which.
        properties: String,
    },
    /// What a caller wrote is no profile, or says what only a file may say.
    #[error("the profile cannot be taken: {problem}")]
    Refused {
        /// What is wrong, with the field's name where it is one field.
        problem: String,
    },
    /// One of that name is there and says something else.
    #[error(
        "profile {name} exists already and says something else; change it, or take another name"
    )]
    Exists {
        /// The name.
        name: String,
    },
    /// Somebody else changed or removed it between the look at it and the change.
    #[error("profile {name} was changed or removed meanwhile; look at it and ask again")]
    Changed {
        /// The name.
        name: String,
    },
    /// There are as many as are looked at.
    #[error("there are {most} profiles, which is the most that calls may make; remove some")]
    TooMany {
        /// How many.
        most: usize,
    },
    /// The file is a link, so it is kept somewhere else.
    #[error("{} is a link: change the profile where it comes from", path.display())]
    Linked {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written or removed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

fn hint(unreadable: usize) -> String {
    match unreadable {
        0 => String::new(),
        1 => " (one file there cannot be read; the log says why)".to_owned(),
        n => format!(" ({n} files there cannot be read; the log says why)"),
    }
}

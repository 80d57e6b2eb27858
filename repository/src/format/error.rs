//! What can be wrong with bytes of a repository.

/// Why bytes or values are not what format 1 allows. The caller adds which object and offset they came from.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A text is not a valid id.
    #[error("{value:?} is not a valid {what}: {rule}")]
    Id {
        /// What it should be.
        what: &'static str,
        /// The text, shortened.
        value: String,
        /// What it has to look like.
        rule: &'static str,
    },
    /// The bytes cannot be what they should be: damaged, cut off, or something else.
    #[error("the {what} is malformed: {problem}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The JSON of a marker, slot or record is not what it should be.
    #[error("the {what} is malformed")]
    Json {
        /// What was read.
        what: &'static str,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A checksum, hash or authentication tag does not fit: the bytes were changed, or they belong elsewhere.
    #[error("the {what} is damaged: its {check} does not match")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// Which check failed.
        check: &'static str,
    },
    /// A value is outside the limits of the format.
    #[error("{what} is {found}, the limit is {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The value.
        found: u64,
        /// The largest (or smallest) value allowed.
        limit: u64,
    },
    /// Made by a newer version.
    #[error(
        "the {what} needs {needs}, which this version does not know; use a newer version of stockpot"
    )]
    Newer {
        /// What was read.
        what: &'static str,
        /// The format or feature that is missing.
        needs: String,
    },
    /// Sealed, and no key is there (or the other way round).
    #[error("the {what} is {found}, but the repository is {expected}")]
    Sealing {
        /// What was read.
        what: &'static str,
        /// `sealed` or `not sealed`.
        found: &'static str,
        /// `sealed` or `not sealed`.
        expected: &'static str,
    },
    /// A library refused to work: no randomness, no memory for a compressor.
    #[error("{what} failed")]
    Library {
        /// What was asked of it.
        what: &'static str,
    },
}

impl FormatError {
    /// A [`FormatError::Malformed`].
    pub(crate) fn malformed(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            problem: problem.into(),
        }
    }

    /// A [`FormatError::Limit`] if `found > limit`.
    pub(crate) fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), Self> {
        if found > limit {
            return Err(Self::Limit { what, found, limit });
        }
        Ok(())
    }
}

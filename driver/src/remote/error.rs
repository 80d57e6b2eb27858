//! What can go wrong between two nodes.

use super::CertificateError;
use crate::DriverError;

/// Why a storage node did not do what it was asked, apart from what its driver said.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no connection, or it broke. A call that was under way may be done or not: it can be made again.
    #[error("storage node {node} cannot be reached at {address}: {why}")]
    Unreachable {
        /// Its name.
        node: String,
        /// Where it should be.
        address: String,
        /// What the connection met.
        why: String,
    },
    /// It answers, and not this call. It may still be at it: the call can be made again.
    #[error("storage node {node} did not answer {call} within {waited_seconds} s")]
    NoAnswer {
        /// Its name.
        node: String,
        /// Which call.
        call: &'static str,
        /// How long it was waited for.
        waited_seconds: u64,
    },
    /// It is starting or stopping.
    #[error("storage node {node} is not ready: {why}")]
    NotReady {
        /// Its name.
        node: String,
        /// What it said.
        why: String,
    },
    /// It does not let this node do that.
    #[error("storage node {node} refuses: {why}")]
    Refused {
        /// Its name.
        node: String,
        /// What it said.
        why: String,
    },
    /// It lacks a program, a module, a permission or the storage itself.
    #[error("storage node {node} cannot do that: {what}")]
    Lacks {
        /// Its name.
        node: String,
        /// What is missing and what to do.
        what: String,
    },
    /// A command, the kernel or the system failed there.
    #[error("storage node {node}: {text}")]
    Failed {
        /// Its name.
        node: String,
        /// The whole chain of causes.
        text: String,
        /// What was asked for may still be done behind.
        may_go_on: bool,
    },
    /// Its answer is not one of this protocol.
    #[error("storage node {node} answered {call} with something that cannot be meant: {what}")]
    Malformed {
        /// Its name.
        node: String,
        /// Which call.
        call: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// This node cannot prove who it is.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl NodeError {
    /// Whether the same call may succeed a little later without anybody doing anything here.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::NotReady { .. }
        )
    }
}

impl NodeError {
    /// Whether the storage node may still be at what it was asked, or have done it.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            Self::Failed { may_go_on, .. } => *may_go_on,
            _ => false,
        }
    }
}

impl From<NodeError> for DriverError {
    fn from(error: NodeError) -> Self {
        Self::Node(Box::new(error))
    }
}

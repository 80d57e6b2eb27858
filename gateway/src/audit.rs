//! The audit log: one event for each call that changes something.

/// What a handler puts into the extensions of its answer, so that the audit log names what was made:
/// `(Extension(Touched(id)), …).into_response()`. Ids in the path are there anyway.
#[derive(Debug, Clone)]
pub(crate) struct Touched(pub(crate) String);

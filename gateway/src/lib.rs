//! The REST frontends.

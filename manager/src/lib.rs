//! The manager.

pub mod catalog;
pub mod ids;

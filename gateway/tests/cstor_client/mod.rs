//! A client that speaks the protocol of OpenEBS's plugin, and what it is tried on.

pub(crate) mod lab;
pub(crate) mod plugin;

//! The gateway as its clients meet it: OpenSDS's flow, who is let in, limits, the audit log, bad input.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../lab/mod.rs"]
mod lab;

mod access;
mod bad_input;
mod certificates;
mod limits;
mod opensds;
mod serving;

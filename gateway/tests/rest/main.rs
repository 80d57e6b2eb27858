//! The gateway as its clients meet it: OpenSDS's flow, who is let in, limits, the audit log, bad input.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod bad_input;
mod certificates;
mod lab;
mod limits;
mod opensds;
mod serving;

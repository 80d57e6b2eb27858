//! The operations on storage and buckets that are fakes: every step of every flow fails once, and is killed once;
//! what is left, and what asking again makes of it.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod lab;
mod world;

//! The verbs, end to end: up, down, list, delete, verify, on a bucket in memory.

#[path = "verbs/round_trip.rs"]
mod round_trip;
#[path = "verbs/support.rs"]
mod support;

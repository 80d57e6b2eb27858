//! Storage, a host and buckets in memory and plain files, that fail or hang at the k-th call.
//!
//! Ordinary implementations beside the real ones, so that the order of steps, what is undone and what is found
//! again can be tested for every step on any machine. Nothing real is attached: a "device" is the file itself.

mod clock;
mod faults;
mod host;
mod storage;
mod stores;

pub use self::{
    clock::DrivenClock,
    faults::{Fault, Faults},
    host::FakeHost,
    storage::{FakeStorage, Leftovers},
    stores::FakeStores,
};

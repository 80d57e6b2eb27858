//! The map as a whole: built from ascending chunks, read as a stream of leaves or by single chunks.
//!
//! Both work in bounded memory whatever the volume's size: one open page per level when building, and at most 64
//! pages per level when reading.

mod build;
mod lookup;
mod read;
#[cfg(test)]
mod tests;

pub use build::{MapBuilder, PageInfo, PageSink, Place};
pub use lookup::MapLookup;
pub use read::{BrokenPage, Leaf, MapReader, PageSource, VisitedPage};

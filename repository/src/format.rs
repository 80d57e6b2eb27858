//! Format 1 of the bucket: bytes in, typed values out, and back. `docs/bucket-format.md` is the specification.
//!
//! Nothing here does I/O. Whatever is read is checked against [`limits`] first, and whatever is wrong with it
//! is a [`FormatError`]; no input makes this code panic or reserve more memory than the limits say.
//!
//! The way up: [`keys`] give a [`crypto::Sealer`]; [`pack_builder::PackBuilder`] turns chunks into frames of a pack;
//! [`map::MapBuilder`] and [`list::build_pack_list`] turn their locations into pages; [`manifest::Manifest`] is sealed by
//! [`record`]. The way down is the reverse, through [`map::MapReader`] and [`frame::FrameDecoder`].

mod bytes;
pub mod crc32c;
pub mod crypto;
mod error;
#[cfg(test)]
mod example;
pub mod frame;
mod hashes;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod list;
pub mod list_page;
pub mod location;
pub mod manifest;
pub mod map;
pub mod map_page;
pub mod marker;
pub mod object_keys;
pub mod pack;
pub mod pack_builder;
pub mod pack_index;
pub mod protocol;
pub mod record;
pub mod slot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors;

pub use error::FormatError;

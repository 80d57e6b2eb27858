//! Block devices and image files: what is read from and what is written to.
//!
//! [`Source`] reads exactly the bytes that a device or file had when it was opened, or fails; [`Target`] writes
//! exactly the bytes of a volume and is finished only after they are on the medium. Both use `O_DIRECT` where
//! the kernel takes it, in aligned pieces, and buffered I/O for what cannot be aligned. Neither touches
//! anything that somebody else has mounted or open for writing unless it is forced to.

mod alone;
mod buffer;
mod direct;
mod error;
mod in_use;
mod provisional;
mod source;
mod syscall;
mod target;
mod zero;

pub use buffer::{ALIGNMENT_BYTES, AlignedBuffer};
pub use error::DeviceError;
pub use source::{Source, SourceOptions};
pub(crate) use target::ZERO_STEP_BYTES;
pub use target::{Target, TargetOptions};
pub use zero::is_zero;

/// What lies behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A block device.
    Block,
    /// A regular file.
    File,
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DeviceKind::Block => "block device",
            DeviceKind::File => "file",
        })
    }
}

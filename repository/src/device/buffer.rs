//! Memory that `O_DIRECT` accepts.

use std::ops::{Deref, DerefMut};

/// What addresses, offsets and lengths of direct I/O are multiples of, in bytes. The logical blocks of every
/// disk in use are 512 or 4096 bytes.
pub const ALIGNMENT_BYTES: usize = 4096;

/// A buffer of a fixed length whose first byte lies on an [`ALIGNMENT_BYTES`] boundary.
pub struct AlignedBuffer {
    // Longer than needed by one alignment, never reallocated: the aligned window stays where it is.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` zeroes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len + ALIGNMENT_BYTES];
        let start = memory.as_ptr().align_offset(ALIGNMENT_BYTES);
        assert!(
            start < ALIGNMENT_BYTES,
            "a byte pointer can always be aligned"
        );
        Self { memory, start, len }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len)
    }
}

/// Whether direct I/O takes this piece of memory at this offset.
pub(super) fn is_aligned(memory: &[u8], offset: u64) -> bool {
    let alignment = ALIGNMENT_BYTES;
    memory.as_ptr().align_offset(alignment) == 0
        && memory.len().is_multiple_of(alignment)
        && offset.is_multiple_of(alignment as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_aligned_and_keeps_its_length() {
        for len in [0, 1, 4095, 4096, 1 << 20] {
            let mut buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().align_offset(ALIGNMENT_BYTES), 0);
            buffer.fill(7);
            assert!(buffer.iter().all(|&b| b == 7));
        }
    }
}

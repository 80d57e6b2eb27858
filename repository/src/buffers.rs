//! The memory of parts and ranges: taken from a pool, filled, passed on without a copy, returned by its last user.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that are used again. It never waits: how many are out at a time is bounded by whoever takes them
/// (workers, permits of parts and of ranges in flight).
#[derive(Debug)]
pub(crate) struct BufferPool {
    capacity_bytes: usize,
    spare_max: usize,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Buffers of `capacity_bytes`; at most `spare_max` are kept for later.
    pub(crate) fn new(capacity_bytes: usize, spare_max: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity_bytes,
            spare_max,
            spare: Mutex::new(Vec::new()),
        })
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        spare.unwrap_or_else(|| Vec::with_capacity(self.capacity_bytes))
    }

    /// Turns a filled buffer into a body that returns to the pool when its last user drops it.
    pub(crate) fn lend(self: &Arc<Self>, filled: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            filled,
            pool: self.clone(),
        })
    }
}

struct Lent {
    filled: Vec<u8>,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.filled
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.filled);
        buffer.clear();
        let mut spare = self
            .pool
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if spare.len() < self.pool.spare_max {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_no_more_than_wanted_are_kept() {
        let pool = BufferPool::new(64, 1);
        let mut one = pool.take();
        let address = one.as_ptr();
        one.extend_from_slice(b"part");
        let body = pool.lend(one);
        let also = body.clone();
        let other = pool.lend(pool.take());
        assert_eq!(&body[..], b"part");
        drop(body);
        assert_eq!(pool.spare.lock().unwrap().len(), 0, "still in use");
        drop(also);
        drop(other);
        assert_eq!(pool.spare.lock().unwrap().len(), 1);
        let again = pool.take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), address);
    }
}

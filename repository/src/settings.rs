//! What a user may tune. Each limit has a default that was measured, and bounds that are checked before work starts.

use crate::{
    RepositoryError,
    format::limits::VOLUME_SIZE_MAX,
    lock::LockPolicy,
    restore::WRITE_SIZE_BYTES,
    upload::read_ahead::{READ_BUFFERS, READ_SIZE_BYTES},
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What a process needs besides the buffers that the settings speak of: program, connections, trees under construction.
/// Measured, with a margin.
const FIXED_BYTES: u64 = 28 * MIB as u64;

/// The usual size of a part and of a range, in bytes.
const TRANSFER_SIZE_BYTES: usize = 8 * MIB;

/// The smallest part that S3 takes, in bytes.
const PART_SIZE_BYTES_MIN: usize = 5 * MIB;

/// How an upload runs. [`UploadSettings::memory_bytes`] says what that takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSettings {
    /// Parts being sent at the same time, all packs together; 1 to 64.
    pub parts_in_flight: usize,
    /// Size of a part in bytes, all but the last; 5 MiB (the least that S3 takes) to 256 MiB.
    pub part_size_bytes: usize,
    /// Size at which a pack is closed, in bytes; one part to 3 GiB.
    pub pack_size_bytes: u64,
    /// Threads that read, hash, compress and seal; 1 to 64.
    pub workers: usize,
    /// Compression level of zstd, -7 (fastest) to 19.
    pub zstd_level: i32,
    /// Share of the data said to be unchanged that is read all the same, to make sure of it: in parts per million, at
    /// least `guard_chunks_min` chunks and at most 1024. 0 reads none, 1,000,000 all of the volume.
    pub guard_share_ppm: u32,
    /// The least of it, in chunks; 1 to 1024.
    pub guard_chunks_min: u32,
    /// Packs of which less than this share is needed, in percent, are referred to no longer: what is needed of them is
    /// sent anew. 0 to 90; 0: never.
    pub repack_below_percent: u32,
    /// The most that one upload sends anew for that, in bytes; 0 (nothing) to 64 TiB.
    pub repack_budget_bytes: u64,
    /// What there is to gain by it at least, in bytes; 0 (however little) to 64 TiB.
    pub repack_gain_bytes_min: u64,
    /// Locks all that the snapshot needs (Object Lock); the bucket has to be able to.
    pub lock: Option<LockPolicy>,
}

/// The whole, in parts per million.
pub(crate) const PPM: u32 = 1_000_000;

/// Chunks that are sampled at most, unless all are to be.
pub(crate) const GUARD_CHUNKS_MAX: u64 = 1024;

/// With more, packs that are as good as whole would be sent again and again.
const REPACK_BELOW_PERCENT_MAX: u64 = 90;

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            parts_in_flight: 4,
            part_size_bytes: TRANSFER_SIZE_BYTES,
            pack_size_bytes: 256 * MIB as u64,
            workers: 2,
            zstd_level: 1,
            guard_share_ppm: 1000,
            guard_chunks_min: 16,
            repack_below_percent: 25,
            repack_budget_bytes: 256 * MIB as u64,
            repack_gain_bytes_min: MIB as u64,
            lock: None,
        }
    }
}

impl UploadSettings {
    /// Settings that keep a process within so much memory, in bytes, for chunks of this size.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] if even the smallest need more.
    pub fn within_memory(
        memory_bytes: u64,
        chunk_size_bytes: u32,
    ) -> Result<Self, RepositoryError> {
        // From the usual down to the least: first smaller parts, then fewer. With more memory, more parts in flight.
        let more = (5..=16).rev().map(|parts| (parts, 2, TRANSFER_SIZE_BYTES));
        let fewer = [(4, 2), (3, 2), (2, 2), (2, 1), (1, 1)]
            .into_iter()
            .flat_map(|(parts, workers)| {
                let sizes = (PART_SIZE_BYTES_MIN..=TRANSFER_SIZE_BYTES)
                    .rev()
                    .step_by(MIB);
                sizes.map(move |size| (parts, workers, size))
            });
        let all = more.chain(fewer).map(|(parts, workers, size)| Self {
            parts_in_flight: parts,
            workers,
            part_size_bytes: size,
            ..Self::default()
        });
        fitting(all, memory_bytes, |s| s.memory_bytes(chunk_size_bytes))
    }

    /// The most memory that a process takes which runs one upload with these settings, in bytes: a part for each that is in
    /// flight, one for each worker and one for the map, room for two reads per worker, and a fixed sum.
    #[must_use]
    pub fn memory_bytes(&self, chunk_size_bytes: u32) -> u64 {
        let chunk = u64::from(chunk_size_bytes);
        let parts = (self.parts_in_flight + self.workers + 1) as u64;
        let reads = (self.workers * READ_BUFFERS) as u64;
        FIXED_BYTES
            + parts * (self.part_size_bytes as u64 + 2 * chunk)
            + reads * chunk.max(READ_SIZE_BYTES as u64)
    }

    /// The same for an upload that goes on with packs of earlier attempts: what it remembers of their indexes takes the
    /// place of a part in flight.
    pub(crate) fn adopting(&self) -> Self {
        Self {
            parts_in_flight: self.parts_in_flight.saturating_sub(1).max(1),
            ..self.clone()
        }
    }

    /// What such an upload may remember, in bytes. Where there is only one part in flight, the fixed sum has room for it.
    pub(crate) fn adopted_cache_bytes(&self) -> u64 {
        match self.parts_in_flight {
            0 | 1 => MIB as u64,
            _ => self.part_size_bytes as u64,
        }
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] names the setting and its range.
    pub fn check(&self) -> Result<(), RepositoryError> {
        within("parts in flight", self.parts_in_flight as u64, 1, 64)?;
        within(
            "part size in bytes",
            self.part_size_bytes as u64,
            PART_SIZE_BYTES_MIN as u64,
            256 * MIB as u64,
        )?;
        within(
            "pack size in bytes",
            self.pack_size_bytes,
            self.part_size_bytes as u64,
            3 << 30,
        )?;
        // S3 takes 10,000 parts; the last frame and the index may add one or two.
        within(
            "parts in a pack",
            self.pack_size_bytes / self.part_size_bytes as u64,
            1,
            9_990,
        )?;
        within("workers", self.workers as u64, 1, 64)?;
        within(
            "share of unchanged data that is checked, in parts per million",
            self.guard_share_ppm.into(),
            0,
            PPM.into(),
        )?;
        within(
            "chunks said to be unchanged that are checked at least",
            self.guard_chunks_min.into(),
            1,
            GUARD_CHUNKS_MAX,
        )?;
        within(
            "share of a pack below which it is emptied, in percent",
            self.repack_below_percent.into(),
            0,
            REPACK_BELOW_PERCENT_MAX,
        )?;
        within(
            "bytes of sparse packs that are sent anew at most",
            self.repack_budget_bytes,
            0,
            VOLUME_SIZE_MAX,
        )?;
        within(
            "bytes to gain at least by emptying packs",
            self.repack_gain_bytes_min,
            0,
            VOLUME_SIZE_MAX,
        )?;
        if let Some(lock) = self.lock {
            lock.check()?;
        }
        if !(-7..=19).contains(&self.zstd_level) {
            return Err(RepositoryError::Settings(format!(
                "compression level: {}; it has to be from -7 to 19",
                self.zstd_level
            )));
        }
        Ok(())
    }
}

/// How a restore, or the reading part of a verify, runs. [`ReadSettings::memory_bytes`] says what that takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSettings {
    /// Ranges being fetched at the same time; 1 to 64.
    pub gets_in_flight: usize,
    /// Size of a range in bytes; 256 KiB to 64 MiB.
    pub range_size_bytes: usize,
    /// Gap between two wanted pieces that is read through rather than asked around, in bytes; up to 8 MiB.
    pub gap_size_bytes: usize,
    /// Threads that decrypt, decompress and check; 1 to 64.
    pub workers: usize,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            gets_in_flight: 4,
            range_size_bytes: TRANSFER_SIZE_BYTES,
            gap_size_bytes: 512 * KIB,
            workers: 2,
        }
    }
}

impl ReadSettings {
    /// Settings that keep a process within so much memory, in bytes, for chunks of this size.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] if even the smallest need more.
    pub fn within_memory(
        memory_bytes: u64,
        chunk_size_bytes: u32,
    ) -> Result<Self, RepositoryError> {
        let more = (5..=8).rev().map(|gets| (gets, 2, TRANSFER_SIZE_BYTES));
        let fewer = [(4, 2), (3, 2), (2, 2), (2, 1), (1, 1)]
            .into_iter()
            .flat_map(|(gets, workers)| [8, 4, 2, 1].map(move |size| (gets, workers, size * MIB)));
        let all = more.chain(fewer).map(|(gets, workers, size)| Self {
            gets_in_flight: gets,
            workers,
            range_size_bytes: size,
            ..Self::default()
        });
        fitting(all, memory_bytes, |s| s.memory_bytes(chunk_size_bytes))
    }

    /// The most memory that a process takes which runs one restore with these settings, in bytes: a range for each
    /// that is in flight, what each worker unpacks at a time, and a fixed sum.
    #[must_use]
    pub fn memory_bytes(&self, chunk_size_bytes: u32) -> u64 {
        let chunk = u64::from(chunk_size_bytes);
        let range = (self.range_size_bytes as u64).max(2 * chunk);
        FIXED_BYTES
            + self.gets_in_flight as u64 * range
            + self.workers as u64 * (chunk + chunk.max(WRITE_SIZE_BYTES as u64))
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] names the setting and its range.
    pub fn check(&self) -> Result<(), RepositoryError> {
        within("requests in flight", self.gets_in_flight as u64, 1, 64)?;
        within(
            "range size in bytes",
            self.range_size_bytes as u64,
            256 * KIB as u64,
            64 * MIB as u64,
        )?;
        within(
            "gap size in bytes",
            self.gap_size_bytes as u64,
            0,
            8 * MIB as u64,
        )?;
        within("workers", self.workers as u64, 1, 64)
    }
}

/// The first of the settings, the largest first, that fits.
fn fitting<T>(
    settings: impl Iterator<Item = T>,
    memory_bytes: u64,
    needs: impl Fn(&T) -> u64,
) -> Result<T, RepositoryError> {
    let mut least = u64::MAX;
    for candidate in settings {
        let needed = needs(&candidate);
        if needed <= memory_bytes {
            return Ok(candidate);
        }
        least = least.min(needed);
    }
    Err(RepositoryError::Settings(format!(
        "memory: {memory_bytes} bytes; the least is {} MiB with this chunk size",
        least.div_ceil(MIB as u64)
    )))
}

fn within(what: &str, value: u64, min: u64, max: u64) -> Result<(), RepositoryError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(RepositoryError::Settings(format!(
        "{what}: {value}; it has to be from {min} to {max}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: [u32; 3] = [64 << 10, 256 << 10, 4 << 20];

    #[test]
    fn the_defaults_stay_below_96_mib() {
        assert!(UploadSettings::default().memory_bytes(CHUNKS[0]) <= 96 << 20);
        assert!(ReadSettings::default().memory_bytes(CHUNKS[0]) <= 96 << 20);
    }

    #[test]
    fn settings_fit_the_memory_and_are_valid() {
        for chunk in CHUNKS {
            for mib in [48_u64, 64, 80, 96, 128, 256, 512, 4096] {
                let budget = mib << 20;
                if let Ok(upload) = UploadSettings::within_memory(budget, chunk) {
                    upload.check().unwrap();
                    assert!(upload.memory_bytes(chunk) <= budget);
                    let adopting = upload.adopting();
                    adopting.check().unwrap();
                    if upload.parts_in_flight > 1 {
                        let takes = adopting.memory_bytes(chunk) + upload.adopted_cache_bytes();
                        assert!(takes <= budget, "{mib} MiB: {takes}");
                    }
                } else {
                    assert!(mib < 80, "{mib} MiB, chunks of {chunk}");
                }
                if let Ok(read) = ReadSettings::within_memory(budget, chunk) {
                    read.check().unwrap();
                    assert!(read.memory_bytes(chunk) <= budget);
                } else {
                    assert!(mib < 48, "{mib} MiB, chunks of {chunk}");
                }
            }
        }
    }

    #[test]
    fn more_memory_is_used_and_too_little_is_refused() {
        let parts = |mib: u64| UploadSettings::within_memory(mib << 20, CHUNKS[0]).unwrap();
        assert!(parts(512).parts_in_flight > parts(96).parts_in_flight);
        assert!(parts(64).part_size_bytes < parts(96).part_size_bytes);
        let error = UploadSettings::within_memory(32 << 20, CHUNKS[0]).unwrap_err();
        assert!(error.to_string().contains("the least is"), "{error}");
        assert!(ReadSettings::within_memory(16 << 20, CHUNKS[0]).is_err());
    }
}

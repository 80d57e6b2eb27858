//! What a user may tune. Each limit has a default that was measured, and bounds that are checked before work starts.

use crate::RepositoryError;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// How an upload runs. Peak memory is about `(parts_in_flight + 2 * workers + 2) * part_size_bytes` plus
/// a read buffer of 4 MiB per worker.
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
    /// least 16 chunks and at most 1024. 0 reads none, 1,000,000 all of the volume.
    pub guard_share_ppm: u32,
}

/// The whole, in parts per million.
pub(crate) const PPM: u32 = 1_000_000;

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            parts_in_flight: 4,
            part_size_bytes: 8 * MIB,
            pack_size_bytes: 256 * MIB as u64,
            workers: 2,
            zstd_level: 1,
            guard_share_ppm: 1000,
        }
    }
}

impl UploadSettings {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`RepositoryError::Settings`] names the setting and its range.
    pub fn check(&self) -> Result<(), RepositoryError> {
        within("parts in flight", self.parts_in_flight as u64, 1, 64)?;
        within(
            "part size in bytes",
            self.part_size_bytes as u64,
            5 * MIB as u64,
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
        if !(-7..=19).contains(&self.zstd_level) {
            return Err(RepositoryError::Settings(format!(
                "compression level: {}; it has to be from -7 to 19",
                self.zstd_level
            )));
        }
        Ok(())
    }
}

/// How a restore, or the reading part of a verify, runs. Peak memory is about
/// `gets_in_flight * (range_size_bytes + plain bytes of a range, at most 4 * range_size_bytes)`.
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
            range_size_bytes: 8 * MIB,
            gap_size_bytes: 512 * KIB,
            workers: 2,
        }
    }
}

impl ReadSettings {
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

fn within(what: &str, value: u64, min: u64, max: u64) -> Result<(), RepositoryError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(RepositoryError::Settings(format!(
        "{what}: {value}; it has to be from {min} to {max}"
    )))
}

//! The limits of format 1 (section 3 of the specification). Whoever reads checks them, whoever writes keeps them.

use super::FormatError;

/// The format that this code writes and reads.
pub const FORMAT: u32 = 1;
/// Smallest chunk, bytes.
pub const CHUNK_SIZE_MIN: u32 = 64 << 10;
/// Largest chunk, bytes.
pub const CHUNK_SIZE_MAX: u32 = 4 << 20;
/// Largest volume, bytes.
pub const VOLUME_SIZE_MAX: u64 = 64 << 40;
/// Largest number of chunks of a volume.
pub const CHUNKS_MAX: u64 = 1 << 30;
/// A pack is smaller than this, bytes.
pub const PACK_SIZE_MAX: u64 = u32::MAX as u64;
/// Frames of a pack before its index.
pub const PACK_FRAMES_MAX: u32 = 65_536;
/// Scanned ranges that an index names.
pub const SCANNED_RANGES_MAX: u32 = 65_536;
/// Plain bytes of a map or list page.
pub const PAGE_SIZE_MAX: u32 = 32 << 10;
/// Plain bytes of an index.
pub const INDEX_SIZE_MAX: u32 = 8 << 20;
/// Entries of a page of either tree.
pub const FAN_OUT: u64 = 64;
/// Levels of either tree.
pub const LEVELS_MAX: u8 = 5;
/// Bytes of a marker, slot, manifest, tombstone or intent: less than 64 KiB.
pub const SMALL_OBJECT_MAX: usize = (64 << 10) - 1;
/// Bytes of a condemned list or of marks.
pub const LIST_OBJECT_MAX: usize = 16 << 20;
/// Bytes of a manifest's metadata, as the JSON object that it is.
pub const METADATA_MAX: usize = 16 << 10;
/// Keys of a manifest's metadata.
pub const METADATA_KEYS_MAX: usize = 256;
/// Bytes of one key of a manifest's metadata.
pub const METADATA_KEY_MAX: usize = 128;
/// Bytes of a volume's name, and of other short texts.
pub const TEXT_MAX: usize = 255;
/// Adopted runs of an intent.
pub const ADOPTS_MAX: usize = 128;
/// Features that a `requires` may name.
pub const FEATURES_MAX: usize = 64;
/// Key slots that a reader looks at, and a repository has.
pub const SLOTS_MAX: usize = 16;
/// What a reader spends on the passphrase slots of one opening, all together: memory in KiB, times passes. As much as one slot may
/// ask for, or 21 slots as this version makes them.
pub const SLOTS_WORK_KIB_MAX: u64 = 4 << 20;

/// Checks a chunk size: a power of two within the limits.
///
/// # Errors
/// [`FormatError::Malformed`] naming what is allowed.
pub fn check_chunk_size(bytes: u64) -> Result<u32, FormatError> {
    match u32::try_from(bytes) {
        Ok(size) if (CHUNK_SIZE_MIN..=CHUNK_SIZE_MAX).contains(&size) && size.is_power_of_two() => {
            Ok(size)
        }
        _ => Err(FormatError::malformed(
            "chunk size",
            format!("{bytes} bytes; it has to be a power of two from 64 KiB to 4 MiB"),
        )),
    }
}

/// Number of chunks of a volume.
///
/// # Errors
/// [`FormatError::Limit`] for an empty volume or one over 64 TiB.
pub fn chunk_count(size_bytes: u64, chunk_size_bytes: u32) -> Result<u64, FormatError> {
    if size_bytes == 0 {
        return Err(FormatError::Limit {
            what: "the volume's size",
            found: 0,
            limit: 1,
        });
    }
    FormatError::check_limit("the volume's size", size_bytes, VOLUME_SIZE_MAX)?;
    check_chunk_size(u64::from(chunk_size_bytes))?;
    Ok(size_bytes.div_ceil(u64::from(chunk_size_bytes)))
}

/// Refuses features that this version does not know; it knows none yet.
///
/// # Errors
/// [`FormatError::Newer`] naming the first unknown one.
pub(crate) fn check_requires(what: &'static str, requires: &[String]) -> Result<(), FormatError> {
    match requires.first() {
        None => Ok(()),
        Some(feature) => {
            let name: String = feature.chars().take(64).collect();
            Err(FormatError::Newer {
                what,
                needs: format!("the feature {name:?}"),
            })
        }
    }
}

/// Refuses another format than ours.
pub(crate) fn check_format(what: &'static str, format: u32) -> Result<(), FormatError> {
    if format == FORMAT {
        return Ok(());
    }
    if format == 0 {
        return Err(FormatError::malformed(what, "format 0 does not exist"));
    }
    Err(FormatError::Newer {
        what,
        needs: format!("format {format}"),
    })
}

//! How an upload goes about its work.

use clap::Args;

use crate::sizes::{parse_percent, parse_size};

/// Settings of the upload.
#[derive(Debug, Args)]
#[command(next_help_heading = "Upload")]
pub(crate) struct UploadTuning {
    /// Memory to stay within: sizes and numbers that are not given follow from it.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// Parts under way at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parts_in_flight: Option<u16>,
    /// Size of a part (5MiB to 256MiB).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) part_size: Option<u64>,
    /// Size at which a pack is closed (one part to 3GiB).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) pack_size: Option<u64>,
    /// Threads that read, hash, compress and seal.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: Option<u16>,
    /// zstd's level.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-7..=19))]
    pub(crate) compression_level: Option<i32>,
    /// With --changed: share of what is said to be unchanged that is read to make sure; 0%: none [default: 0.1%].
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    pub(crate) guard_share: Option<u32>,
    /// The least of it, in chunks (1 to 1024) [default: 16].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) guard_min: Option<u32>,
    /// Packs of which less than this share is needed are given up, and what is needed of them is sent anew; 0: never
    /// (0 to 90) [default: 25].
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=90))]
    pub(crate) repack_below: Option<u32>,
    /// The most that one backup sends anew for that [default: 256MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) repack_budget: Option<u64>,
    /// The least room that has to be gained by it (16MiB); 0: however little [default: 1MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) repack_gain: Option<u64>,
}

/// A share of which none is a choice.
fn parse_share(text: &str) -> Result<u32, String> {
    match text {
        "0" | "0%" => Ok(0),
        text => parse_percent(text),
    }
}

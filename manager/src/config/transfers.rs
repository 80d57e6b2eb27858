//! How data is moved.

use std::{num::NonZeroU64, time::Duration};

use serde::Deserialize;
use stockpot_repository::{ReadSettings, UploadSettings, store::Bandwidth};

use super::ConfigError;

/// What the repository calls the settings, and what the file calls them.
const NAMES: [(&str, &str); 12] = [
    ("parts in flight", "partsInFlight"),
    ("part size in bytes", "partSizeBytes"),
    ("pack size in bytes", "packSizeBytes"),
    ("parts in a pack", "packSizeBytes / partSizeBytes"),
    ("workers", "workers"),
    ("share of unchanged data that is checked", "guardSharePpm"),
    ("chunks said to be unchanged", "guardChunksMin"),
    ("share of a pack below which", "repackBelowPercent"),
    ("bytes of sparse packs", "repackBudgetBytes"),
    ("bytes to gain at least", "repackGainBytes"),
    ("compression level", "zstdLevel"),
    ("requests in flight", "getsInFlight"),
];

/// Nobody waits longer for what may pass.
const SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// How data is moved. Sizes in bytes; the ranges are those of the repository's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TransferConfig {
    /// Uploads at the same time; the others wait.
    pub uploads_max: usize,
    /// Restores at the same time; the others wait.
    pub restores_max: usize,
    /// How long a transfer may get nowhere, because of what may pass, before it is given up: its pauses in all, and the attempts
    /// that read and moved nothing. 0: the first failure is final.
    pub give_up_after_seconds: u64,
    /// However far its attempts get: how long after the first one began a failure is the last, because of what may pass.
    pub end_after_seconds: u64,
    /// First pause between attempts in seconds; it doubles.
    pub pause_first_seconds: u64,
    /// Longest pause between attempts in seconds.
    pub pause_max_seconds: u64,
    /// Keeps the device of the newest cloud copy of a volume when its local copy is deleted, so that the next upload is
    /// told what changed.
    pub keep_base: bool,
    /// Parts sent at the same time by one upload.
    pub parts_in_flight: Option<usize>,
    /// Size of a part.
    pub part_size_bytes: Option<usize>,
    /// Size at which a pack is closed.
    pub pack_size_bytes: Option<u64>,
    /// Threads of one upload or restore.
    pub workers: Option<usize>,
    /// Compression level of zstd.
    pub zstd_level: Option<i32>,
    /// Share of what is said to be unchanged that is read to make sure of it, in parts per million.
    pub guard_share_ppm: Option<u32>,
    /// The least of it, in chunks.
    pub guard_chunks_min: Option<u32>,
    /// Packs of which less than this share is needed, in percent, are given up: what is needed of them is sent anew.
    pub repack_below_percent: Option<u32>,
    /// The most that one upload sends anew for that.
    pub repack_budget_bytes: Option<u64>,
    /// What there is to gain by it at least.
    pub repack_gain_bytes: Option<u64>,
    /// Ranges fetched at the same time by one restore.
    pub gets_in_flight: Option<usize>,
    /// Most that is sent per second, all uploads of this node together.
    pub upload_bytes_per_second_max: Option<NonZeroU64>,
    /// Most that is received per second, all restores of this node together.
    pub download_bytes_per_second_max: Option<NonZeroU64>,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            uploads_max: 2,
            restores_max: 2,
            give_up_after_seconds: 24 * 60 * 60,
            end_after_seconds: SECONDS_MAX,
            pause_first_seconds: 5,
            pause_max_seconds: 300,
            keep_base: true,
            parts_in_flight: None,
            part_size_bytes: None,
            pack_size_bytes: None,
            workers: None,
            zstd_level: None,
            guard_share_ppm: None,
            guard_chunks_min: None,
            repack_below_percent: None,
            repack_budget_bytes: None,
            repack_gain_bytes: None,
            gets_in_flight: None,
            upload_bytes_per_second_max: None,
            download_bytes_per_second_max: None,
        }
    }
}

impl TransferConfig {
    /// As the repository takes it.
    #[must_use]
    pub fn upload_settings(&self) -> UploadSettings {
        let usual = UploadSettings::default();
        UploadSettings {
            parts_in_flight: self.parts_in_flight.unwrap_or(usual.parts_in_flight),
            part_size_bytes: self.part_size_bytes.unwrap_or(usual.part_size_bytes),
            pack_size_bytes: self.pack_size_bytes.unwrap_or(usual.pack_size_bytes),
            workers: self.workers.unwrap_or(usual.workers),
            zstd_level: self.zstd_level.unwrap_or(usual.zstd_level),
            guard_share_ppm: self.guard_share_ppm.unwrap_or(usual.guard_share_ppm),
            guard_chunks_min: self.guard_chunks_min.unwrap_or(usual.guard_chunks_min),
            repack_below_percent: self
                .repack_below_percent
                .unwrap_or(usual.repack_below_percent),
            repack_budget_bytes: self
                .repack_budget_bytes
                .unwrap_or(usual.repack_budget_bytes),
            repack_gain_bytes_min: self
                .repack_gain_bytes
                .unwrap_or(usual.repack_gain_bytes_min),
            ..usual
        }
    }

    /// As the repository takes it.
    #[must_use]
    pub fn read_settings(&self) -> ReadSettings {
        let usual = ReadSettings::default();
        ReadSettings {
            gets_in_flight: self.gets_in_flight.unwrap_or(usual.gets_in_flight),
            workers: self.workers.unwrap_or(usual.workers),
            ..usual
        }
    }

    /// Sets the limits on what goes over the network, also for transfers that run.
    pub fn limit(&self, bandwidth: &Bandwidth) {
        bandwidth.set_upload(self.upload_bytes_per_second_max);
        bandwidth.set_download(self.download_bytes_per_second_max);
    }

    /// The pause before attempt `next` (2 is the first repetition).
    #[must_use]
    pub fn pause_before(&self, next: u32) -> Duration {
        let doublings = next.saturating_sub(2).min(20);
        let seconds = self.pause_first_seconds.saturating_mul(1 << doublings);
        Duration::from_secs(seconds.min(self.pause_max_seconds))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: String| {
            Err(ConfigError {
                field: format!("transfers.{field}"),
                problem,
            })
        };
        for (field, value, max) in [
            ("uploadsMax", self.uploads_max, 64),
            ("restoresMax", self.restores_max, 64),
        ] {
            if !(1..=max).contains(&value) {
                return wrong(field, format!("{value} is not from 1 to {max}"));
            }
        }
        for (field, value) in [
            ("giveUpAfterSeconds", self.give_up_after_seconds),
            ("endAfterSeconds", self.end_after_seconds),
            ("pauseFirstSeconds", self.pause_first_seconds),
            ("pauseMaxSeconds", self.pause_max_seconds),
        ] {
            if value > SECONDS_MAX {
                return wrong(
                    field,
                    format!("{value} is more than {SECONDS_MAX}, 30 days"),
                );
            }
        }
        let settings = self.upload_settings().check();
        settings
            .and_then(|()| self.read_settings().check())
            .or_else(|error| {
                let text = error.to_string();
                let known = NAMES.iter().find(|(said, _)| text.starts_with(said));
                match (known, text.split_once(": ")) {
                    (Some((_, name)), Some((_, problem))) => wrong(name, problem.to_owned()),
                    _ => wrong("settings", text),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_have_the_names_of_the_file() {
        for (setting, named) in [
            ("partsInFlight: 800", "partsInFlight: 800; it has"),
            ("partSizeBytes: 1", "partSizeBytes: 1;"),
            ("packSizeBytes: 1", "packSizeBytes: 1;"),
            ("workers: 0", "workers: 0;"),
            ("guardSharePpm: 2000000", "guardSharePpm: 2000000;"),
            ("guardChunksMin: 0", "guardChunksMin: 0;"),
            ("repackBelowPercent: 99", "repackBelowPercent: 99;"),
            (
                "repackBudgetBytes: 999999999999999",
                "repackBudgetBytes: 99",
            ),
            ("repackGainBytes: 999999999999999", "repackGainBytes: 99"),
            ("zstdLevel: 20", "zstdLevel: 20;"),
            ("getsInFlight: 0", "getsInFlight: 0;"),
            ("uploadsMax: 0", "uploadsMax: 0 is"),
        ] {
            let config: TransferConfig = serde_saphyr::from_str(setting).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("transfers.{named}")), "{error}");
        }
    }
}

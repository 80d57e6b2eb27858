//! From arguments to the settings of an upload.

use stockpot_repository::{
    UploadSettings,
    lock::{LockMode, LockPolicy},
};

use crate::{
    cli::{BackupArgs, LockArgs, Strength, UploadTuning},
    usage::{Usage, within_budget},
};

/// What the arguments make of the defaults.
pub(super) fn settings(args: &BackupArgs, chunk_size_bytes: u32) -> anyhow::Result<UploadSettings> {
    let tuning: &UploadTuning = &args.tuning;
    let mut settings = match tuning.memory {
        Some(bytes) => {
            UploadSettings::within_memory(bytes, chunk_size_bytes).map_err(Usage::new)?
        }
        None => UploadSettings::default(),
    };
    settings.lock = lock_policy(&args.lock);
    if let Some(parts) = tuning.parts_in_flight {
        settings.parts_in_flight = usize::from(parts);
    }
    if let Some(bytes) = tuning.part_size {
        settings.part_size_bytes = usize::try_from(bytes).map_err(Usage::new)?;
    }
    if let Some(bytes) = tuning.pack_size {
        settings.pack_size_bytes = bytes;
    }
    if let Some(workers) = tuning.workers {
        settings.workers = usize::from(workers);
    }
    if let Some(level) = tuning.compression_level {
        settings.zstd_level = level;
    }
    if let Some(ppm) = tuning.guard_share {
        settings.guard_share_ppm = ppm;
    }
    if let Some(chunks) = tuning.guard_min {
        settings.guard_chunks_min = chunks;
    }
    if let Some(percent) = tuning.repack_below {
        settings.repack_below_percent = percent;
    }
    if let Some(bytes) = tuning.repack_budget {
        settings.repack_budget_bytes = bytes;
    }
    if let Some(bytes) = tuning.repack_gain {
        settings.repack_gain_bytes_min = bytes;
    }
    settings.check().map_err(Usage::new)?;
    within_budget(tuning.memory, settings.memory_bytes(chunk_size_bytes))?;
    Ok(settings)
}

fn lock_policy(args: &LockArgs) -> Option<LockPolicy> {
    Some(LockPolicy {
        days: args.lock_days?,
        mode: match args.lock_mode {
            Strength::Governance => LockMode::Governance,
            Strength::Compliance => LockMode::Compliance,
        },
    })
}

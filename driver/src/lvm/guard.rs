//! How full a thin pool is, and making it larger.
//!
//! A thin pool that runs full keeps what is written to its volumes waiting (for the kernel's `no_space_timeout`, 60 s
//! unless it was changed), and then fails it. So it is looked at often, past LVM and its locks, and room is made well
//! before that.

use super::{commands, dm, pool::Pool, report::Share};
use crate::{DriverError, Headroom};

/// The kernel uses no more metadata than this, in bytes (`lvmthin(7)`).
const METADATA_BYTES_MAX: u64 = 16 << 30;

impl Pool {
    pub(super) async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        let (vg, pool) = (&self.config().vg, &self.config().pool);
        // Without a device there is no volume that could be written to.
        let Some(status) = dm::pool_status(&dm::name(vg, pool, "-tpool")).await? else {
            return Ok(None);
        };
        let floor = Share::percent(self.config().make_room_percent);
        let (data, metadata) = (status.data.share(), status.metadata.share());
        let is_writable = status.mode == "rw";
        let mut text = format!("thin pool {vg}/{pool}: data {data} full, metadata {metadata} full");
        if !is_writable {
            text.push_str(&format!(", and it is in mode {}", status.mode));
        }
        let is_low = data >= floor || metadata >= floor || !is_writable;
        if is_low {
            text.push_str(&format!("; {}", what_to_do(vg, pool)));
        }
        Ok(Some(Headroom {
            is_low,
            data_used: data.0,
            metadata_used: metadata.0,
            text,
        }))
    }

    /// Makes what is low larger, with what the volume group has. Under the lock.
    pub(super) async fn grow(&self) -> Result<Option<String>, DriverError> {
        let config = self.config();
        let (vg, pool) = (&config.vg, &config.pool);
        if config.grow_percent == 0 {
            return Ok(None);
        }
        let Some(status) = dm::pool_status(&dm::name(vg, pool, "-tpool")).await? else {
            return Ok(None);
        };
        let floor = Share::percent(config.make_room_percent);
        let view = self.look().await?;
        let (data_bytes, metadata_bytes) = view.sizes();
        let (mut free, extent) = view.free();
        let mut done = Vec::new();
        // The metadata first: it is small, and without it nothing goes.
        if status.metadata.share() >= floor && metadata_bytes < METADATA_BYTES_MAX {
            // LVM keeps a spare of the same size.
            let room = (free / 2).min(METADATA_BYTES_MAX - metadata_bytes);
            let by = step(metadata_bytes, config.grow_percent, room, extent);
            if by > 0 {
                commands::grow_pool_metadata(vg, pool, by).await?;
                done.push(format!("metadata by {by} bytes"));
                free = self.look().await?.free().0;
            }
        }
        if status.data.share() >= floor {
            let by = step(data_bytes, config.grow_percent, free, extent);
            if by > 0 {
                commands::grow_pool_data(vg, pool, by).await?;
                done.push(format!("data by {by} bytes"));
            }
        }
        if done.is_empty() {
            return Ok(None);
        }
        Ok(Some(format!(
            "thin pool {vg}/{pool} was extended: {}",
            done.join(", ")
        )))
    }
}

/// What an administrator can do about a pool that is nearly full.
pub(super) fn what_to_do(vg: &str, pool: &str) -> String {
    format!(
        "extend it (lvextend --size +SIZE {vg}/{pool}, or --poolmetadatasize +SIZE for its metadata; vgextend {vg} \
         DEVICE if the group is full), or delete volumes, or local copies of snapshots whose cloud copy is there"
    )
}

/// How much to add: whole extents, a share of what is there, at least one extent, no more than there is room for.
fn step(size_bytes: u64, percent: u64, free_bytes: u64, extent_bytes: u64) -> u64 {
    let extents = |bytes: u64| bytes / extent_bytes;
    let wish = extents((size_bytes / 100).saturating_mul(percent)).max(1);
    wish.min(extents(free_bytes)) * extent_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_whole_extents_that_there_is_room_for() {
        const EXTENT: u64 = 4 << 20;
        assert_eq!(step(100 * EXTENT, 20, 50 * EXTENT, EXTENT), 20 * EXTENT);
        assert_eq!(step(EXTENT, 20, 50 * EXTENT, EXTENT), EXTENT);
        assert_eq!(step(100 * EXTENT, 20, 7 * EXTENT + 5, EXTENT), 7 * EXTENT);
        assert_eq!(step(100 * EXTENT, 20, EXTENT - 1, EXTENT), 0);
        assert_eq!(step(u64::MAX, 1000, u64::MAX, EXTENT) % EXTENT, 0);
    }
}

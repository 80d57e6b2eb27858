//! Room for what changes after a cut: how much of it is used, and making it larger.

use std::sync::Arc;

use super::{
    super::{commands, dm, names::is_snapshot_lv, report::Share},
    commands::{self as thick, Fill},
    group::Group,
    snapshots::whole_copy_bytes,
};
use crate::{DriverError, Headroom, task};

/// How full an active snapshot of ours is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filling {
    pub(super) lv: String,
    content_bytes: u64,
    pub(super) used_bytes: u64,
    pub(super) room_bytes: u64,
}

/// What became of a wish for more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It has more, or all that it can ever need.
    Enough,
    /// The volume group has none.
    None,
}

/// The active snapshots of ours in a volume group; void ones are left out.
pub(super) async fn fillings(vg: &str) -> Result<Vec<Filling>, DriverError> {
    let prefix = dm::name(vg, "", "");
    let ours = |fill: Fill| {
        let lv = fill.dm_name.strip_prefix(&prefix)?;
        is_snapshot_lv(lv).then(|| Filling {
            lv: lv.to_owned(),
            content_bytes: fill.content_sectors.saturating_mul(512),
            used_bytes: fill.used_sectors.saturating_mul(512),
            room_bytes: fill.total_sectors.saturating_mul(512),
        })
    };
    Ok(thick::fills().await?.into_iter().filter_map(ours).collect())
}

impl Filling {
    /// Whether it is this full, and has less room than a copy of everything takes.
    pub(super) fn may_overflow(&self, percent: u64) -> bool {
        self.room_bytes < whole_copy_bytes(self.content_bytes)
            && self.used_bytes.saturating_mul(100) >= self.room_bytes.saturating_mul(percent)
    }

    fn share(&self) -> Share {
        let hundredths = u128::from(self.used_bytes) * u128::from(Share::WHOLE.0);
        let share = hundredths / u128::from(self.room_bytes.max(1));
        Share(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

impl Group {
    /// Of the fullest snapshot. It is low when one has to be extended and the volume group has nothing to extend it by: that
    /// all of the group is given to volumes is no danger by itself.
    pub(super) async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        let percent = self.config.extend_at_percent;
        let found = fillings(self.vg()).await?;
        let pressed = found.iter().filter(|filling| filling.may_overflow(percent));
        let fullest = |a: &&Filling, b: &&Filling| a.share().cmp(&b.share());
        let pressed = pressed.max_by(fullest);
        let Some(filling) = pressed.or_else(|| found.iter().max_by(fullest)) else {
            return Ok(None);
        };
        let (vg, share) = (self.vg(), filling.share());
        let mut text = format!("volume group {vg}: {} is {share} full", filling.lv);
        let mut is_low = false;
        if pressed.is_some() {
            let report = self.look().await?.0;
            is_low = report.free_bytes < report.extent_bytes;
            text.push_str(&format!(
                ", and {} bytes are free to extend it",
                report.free_bytes
            ));
        }
        if is_low {
            text.push_str(&format!(
                "; when it is full the snapshot is void: add room (vgextend {vg} DEVICE), or delete snapshots or volumes"
            ));
        }
        Ok(Some(Headroom {
            is_low,
            data_used: share.0,
            metadata_used: 0,
            text,
        }))
    }
}

/// Doubles a snapshot's room, as far as there is any and it can need it.
pub(super) async fn extend(group: &Arc<Group>, name: &str) -> Result<Room, DriverError> {
    let group = group.clone();
    let name = name.to_owned();
    // To its end even if the driver goes away: half an extension is of no use to anybody.
    task::to_the_end(async move {
        let _lock = group.lock().await?;
        let view = group.look().await?;
        let Some((lv, cow)) = view.any(&name).and_then(|lv| Some((lv, lv.cow.as_ref()?))) else {
            return Ok(Room::Enough);
        };
        let extent = view.0.extent_bytes;
        let most = whole_copy_bytes(cow.content_bytes).next_multiple_of(extent);
        if lv.size_bytes >= most {
            return Ok(Room::Enough);
        }
        let more = lv.size_bytes.min(most - lv.size_bytes);
        let more = more.min(view.0.free_bytes) / extent * extent;
        if more == 0 {
            return Ok(Room::None);
        }
        let size = lv.size_bytes + more;
        tracing::info!(
            vg = group.vg(),
            snapshot = name,
            size_bytes = size,
            "extending a snapshot"
        );
        commands::extend(group.vg(), &name, size).await?;
        Ok(Room::Enough)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_nearly_full_from_the_limit_on_and_never_with_room_for_all() {
        let filling = |used_bytes, room_bytes| Filling {
            lv: "stockpot.s.a".into(),
            content_bytes: 64 << 20,
            used_bytes,
            room_bytes,
        };
        assert!(!filling((4 << 20) - 1, 8 << 20).may_overflow(50));
        assert!(filling(4 << 20, 8 << 20).may_overflow(50));
        assert!(!filling(64 << 20, whole_copy_bytes(64 << 20)).may_overflow(50));
        assert_eq!(filling(1, 3).share(), Share(3333));
        assert_eq!(filling(1, 0).share(), Share(10_000));
    }
}

//! Growing snapshots before they overflow.
//!
//! A task of the driver looks at the active classic snapshots of its volume group (one `dmsetup status`, no LVM) each
//! second, from the moment that one is cut or exported until none is active, and extends those that are nearly full. Nobody
//! else does: `dmeventd`, where it runs, has its own threshold in `lvm.conf`, and the two do no harm to each other. While no
//! daemon runs, nothing grows, and a snapshot that overflows is void and says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{
    super::{commands, names::is_snapshot_lv},
    commands::{self as thick, Fill},
    group::Group,
    snapshots::{dm_name, whole_copy_bytes},
};
use crate::DriverError;

/// Looks without an active snapshot before the task ends.
const IDLE_LOOKS: u32 = 3;
/// Until a volume group that had no room is asked again.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(5);

/// The task, while there is something to watch.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<JoinHandle<()>>>);

impl Watch {
    /// Makes sure that the snapshots of a group are watched.
    pub(super) fn ensure(&self, group: &Arc<Group>) {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(watch(Arc::downgrade(group))));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

async fn watch(group: Weak<Group>) {
    let (mut idle, mut later) = (0, BTreeMap::new());
    while idle < IDLE_LOOKS {
        let Some(group) = group.upgrade() else { return };
        match look(&group, &mut later).await {
            Ok(0) => idle += 1,
            Ok(_) => idle = 0,
            Err(error) => tracing::error!(vg = group.vg(), %error, "snapshots cannot be watched"),
        }
        let pause = group.config.watch_every;
        drop(group);
        tokio::time::sleep(pause).await;
    }
}

/// Extends what is nearly full; how many snapshots of ours there are. `later`: which are not to be looked at before.
async fn look(
    group: &Arc<Group>,
    later: &mut BTreeMap<String, Instant>,
) -> Result<usize, DriverError> {
    let prefix = dm_name(group.vg(), "");
    let mut ours = 0;
    for fill in thick::fills().await? {
        let Some(name) = fill.dm_name.strip_prefix(&prefix) else {
            continue;
        };
        if !is_snapshot_lv(name) {
            continue;
        }
        ours += 1;
        let now = Instant::now();
        let waits = later.get(name).is_some_and(|next| now < *next);
        if waits || !may_overflow(&fill, group.config.extend_at_percent) {
            continue;
        }
        if extend(group, name).await? == Room::None {
            later.insert(name.to_owned(), now + NO_ROOM_PAUSE);
            tracing::error!(
                vg = group.vg(),
                snapshot = name,
                used_bytes = fill.used_sectors.saturating_mul(512),
                size_bytes = fill.total_sectors.saturating_mul(512),
                "a snapshot is nearly full and the volume group has no room: it will become void; add room"
            );
        }
    }
    Ok(ours)
}

/// Whether it is this full, and has less room than a copy of everything takes.
fn may_overflow(fill: &Fill, percent: u64) -> bool {
    let most = whole_copy_bytes(fill.content_sectors.saturating_mul(512));
    fill.total_sectors.saturating_mul(512) < most
        && fill.used_sectors.saturating_mul(100) >= fill.total_sectors.saturating_mul(percent)
}

/// What became of a wish for more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// It has more, or all that it can ever need.
    Enough,
    /// The volume group has none.
    None,
}

/// Doubles a snapshot's room, as far as there is any and it can need it.
async fn extend(group: &Arc<Group>, name: &str) -> Result<Room, DriverError> {
    let group = group.clone();
    let name = name.to_owned();
    // To its end even if the driver goes away: half an extension is of no use to anybody.
    let extending = tokio::spawn(async move {
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
    });
    match extending.await {
        Ok(done) => done,
        Err(_) => Err(DriverError::Host("the process is stopping".into())),
    }
}

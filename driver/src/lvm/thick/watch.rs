//! Growing snapshots before they overflow.
//!
//! A task of the driver looks at the active classic snapshots of its volume group (one `dmsetup status`, no LVM) each
//! second, from the moment that one becomes active until none is, and extends those that are nearly full. Nobody
//! else does: `dmeventd`, where it runs, has its own threshold in `lvm.conf`, and the two do no harm to each other. While no
//! daemon runs, nothing grows, and a snapshot that overflows is void and says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{
    group::Group,
    room::{self, Room},
};
use crate::DriverError;

/// Looks without an active snapshot before the task ends.
const IDLE_LOOKS: u32 = 3;
/// Until one that could not be extended is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// The task, while there is something to watch.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    task: Option<JoinHandle<()>>,
    /// Something became active since the task began, or since it last thought of ending.
    asked: bool,
}

impl Watch {
    /// Makes sure that a group is watched. To be called when something has become active, under the group's lock: a task that
    /// was begun before could have ended while the lock was waited for.
    pub(super) fn ensure(&self, group: &Weak<Group>) {
        let mut state = self.state();
        if state.task.as_ref().is_none_or(JoinHandle::is_finished) {
            state.task = Some(tokio::spawn(watch(group.clone())));
            state.asked = false;
        } else {
            state.asked = true;
        }
    }

    /// Whether the task may end: decided under the same lock as [`ensure`](Self::ensure), so that no wish is lost.
    fn ends(&self) -> bool {
        let mut state = self.state();
        if std::mem::take(&mut state.asked) {
            return false;
        }
        state.task = None;
        true
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &state.task {
            task.abort();
        }
    }
}

async fn watch(group: Weak<Group>) {
    let (mut idle, mut later) = (0, BTreeMap::new());
    loop {
        let Some(group) = group.upgrade() else { return };
        match look(&group, &mut later).await {
            Ok(0) => idle += 1,
            Ok(_) => idle = 0,
            Err(error) => tracing::error!(vg = group.vg(), %error, "snapshots cannot be watched"),
        }
        if idle >= IDLE_LOOKS {
            if group.watch.ends() {
                return;
            }
            idle = 0;
        }
        let pause = group.config.watch_every;
        drop(group);
        tokio::time::sleep(pause).await;
    }
}

/// Extends what is nearly full, each for itself; how many snapshots of ours there are. `later`: which are not to be
/// looked at before.
async fn look(
    group: &Arc<Group>,
    later: &mut BTreeMap<String, Instant>,
) -> Result<usize, DriverError> {
    let found = room::fillings(group.vg()).await?;
    later.retain(|name, _| found.iter().any(|filling| filling.lv == *name));
    for filling in &found {
        let (now, name) = (Instant::now(), filling.lv.as_str());
        let waits = later.get(name).is_some_and(|next| now < *next);
        if waits || !filling.may_overflow(group.config.extend_at_percent) {
            continue;
        }
        let why = match room::extend(group, name).await {
            Ok(Room::Enough) => continue,
            Ok(Room::None) => "the volume group has no room".to_owned(),
            Err(error) => error.to_string(),
        };
        later.insert(name.to_owned(), now + PAUSE);
        tracing::error!(
            vg = group.vg(),
            snapshot = name,
            used_bytes = filling.used_bytes,
            size_bytes = filling.room_bytes,
            why,
            "a snapshot is nearly full and could not be extended: it will become void; add room to the volume group"
        );
    }
    Ok(found.len())
}

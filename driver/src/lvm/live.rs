//! A snapshot of any logical volume for as long as it is read: what a backup without the daemon needs.
//!
//! The volume need not be ours, nor thin. The snapshot is tagged with the process that made it; one whose process is
//! gone (kill -9, power cut) is removed by the next [`LiveVolume::snapshot`] of its volume group, so a crash costs no
//! more than the room until then.

use std::path::{Path, PathBuf};

use super::{commands, live_report::LiveLv};
use crate::DriverError;

/// Part of a classic snapshot's origin that may change while it is read, in percent; less if the group has less room.
const COW_PERCENT: u64 = 20;
/// Least room for changes in a classic snapshot, in bytes.
const COW_LEAST_BYTES: u64 = 64 << 20;
const TAG: &str = "stockpot.temporary=";

/// A logical volume that may be written while it is read.
#[derive(Debug, Clone)]
pub struct LiveVolume {
    lv: LiveLv,
}

/// A read-only snapshot that has to be [removed](Self::remove).
#[derive(Debug, Clone)]
#[must_use = "it stays until it is removed"]
pub struct LiveSnapshot {
    vg: String,
    name: String,
    thin: bool,
}

impl LiveVolume {
    /// The logical volume behind a device path; `None` if it is none, or one that cannot be written (a read-only
    /// snapshot, say), which can be read as it is.
    ///
    /// # Errors
    /// When LVM cannot be asked.
    pub async fn find(path: &Path) -> Result<Option<Self>, DriverError> {
        if !is_lvm_device(path) {
            return Ok(None);
        }
        let lv = commands::live_volume(path).await?;
        Ok(lv.filter(|lv| !lv.read_only).map(|lv| Self { lv }))
    }

    /// `VG/LV`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.lv.vg, self.lv.name)
    }

    /// The logical volume's own name.
    #[must_use]
    pub fn lv_name(&self) -> &str {
        &self.lv.name
    }

    /// Cuts a read-only snapshot and activates it; leftovers of dead processes in this volume group are removed first.
    ///
    /// # Errors
    /// `ResourceExhausted` if the volume group has no room for the changes of a classic snapshot.
    pub async fn snapshot(&self) -> Result<LiveSnapshot, DriverError> {
        self.remove_leftovers().await?;
        let owner = Owner::this_process()?;
        let snapshot = LiveSnapshot {
            vg: self.lv.vg.clone(),
            name: format!(
                "stockpot.t.{}",
                ulid::Ulid::generate().to_string().to_lowercase()
            ),
            thin: self.lv.thin,
        };
        let cow_bytes = if self.lv.thin {
            None
        } else {
            Some(self.cow_bytes()?)
        };
        let tag = format!("{TAG}{}", owner.to_tag());
        match commands::create_temporary(
            &self.lv.vg,
            &self.lv.name,
            &snapshot.name,
            cow_bytes,
            &tag,
        )
        .await
        {
            Ok(()) => Ok(snapshot),
            Err(error) => {
                // It may have been made and not activated.
                if let Err(undo) = snapshot.remove().await {
                    tracing::warn!(%undo, "the snapshot that failed could not be removed");
                }
                Err(error)
            }
        }
    }

    fn cow_bytes(&self) -> Result<u64, DriverError> {
        let wish = (self.lv.size_bytes / 100 * COW_PERCENT).max(COW_LEAST_BYTES);
        // A snapshot never needs more than its origin and some for the exception table.
        let wish = wish
            .min(self.lv.size_bytes / 100 * 102 + (8 << 20))
            .next_multiple_of(self.lv.extent_bytes);
        let room = wish.min(self.lv.vg_free_bytes);
        if room < wish.min(COW_LEAST_BYTES) {
            return Err(DriverError::ResourceExhausted(format!(
                "volume group {} has {} MiB free, and a snapshot of {} needs at least {} MiB for what changes while \
                 it is read; add room, or unmount the volume and use --force to read it as it is",
                self.lv.vg,
                self.lv.vg_free_bytes >> 20,
                self.name(),
                wish.min(COW_LEAST_BYTES) >> 20,
            )));
        }
        Ok(room)
    }

    async fn remove_leftovers(&self) -> Result<(), DriverError> {
        for (name, tags) in commands::temporaries(&self.lv.vg, TAG).await? {
            let owner = tags
                .split(',')
                .find_map(|tag| tag.strip_prefix(TAG))
                .and_then(Owner::parse);
            // A tag that cannot be read is not ours to judge.
            if owner.is_some_and(|owner| !owner.is_alive()) {
                tracing::warn!(snapshot = %format!("{}/{name}", self.lv.vg), "removing what an earlier run left");
                // Whoever holds it open is no reason not to back up.
                if let Err(error) = commands::remove_temporary(&self.lv.vg, &name).await {
                    tracing::warn!(snapshot = %format!("{}/{name}", self.lv.vg), %error, "what an earlier run left could not be removed");
                }
            }
        }
        Ok(())
    }
}

impl LiveSnapshot {
    /// The device to read.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.vg).join(&self.name)
    }

    /// Checks that what was read is what was cut: a classic snapshot whose room for changes ran out is void.
    ///
    /// # Errors
    /// [`DriverError::Void`] if it is.
    pub async fn check(&self) -> Result<(), DriverError> {
        if self.thin || !commands::snapshot_overflowed(&self.vg, &self.name).await? {
            return Ok(());
        }
        Err(DriverError::Void {
            what: format!("snapshot {}/{}", self.vg, self.name),
            why: "more of the volume changed than it has room for; add room to the volume group, or back up when \
                  less is written"
                .into(),
        })
    }

    /// Removes it. Gone already is success.
    ///
    /// # Errors
    /// When LVM cannot remove it.
    pub async fn remove(&self) -> Result<(), DriverError> {
        commands::remove_temporary(&self.vg, &self.name).await
    }
}

/// Whether device-mapper says that LVM made it. Cheap, and needs no LVM on hosts that have none.
fn is_lvm_device(path: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let Ok(meta) = std::fs::metadata(path) else {
        return false;
    };
    if !meta.file_type().is_block_device() {
        return false;
    }
    let (major, minor) = (
        nix::sys::stat::major(meta.rdev()),
        nix::sys::stat::minor(meta.rdev()),
    );
    std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/dm/uuid"))
        .is_ok_and(|uuid| uuid.starts_with("LVM-"))
}

/// A process, told from later ones of the same number by its start and the machine's boot, and from those of other
/// containers by its process namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    boot: String,
    pid: u32,
    started_ticks: u64,
    namespace: u64,
}

impl Owner {
    fn this_process() -> Result<Self, DriverError> {
        let pid = std::process::id();
        let started_ticks =
            started_ticks(pid).ok_or_else(|| DriverError::Host("/proc is not readable".into()))?;
        let boot = boot_id().ok_or_else(|| {
            DriverError::Host("/proc/sys/kernel/random/boot_id is not readable".into())
        })?;
        let namespace = pid_namespace()
            .ok_or_else(|| DriverError::Host("/proc/self/ns/pid is not readable".into()))?;
        Ok(Self {
            boot,
            pid,
            started_ticks,
            namespace,
        })
    }

    fn to_tag(&self) -> String {
        format!(
            "{}/{}/{}/{}",
            self.boot, self.pid, self.started_ticks, self.namespace
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let owner = Self {
            boot: parts.next()?.to_owned(),
            pid: parts.next()?.parse().ok()?,
            started_ticks: parts.next()?.parse().ok()?,
            namespace: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(owner)
    }

    fn is_alive(&self) -> bool {
        // Where the boot id cannot be read, or the process is not one that can be seen from here, nothing is known:
        // alive is the safe answer.
        let boot_is_over = boot_id().is_some_and(|boot| boot != self.boot);
        let is_seen = pid_namespace() == Some(self.namespace);
        let has_ended = is_seen && started_ticks(self.pid) != Some(self.started_ticks);
        !(boot_is_over || has_ended)
    }
}

/// The number of this process's process namespace (pid_namespaces(7)).
fn pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

fn boot_id() -> Option<String> {
    Some(
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()?
            .trim()
            .to_owned(),
    )
}

/// Field 22 of `/proc/PID/stat` (proc(5)); the second one, a name in brackets, may hold anything.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_again() {
        let me = Owner::this_process().unwrap();
        assert!(me.is_alive());
        assert_eq!(Owner::parse(&me.to_tag()), Some(me.clone()));
        assert!(
            !Owner {
                started_ticks: me.started_ticks + 1,
                ..me.clone()
            }
            .is_alive()
        );
        // Its number means nothing here.
        let elsewhere = Owner {
            started_ticks: me.started_ticks + 1,
            namespace: me.namespace + 1,
            ..me.clone()
        };
        assert!(elsewhere.is_alive());
        for namespace in [me.namespace, me.namespace + 1] {
            let before = Owner {
                boot: "before".into(),
                namespace,
                ..me.clone()
            };
            assert!(!before.is_alive());
        }
        for bad in ["", "a/b", "a/1/x", "a/1/2", "a/1/2/x", "a/1/2/3/4"] {
            assert_eq!(Owner::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_is_no_logical_volume() {
        assert!(!is_lvm_device(Path::new("/dev/null")));
        assert!(!is_lvm_device(Path::new("/etc/passwd")));
        assert!(!is_lvm_device(Path::new("/nowhere")));
    }
}

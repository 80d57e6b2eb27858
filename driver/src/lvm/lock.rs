//! One operation per volume group at a time, among the tasks of this process and among processes.
//!
//! LVM has locks of its own for single commands; ours covers the look, the decision and the command together.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{DriverError, task};

const POLL: Duration = Duration::from_millis(25);

/// How long others may hold the lock, tasks of this process and other processes together.
const PATIENCE: Duration = Duration::from_secs(600);

/// Held for one operation; released when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub(super) struct LockGuard {
    _file: Flock<File>,
    _task: OwnedMutexGuard<()>,
}

/// Waits for a volume group's turn.
pub(super) async fn acquire(directory: &Path, vg: &str) -> Result<LockGuard, DriverError> {
    acquire_file(
        &vg_file(directory, vg),
        &format!("volume group {vg}"),
        PATIENCE,
    )
    .await
}

/// Waits for the turn of something in a volume group.
pub(super) async fn acquire_named(directory: &Path, name: &str) -> Result<LockGuard, DriverError> {
    acquire_file(&directory.join(format!("{name}.lock")), name, PATIENCE).await
}

/// Takes the turn of something in a volume group, if it is free.
pub(super) async fn try_acquire(
    directory: &Path,
    name: &str,
) -> Result<Option<LockGuard>, DriverError> {
    let path = directory.join(format!("{name}.lock"));
    let Ok(task) = in_process(&path).try_lock_owned() else {
        return Ok(None);
    };
    match Flock::lock(open(&path).await?, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(LockGuard {
            _file: locked,
            _task: task,
        })),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(fail(&path, errno.into())),
    }
}

fn fail(path: &Path, source: io::Error) -> DriverError {
    DriverError::Io {
        doing: "cannot lock",
        path: path.to_owned(),
        source,
    }
}

fn vg_file(directory: &Path, vg: &str) -> PathBuf {
    directory.join(format!("lvm-{vg}.lock"))
}

async fn acquire_file(
    path: &Path,
    what: &str,
    patience: Duration,
) -> Result<LockGuard, DriverError> {
    let started = Instant::now();
    let turn = tokio::time::timeout(patience, in_process(path).lock_owned()).await;
    let task = turn.map_err(|_| DriverError::InUse {
        what: what.to_owned(),
        by: format!("another call that holds {}", path.display()),
    })?;
    let mut file = open(path).await?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => {
                return Ok(LockGuard {
                    _file: locked,
                    _task: task,
                });
            }
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if started.elapsed() < patience => {
                file = back;
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(DriverError::InUse {
                    what: what.to_owned(),
                    by: format!("another process that holds {}", path.display()),
                });
            }
            Err((_, errno)) => return Err(fail(path, errno.into())),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Opens a lock file, and makes it and its directory where they are not there.
async fn open(path: &Path) -> Result<File, DriverError> {
    let path = path.to_owned();
    task::blocking(move || open_now(&path).map_err(|source| fail(&path, source))).await
}

fn open_now(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(path)
}

/// The lock among the tasks of this process, one per lock file: two drivers may share a volume group.
fn in_process(path: &Path) -> Arc<Mutex<()>> {
    static LOCKS: OnceLock<StdMutex<HashMap<PathBuf, Arc<Mutex<()>>>>> = OnceLock::new();
    LOCKS
        .get_or_init(StdMutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(path.to_owned())
        .or_default()
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = acquire(directory.path(), "vg0").await.unwrap();
        acquire(directory.path(), "vg1").await.unwrap();
        let waiting = acquire(directory.path(), "vg0");
        assert!(
            tokio::time::timeout(Duration::from_millis(80), waiting)
                .await
                .is_err()
        );
        drop(held);
        acquire(directory.path(), "vg0").await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = vg_file(directory.path(), "vg0");
        let patience = Duration::from_millis(60);
        let refused = async || {
            let error = acquire_file(&path, "volume group vg0", patience)
                .await
                .unwrap_err();
            assert!(matches!(error, DriverError::InUse { .. }), "{error}");
            error.to_string()
        };
        // By a task of this process; and by another process.
        let held = acquire(directory.path(), "vg0").await.unwrap();
        let text = tokio::time::timeout(Duration::from_secs(5), refused())
            .await
            .unwrap();
        assert!(text.contains("another call"), "{text}");
        drop(held);
        let other = Flock::lock(open(&path).await.unwrap(), FlockArg::LockExclusive).unwrap();
        assert!(refused().await.contains("another process"));
        drop(other);
        acquire(directory.path(), "vg0").await.unwrap();
    }

    #[tokio::test]
    async fn a_turn_that_is_taken_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let held = acquire_named(directory.path(), "a!b").await.unwrap();
        let is_free = async |name| try_acquire(directory.path(), name).await.unwrap().is_some();
        assert!(!is_free("a!b").await && is_free("a!c").await);
        drop(held);
        assert!(is_free("a!b").await);
    }

    #[tokio::test]
    async fn another_process_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let other = open(&directory.path().join("lvm-vg0.lock")).await.unwrap();
        let other = Flock::lock(other, FlockArg::LockExclusive).unwrap();
        let waiting = tokio::spawn({
            let directory = directory.path().to_owned();
            async move { acquire(&directory, "vg0").await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(80)).await;
        assert!(!waiting.is_finished());
        drop(other);
        waiting.await.unwrap().unwrap();
    }
}

//! One daemon per storage. What a start finds half made in a volume group it removes, and another daemon may be making just that: so
//! each volume group and each folder of images is locked by the daemon that uses it, whatever its state folder is.
//!
//! The kernel lets go of such a lock when the process ends, however it does.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    ManagerError,
    config::{Config, PoolConfig},
};

/// Where files stand for volume groups; LVM's own locks are beside it.
const LOCKS: &str = "/run/lock/stockpot";

/// How long one that is just ending is waited for, and how often that is looked for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is locked, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claims {
    _locked: BTreeMap<(u64, u64), File>,
}

impl Claims {
    /// Claims the storage of this host that a configuration names.
    ///
    /// # Errors
    /// `PoolUnusable` when another process has claimed it.
    pub(crate) async fn of(config: &Config) -> Result<Self, ManagerError> {
        Self::within(Path::new(LOCKS), &config.pools, PATIENCE).await
    }

    async fn within(
        locks: &Path,
        pools: &[PoolConfig],
        patience: Duration,
    ) -> Result<Self, ManagerError> {
        let until = Instant::now() + patience;
        let mut locked = BTreeMap::new();
        for pool in pools {
            let opened = open(locks, pool).and_then(|file| {
                let Some(file) = file else { return Ok(None) };
                let meta = file.metadata()?;
                Ok(Some(((meta.dev(), meta.ino()), file)))
            });
            let (key, file) = match opened {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(pool = pool.name(), %error, "nothing keeps another daemon from using the same storage: it cannot be locked");
                    continue;
                }
            };
            // Two pools may lie in one volume group.
            if locked.contains_key(&key) {
                continue;
            }
            take(pool, &file, until).await?;
            locked.insert(key, file);
        }
        Ok(Self { _locked: locked })
    }
}

/// What is locked for a pool; `None` if there is nothing.
fn open(locks: &Path, pool: &PoolConfig) -> io::Result<Option<File>> {
    if let Some(group) = pool.volume_group() {
        let mut dir = DirBuilder::new();
        dir.recursive(true).mode(0o700).create(locks)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        return options.open(locks.join(format!("vg.{group}"))).map(Some);
    }
    let PoolConfig::File { directory, .. } = pool else {
        return Ok(None);
    };
    match File::open(directory) {
        Ok(folder) => Ok(Some(folder)),
        // Its driver says so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn take(pool: &PoolConfig, file: &File, until: Instant) -> Result<(), ManagerError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(ManagerError::PoolUnusable {
                    pool: pool.name().to_owned(),
                    why: format!(
                        "{} uses its storage, and two daemons would remove what the other one makes: stop that one, or give this \
                         one other storage",
                        holder(file)
                    ),
                });
            }
            Err(TryLockError::Error(error)) => {
                tracing::error!(pool = pool.name(), %error, "nothing keeps another daemon from using the same storage: it cannot be locked");
                return Ok(());
            }
        }
    }
}

/// Who has locked a file, from proc_locks(5): kind in the second column, process in the fifth, inode at the end of the sixth.
fn holder(file: &File) -> String {
    let inode = file.metadata().map(|meta| meta.ino().to_string());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let held = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, of) = words.get(5)?.rsplit_once(':')?;
        let is_it = words[1] == "FLOCK" && inode.as_ref().is_ok_and(|inode| inode == of);
        is_it.then(|| words[4].to_owned())
    });
    let Some(pid) = held else {
        return "another process".to_owned();
    };
    let called = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let called = String::from_utf8_lossy(&called).replace('\0', " ");
    format!("process {pid} ({:?})", called.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    fn pools(text: &str) -> Vec<PoolConfig> {
        serde_saphyr::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn storage_is_used_by_one_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join("locks");
        let images = format!(
            "{{name: images, driver: file, directory: {}}}",
            dir.path().display()
        );
        // Both kinds in one volume group, and a folder that is not there.
        let both = pools(
            "[{name: thin, driver: lvm-thin, volumeGroup: vg0, thinPool: p}, {name: thick, driver: lvm-thick, volumeGroup: vg0},
              {name: none, driver: file, directory: /nowhere/at/all}]",
        );
        let first = Claims::within(&locks, &both, SHORT).await.unwrap();
        let refused = Claims::within(&locks, &both[1..], SHORT).await;
        let refused = refused.unwrap_err().to_string();
        let process = format!("process {} (", std::process::id());
        assert!(refused.contains("pool thick"), "{refused}");
        assert!(refused.contains(&process), "{refused}");
        // Other storage is another matter, by whatever path.
        let folder = pools(&format!("[{images}]"));
        let other = Claims::within(&locks, &folder, SHORT).await.unwrap();
        let dotted = images.replace("directory: /", "directory: /./");
        let same = pools(&format!("[{dotted}]"));
        let refused = Claims::within(&locks, &same, SHORT).await;
        assert!(matches!(refused, Err(ManagerError::PoolUnusable { .. })));
        drop((first, other));
        // One that is just ending is waited for.
        let ending = Claims::within(&locks, &both, SHORT).await.unwrap();
        let (next, ()) = tokio::join!(Claims::within(&locks, &both, PATIENCE), async {
            tokio::time::sleep(SHORT).await;
            drop(ending);
        });
        next.unwrap();
    }
}

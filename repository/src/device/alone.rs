//! One restore at a time onto one target: two would mix there, and each find every byte right that it wrote.

use std::{
    fs::{File, TryLockError},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::DeviceError;

/// How long others may look at a device. udev does so at every event, with a shared lock
/// (<https://systemd.io/BLOCK_DEVICE_LOCKING>).
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes `file` for as long as it stays open (flock(2)). Where the file system has no locks, nothing is taken, and a WARN says so.
///
/// # Errors
/// [`DeviceError::Busy`].
pub(super) fn take(path: &Path, file: &File) -> Result<(), DeviceError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => error,
            // Whoever is going to write lets nobody look either.
            Err(TryLockError::WouldBlock) => match file.try_lock_shared().and(Ok(file.unlock())) {
                Ok(Ok(())) if Instant::now() < until => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Ok(Err(error)) | Err(TryLockError::Error(error)) => error,
                Ok(Ok(())) | Err(TryLockError::WouldBlock) => {
                    return Err(DeviceError::Busy {
                        path: path.to_owned(),
                    });
                }
            },
        };
        tracing::warn!(path = %path.display(), %error, "it cannot be locked: see to it that nobody else restores onto it meanwhile");
        return Ok(());
    }
}

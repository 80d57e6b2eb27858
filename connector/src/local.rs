//! Devices that are on this host already: nothing to attach, everything to check.
//!
//! The flag that makes a device read-only lives in the kernel and goes with the device, so a crash leaves nothing
//! to clean: a later read-write connection to the same device takes the flag back. Making sure of a connection that is
//! in use does not: somebody may have made the device read-only for those who use it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use nix::libc::{EBUSY, O_CLOEXEC, O_EXCL, O_NONBLOCK};
use stockpot_driver::{AccessMode, LocalConnection};

use crate::{AttachedDevice, ConnectorError, Recovered, blkdev, error::ended, in_use};

/// How long a device node may take to appear after the driver made the device.
const APPEAR_TIMEOUT: Duration = Duration::from_secs(10);
const APPEAR_POLL: Duration = Duration::from_millis(20);

/// Attaches [`LocalConnection`]s.
#[derive(Debug, Clone)]
pub struct LocalConnector {
    appear_timeout: Duration,
}

impl Default for LocalConnector {
    fn default() -> Self {
        Self {
            appear_timeout: APPEAR_TIMEOUT,
        }
    }
}

impl LocalConnector {
    /// A connector that waits this long for a device node to appear.
    #[must_use]
    pub fn with_appear_timeout(appear_timeout: Duration) -> Self {
        Self { appear_timeout }
    }

    /// Waits for the device and checks that it is what the connection says.
    ///
    /// # Errors
    /// As [`Connector::connect`](crate::Connector::connect).
    pub async fn connect(
        &self,
        connection: &LocalConnection,
    ) -> Result<AttachedDevice, ConnectorError> {
        self.checked(connection, Stricter::Undone).await
    }

    /// The same for a device that may be in use: one that is read-only stays so.
    ///
    /// # Errors
    /// As [`Connector::confirm`](crate::Connector::confirm).
    pub async fn confirm(
        &self,
        connection: &LocalConnection,
    ) -> Result<AttachedDevice, ConnectorError> {
        self.checked(connection, Stricter::Kept).await
    }

    async fn checked(
        &self,
        connection: &LocalConnection,
        stricter: Stricter,
    ) -> Result<AttachedDevice, ConnectorError> {
        self.appears(&connection.device_path).await?;
        let connection = connection.clone();
        let checking = tokio::task::spawn_blocking(move || check(&connection, stricter));
        checking.await.unwrap_or_else(ended)
    }

    /// Nothing was attached, so nothing is detached: the driver takes the device down, unless it is mounted or another device
    /// is made of it. What does not keep it from that is looked for here.
    ///
    /// # Errors
    /// `InUse` if a loop device is over it, or its node is mounted somewhere.
    pub async fn disconnect(&self, connection: &LocalConnection) -> Result<(), ConnectorError> {
        let path = connection.device_path.clone();
        let looking = tokio::task::spawn_blocking(move || in_use::check_unclaimed(&path));
        looking.await.unwrap_or_else(ended)?;
        tracing::debug!(device = %connection.device_path.display(), "local device let go");
        Ok(())
    }

    /// Adopts the wanted connections whose device is there; there is never anything to remove.
    pub(crate) fn recover(&self, wanted: &[LocalConnection]) -> (Vec<LocalConnection>, Recovered) {
        let adopted = wanted.iter().filter(|c| c.device_path.exists()).cloned();
        (adopted.collect(), Recovered::default())
    }

    async fn appears(&self, path: &Path) -> Result<(), ConnectorError> {
        let started = Instant::now();
        while !tokio::fs::try_exists(path).await.unwrap_or(false) {
            if started.elapsed() >= self.appear_timeout {
                return Err(ConnectorError::Missing {
                    path: path.to_owned(),
                    waited_seconds: self.appear_timeout.as_secs(),
                });
            }
            tokio::time::sleep(APPEAR_POLL).await;
        }
        Ok(())
    }
}

/// What becomes of a device that is read-only where the connection allows writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stricter {
    Kept,
    Undone,
}

/// Opens the device read-only and checks kind, size and access mode, in this order.
fn check(
    connection: &LocalConnection,
    stricter: Stricter,
) -> Result<AttachedDevice, ConnectorError> {
    let path = &connection.device_path;
    let fail = |doing| io_error(doing, path);
    let device = open(path, 0).map_err(fail("cannot open"))?;
    if !blkdev::is_block_device(&device).map_err(fail("cannot stat"))? {
        return Err(ConnectorError::NotABlockDevice {
            path: path.to_owned(),
        });
    }
    let found_bytes = blkdev::size_bytes(&device).map_err(fail("cannot read the size of"))?;
    if found_bytes != connection.size_bytes {
        return Err(ConnectorError::WrongSize {
            path: path.to_owned(),
            expected_bytes: connection.size_bytes,
            found_bytes,
        });
    }
    let wanted = connection.access_mode == AccessMode::ReadOnly;
    let found = read_only(&device, path)?;
    let kept = found && stricter == Stricter::Kept;
    if found != wanted && !kept {
        change_access(&device, path, wanted)?;
    }
    Ok(AttachedDevice {
        path: path.to_owned(),
        size_bytes: found_bytes,
        read_only: wanted || kept,
    })
}

/// Sets the kernel's flag and reads it back.
fn change_access(device: &File, path: &Path, read_only_wanted: bool) -> Result<(), ConnectorError> {
    // Held exclusively meanwhile: the flag must not hit a file system or a target that writes to the device.
    let _claim = open(path, O_EXCL).map_err(|error| match error.raw_os_error() {
        Some(EBUSY) => in_use::claimed(path),
        _ => io_error("cannot claim", path)(error),
    })?;
    let changed = blkdev::set_read_only(device, read_only_wanted);
    if read_only(device, path)? == read_only_wanted {
        return Ok(());
    }
    if let Err(error) = changed {
        tracing::debug!(device = %path.display(), %error, "read-only flag not changed");
    }
    let path = path.to_owned();
    Err(if read_only_wanted {
        ConnectorError::NotReadOnly { path }
    } else {
        ConnectorError::NotWritable { path }
    })
}

fn read_only(device: &File, path: &Path) -> Result<bool, ConnectorError> {
    blkdev::is_read_only(device).map_err(io_error("cannot read the access mode of", path))
}

/// Opens for reading only, whatever the connection allows. `O_NONBLOCK`: a FIFO at the path must not block us.
fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_CLOEXEC | O_NONBLOCK | flags)
        .open(path)
}

fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ConnectorError + Copy + 'a {
    move |source| ConnectorError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(path: &Path) -> LocalConnection {
        LocalConnection {
            device_path: path.to_owned(),
            access_mode: AccessMode::ReadOnly,
            size_bytes: 4096,
        }
    }

    #[tokio::test]
    async fn a_missing_device_is_waited_for_and_named() {
        let connector = LocalConnector::with_appear_timeout(Duration::from_millis(50));
        let error = connector
            .connect(&connection(Path::new("/nonexistent/device")))
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectorError::Missing { .. }), "{error}");
    }

    #[tokio::test]
    async fn only_block_devices_are_accepted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/dev/null"), Path::new("/")] {
            let error = LocalConnector::default()
                .connect(&connection(path))
                .await
                .unwrap_err();
            assert!(
                matches!(error, ConnectorError::NotABlockDevice { .. }),
                "{error}"
            );
        }
    }
}

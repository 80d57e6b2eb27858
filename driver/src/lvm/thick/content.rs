//! Filling a device: with zeroes, or with another device's bytes and zeroes behind them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    libc::{EBUSY, O_CLOEXEC, O_EXCL},
};

use super::turns::Stop;
use crate::{DriverError, task};

/// Bytes zeroed by one call; between two, a wish to stop is heard.
const ZERO_STEP: u64 = 32 << 20;
/// Bytes read and written by one call.
const COPY_STEP: u64 = 1 << 20;
/// Bytes copied before they are waited for, so that they do not fill the page cache.
const SYNC_STEP: u64 = 64 << 20;

/// What is filled, held exclusively: as long as this lives, another process that wants to make the same volume finds it
/// taken. So it is let go under the volume group's lock only.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

/// What is copied.
#[derive(Debug)]
pub(super) struct Copied {
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

impl Target {
    /// Opens a device that nobody else may have open exclusively; `what` names it.
    pub(super) fn open(
        path: PathBuf,
        size_bytes: u64,
        what: &str,
    ) -> Result<Arc<Self>, DriverError> {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(O_EXCL | O_CLOEXEC)
            .open(&path);
        let file = opened.map_err(|error| match error.raw_os_error() {
            Some(EBUSY) => DriverError::InUse {
                what: what.to_owned(),
                by: "another process that makes it".to_owned(),
            },
            _ => io_error("cannot open", &path)(error),
        })?;
        Ok(Arc::new(Self {
            path,
            file,
            size_bytes,
        }))
    }

    /// Fills it and waits until all of it is on the disk. `Ok(false)` if it was asked to stop.
    pub(super) async fn fill(
        self: &Arc<Self>,
        source: Option<Copied>,
        stop: Stop,
    ) -> Result<bool, DriverError> {
        let target = self.clone();
        task::blocking(move || target.fill_now(source.as_ref(), &stop)).await
    }

    fn fill_now(&self, source: Option<&Copied>, stop: &Stop) -> Result<bool, DriverError> {
        let mut offset = 0;
        if let Some(source) = source {
            if !self.copy(source, stop)? {
                return Ok(false);
            }
            offset = source.size_bytes;
        }
        let fail = io_error("cannot write zeroes to", &self.path);
        while offset < self.size_bytes {
            if stop.is_asked() {
                return Ok(false);
            }
            let length = ZERO_STEP.min(self.size_bytes - offset);
            zero(&self.file, offset, length).map_err(fail)?;
            offset += length;
        }
        self.file
            .sync_all()
            .map_err(io_error("cannot flush", &self.path))?;
        Ok(true)
    }

    fn copy(&self, source: &Copied, stop: &Stop) -> Result<bool, DriverError> {
        let (read, write) = (
            io_error("cannot read", &source.path),
            io_error("cannot write to", &self.path),
        );
        let mut buffer = vec![0; usize::try_from(COPY_STEP).expect("it is 1 MiB")];
        let mut offset = 0;
        while offset < source.size_bytes {
            if stop.is_asked() {
                return Ok(false);
            }
            let length = COPY_STEP.min(source.size_bytes - offset);
            let part = &mut buffer[..usize::try_from(length).expect("it is at most 1 MiB")];
            source.file.read_exact_at(part, offset).map_err(read)?;
            if part.iter().all(|byte| *byte == 0) {
                zero(&self.file, offset, length).map_err(write)?;
            } else {
                self.file.write_all_at(part, offset).map_err(write)?;
            }
            offset += length;
            if offset.is_multiple_of(SYNC_STEP) {
                self.file.sync_data().map_err(write)?;
            }
        }
        Ok(true)
    }
}

impl Copied {
    /// Opens what is copied.
    pub(super) fn open(path: PathBuf, size_bytes: u64) -> Result<Self, DriverError> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(O_CLOEXEC)
            .open(&path);
        let file = opened.map_err(io_error("cannot open", &path))?;
        Ok(Self {
            path,
            file,
            size_bytes,
        })
    }
}

/// Zeroes that are on the device when this returns: of a block device, `fallocate` zeroes by command where the device
/// has one, and writes where it has none; it never only discards.
fn zero(device: &File, offset: u64, length: u64) -> io::Result<()> {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(device, flags, offset, length)?)
}

fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DriverError + Copy + 'a {
    move |source| DriverError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

//! Filling a volume: a block device or an image file, of any size.

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::fcntl::{FallocateFlags, fallocate};

use super::{
    ALIGNMENT_BYTES, DeviceError, DeviceKind, alone,
    buffer::is_aligned,
    direct, in_use, provisional,
    source::{kind_of, size_of},
    syscall::{self, Lease},
    zero::is_zero,
};

/// Zeroes are left out of writes in pieces of this size, in bytes: smaller ones are not worth a call of their own.
const HOLE_SIZE_BYTES: usize = 16 << 10;

/// How much is zeroed by one call, in bytes: a device without a command for it writes all of that.
pub(crate) const ZERO_STEP_BYTES: u64 = 256 << 20;

/// How to open a [`Target`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetOptions {
    /// Overwrite a file that is not empty, or a device that is in use.
    pub force: bool,
    /// The device reads as zeroes everywhere (a new thin volume): holes need not be written.
    pub zeroed: bool,
}

/// A volume that is filled. Call [`finish`](Self::finish) at the end: only that gives a file that was made here its name
/// (until then it lies beside it, as `.NAME.stockpot-partial-PID-N`). Without it, such a file is removed again, and one
/// that was there is left empty.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    kind: DeviceKind,
    size_bytes: u64,
    zeroed: bool,
    buffered: File,
    direct: Option<File>,
    use_direct: AtomicBool,
    // The kernel has no more than one writer per inode make progress; others would spin on its lock.
    writing: Mutex<()>,
    // Where a file is that was made here, and has to go if it is not finished.
    made_at: Option<PathBuf>,
    finished: bool,
}

impl Target {
    /// Opens a block device, or opens or makes a file, for a volume of `size_bytes`. Nothing is written yet but
    /// a file's size.
    ///
    /// # Errors
    /// [`DeviceError::TooSmall`], [`DeviceError::InUse`], [`DeviceError::Busy`] and [`DeviceError::NotEmpty`] before
    /// anything is changed; [`DeviceError::Unsuitable`], [`DeviceError::Open`].
    pub fn open(
        path: impl AsRef<Path>,
        size_bytes: u64,
        options: TargetOptions,
    ) -> Result<Self, DeviceError> {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(meta) => match kind_of(path, &meta)? {
                DeviceKind::Block => Self::open_block(path, size_bytes, options, &meta),
                DeviceKind::File => Self::open_existing(path, size_bytes, options, &meta),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(DeviceError::Unsuitable {
                        path: path.to_owned(),
                        what: "a symbolic link to something that is not there",
                    });
                }
                if provisional::is_among_devices(path) {
                    return Err(DeviceError::Unsuitable {
                        path: path.to_owned(),
                        what: "no device that is there",
                    });
                }
                Self::create(path, size_bytes)
            }
            Err(source) => Err(DeviceError::Open {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn open_block(
        path: &Path,
        size_bytes: u64,
        options: TargetOptions,
        meta: &fs::Metadata,
    ) -> Result<Self, DeviceError> {
        let in_use = |by| DeviceError::InUse {
            path: path.to_owned(),
            by,
        };
        if !options.force
            && let Some(by) = in_use::writer(meta)
        {
            return Err(in_use(by));
        }
        let exclusive = if options.force { 0 } else { libc::O_EXCL };
        let buffered = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(exclusive | libc::O_CLOEXEC)
            .open(path);
        let buffered = buffered.map_err(|source| {
            if source.kind() == io::ErrorKind::ResourceBusy {
                return in_use(in_use::block_device_holder(meta.rdev()));
            }
            DeviceError::Open {
                path: path.to_owned(),
                source,
            }
        })?;
        alone::take(path, &buffered)?;
        let has = size_of(&buffered).map_err(|source| DeviceError::Open {
            path: path.to_owned(),
            source,
        })?;
        if has < size_bytes {
            return Err(DeviceError::TooSmall {
                path: path.to_owned(),
                size_bytes: has,
                needed_bytes: size_bytes,
            });
        }
        let direct = direct::twin(&buffered, OpenOptions::new().write(true));
        let mut target = Self::new(path, DeviceKind::Block, size_bytes, buffered, direct);
        target.zeroed = options.zeroed;
        Ok(target)
    }

    fn open_existing(
        path: &Path,
        size_bytes: u64,
        options: TargetOptions,
        meta: &fs::Metadata,
    ) -> Result<Self, DeviceError> {
        let open_error = |source| DeviceError::Open {
            path: path.to_owned(),
            source,
        };
        if !options.force {
            let looking = File::open(path).map_err(open_error)?;
            let taken = syscall::writers_of(&looking) == Lease::Taken;
            let by = in_use::loop_device(meta, false).or_else(|| in_use::writer(meta));
            if let Some(by) =
                by.or_else(|| taken.then(|| "a program has it open for writing".to_owned()))
            {
                return Err(DeviceError::InUse {
                    path: path.to_owned(),
                    by,
                });
            }
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(open_error)?;
        alone::take(path, &file)?;
        // Only now: another restore may just have filled it.
        let held_bytes = file.metadata().map_err(open_error)?.len();
        if !options.force && held_bytes != 0 {
            return Err(DeviceError::NotEmpty {
                path: path.to_owned(),
            });
        }
        // To nothing first: what it held must not shine through the holes.
        file.set_len(0).map_err(open_error)?;
        Self::with_file(path, size_bytes, file, None)
    }

    fn create(path: &Path, size_bytes: u64) -> Result<Self, DeviceError> {
        let (file, made_at) =
            provisional::create_beside(path).map_err(|source| DeviceError::Open {
                path: path.to_owned(),
                source,
            })?;
        Self::with_file(path, size_bytes, file, Some(made_at))
    }

    fn with_file(
        path: &Path,
        size_bytes: u64,
        file: File,
        made_at: Option<PathBuf>,
    ) -> Result<Self, DeviceError> {
        let mut target = Self::new(path, DeviceKind::File, size_bytes, file, None);
        target.made_at = made_at;
        target.zeroed = true;
        target
            .buffered
            .set_len(size_bytes)
            .map_err(|e| DeviceError::write(path, size_bytes, e))?;
        target.direct = direct::twin(&target.buffered, OpenOptions::new().write(true));
        target.use_direct = AtomicBool::new(target.direct.is_some());
        Ok(target)
    }

    /// A file that is treated as a device is of which nobody knows what is on it.
    #[cfg(test)]
    pub(crate) fn unknown(path: &Path, size_bytes: u64) -> Result<Self, DeviceError> {
        let mut target = Self::create(path, size_bytes)?;
        target.zeroed = false;
        Ok(target)
    }

    fn new(
        path: &Path,
        kind: DeviceKind,
        size_bytes: u64,
        buffered: File,
        direct: Option<File>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            size_bytes,
            zeroed: false,
            use_direct: AtomicBool::new(direct.is_some()),
            buffered,
            direct,
            writing: Mutex::new(()),
            made_at: None,
            finished: false,
        }
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Block device or file.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// The size of the volume that is written, in bytes; a device may be larger.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Writes `bytes` at `offset`; what lies beyond the volume's size (the padding of its last chunk) is left out, and so
    /// are long rows of zeroes where the target reads as zeroes already. One caller at a time writes, others wait.
    ///
    /// # Errors
    /// [`DeviceError::NoSpace`], [`DeviceError::Write`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let within = self.size_bytes.saturating_sub(offset);
        let len = usize::try_from(within).map_or(bytes.len(), |within| within.min(bytes.len()));
        let bytes = &bytes[..len];
        let _turn = self.turn();
        if !self.zeroed {
            return self.write_row(offset, bytes);
        }
        // Rows of steps that are not all zeroes.
        let mut start = 0;
        while start < bytes.len() {
            let zeroes = bytes[start..]
                .chunks(HOLE_SIZE_BYTES)
                .take_while(|step| is_zero(step));
            start += zeroes.map(<[u8]>::len).sum::<usize>();
            let data = bytes[start..]
                .chunks(HOLE_SIZE_BYTES)
                .take_while(|step| !is_zero(step));
            let end = start + data.map(<[u8]>::len).sum::<usize>();
            self.write_row(offset + start as u64, &bytes[start..end])?;
            start = end;
        }
        Ok(())
    }

    fn write_row(&self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let direct_len = bytes.len() / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
        let (head, tail) = if is_aligned(&bytes[..direct_len], offset) {
            bytes.split_at(direct_len)
        } else {
            bytes.split_at(0)
        };
        self.write_direct(offset, head)
            .and_then(|()| self.buffered.write_all_at(tail, offset + head.len() as u64))
            .map_err(|e| DeviceError::write(&self.path, offset, e))
    }

    fn write_direct(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(direct) = &self.direct
            && self.use_direct.load(Ordering::Relaxed)
        {
            match direct.write_all_at(bytes, offset) {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    tracing::warn!(path = %self.path.display(), "direct writes are refused; writing through the page cache");
                    self.use_direct.store(false, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.buffered.write_all_at(bytes, offset)
    }

    /// Whether what is not written reads as zeroes.
    #[must_use]
    pub fn reads_as_zeroes(&self) -> bool {
        self.zeroed
    }

    /// Makes a range read as zeroes, cut to the volume's size. Costs nothing where that is known already.
    ///
    /// # Errors
    /// [`DeviceError::NoSpace`], [`DeviceError::Write`].
    pub fn zero(&self, range: Range<u64>) -> Result<(), DeviceError> {
        let end = range.end.min(self.size_bytes);
        if self.zeroed {
            return Ok(());
        }
        let mut at = range.start;
        while at < end {
            let next = end.min(at + ZERO_STEP_BYTES);
            self.zero_step(at, next - at)
                .map_err(|e| DeviceError::write(&self.path, at, e))?;
            at = next;
        }
        Ok(())
    }

    /// Frees the blocks where the device promises zeroes afterwards (fallocate(2) on a block device), else has the
    /// kernel write zeroes, else writes them.
    fn zero_step(&self, at: u64, len: u64) -> io::Result<()> {
        let _turn = self.turn();
        let (start, length) = (
            i64::try_from(at).expect("device sizes fit i64"),
            i64::try_from(len).expect("at most a step"),
        );
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for how in [
            FallocateFlags::FALLOC_FL_PUNCH_HOLE,
            FallocateFlags::FALLOC_FL_ZERO_RANGE,
        ] {
            if fallocate(&self.buffered, how | keep, start, length).is_ok() {
                return Ok(());
            }
        }
        let zeroes = vec![0; 1 << 20];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(zeroes.len() as u64);
            let step_len = usize::try_from(step).expect("at most the buffer's length");
            self.buffered.write_all_at(&zeroes[..step_len], at + done)?;
            done += step;
        }
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings all that was written to the medium and drops the cache. Only after this is the volume restored.
    ///
    /// # Errors
    /// [`DeviceError::NoSpace`], [`DeviceError::Flush`].
    pub fn finish(mut self) -> Result<(), DeviceError> {
        self.buffered
            .sync_all()
            .map_err(|source| match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DeviceError::NoSpace {
                    path: self.path.clone(),
                    offset: self.size_bytes,
                },
                _ => DeviceError::Flush {
                    path: self.path.clone(),
                    source,
                },
            })?;
        if self.kind == DeviceKind::Block
            && let Err(error) = syscall::drop_block_cache(&self.buffered)
        {
            // All is on the medium; only a stale cache elsewhere is possible.
            tracing::debug!(path = %self.path.display(), %error, "the device's cache was not dropped");
        }
        self.place()?;
        self.finished = true;
        Ok(())
    }

    /// Gives a new file its name.
    fn place(&mut self) -> Result<(), DeviceError> {
        let Some(made_at) = &mut self.made_at else {
            return Ok(());
        };
        provisional::place(&self.buffered, made_at, &self.path).map_err(|source| {
            match source.kind() {
                io::ErrorKind::AlreadyExists => DeviceError::Taken {
                    path: self.path.clone(),
                },
                _ => DeviceError::Place {
                    path: self.path.clone(),
                    source,
                },
            }
        })?;
        made_at.clone_from(&self.path);
        provisional::flush_folder(&self.path)
            .map_err(|(path, source)| DeviceError::Flush { path, source })
    }
}

/// A half-filled file looks like a volume and is none: one made here goes, another is emptied.
impl Drop for Target {
    fn drop(&mut self) {
        if self.finished || self.kind == DeviceKind::Block {
            return;
        }
        let undone = match &self.made_at {
            Some(at) => provisional::remove(&self.buffered, at),
            None => self.buffered.set_len(0),
        };
        if let Err(error) = undone {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished file is left");
        }
    }
}

//! Reading a volume: a block device or an image file, of any size.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::unistd::{Whence, lseek64};

use super::{
    DeviceError, DeviceKind,
    buffer::is_aligned,
    direct, in_use,
    syscall::{self, Lease},
};

/// How to open a [`Source`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceOptions {
    /// Read it even if it is mounted or open for writing; the copy may then be inconsistent.
    pub force: bool,
}

/// A volume that is read. Its size is fixed at open; what is shorter afterwards is an error.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    kind: DeviceKind,
    size_bytes: u64,
    buffered: File,
    direct: Option<File>,
    // Cleared when the kernel took the flag at open and refuses the reads.
    use_direct: AtomicBool,
    opened_as: Metadata,
    force: bool,
    known: Mutex<Option<Known>>,
}

/// The last answer of the file's map. Some file systems (tmpfs) walk page by page to the end of an extent, which is too long
/// a way to go for each of the many ranges of an increment.
#[derive(Debug, Clone)]
struct Known {
    /// Nothing but a hole from here to the data.
    from: u64,
    data: Range<u64>,
}

impl Source {
    /// Opens a block device or regular file for reading.
    ///
    /// # Errors
    /// [`DeviceError::InUse`] where somebody has it mounted or open for writing and `force` is not set,
    /// [`DeviceError::Unsuitable`], [`DeviceError::Empty`] and [`DeviceError::Open`].
    pub fn open(path: impl AsRef<Path>, options: SourceOptions) -> Result<Self, DeviceError> {
        let path = path.as_ref();
        let open_error = |source| DeviceError::Open {
            path: path.to_owned(),
            source,
        };
        // By path first: opening a fifo would wait for a writer.
        let kind = kind_of(path, &std::fs::metadata(path).map_err(open_error)?)?;
        Self::over(path, kind, open_plain(path, kind, options)?, options)
    }

    /// What is open already: from here on the path is only a name for messages.
    fn over(
        path: &Path,
        kind: DeviceKind,
        buffered: File,
        options: SourceOptions,
    ) -> Result<Self, DeviceError> {
        let open_error = |source| DeviceError::Open {
            path: path.to_owned(),
            source,
        };
        let opened_as = buffered.metadata().map_err(open_error)?;
        if !options.force {
            refuse_writers(path, kind, &buffered, &opened_as)?;
        }
        let size_bytes = size_of(&buffered).map_err(open_error)?;
        if size_bytes == 0 {
            return Err(DeviceError::Empty {
                path: path.to_owned(),
            });
        }
        // Not every file system has it (EINVAL): then all reads are buffered.
        let direct = direct::twin(&buffered, OpenOptions::new().read(true));
        Ok(Self {
            path: path.to_owned(),
            kind,
            size_bytes,
            buffered,
            use_direct: AtomicBool::new(direct.is_some()),
            direct,
            opened_as,
            force: options.force,
            known: Mutex::new(None),
        })
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

    /// Its exact size in bytes, at least 1.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether reads pass the page cache by.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.use_direct.load(Ordering::Relaxed)
    }

    /// Fills `into` with the bytes at `offset`; where the source ends before that, the rest is zeroes.
    /// Pieces whose memory, offset and length are aligned pass the page cache by.
    ///
    /// # Errors
    /// [`DeviceError::Shrank`] if it ends before its size, [`DeviceError::Read`].
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let within = self
            .size_bytes
            .saturating_sub(offset)
            .min(into.len() as u64);
        let within = usize::try_from(within).expect("not above the buffer's length");
        let mut done = 0;
        while done < within {
            let at = offset + done as u64;
            match self.read_some(at, &mut into[done..], within - done) {
                Ok(0) => {
                    return Err(DeviceError::Shrank {
                        path: self.path.clone(),
                        offset: at,
                        size_bytes: self.size_bytes,
                    });
                }
                Ok(read) => done = within.min(done + read),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(DeviceError::Read {
                        path: self.path.clone(),
                        offset: at,
                        source,
                    });
                }
            }
        }
        into[within..].fill(0);
        Ok(())
    }

    /// One read call. `room` may be longer than the `wanted` bytes, so that the end of an odd-sized source
    /// can be read directly too.
    fn read_some(&self, at: u64, room: &mut [u8], wanted: usize) -> io::Result<usize> {
        if let Some(direct) = &self.direct
            && self.is_direct()
            && is_aligned(room, at)
        {
            match direct.read_at(room, at) {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    tracing::warn!(path = %self.path.display(), "direct reads are refused; reading through the page cache");
                    self.use_direct.store(false, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.buffered.read_at(&mut room[..wanted], at)
    }

    /// The next range at or after `from` that may hold data, or `None` if only holes follow. Files know
    /// their holes; of a block device all is data.
    ///
    /// # Errors
    /// [`DeviceError::Read`].
    pub fn next_data(&self, from: u64) -> Result<Option<Range<u64>>, DeviceError> {
        if from >= self.size_bytes {
            return Ok(None);
        }
        if self.kind == DeviceKind::Block {
            return Ok(Some(from..self.size_bytes));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref()
            && (known.from..known.data.end).contains(&from)
        {
            return Ok(Some(from.max(known.data.start)..known.data.end));
        }
        let found = self.look_for_data(from)?;
        *known = found.clone().map(|data| Known { from, data });
        Ok(found)
    }

    /// Asks the file's map.
    fn look_for_data(&self, from: u64) -> Result<Option<Range<u64>>, DeviceError> {
        let rest = from..self.size_bytes;
        let failed = |errno: nix::Error| DeviceError::Read {
            path: self.path.clone(),
            offset: from,
            source: errno.into(),
        };
        let at = i64::try_from(from).expect("file sizes fit i64");
        let start = match lseek64(&self.buffered, at, Whence::SeekData) {
            Ok(start) => start,
            Err(nix::Error::ENXIO) => return Ok(None),
            // A file system without hole support (lseek(2)): all is data.
            Err(nix::Error::EINVAL) => return Ok(Some(rest)),
            Err(errno) => return Err(failed(errno)),
        };
        let end = match lseek64(&self.buffered, start, Whence::SeekHole) {
            Ok(end) => end,
            Err(nix::Error::ENXIO) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let (start, end) = (start.cast_unsigned(), end.cast_unsigned());
        Ok((start < self.size_bytes).then(|| start..end.min(self.size_bytes)))
    }

    /// Makes sure that a file is still as long, and as old, as when it was opened. To be asked after the last read.
    ///
    /// # Errors
    /// [`DeviceError::Changed`], [`DeviceError::Shrank`].
    pub fn check_unchanged(&self) -> Result<(), DeviceError> {
        let open_error = |source| DeviceError::Open {
            path: self.path.clone(),
            source,
        };
        let size_bytes = size_of(&self.buffered).map_err(open_error)?;
        if size_bytes < self.size_bytes {
            return Err(DeviceError::Shrank {
                path: self.path.clone(),
                offset: size_bytes,
                size_bytes: self.size_bytes,
            });
        }
        if self.kind == DeviceKind::File && !self.force {
            let now = self.buffered.metadata().map_err(open_error)?;
            let stamp = |m: &Metadata| (m.mtime(), m.mtime_nsec(), m.len());
            if stamp(&now) != stamp(&self.opened_as) {
                return Err(DeviceError::Changed {
                    path: self.path.clone(),
                });
            }
        }
        Ok(())
    }
}

/// What `meta` describes, if it is something that holds a volume.
pub(super) fn kind_of(path: &Path, meta: &Metadata) -> Result<DeviceKind, DeviceError> {
    let file_type = meta.file_type();
    let what = if file_type.is_block_device() {
        return Ok(DeviceKind::Block);
    } else if file_type.is_file() {
        return Ok(DeviceKind::File);
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_char_device() {
        "a character device"
    } else if file_type.is_fifo() {
        "a pipe"
    } else {
        "a socket"
    };
    Err(DeviceError::Unsuitable {
        path: path.to_owned(),
        what,
    })
}

/// The size of a file or block device. `stat` says 0 of the latter; seeking to the end tells it.
pub(super) fn size_of(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Opens without `O_DIRECT`. A block device is claimed (`O_EXCL`, open(2)) as long as it stays open: nobody can
/// mount it meanwhile.
fn open_plain(path: &Path, kind: DeviceKind, options: SourceOptions) -> Result<File, DeviceError> {
    let exclusive = kind == DeviceKind::Block && !options.force;
    let flags = libc::O_CLOEXEC | if exclusive { libc::O_EXCL } else { 0 };
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::ResourceBusy if exclusive => DeviceError::InUse {
                path: path.to_owned(),
                by: std::fs::metadata(path)
                    .map(|meta| in_use::block_device_holder(meta.rdev()))
                    .unwrap_or_default(),
            },
            _ => DeviceError::Open {
                path: path.to_owned(),
                source,
            },
        })
}

fn refuse_writers(
    path: &Path,
    kind: DeviceKind,
    file: &File,
    meta: &Metadata,
) -> Result<(), DeviceError> {
    let by = match kind {
        DeviceKind::Block => in_use::writer(meta),
        DeviceKind::File => match syscall::writers_of(file) {
            Lease::Free => None,
            Lease::Taken => Some(
                in_use::loop_device(meta, true)
                    .or_else(|| in_use::writer(meta))
                    .unwrap_or_else(|| "a program has it open for writing".to_owned()),
            ),
            Lease::Unknown => in_use::loop_device(meta, true).or_else(|| in_use::writer(meta)),
        },
    };
    match by {
        Some(by) => Err(DeviceError::InUse {
            path: path.to_owned(),
            by,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{ALIGNMENT_BYTES, AlignedBuffer};

    #[test]
    fn what_takes_the_name_after_the_open_is_not_read() {
        // Mostly on a disk, which takes direct reads for certain.
        let folder = tempfile::tempdir_in("/var/tmp").or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        let (name, other) = (folder.path().join("src"), folder.path().join("new"));
        std::fs::write(&name, [1; ALIGNMENT_BYTES]).unwrap();
        std::fs::write(&other, [2; ALIGNMENT_BYTES]).unwrap();
        let options = SourceOptions { force: true };
        let opened = open_plain(&name, DeviceKind::File, options).unwrap();
        std::fs::rename(&other, &name).unwrap();
        let source = Source::over(&name, DeviceKind::File, opened, options).unwrap();
        let mut buffer = AlignedBuffer::new(ALIGNMENT_BYTES);
        source.read_at(0, &mut buffer).unwrap();
        assert!(
            buffer.iter().all(|byte| *byte == 1),
            "the other file was read"
        );
    }
}

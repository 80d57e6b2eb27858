//! A new file under a provisional name: it gets its own only when it is whole, so that not even a process that is killed
//! leaves half a volume where a volume is expected.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

/// What stands behind the file's name, before the process and a number.
const MARK: &str = ".stockpot-partial-";
/// How much of the file's name is kept, in bytes: a name has at most 255.
const NAME_BYTES_MAX: usize = 200;

/// Makes a file beside `path`, under a name that nobody has.
pub(super) fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let name = &name.as_bytes()[..name.len().min(NAME_BYTES_MAX)];
    for number in 0_u32.. {
        let mut provisional = b".".to_vec();
        provisional.extend_from_slice(name);
        provisional.extend_from_slice(format!("{MARK}{}-{number}", std::process::id()).as_bytes());
        let at = path.with_file_name(OsString::from_vec(provisional));
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            // A volume may hold what is nobody else's business, whatever the umask says.
            .mode(0o600)
            .open(&at);
        match made {
            // An earlier process of this number was killed: what it left is not ours to judge.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((made?, at)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whether `path` would lie where devices are: a file there takes memory and is gone with the next boot, and whoever names one
/// meant a device that is not there. `/dev/shm` is for files.
pub(super) fn is_among_devices(path: &Path) -> bool {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::canonicalize(folder)
        .is_ok_and(|folder| folder.starts_with("/dev") && !folder.starts_with("/dev/shm"))
}

/// Whether `at` is still the name of `file`, and not of something that was put there since.
pub(super) fn is_at(file: &File, at: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::symlink_metadata(at)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

/// Gives the file at `from` the name `to`, which nobody may have yet.
///
/// # Errors
/// `AlreadyExists`: the name was taken meanwhile. `NotFound`: the file is no longer at `from`.
pub(super) fn place(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    if !is_at(file, from)? {
        return Err(io::ErrorKind::NotFound.into());
    }
    // A second name is never given over an existing one; a rename could not tell.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without hard links.
        Err(_) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        },
    }
}

/// Takes a file away that is not whole; one that has got another name is emptied, and what has its name now stays.
pub(super) fn remove(file: &File, at: &Path) -> io::Result<()> {
    match is_at(file, at) {
        Ok(true) => fs::remove_file(at),
        _ => file.set_len(0),
    }
}

/// A new name survives a crash only when its folder was flushed.
pub(super) fn flush_folder(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| (folder.to_owned(), error))
}

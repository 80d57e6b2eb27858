//! Every access to configfs, each checked by looking again.
//!
//! configfs makes and removes objects by mkdir and rmdir, links them by symlink, and has their attributes as files
//! (`Documentation/filesystems/configfs.rst`). No error holds what was written: it may be a secret.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::TargetError;

/// Makes an object; one that is there is left as it is.
pub(super) fn make(path: &Path) -> Result<(), TargetError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(fail("cannot make", path)(error)),
    }
}

/// Removes an object that has no links and no objects in it. One that is not there is success.
pub(super) fn remove(path: &Path) -> Result<(), TargetError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(fail("cannot remove", path)(error))
        }
        _ => gone(path),
    }
}

/// Links `link` to the object `to`; a link that is there is left as it is.
pub(super) fn link(to: &Path, link: &Path) -> Result<(), TargetError> {
    match std::os::unix::fs::symlink(to, link) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(fail("cannot link", link)(error)),
    }
}

/// Removes a link. One that is not there is success.
pub(super) fn unlink(path: &Path) -> Result<(), TargetError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(fail("cannot unlink", path)(error))
        }
        _ => gone(path),
    }
}

/// An attribute's value, without the newline.
pub(super) fn read(path: &Path) -> Result<String, TargetError> {
    let text = fs::read_to_string(path).map_err(fail("cannot read", path))?;
    Ok(text.trim().to_owned())
}

/// An attribute that holds a secret.
pub(super) fn read_secret(path: &Path) -> Result<SecretString, TargetError> {
    let text = Zeroizing::new(fs::read_to_string(path).map_err(fail("cannot read", path))?);
    Ok(SecretString::from(text.trim()))
}

/// Writes an attribute, without a newline: some attributes would keep it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), TargetError> {
    fs::write(path, value).map_err(fail("cannot write", path))
}

/// Writes an attribute that reads back as it was written, and reads it back; one that says it already is left alone.
pub(super) fn set(path: &Path, value: &str) -> Result<(), TargetError> {
    if fs::read_to_string(path).is_ok_and(|found| found.trim() == value) {
        return Ok(());
    }
    write(path, value)?;
    if read(path)? == value {
        return Ok(());
    }
    Err(TargetError::NotDone {
        path: path.to_owned(),
        found: "it reads back as another value",
    })
}

/// Writes a secret, and reads it back.
pub(super) fn set_secret(path: &Path, value: &SecretString) -> Result<(), TargetError> {
    write(path, value.expose_secret())?;
    if read_secret(path)?.expose_secret() == value.expose_secret() {
        return Ok(());
    }
    Err(TargetError::NotDone {
        path: path.to_owned(),
        found: "it reads back as another value",
    })
}

/// The names of the objects in an object; none if it is not there.
pub(super) fn objects(path: &Path) -> Result<Vec<String>, TargetError> {
    entries(path, fs::FileType::is_dir)
}

/// The names of the links in an object; none if it is not there.
pub(super) fn links(path: &Path) -> Result<Vec<String>, TargetError> {
    entries(path, fs::FileType::is_symlink)
}

fn entries(
    path: &Path,
    wanted: impl Fn(&fs::FileType) -> bool,
) -> Result<Vec<String>, TargetError> {
    let failed = fail("cannot list", path);
    let listing = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| wanted(&kind)) {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

fn gone(path: &Path) -> Result<(), TargetError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(TargetError::NotDone {
        path: path.to_owned(),
        found: "it is still there after it was removed",
    })
}

pub(super) fn fail<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> TargetError + Copy + 'a {
    move |source| TargetError::Configfs {
        doing,
        path: PathBuf::from(path),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_holds_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let secret = SecretString::from("very-secret-word");
        for path in [
            directory.path().to_owned(),
            directory.path().join("a/b"),
            "/dev/full".into(),
            "/dev/null".into(),
        ] {
            let error = set_secret(&path, &secret).unwrap_err();
            let text = format!("{error:?} {error}");
            assert!(!text.contains("very-secret-word"), "{text}");
        }
    }

    #[test]
    fn what_is_not_done_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let held = directory.path().join("held");
        make(&held).unwrap();
        make(&held).unwrap();
        fs::write(held.join("file"), "").unwrap();
        assert!(remove(&held).is_err());
        assert!(matches!(
            set(Path::new("/dev/null"), "1"),
            Err(TargetError::NotDone { .. })
        ));
        remove(&directory.path().join("none")).unwrap();
        unlink(&directory.path().join("none")).unwrap();
        link(&held, &directory.path().join("link")).unwrap();
        assert_eq!(objects(directory.path()).unwrap(), ["held"]);
        assert_eq!(links(directory.path()).unwrap(), ["link"]);
    }
}

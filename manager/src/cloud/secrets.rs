//! Keys of repositories, read from the files that profiles name. What they hold is never told, nor kept as text.

use std::{os::unix::fs::PermissionsExt, path::Path};

use stockpot_repository::format::keys::KeySource;
use zeroize::Zeroizing;

use crate::{ManagerError, joined::joined, profile::Key};

/// Largest key or passphrase file, in bytes.
const FILE_SIZE_MAX: u64 = 64 << 10;

/// The key that a profile names, if it names one.
pub(super) async fn key(key: Option<&Key>) -> Result<Option<KeySource>, ManagerError> {
    let Some(key) = key else {
        return Ok(None);
    };
    let (path, is_passphrase) = match (&key.file, &key.passphrase_file) {
        (Some(path), None) => (path.clone(), false),
        (None, Some(path)) => (path.clone(), true),
        _ => {
            return Err(ManagerError::Internal(
                "a profile's key is neither a file nor a passphrase".to_owned(),
            ));
        }
    };
    let reading = tokio::task::spawn_blocking(move || {
        let content = read(&path)?;
        let source = if is_passphrase {
            KeySource::from_passphrase(&content)
        } else {
            KeySource::from_secret(&content)
        };
        source.map_err(|error| unusable(&path, error.to_string()))
    });
    let source = joined(reading).await??;
    Ok(Some(source))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ManagerError> {
    let failed = |error: std::io::Error| unusable(path, error.to_string());
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() || meta.len() > FILE_SIZE_MAX {
        let problem = format!("it is no file of at most {FILE_SIZE_MAX} bytes");
        return Err(unusable(path, problem));
    }
    warn_of_readers(path);
    Ok(Zeroizing::new(std::fs::read(path).map_err(failed)?))
}

/// Files that anybody may read are used all the same: they may lie where nobody else comes.
pub(super) fn warn_of_readers(path: &Path) {
    if is_open_to_all(path) {
        tracing::warn!(
            "{} can be read by every user of this machine: chmod 600 it",
            path.display()
        );
    }
}

fn is_open_to_all(path: &Path) -> bool {
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode());
    mode.is_ok_and(|mode| mode & 0o007 != 0)
}

fn unusable(path: &Path, problem: String) -> ManagerError {
    ManagerError::SecretFile {
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_come_from_files_and_errors_do_not_tell_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let named = |file: bool| Key {
            file: file.then(|| path.clone()),
            passphrase_file: (!file).then(|| path.clone()),
        };
        assert!(key(None).await.unwrap().is_none());
        let missing = key(Some(&named(true))).await.unwrap_err();
        assert!(
            matches!(missing, ManagerError::SecretFile { .. }),
            "{missing}"
        );
        std::fs::write(&path, "hunter2\n").unwrap();
        let short = key(Some(&named(true))).await.unwrap_err().to_string();
        assert!(!short.contains("hunter2"), "{short}");
        assert!(matches!(
            key(Some(&named(false))).await.unwrap(),
            Some(source) if source.kind() == "passphrase"
        ));
        std::fs::write(&path, [7; 32]).unwrap();
        assert!(matches!(
            key(Some(&named(true))).await.unwrap(),
            Some(source) if source.kind() == "key file"
        ));
        let mode = std::fs::Permissions::from_mode;
        for (bits, open) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
            std::fs::set_permissions(&path, mode(bits)).unwrap();
            assert_eq!(is_open_to_all(&path), open, "{bits:o}");
        }
    }
}

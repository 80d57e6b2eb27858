//! What a volume is published onto: a directory, or a file for a block device.

use std::{io::ErrorKind, path::Path};

use nix::errno::Errno;

use super::{MountError, unmount_all};

/// What has to be at the target path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Directory,
    File,
}

/// Makes the target if it is not there. A mount there whose file system is broken is taken away first.
pub(crate) async fn make_target(path: &Path, kind: Target) -> Result<(), MountError> {
    let metadata = match tokio::fs::symlink_metadata(path).await {
        Err(error) if is_broken_mount(&error) => {
            unmount_all(path).await?;
            tokio::fs::symlink_metadata(path).await
        }
        other => other,
    };
    match (metadata, kind) {
        (Ok(metadata), Target::Directory) if metadata.is_dir() => Ok(()),
        // With a device node bound onto it, it looks like the device.
        (Ok(metadata), Target::File) if !metadata.is_dir() && !metadata.is_symlink() => Ok(()),
        (Ok(_), kind) => Err(MountError::WrongKind {
            path: path.to_owned(),
            wanted: match kind {
                Target::Directory => "a directory",
                Target::File => "a file",
            },
        }),
        (Err(error), kind) if error.kind() == ErrorKind::NotFound => {
            let made = match kind {
                Target::Directory => tokio::fs::create_dir(path).await,
                Target::File => tokio::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(path)
                    .await
                    .map(drop),
            };
            made.map_err(|e| MountError::io("make", path, e))
        }
        (Err(error), _) => Err(MountError::io("look at", path, error)),
    }
}

/// Unmounts and removes the target; one that is not there is success. Never removes anything that has content.
pub(crate) async fn remove_target(path: &Path) -> Result<(), MountError> {
    unmount_all(path).await?;
    let metadata = match tokio::fs::symlink_metadata(path).await {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(MountError::io("look at", path, error)),
    };
    let removed = if metadata.is_dir() {
        tokio::fs::remove_dir(path).await
    } else if metadata.is_file() && metadata.len() > 0 {
        return Err(MountError::NotEmpty {
            path: path.to_owned(),
        });
    } else if metadata.is_file() {
        tokio::fs::remove_file(path).await
    } else {
        return Err(MountError::WrongKind {
            path: path.to_owned(),
            wanted: "a file or directory",
        });
    };
    match removed {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Err(MountError::NotEmpty {
            path: path.to_owned(),
        }),
        Err(error) => Err(MountError::io("remove", path, error)),
    }
}

/// What looking at a mount point answers when the file system lost its device.
fn is_broken_mount(error: &std::io::Error) -> bool {
    let broken = [
        Errno::EIO,
        Errno::ENOTCONN,
        Errno::ESTALE,
        Errno::ENODEV,
        Errno::ENXIO,
        Errno::ESHUTDOWN,
        Errno::EUCLEAN,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| broken.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn makes_and_removes() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("t");
        for kind in [Target::Directory, Target::File] {
            make_target(&target, kind).await.unwrap();
            make_target(&target, kind).await.unwrap();
            let other = match kind {
                Target::Directory => Target::File,
                Target::File => Target::Directory,
            };
            assert!(make_target(&target, other).await.is_err());
            remove_target(&target).await.unwrap();
            remove_target(&target).await.unwrap();
            assert!(!target.exists());
        }
    }

    #[tokio::test]
    async fn content_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "data").unwrap();
        for path in [dir.path(), &file] {
            assert!(matches!(
                remove_target(path).await,
                Err(MountError::NotEmpty { .. })
            ));
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"data");
    }
}

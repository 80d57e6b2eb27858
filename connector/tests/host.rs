//! The local connector on real loop devices.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::PathBuf};

use stockpot_command::Command;
use stockpot_connector::{AttachedDevice, Connector, ConnectorError, HostConnector};
use stockpot_driver::{AccessMode, ConnectionInfo, LocalConnection};

const SIZE_BYTES: u64 = 8 << 20;

/// A loop device on a sparse file, detached at the end.
struct Loop {
    path: PathBuf,
    _file: tempfile::NamedTempFile,
}

impl Loop {
    async fn new(read_only: bool) -> Self {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        file.as_file().set_len(SIZE_BYTES).unwrap();
        let mut command = Command::new("losetup").args(["--find", "--show"]);
        if read_only {
            command = command.arg("--read-only");
        }
        let output = command.arg(file.path()).run().await.unwrap();
        Self {
            path: output.stdout_text().trim().into(),
            _file: file,
        }
    }

    fn connection(&self, access_mode: AccessMode) -> ConnectionInfo {
        ConnectionInfo::Local(LocalConnection {
            device_path: self.path.clone(),
            access_mode,
            size_bytes: SIZE_BYTES,
        })
    }

    async fn detach(self) {
        Command::new("losetup")
            .arg("-d")
            .arg(&self.path)
            .run()
            .await
            .unwrap();
    }
}

/// Opens the device for writing and writes one block.
fn write(device: &Loop) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(&device.path)?;
    file.write_all_at(&[1; 512], 0)?;
    file.sync_all()
}

#[tokio::test]
async fn read_only_is_enforced_and_taken_back() {
    let device = Loop::new(false).await;
    let connector = HostConnector::default();
    let read_only = device.connection(AccessMode::ReadOnly);
    let attached = AttachedDevice {
        path: device.path.clone(),
        size_bytes: SIZE_BYTES,
        read_only: true,
    };
    for _ in 0..2 {
        assert_eq!(connector.connect(&read_only).await.unwrap(), attached);
    }
    let refused = write(&device).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EPERM), "{refused}");
    for _ in 0..2 {
        connector.disconnect(&read_only).await.unwrap();
    }
    let recovered = connector
        .recover(std::slice::from_ref(&read_only))
        .await
        .unwrap();
    assert_eq!(recovered.adopted, [read_only]);
    // Whoever makes sure of a connection does not take it back; whoever makes one does.
    let read_write = device.connection(AccessMode::ReadWrite);
    assert!(connector.confirm(&read_write).await.unwrap().read_only);
    write(&device).unwrap_err();
    assert!(!connector.connect(&read_write).await.unwrap().read_only);
    write(&device).unwrap();
    assert!(!connector.confirm(&read_write).await.unwrap().read_only);
    write(&device).unwrap();
    device.detach().await;
}

#[tokio::test]
async fn a_device_that_is_not_what_was_promised_is_refused() {
    let device = Loop::new(true).await;
    let connector = HostConnector::default();
    let error = connector
        .connect(&device.connection(AccessMode::ReadWrite))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectorError::NotWritable { .. }),
        "{error}"
    );
    let other_size = ConnectionInfo::Local(LocalConnection {
        device_path: device.path.clone(),
        access_mode: AccessMode::ReadOnly,
        size_bytes: SIZE_BYTES + 512,
    });
    let error = connector.connect(&other_size).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectorError::WrongSize {
                found_bytes: SIZE_BYTES,
                ..
            }
        ),
        "{error}"
    );
    device.detach().await;
}

#[tokio::test]
async fn a_device_that_somebody_writes_to_is_not_switched() {
    let device = Loop::new(false).await;
    Command::new("mkfs.ext4")
        .arg("-q")
        .arg(&device.path)
        .run()
        .await
        .unwrap();
    let target = tempfile::tempdir_in("/dev/shm").unwrap();
    Command::new("mount")
        .arg(&device.path)
        .arg(target.path())
        .run()
        .await
        .unwrap();
    let error = HostConnector::default()
        .connect(&device.connection(AccessMode::ReadOnly))
        .await
        .unwrap_err();
    Command::new("umount")
        .arg(target.path())
        .run()
        .await
        .unwrap();
    assert!(matches!(error, ConnectorError::InUse { .. }), "{error}");
    device.detach().await;
}

/// What does not claim the device counts as well.
#[tokio::test]
async fn a_device_that_something_is_made_of_is_not_let_go() {
    let device = Loop::new(false).await;
    let connector = HostConnector::default();
    let connection = device.connection(AccessMode::ReadWrite);
    connector.connect(&connection).await.unwrap();
    let refused = async |words: &str| {
        let error = connector.disconnect(&connection).await.unwrap_err();
        assert!(matches!(error, ConnectorError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let over = Command::new("losetup").args(["--find", "--show"]);
    let over = over.arg(&device.path).run().await.unwrap().stdout_text();
    refused(&format!("loop device {} is over it", over.trim())).await;
    let gone = Command::new("losetup").args(["-d", over.trim()]).run();
    gone.await.unwrap();
    // udev may just be looking at it.
    let bound = over.trim().trim_start_matches("/dev/");
    let bound = PathBuf::from(format!("/sys/block/{bound}/loop"));
    while bound.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let node = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let bind = Command::new("mount").arg("--bind").arg(&device.path);
    bind.arg(node.path()).run().await.unwrap();
    refused(node.path().to_str().unwrap()).await;
    let gone = Command::new("umount").arg(node.path()).run();
    gone.await.unwrap();
    connector.disconnect(&connection).await.unwrap();
    device.detach().await;
}

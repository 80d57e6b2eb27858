//! A classic snapshot whose room runs out while another host reads it: that host is told, by the storage node and by the disk.

use std::{
    fs::OpenOptions,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use nix::libc;
use stockpot_connector::Connector;
use stockpot_driver::{
    ConnectionInfo, DriverError, ExportingDriver, VolumeDriver,
    lvm::{LvmThickConfig, LvmThickDriver},
    remote::{Address, OpenGate, RemoteConfig, RemoteDriver, StorageService},
};
use stockpot_proto::socket;
use tokio_stream::wrappers::UnixListenerStream;

use crate::{
    fixture::run,
    lab::{Lab, MIB, PORTALS},
};

/// Reads a block past all caches.
fn read(device: &Path, offset: u64) -> std::io::Result<u8> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(device)?;
    let mut space = vec![0; 8192];
    let at = space.as_ptr().align_offset(4096);
    let block = &mut space[at..at + 4096];
    file.read_exact_at(block, offset)?;
    Ok(block[0])
}

fn overwrite(device: &Path, mib: u64, byte: u8) {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    for at in 0..mib {
        file.write_all_at(&[byte; 1 << 20], at * MIB).unwrap();
    }
    file.sync_all().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflowed_snapshot_is_void_for_the_host_that_reads_it() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let mut config = LvmThickConfig::new(lab.host.vg());
    config.snapshot_percent = 1;
    config.snapshot_least_bytes = 8 * MIB;
    // Full means full.
    config.extend_at_percent = 100;
    let thick = Arc::new(LvmThickDriver::new(config).unwrap());
    let exporting = ExportingDriver::new(thick, lab.targets.clone(), "storage");
    let driver: Arc<dyn VolumeDriver> = Arc::new(exporting);
    let path = lab.home.path().join("node.sock");
    let listener = socket::bind(&path).await.unwrap();
    let service = StorageService::new(
        "storage",
        [("pool".into(), driver)].into(),
        Arc::new(OpenGate),
    );
    let serving = tonic::transport::Server::builder()
        .add_service(service.on_socket())
        .serve_with_incoming(UnixListenerStream::new(listener));
    let serving = tokio::spawn(async move { serving.await.unwrap() });
    let far = RemoteDriver::new(RemoteConfig::new("storage", Address::Unix(path), "", None));
    far.check().await.unwrap();

    let (volume, snapshot) = ("v".parse().unwrap(), "s".parse().unwrap());
    far.create_volume(&volume, 64 * MIB).await.unwrap();
    far.create_export(&volume).await.unwrap();
    let device = format!("/dev/{}/stockpot.v.v", lab.host.vg());
    let device = Path::new(&device);
    overwrite(device, 64, 1);
    far.create_snapshot(&snapshot, &volume).await.unwrap();
    far.create_export_snapshot(&snapshot).await.unwrap();
    let info = far.initialize_connection_snapshot(&snapshot, &lab.properties);
    let info = info.await.unwrap();
    assert!(matches!(info, ConnectionInfo::Iscsi(_)), "{info:?}");
    let attached = lab.worker.connect(&info).await.unwrap();
    far.check_snapshot(&snapshot).await.unwrap();
    assert_eq!(read(&attached.path, 40 * MIB).unwrap(), 1);

    let filler = lab.host.rest_of_group("filler").await;
    overwrite(device, 32, 2);
    let error = far.check_snapshot(&snapshot).await.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, DriverError::Void { .. }) && text.contains("add room"),
        "{text}"
    );
    // What is read after that is no content of the snapshot.
    assert!(read(&attached.path, 8 * MIB).is_err());
    // The volume itself is whole.
    assert_eq!(read(device, 8 * MIB).unwrap(), 2);
    assert_eq!(read(device, 40 * MIB).unwrap(), 1);

    lab.worker.disconnect(&info).await.unwrap();
    let ended = far.terminate_connection_snapshot(&snapshot, &lab.properties, false);
    ended.await.unwrap();
    far.remove_export_snapshot(&snapshot).await.unwrap();
    far.delete_snapshot(&snapshot).await.unwrap();
    far.remove_export(&volume).await.unwrap();
    far.delete_volume(&volume).await.unwrap();
    run("lvremove", &["--yes", &filler]).await;
    serving.abort();
    lab.close().await;
}

//! IPv6, several portals, and several paths to one device.

use std::{fs, os::unix::fs::OpenOptionsExt, time::Duration};

use stockpot_command::Command;
use stockpot_connector::{Connector, ConnectorError};
use stockpot_driver::{IscsiConnection, VolumeDriver};

use crate::{
    fixture::run,
    lab::{Lab, MIB, PORTALS, holds, kernel_name, sessions, write},
};

pub(crate) async fn multipath_becomes(lab: &Lab, running: bool) {
    for _ in 0..200 {
        if lab.worker.properties().await.unwrap().multipath == running {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("multipathd did not start or stop: {running}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_may_be_ipv6() {
    let lab = Lab::new(&PORTALS[2..]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let device = lab.connect(&connection).await.unwrap();
    write(&device.path, 0, 1).unwrap();
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_multipath_one_of_several_portals_is_enough() {
    let lab = Lab::new(&PORTALS[..2]).await;
    let volume = lab.volume("v", 8).await;
    let mut connection = lab.export(&volume).await;
    assert_eq!(connection.target_portals.len(), 2);
    // Nobody listens at the first.
    connection.target_portals[0].set_port(3999);
    lab.connect(&connection).await.unwrap();
    assert_eq!(sessions(), 1);
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

/// Where each session is, by its number.
fn places() -> Vec<(String, String)> {
    let connections = "/sys/class/iscsi_connection";
    let mut places: Vec<_> = fs::read_dir(connections)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let address = fs::read_to_string(entry.path().join("persistent_address"));
            let name = entry.file_name().into_string().unwrap();
            (name, address.unwrap().trim().to_owned())
        })
        .collect();
    places.sort();
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_another_portal_is_not_the_one_that_is_asked_for() {
    let lab = Lab::new(&PORTALS).await;
    let volume = lab.volume("v", 8).await;
    let all = lab.export(&volume).await;
    let at = |portal: &str| IscsiConnection {
        target_portals: vec![portal.parse().unwrap()],
        ..all.clone()
    };
    let (first, sixth) = (at(PORTALS[0]), at(PORTALS[2]));
    let device = lab.connect(&first).await.unwrap();
    write(&device.path, 0, 4).unwrap();
    let before = places();
    assert!(
        matches!(&before[..], [(_, address)] if address == "10.9.9.1"),
        "{before:?}"
    );
    // The same one, and one of several: it is the session that is there.
    for connection in [&first, &all] {
        assert_eq!(lab.connect(connection).await.unwrap(), device);
        assert_eq!(places(), before);
    }
    // Another one, while somebody has the device: it is left to them.
    let held = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_EXCL)
        .open(&device.path)
        .unwrap();
    let error = lab.connect(&sixth).await.unwrap_err();
    assert!(matches!(error, ConnectorError::InUse { .. }), "{error:?}");
    assert_eq!(places(), before);
    drop(held);
    let device = lab.connect(&sixth).await.unwrap();
    assert!(holds(&device.path, 0, 4));
    let after = places();
    assert!(
        matches!(&after[..], [(_, address)] if address == "fd00:9::1"),
        "{after:?}"
    );
    let spelled_out = at("[fd00:0009:0000::0001]:3260");
    assert_eq!(lab.connect(&spelled_out).await.unwrap(), device);
    assert_eq!(places(), after);
    lab.disconnect(&sixth).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_path_of_several_is_not_noticed() {
    let lab = Lab::new(&PORTALS[1..]).await;
    run("modprobe", &["dm-multipath"]).await;
    run("multipathd", &[]).await;
    multipath_becomes(&lab, true).await;
    let volume = lab.volume("v", 64).await;
    let connection = lab.export(&volume).await;
    let device = lab.connect(&connection).await.unwrap();
    assert_eq!(sessions(), 2);
    assert!(device.path.starts_with("/dev/mapper"), "{device:?}");
    assert_eq!(lab.connect(&connection).await.unwrap(), device);
    write(&device.path, 63 * MIB, 3).unwrap();
    lab.driver.extend_volume(&volume, 128 * MIB).await.unwrap();
    let connection = lab.export(&volume).await;
    assert_eq!(
        lab.connect(&connection).await.unwrap().size_bytes,
        128 * MIB
    );

    let name = kernel_name(&device.path);
    let slaves = fs::read_dir(format!("/sys/block/{}/slaves", name.display())).unwrap();
    let path = slaves.flatten().next().unwrap().path();
    let input = format!("if={}", device.path.display());
    let read = Command::new("dd").args([
        input.as_str(),
        "of=/dev/null",
        "bs=64k",
        "iflag=direct",
        "status=none",
    ]);
    let reading = tokio::spawn(read.run());
    fs::write(path.join("device/state"), "offline\n").unwrap();
    reading.await.unwrap().unwrap();
    assert!(holds(&device.path, 63 * MIB, 3));
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    run("multipathd", &["shutdown"]).await;
    multipath_becomes(&lab, false).await;
    lab.close().await;
}

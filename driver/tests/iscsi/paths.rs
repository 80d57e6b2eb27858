//! IPv6, several portals, and several paths to one device.

use std::{fs, time::Duration};

use stockpot_command::Command;
use stockpot_connector::Connector;
use stockpot_driver::VolumeDriver;

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

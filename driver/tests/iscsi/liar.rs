//! A storage node that shows another one's disk, or names what is an administrator's.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use stockpot_command::Command;
use stockpot_connector::ConnectorError;
use stockpot_driver::{IscsiConnection, VolumeId};

use crate::{
    fixture::run,
    lab::{CONFIGFS, Lab, PORTALS, holds, kernel_name, sessions, write},
    paths::multipath_becomes,
};

const TARGET: &str = "iqn.2026-01.test.stockpot:liar:v.x";

/// A target that lets everybody in, with a disk of this serial number.
struct Liar {
    store: PathBuf,
    group: PathBuf,
}

impl Liar {
    async fn new(lab: &Lab, serial: &str, portal: &str) -> Self {
        let device = lab.host.foreign_lv("liars", 8 << 20).await;
        let store = Path::new(CONFIGFS).join("core/iblock_77/liar");
        let group = Path::new(CONFIGFS)
            .join("iscsi")
            .join(TARGET)
            .join("tpgt_1");
        fs::create_dir_all(&store).unwrap();
        let text = format!("udev_path={}", device.display());
        for (name, text) in [
            ("control", text.as_str()),
            ("wwn/vpd_unit_serial", serial),
            ("enable", "1"),
        ] {
            fs::write(store.join(name), text).unwrap();
        }
        // One after the other: each makes the next possible.
        fs::create_dir(group.parent().unwrap()).unwrap();
        fs::create_dir(&group).unwrap();
        for (name, text) in [
            ("authentication", "0"),
            ("generate_node_acls", "1"),
            ("demo_mode_write_protect", "0"),
        ] {
            fs::write(group.join("attrib").join(name), text).unwrap();
        }
        fs::create_dir(group.join("lun/lun_0")).unwrap();
        symlink(&store, group.join("lun/lun_0/store")).unwrap();
        fs::create_dir(group.join("np").join(portal)).unwrap();
        fs::write(group.join("enable"), "1").unwrap();
        Self { store, group }
    }

    async fn close(self, lab: &Lab, portal: &str) {
        fs::write(self.group.join("enable"), "0").unwrap();
        fs::remove_dir(self.group.join("np").join(portal)).unwrap();
        fs::remove_file(self.group.join("lun/lun_0/store")).unwrap();
        fs::remove_dir(self.group.join("lun/lun_0")).unwrap();
        fs::remove_dir(&self.group).unwrap();
        fs::remove_dir(self.group.parent().unwrap()).unwrap();
        fs::remove_dir(&self.store).unwrap();
        fs::remove_dir(self.store.parent().unwrap()).unwrap();
        let device = format!("{}/liars", lab.host.vg());
        run("lvremove", &["--yes", &device]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_targets_disk_is_no_path_to_ours() {
    let lab = Lab::new(&PORTALS[1..]).await;
    run("modprobe", &["dm-multipath"]).await;
    run("multipathd", &[]).await;
    multipath_becomes(&lab, true).await;
    let volume: VolumeId = lab.volume("v", 8).await;
    let honest = lab.export(&volume).await;
    let device = lab.connect(&honest).await.unwrap();
    write(&device.path, 0, 4).unwrap();
    let map = kernel_name(&device.path);
    let paths = || {
        let paths = fs::read_dir(format!("/sys/block/{}/slaves", map.display())).unwrap();
        let mut paths: Vec<_> = paths.flatten().map(|path| path.file_name()).collect();
        paths.sort();
        paths
    };
    let before = paths();
    assert_eq!((before.len(), sessions()), (2, 2));

    let liar = Liar::new(&lab, &honest.serial, PORTALS[1]).await;
    let lie = |serial: &str| IscsiConnection {
        target_iqn: TARGET.to_owned(),
        target_portals: vec![PORTALS[1].parse().unwrap()],
        serial: serial.to_owned(),
        auth: None,
        ..honest.clone()
    };
    // By its own word, and by what its disk shows.
    for serial in [honest.serial.as_str(), "another"] {
        let error = lab.connect(&lie(serial)).await.unwrap_err();
        assert!(
            matches!(error, ConnectorError::SameDisk { .. }),
            "{serial}: {error:?}"
        );
        assert_eq!((paths(), sessions()), (before.clone(), 2), "{serial}");
    }
    assert!(holds(&device.path, 0, 4));
    write(&device.path, 4096, 5).unwrap();
    lab.disconnect(&honest).await.unwrap();
    liar.close(&lab, PORTALS[1]).await;
    lab.withdraw(&volume).await;
    run("multipathd", &["shutdown"]).await;
    multipath_becomes(&lab, false).await;
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_record_of_somebody_else_is_not_overwritten() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let node = |verb: &[&str]| {
        let common = ["-m", "node", "-T", &connection.target_iqn, "-p", PORTALS[0]];
        Command::new("iscsiadm").args(common).args(verb)
    };
    node(&["-o", "new"]).run().await.unwrap();
    let startup = ["-o", "update", "-n", "node.startup", "-v", "automatic"];
    node(&startup).run().await.unwrap();
    let error = lab.connect(&connection).await.unwrap_err();
    assert!(
        matches!(&error, ConnectorError::Host(text) if text.contains("not ours")),
        "{error:?}"
    );
    let shown = node(&["-o", "show"]).run().await.unwrap().stdout_text();
    assert!(shown.contains("node.startup = automatic"), "{shown}");
    node(&["-o", "delete"]).run().await.unwrap();
    lab.connect(&connection).await.unwrap();
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

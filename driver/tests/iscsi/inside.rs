//! A worker that has a volume and its snapshot attached does not look into them.

use std::path::Path;

use stockpot_driver::VolumeDriver;

use crate::{
    fixture::{
        inside::{FILE_SYSTEM, Rules, announce, by_uuid, fill, links, nothing_is_activated},
        run,
    },
    lab::{Lab, PORTALS, kernel_name, sessions},
    paths::multipath_becomes,
};

/// The disk, or the map and the disks below it.
fn all_of(device: &Path) -> Vec<String> {
    let name = kernel_name(device);
    let below = std::fs::read_dir(Path::new("/sys/block").join(&name).join("slaves"));
    let below = below.into_iter().flatten().flatten();
    let mut all: Vec<_> = below.map(|entry| entry.file_name().into()).collect();
    all.push(name);
    let path = |name| Path::new("/dev").join(name).to_str().unwrap().to_owned();
    all.into_iter().map(path).collect()
}

async fn nothing_inside_is_seen(lab: &Lab, paths: usize) {
    let rules = Rules::install().await;
    let mut attached = Vec::new();
    for id in ["files", "group", "mirror"] {
        let volume = lab.volume(id, 64).await;
        let shown = lab.export(&volume).await;
        let device = lab.connect(&shown).await.unwrap().path;
        fill(id, device.to_str().unwrap()).await;
        let snapshot = lab.snapshot(id, &volume).await;
        let hidden = lab.export_snapshot(&snapshot).await;
        let copy = lab.connect(&hidden).await.unwrap().path;
        attached.push((volume, snapshot, shown, hidden, device, copy));
    }
    assert_eq!(sessions(), 6 * paths);
    announce("sd*").await;
    announce("dm-*").await;
    for (.., device, copy) in &attached {
        for shown in all_of(device) {
            let links = links(&shown).await;
            assert!(links.contains("stockpot/"), "{shown}: {links}");
        }
        for hidden in all_of(copy) {
            let links = links(&hidden).await;
            assert!(links.contains("stockpot/"), "{hidden}: {links}");
            assert!(!links.contains("by-uuid"), "{hidden}: {links}");
        }
    }
    let (.., device, copy) = &attached[0];
    let shown = links(device.to_str().unwrap()).await;
    assert!(shown.contains(FILE_SYSTEM), "{shown}");
    let named = by_uuid().unwrap();
    assert!(!all_of(copy).contains(&named.to_str().unwrap().to_owned()));
    nothing_is_activated().await;
    the_hosts_own_has_the_link(lab).await;
    for (volume, snapshot, shown, hidden, ..) in &attached {
        lab.disconnect(hidden).await.unwrap();
        lab.driver
            .terminate_connection_snapshot(snapshot, &lab.properties, false)
            .await
            .unwrap();
        lab.driver.remove_export_snapshot(snapshot).await.unwrap();
        lab.disconnect(shown).await.unwrap();
        lab.withdraw(volume).await;
    }
    rules.remove().await;
}

/// Anybody can write the UUID of the host's own file system into a volume.
async fn the_hosts_own_has_the_link(lab: &Lab) {
    let own = lab.host.foreign_lv("own", 16 << 20).await;
    let device = own.to_str().unwrap();
    run("mkfs.ext4", &["-q", "-U", FILE_SYSTEM, device]).await;
    announce("dm-*").await;
    announce("sd*").await;
    assert_eq!(by_uuid(), own.canonicalize().ok());
    run("lvremove", &["--yes", device]).await;
    announce("sd*").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_inside_an_attached_volume_stays_inside() {
    let lab = Lab::new(&PORTALS[..1]).await;
    nothing_inside_is_seen(&lab, 1).await;
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_inside_a_multipath_volume_stays_inside() {
    let lab = Lab::new(&PORTALS[..2]).await;
    run("modprobe", &["dm-multipath"]).await;
    run("multipathd", &[]).await;
    multipath_becomes(&lab, true).await;
    nothing_inside_is_seen(&lab, 2).await;
    run("multipathd", &["shutdown"]).await;
    multipath_becomes(&lab, false).await;
    lab.close().await;
}

//! A volume group whose metadata area is full: LVM describes every logical volume there, and a small one is full long before the disk is.

use std::sync::Arc;

use stockpot_command::Command;
use stockpot_driver::{DriverError, VolumeDriver};

use crate::{
    fixture::{Host, run},
    lvm_thick, lvm_thin,
    snapshots::{MIB, snap, vol},
};

/// A tag of that length; LVM takes up to 1024 characters.
fn tag(number: usize, length: usize) -> String {
    format!("{number:08}{}", "x".repeat(length.saturating_sub(8)))
}

/// Makes the group anew, with room for some 30 KiB of descriptions.
async fn with_small_area(host: &Host) {
    let sizes = ["--metadatasize", "64k", "--dataalignment", "64k"];
    run("vgremove", &["--yes", host.vg()]).await;
    run("pvremove", &["--yes", host.disk()]).await;
    run(
        "pvcreate",
        &[&["--yes"], &sizes[..], &[host.disk()]].concat(),
    )
    .await;
    run("vgcreate", &["--yes", host.vg(), host.disk()]).await;
}

/// Fills the area with tags of the group, until LVM takes no more of any length; the tags.
async fn fill(host: &Host) -> Vec<String> {
    let mut tags = Vec::new();
    for length in [1000, 100, 10] {
        loop {
            let tag = tag(tags.len(), length);
            let command = Command::new("vgchange").args(["--addtag", &tag, host.vg()]);
            if command.run().await.is_err() {
                break;
            }
            tags.push(tag);
            assert!(tags.len() < 200, "the area is not small");
        }
    }
    tags
}

/// What the group and the kernel have.
async fn all(host: &Host) -> (String, String) {
    let columns = ["--all", "--noheadings", "-o", "lv_name,lv_tags,lv_size"];
    let lvs = run("lvs", &[&columns[..], &[host.vg()]].concat()).await;
    (lvs, run("dmsetup", &["ls"]).await)
}

fn is_told<T: std::fmt::Debug>(refused: Result<T, DriverError>) {
    let Err(DriverError::ResourceExhausted(text)) = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        text.contains("metadata area") && text.contains("--metadatasize"),
        "{text}"
    );
}

async fn refuses_and_leaves_nothing(host: &Host, driver: Arc<dyn VolumeDriver>) {
    driver.check().await.unwrap();
    driver.create_volume(&vol("a"), 8 * MIB).await.unwrap();
    driver.create_snapshot(&snap("s"), &vol("a")).await.unwrap();
    let tags = fill(host).await;
    let before = all(host).await;
    is_told(driver.create_volume(&vol("b"), 8 * MIB).await);
    is_told(driver.create_snapshot(&snap("t"), &vol("a")).await);
    is_told(
        driver
            .create_cloned_volume(&vol("c"), 8 * MIB, &vol("a"))
            .await,
    );
    is_told(
        driver
            .create_volume_from_snapshot(&vol("d"), 8 * MIB, &snap("s"))
            .await,
    );
    assert_eq!(all(host).await, before);
    // What makes room is not refused.
    driver.delete_snapshot(&snap("s")).await.unwrap();
    for tag in &tags {
        run("vgchange", &["--deltag", tag, host.vg()]).await;
    }
    driver.create_volume(&vol("b"), 8 * MIB).await.unwrap();
    for volume in ["a", "b"] {
        driver.delete_volume(&vol(volume)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_metadata_area_refuses_what_is_new() {
    let host = Host::new().await;
    for is_thin in [true, false] {
        with_small_area(&host).await;
        let driver: Arc<dyn VolumeDriver> = match is_thin {
            true => Arc::new(lvm_thin(&host)),
            false => Arc::new(lvm_thick(&host)),
        };
        refuses_and_leaves_nothing(&host, driver).await;
    }
    host.close().await;
}

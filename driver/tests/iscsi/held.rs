//! Who keeps an attached device from being detached.

use std::path::{Path, PathBuf};

use stockpot_connector::ConnectorError;
use stockpot_driver::IscsiConnection;

use crate::{
    fixture::run,
    lab::{Lab, PORTALS, holds, until, write},
};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// It is refused, says by whom, and the device goes on.
async fn is_held(lab: &Lab, connection: &IscsiConnection, device: &Path, words: &str) {
    let error = lab.disconnect(connection).await.unwrap_err();
    assert!(matches!(error, ConnectorError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(words), "no {words:?}: {error}");
    assert!(holds(device, 0, 7), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_uses_a_device_keeps_it() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 32).await;
    let connection = lab.export(&volume).await;
    let attach = async || -> PathBuf { lab.connect(&connection).await.unwrap().path };
    let path = attach().await;
    write(&path, 0, 7).unwrap();

    // A loop device over it.
    let over = run("losetup", &["--find", "--show", text(&path)]).await;
    is_held(
        &lab,
        &connection,
        &path,
        &format!("loop device {}", over.trim()),
    )
    .await;
    run("losetup", &["-d", over.trim()]).await;
    // udev may just be looking at it.
    let bound = format!(
        "/sys/block/{}/loop",
        over.trim().trim_start_matches("/dev/")
    );
    until("the loop device is gone", || !Path::new(&bound).exists()).await;

    // Its node in another place, as a container gets it.
    let home = tempfile::tempdir().unwrap();
    let node = home.path().join("a node");
    std::fs::write(&node, "").unwrap();
    run("mount", &["--bind", text(&path), text(&node)]).await;
    is_held(
        &lab,
        &connection,
        &path,
        &format!("mounted at {}", text(&node)),
    )
    .await;
    run("umount", &[text(&node)]).await;
    lab.disconnect(&connection).await.unwrap();

    // A bind mount of its file system, where the first mount is gone.
    let path = attach().await;
    let (first, second) = (home.path().join("first"), home.path().join("second"));
    for point in [&first, &second] {
        std::fs::create_dir(point).unwrap();
    }
    run("mkfs.ext4", &["-q", "-F", text(&path)]).await;
    run("mount", &[text(&path), text(&first)]).await;
    std::fs::create_dir(first.join("inner")).unwrap();
    run(
        "mount",
        &["--bind", text(&first.join("inner")), text(&second)],
    )
    .await;
    run("umount", &[text(&first)]).await;
    let error = lab.disconnect(&connection).await.unwrap_err();
    assert!(matches!(error, ConnectorError::InUse { .. }), "{error:?}");
    let words = format!("mounted at {}", text(&second));
    assert!(error.to_string().contains(&words), "{error}");
    std::fs::write(second.join("file"), "still there").unwrap();
    run("umount", &[text(&second)]).await;
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

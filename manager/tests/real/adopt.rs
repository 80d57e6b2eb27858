//! Logical volumes that were there before, thin and thick, mounted while they are adopted; no byte of them changes.

use std::{fs, path::PathBuf};

use stockpot_proto::stockpot::v1 as api;
use stockpot_test_fixtures::vg::ThrowAwayVg;
use tonic::Code;

use super::{Kind, World, run, run_async};
use crate::lab;

/// Makes a logical volume as an administrator does; `VG/LV`.
fn make_lv(world: &World, name: &str, kind: Kind) -> String {
    let vg = world.volume_group();
    match kind {
        Kind::LvmThin => {
            let pool = format!("{vg}/{}", ThrowAwayVg::POOL);
            run(
                "lvcreate",
                &[
                    "--yes",
                    "--virtualsize",
                    "96m",
                    "--thinpool",
                    &pool,
                    "--name",
                    name,
                ],
            );
        }
        _ => run("lvcreate", &["--yes", "--size", "96m", "--name", name, vg]),
    }
    format!("{vg}/{name}")
}

/// All names of the volume group's logical volumes.
fn names(world: &World) -> Vec<String> {
    let mut names = output(
        "lvs",
        &["--noheadings", "-o", "lv_name", world.volume_group()],
    )
    .split_whitespace()
    .map(str::to_owned)
    .collect::<Vec<_>>();
    names.sort();
    names
}

fn tags(lv: &str) -> String {
    output("lvs", &["--noheadings", "-o", "lv_tags", lv])
        .trim()
        .to_owned()
}

fn output(program: &str, args: &[&str]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let command = stockpot_command::Command::new(program).args(args);
    runtime.block_on(command.run()).unwrap().stdout_text()
}

fn digest(device: &str) -> String {
    let text = output("sha256sum", &[device]);
    text.split_whitespace().next().unwrap().to_owned()
}

/// A mounted file system, with a file in it.
struct Mount(PathBuf);

impl Mount {
    fn new(world: &World, device: &str) -> Self {
        let point = world.dir.path().join("mnt");
        fs::create_dir_all(&point).unwrap();
        run("mount", &[device, point.to_str().unwrap()]);
        Self(point)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

#[expect(clippy::too_many_lines, reason = "one story")]
fn adopted_mounted_and_let_go(kind: Kind) {
    let world = World::new(kind);
    let source = make_lv(&world, "data-1", kind);
    let device = format!("/dev/{source}");
    run("mkfs.ext4", &["-q", &device]);
    let mount = Mount::new(&world, &device);
    fs::write(mount.0.join("before"), "written before").unwrap();
    run("sync", &[]);
    let manager = world.start();
    let (mut client, mut volumes) = (manager.client(), manager.volumes());
    let mut backups = manager.backups();
    let volume = manager.block_on(async {
        let volume = lab::adopt(&mut volumes, &source, "web").await.unwrap();
        assert_eq!(volume.size_bytes, 96 << 20);
        volume
    });
    // It is mounted: its name stays, and whoever writes goes on.
    assert!(
        names(&world).contains(&"data-1".to_owned()),
        "{:?}",
        names(&world)
    );
    fs::write(mount.0.join("during"), "written meanwhile").unwrap();
    run("sync", &[]);
    manager.block_on(async {
        let again = lab::adopt(&mut volumes, &device, "web").await.unwrap();
        assert_eq!(again.volume_id, volume.volume_id);
        // It is in use, which the kernel says.
        let refused = lab::back_up(&mut backups, "web", "b", false)
            .await
            .unwrap_err();
        assert!(refused.message().contains("mounted at"), "{refused}");
        let done = lab::backed_up(&mut backups, "web", "b", true).await;
        lab::cleaned(&mut backups, "b").await;
        let copy = lab::volume_from("copy", &done.snapshot_id, api::SourceCopy::Cloud);
        let copy = lab::available_volume(&mut client, &copy).await.unwrap();
        let path = super::attach(&mut client, &copy.volume_id).await;
        run_async("e2fsck", &["-f", "-y", path.to_str().unwrap()]).await;
        super::detach(&mut client, &copy.volume_id).await;
        lab::delete_volume(&mut client, &copy.volume_id)
            .await
            .unwrap();
        let extend = api::ExtendVolumeRequest {
            volume_id: volume.volume_id.clone(),
            required_bytes: 128 << 20,
            limit_bytes: 0,
        };
        // Classic snapshots that are kept for the next backup go for that.
        client.extend_volume(extend).await.unwrap();
    });
    drop(mount);
    let before = digest(&device);
    manager.block_on(async {
        // Nobody uses it: now it has the name of ours, and is at rest afterwards.
        let path = super::attach(&mut client, &volume.volume_id).await;
        assert!(
            path.to_str().unwrap().contains("stockpot.v."),
            "{}",
            path.display()
        );
        super::detach(&mut client, &volume.volume_id).await;
    });
    assert_eq!(format!("{:?}", manager.findings(false)), "[]");
    manager.block_on(async {
        assert_eq!(lab::release(&mut volumes, "web").await.unwrap(), source);
        lab::delete_snapshot(&mut client, &backups_copy(&mut backups).await)
            .await
            .unwrap();
    });
    manager.stop();
    assert_eq!(tags(&source), "");
    run("lvchange", &["--activate", "y", &source]);
    assert_eq!(digest(&device), before);
    let mount = Mount::new(&world, &device);
    for (file, text) in [
        ("before", "written before"),
        ("during", "written meanwhile"),
    ] {
        assert_eq!(fs::read_to_string(mount.0.join(file)).unwrap(), text);
    }
    drop(mount);
    world.close();
}

async fn backups_copy(backups: &mut lab::Backups) -> String {
    let found = backups.get_backup(lab::backup("b")).await.unwrap();
    found.into_inner().snapshot_id
}

#[test]
fn a_mounted_thin_volume_is_adopted_and_let_go() {
    adopted_mounted_and_let_go(Kind::LvmThin);
}

#[test]
fn a_mounted_thick_volume_is_adopted_and_let_go() {
    adopted_mounted_and_let_go(Kind::LvmThick);
}

#[test]
fn one_at_rest_has_our_name_at_once_and_what_is_no_volume_is_refused() {
    let world = World::new(Kind::LvmThick);
    let source = make_lv(&world, "plain", Kind::LvmThick);
    let before = digest(&format!("/dev/{source}"));
    // LVM says less of what is not active.
    run("lvchange", &["--activate", "n", &source]);
    let snapshotted = make_lv(&world, "origin", Kind::LvmThick);
    run(
        "lvcreate",
        &[
            "--yes",
            "--snapshot",
            "--size",
            "16m",
            "--name",
            "theirs",
            &snapshotted,
        ],
    );
    let vg = world.volume_group().to_owned();
    let manager = world.start();
    let mut volumes = manager.volumes();
    let volume = manager.block_on(async {
        for (lv, says) in [("origin", "theirs"), ("theirs", "snapshot of origin")] {
            let refused = lab::adopt(&mut volumes, &format!("{vg}/{lv}"), "")
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{lv}: {refused}");
            assert!(refused.message().contains(says), "{lv}: {refused}");
        }
        lab::adopt(&mut volumes, &source, "").await.unwrap()
    });
    let own = format!("stockpot.v.{}", volume.volume_id.replace('-', "."));
    assert!(names(&world).contains(&own) && !names(&world).contains(&"plain".to_owned()));
    let tagged = tags(&format!("{vg}/{own}"));
    assert!(tagged.contains("stockpot.former=plain"), "{tagged}");
    manager.block_on(async {
        // By the name that it had.
        let again = lab::adopt(&mut volumes, &source, "").await.unwrap();
        assert_eq!(again.volume_id, volume.volume_id);
        assert_eq!(
            lab::release(&mut volumes, &volume.volume_id).await.unwrap(),
            source
        );
        // What was let go may come back as it is.
        let back = lab::adopt(&mut volumes, &source, "").await.unwrap();
        lab::release(&mut volumes, &back.volume_id).await.unwrap();
    });
    manager.stop();
    run("lvchange", &["--activate", "y", &source]);
    assert_eq!(digest(&format!("/dev/{source}")), before);
    world.close();
}

/// Between the tags and the rows, and between the name and the tags.
#[test]
fn what_a_crash_leaves_is_finished_at_the_start() {
    let world = World::new(Kind::LvmThin);
    let source = make_lv(&world, "data", Kind::LvmThin);
    let before = digest(&format!("/dev/{source}"));
    let manager = world.start();
    let mut volumes = manager.volumes();
    let volume = manager
        .block_on(lab::adopt(&mut volumes, &source, "web"))
        .unwrap();
    manager.kill();
    let own = format!("stockpot.v.{}", volume.volume_id.replace('-', "."));
    // As a release leaves it that was killed between its two commands: the name is back, the tags are on.
    run("lvrename", &[world.volume_group(), &own, "data"]);
    let state = world.dir.path().join("state/catalog.sqlite");
    let sql = format!(
        "INSERT INTO adoptions (volume_id, way, source, pool, name, metadata, created_at_us) VALUES ('{}', 'release', '', 'pool', 'web', '{{}}', 1)",
        volume.volume_id
    );
    run("sqlite3", &[state.to_str().unwrap(), &sql]);
    let manager = world.start();
    assert!(names(&world).contains(&own), "{:?}", names(&world));
    assert_eq!(format!("{:?}", manager.findings(true)), "[]");
    manager.kill();
    // As an adoption leaves it that was killed before its rows were written.
    let sql = "INSERT INTO adoptions SELECT id, 'adopt', 'x/data', pool, name, metadata, 1 FROM volumes; DELETE FROM volumes";
    let sql = sql.replace("x/data", &source);
    run("sqlite3", &[state.to_str().unwrap(), &sql]);
    let manager = world.start();
    let (mut client, mut volumes) = (manager.client(), manager.volumes());
    manager.block_on(async {
        let found = lab::volumes(&mut client).await;
        assert_eq!(
            (found[0].volume_id.as_str(), found[0].name.as_str()),
            (volume.volume_id.as_str(), "web")
        );
        assert_eq!(lab::release(&mut volumes, "web").await.unwrap(), source);
    });
    manager.stop();
    run("lvchange", &["--activate", "y", &source]);
    assert_eq!(digest(&format!("/dev/{source}")), before);
    world.close();
}

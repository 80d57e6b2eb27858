//! Killed at any point, and recovered: nothing is left but what should be.

use std::{path::Path, time::Duration};

use stockpot_command::Command;
use stockpot_connector::Connector;
use stockpot_driver::{ConnectionInfo, VolumeDriver};

use crate::lab::{Lab, PORTALS, holds, iscsi, leftovers, node, until, worker, write};

const HOME: &str = "STOCKPOT_TEST_HOME";

fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test host and the parent tell by variables"
    )]
    std::env::var(name).ok()
}

/// A program that the killed one had started goes on to its end, and a service manager would end it.
async fn programs_end() {
    let is_running = |comm: std::path::PathBuf| {
        let name = std::fs::read_to_string(comm).unwrap_or_default();
        ["iscsiadm", "lvm", "lvs", "lvchange"].contains(&name.trim())
    };
    let running = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|entry| is_running(entry.path().join("comm")))
    };
    until("the child's programs end", || !running()).await;
}

/// Not a test by itself: what the next one kills.
#[tokio::test(flavor = "multi_thread")]
async fn child_attaches_and_detaches() {
    let Some(home) = variable(HOME) else { return };
    let host = crate::fixture::Host::existing();
    let (driver, _) = node(&host, Path::new(&home), &PORTALS[..1]).await;
    let (volume, snapshot) = ("v".parse().unwrap(), "s".parse().unwrap());
    let worker = worker();
    let properties = worker.properties().await.unwrap();
    driver.create_export_snapshot(&snapshot).await.unwrap();
    driver.create_export(&volume).await.unwrap();
    let mode = stockpot_driver::AccessMode::ReadWrite;
    loop {
        let read = driver
            .initialize_connection_snapshot(&snapshot, &properties)
            .await
            .unwrap();
        let written = driver
            .initialize_connection(&volume, &properties, mode)
            .await
            .unwrap();
        for _ in 0..3 {
            for (connection, byte) in [(&read, 1), (&written, 2)] {
                let device = worker.connect(connection).await.unwrap();
                assert!(holds(&device.path, 0, byte));
                worker.disconnect(connection).await.unwrap();
            }
        }
        driver
            .terminate_connection(&volume, &properties, false)
            .await
            .unwrap();
        driver
            .terminate_connection_snapshot(&snapshot, &properties, false)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_is_recovered_from() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let device = lab.connect(&connection).await.unwrap();
    write(&device.path, 0, 1).unwrap();
    let snapshot = lab.snapshot("s", &volume).await;
    write(&device.path, 0, 2).unwrap();
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;

    let cycles: u64 = variable("STOCKPOT_TEST_CYCLES").map_or(6, |text| text.parse().unwrap());
    let program = std::env::current_exe().unwrap();
    for cycle in 0..cycles {
        let child = Command::new(&program)
            .args(["--exact", "crash::child_attaches_and_detaches"])
            .env(HOME, lab.home.path())
            .env("STOCKPOT_IN_TESTHOST", "1")
            .env(
                "STOCKPOT_TEST_DISKS",
                variable("STOCKPOT_TEST_DISKS").unwrap(),
            );
        // Spread over more than one turn of the child, whose program needs a moment to start.
        let life = Duration::from_millis(900 + cycle * 2_654_435 % 3_000);
        // When the time is over the child is killed.
        let ended = tokio::time::timeout(life, child.output()).await;
        if let Ok(ended) = ended {
            panic!(
                "the child ended by itself: {}",
                ended.unwrap().stdout_text()
            );
        }
        programs_end().await;
        let recovered = lab.worker.recover(&[]).await.unwrap();
        let removed = lab.targets.recover(&[], &[]).await.unwrap();
        println!(
            "killed after {life:?}: {:?} {:?}",
            recovered.removed, removed.removed
        );
        assert_eq!(removed.failed, []);
        assert_eq!(leftovers(), [""; 0], "after {life:?}");
    }
    lab.driver.remove_export(&volume).await.unwrap();
    lab.driver.remove_export_snapshot(&snapshot).await.unwrap();
    let connection = lab.export_snapshot(&snapshot).await;
    let device = lab.connect(&connection).await.unwrap();
    assert!(holds(&device.path, 0, 1));
    lab.disconnect(&connection).await.unwrap();
    let info = lab
        .driver
        .initialize_connection_snapshot(&snapshot, &lab.properties)
        .await
        .unwrap();
    assert_eq!(iscsi(info.clone()), connection);
    assert!(matches!(info, ConnectionInfo::Iscsi(_)));
    lab.driver
        .terminate_connection_snapshot(&snapshot, &lab.properties, false)
        .await
        .unwrap();
    lab.driver.remove_export_snapshot(&snapshot).await.unwrap();
    lab.close().await;
}

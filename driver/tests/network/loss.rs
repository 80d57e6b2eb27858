//! Connections that break, and storage nodes that do not answer.

use std::time::{Duration, Instant};

use stockpot_driver::{
    VolumeDriver,
    remote::{NodeError, RemoteDriver},
};

use super::lab::{Lab, Line, between};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_made_again_and_the_call_too() {
    let lab = Lab::new().await;
    let driver = lab.worker("worker-1");
    driver
        .create_volume(&"a-1".parse().unwrap(), MIB)
        .await
        .unwrap();
    lab.cut().await;
    let error = between(driver.list_volumes().await);
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
    assert!(
        error.is_passing() && error.to_string().contains("storage-1"),
        "{error}"
    );
    // It comes back while the call is being repeated.
    lab.set(Line::Open);
    let files = lab.authority.issue(lab.home.path(), &["worker-1"], false);
    let mut config = lab.config("storage-1", files);
    config.limits.attempts = 10;
    let patient = RemoteDriver::new(config);
    assert_eq!(patient.list_volumes().await.unwrap().len(), 1);
    lab.cut().await;
    let before = lab.count();
    let again = tokio::spawn(async move { patient.list_volumes().await });
    // The second one is made because the first one failed.
    let deadline = Instant::now() + Duration::from_secs(20);
    while lab.count() < before + 2 {
        assert!(Instant::now() < deadline, "it is not repeated");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lab.set(Line::Open);
    assert_eq!(again.await.unwrap().unwrap().len(), 1);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_be_repeated_is() {
    let lab = Lab::new().await;
    let driver = lab.worker("worker-1");
    driver.check().await.unwrap();
    lab.cut().await;
    // From here on the driver too knows that the connection is gone.
    between(driver.capacity().await);
    let tries = async |call: &str| {
        let before = lab.count();
        let error = match call {
            "grow_pool" => between(driver.grow_pool().await),
            _ => between(driver.capacity().await),
        };
        assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
        lab.count() - before
    };
    assert!(tries("capacity").await >= 3);
    assert!(tries("grow_pool").await <= 1);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_is_noticed_long_before_the_calls_limit() {
    let lab = Lab::new().await;
    let driver = lab.worker("worker-1");
    driver.check().await.unwrap();
    lab.set(Line::Silent);
    let started = Instant::now();
    // A call that may take ten minutes.
    let made = driver.create_volume(&"a-1".parse().unwrap(), MIB).await;
    let error = between(made);
    assert!(
        matches!(
            error,
            NodeError::Unreachable { .. } | NodeError::NoAnswer { .. }
        ),
        "{error}"
    );
    let took = started.elapsed();
    assert!(took < Duration::from_secs(30), "noticed after {took:?}");
    lab.set(Line::Open);
    let made = driver.create_volume(&"a-1".parse().unwrap(), MIB).await;
    assert_eq!(made.unwrap().size_bytes, MIB);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_arrive_whole() {
    let lab = Lab::new().await;
    let driver = lab.worker("worker-1");
    let (id, snapshot) = ("a-1".parse().unwrap(), "s".parse().unwrap());
    let runs = 200;
    driver.create_volume(&id, 2 * runs * 4096).await.unwrap();
    let image = walk(&lab.home.path().join("images"));
    let file = std::fs::OpenOptions::new().write(true).open(image).unwrap();
    for run in 0..runs {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], run * 8192).unwrap();
    }
    file.sync_all().unwrap();
    driver.create_snapshot(&snapshot, &id).await.unwrap();
    if let Some(ranges) = driver.allocated_ranges(&snapshot).await.unwrap() {
        let data: u64 = ranges.iter().map(|range| range.length_bytes).sum();
        assert!(data >= runs * 4096, "{} ranges, {data} bytes", ranges.len());
    }
    lab.close().await;
}

/// The one file with content below a directory.
fn walk(directory: &std::path::Path) -> std::path::PathBuf {
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.len() > 1 << 20 {
                return entry.path();
            }
        }
    }
    panic!("there is no image");
}

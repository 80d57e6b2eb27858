//! A caller that asks for more than one may.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use stockpot_driver::{
    DriverError, VolumeDriver,
    file::{FileConfig, FileDriver},
    remote::{Caller, Gate, Intent, StorageService, Subject},
    target::ExportRecord,
};
use stockpot_proto::{
    socket,
    stockpot::v1::storage::{ObjectRequest, storage_node_client::StorageNodeClient},
};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Code;

/// As documented.
const AT_ONCE: usize = 64;
const WAITING: usize = 256;

/// Calls are carried out, and do not end before it is opened.
#[derive(Debug, Default)]
struct Holding {
    begun: AtomicUsize,
    open: watch::Sender<bool>,
}

#[async_trait]
impl Gate for Holding {
    fn admit(&self, _: &Caller) -> Result<(), String> {
        Ok(())
    }

    async fn allow(&self, _: &Caller, _: Subject<'_>, _: Intent) -> Result<(), String> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        Ok(())
    }

    async fn exports(&self) -> Result<Vec<(Option<String>, ExportRecord)>, DriverError> {
        Ok(Vec::new())
    }
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_nobody_waits_for_any_more_do_not_pile_up() {
    let home = tempfile::tempdir().unwrap();
    let mut images = FileConfig::new(home.path().join("images"));
    images.allow_copy = true;
    let driver: Arc<dyn VolumeDriver> = Arc::new(FileDriver::new(images));
    driver.check().await.unwrap();
    let gate = Arc::new(Holding::default());
    let pools = [("pool".to_owned(), driver)].into();
    let service = StorageService::new("storage-1", pools, gate.clone());
    let path = home.path().join("s");
    let listener = UnixListenerStream::new(socket::bind(&path).await.unwrap());
    let serving = tonic::transport::Server::builder()
        .add_service(service.on_socket())
        .serve_with_incoming(listener);
    let serving = tokio::spawn(serving);

    // Not more on one connection than its server takes there.
    let clients: Vec<_> = (0..4)
        .map(|_| StorageNodeClient::new(socket::channel(path.clone())))
        .collect();
    let ask = |calls: &mut JoinSet<_>, count: usize| {
        for n in 0..count {
            let mut client = clients[n % clients.len()].clone();
            let request = ObjectRequest {
                pool: String::new(),
                id: "v-1".to_owned(),
            };
            calls.spawn(async move { client.find_volume(request).await });
        }
    };
    let begun = || gate.begun.load(Ordering::SeqCst);
    let mut gone = JoinSet::new();
    ask(&mut gone, AT_ONCE);
    until("calls are carried out", || begun() == AT_ONCE).await;
    gone.shutdown().await;

    // Their work goes on: what comes now waits, and is refused where too much does.
    let mut calls = JoinSet::new();
    ask(&mut calls, WAITING + 9);
    for _ in 0..9 {
        let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("ask again"), "{refused}");
    }
    assert_eq!(begun(), AT_ONCE);
    gate.open.send_replace(true);
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(begun(), AT_ONCE + WAITING);
    serving.abort();
}

//! The contract of `VolumeDriver` again, through the service of a storage node.

use std::sync::Arc;

use stockpot_connector::{Connector, HostConnector};
use stockpot_driver::{
    VolumeDriver,
    lvm::{LvmThickConfig, LvmThickDriver},
    remote::{Address, OpenGate, RemoteConfig, RemoteDriver, StorageService},
};
use stockpot_proto::socket;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;

use crate::{
    contract::{self, Nature},
    fixture, lvm_thin,
};

/// A storage node on this host, reached by its socket.
struct Far {
    driver: RemoteDriver,
    serving: JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Far {
    /// This host is the storage node too, so what it hands out is a device of this host.
    async fn new(driver: impl VolumeDriver + 'static) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("node.sock");
        let listener = socket::bind(&path).await.unwrap();
        let node = HostConnector::default().properties().await.unwrap().host;
        let driver: Arc<dyn VolumeDriver> = Arc::new(driver);
        let pools = [("pool".to_owned(), driver)].into();
        let service = StorageService::new(&node, pools, Arc::new(OpenGate));
        let serving = tonic::transport::Server::builder()
            .add_service(service.on_socket())
            .serve_with_incoming(UnixListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        let config = RemoteConfig::new(node, Address::Unix(path), "", None);
        Self {
            driver: RemoteDriver::new(config),
            serving,
            _home: home,
        }
    }

    fn stop(self) {
        self.serving.abort();
    }
}

/// LVM's commands are slow in a guest: there, one case of each kind of call.
fn one_of_each(case: &str) -> bool {
    [
        "snapshots_come_and_go",
        "volumes_are_made_from_snapshots",
        "volumes_are_cloned",
        "one_volume_takes_the_place_of_another",
        "a_call_that_was_cut_off_is_finished_by_the_next",
        "capacity_tells_the_room",
        "ranges_cover_all_data",
        "what_differs_is_told",
        "attaching_twice_is_attaching_once",
        "a_volume_grows_while_it_is_attached",
        "what_is_open_is_not_removed",
        "what_is_not_there_is_not_found",
        "impossible_sizes_are_refused_with_figures",
        "volumes_and_snapshots_go_in_the_order_that_their_kind_allows",
        "another_of_the_same_id_is_refused",
    ]
    .contains(&case)
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_remote_lvm_thin() {
    let host = fixture::Host::new().await;
    let far = Far::new(lvm_thin(&host)).await;
    contract::run_some(Arc::new(far.driver.clone()), Nature::THIN, one_of_each).await;
    far.stop();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_remote_lvm_thick() {
    let host = fixture::Host::new().await;
    let mut config = LvmThickConfig::new(host.vg());
    config.close_patience = crate::CLOSE_PATIENCE;
    let far = Far::new(LvmThickDriver::new(config).unwrap()).await;
    contract::run_some(Arc::new(far.driver.clone()), Nature::THICK, one_of_each).await;
    far.stop();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_remote_file() {
    let host = fixture::Host::new().await;
    let xfs = host.file_system("xfs", 1 << 30).await;
    let far = Far::new(crate::file(xfs.path().join("images"))).await;
    contract::run(Arc::new(far.driver.clone()), Nature::THIN).await;
    far.stop();
    xfs.unmount().await;
    host.close().await;
}

//! A manager on storage and buckets that are fakes, and the gateway before it, each on its socket.

use std::{fs, net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use stockpot_gateway::GatewayConfig;
use stockpot_manager::fakes::FakeStorage;
use stockpot_proto::{
    socket,
    stockpot::v1::{self as api, manager_client::ManagerClient, streams_client::StreamsClient},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::support::Site;

/// Of every volume, in bytes.
pub(crate) const SIZE: usize = 3 << 20;

/// All of it, until it is stopped.
pub(crate) struct Bench {
    pub(crate) storage: Arc<FakeStorage>,
    pub(crate) socket: PathBuf,
    /// Where the plugin's data goes.
    pub(crate) address: String,
    client: ManagerClient<Channel>,
    site: Site,
    stop: CancellationToken,
    stop_gateway: CancellationToken,
    served: Vec<JoinHandle<()>>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let site = Site::new();
        site.add_profile("offsite", "backups", "a");
        site.add_profile("second", "second", "b");
        // A port that is free now, and that the plugin opens when it needs it.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap().to_string();
        drop(port);
        let streams = format!(
            "streams: {{allowedDestinations: ['{address}'], connectWithinSeconds: 2, silentSecondsMax: 5, lingerSeconds: 0}}"
        );
        let stop = CancellationToken::new();
        let managing = site.manager(&streams, stop.clone().cancelled_owned()).await;
        let client = site.ready().await;
        let socket = site.path("gateway.sock");
        let gateway = GatewayConfig {
            socket: Some(socket.clone()),
            ..GatewayConfig::default()
        };
        let stop_gateway = stop.child_token();
        let serving = site.gateway(gateway, stop_gateway.clone().cancelled_owned());
        site.until_listening("gateway.sock").await;
        Self {
            storage: site.storage.clone(),
            socket,
            address,
            client,
            site,
            stop,
            stop_gateway,
            served: vec![serving, managing],
        }
    }

    /// The bytes that a volume of this number has.
    pub(crate) fn bytes(number: u8) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        bytes[10..90_000].fill(number);
        bytes[1 << 20..(1 << 20) + 5000].fill(number.wrapping_mul(3));
        bytes[SIZE - 1] = number;
        bytes
    }

    /// Makes a volume if it is not there, and writes what this number stands for.
    pub(crate) async fn volume(&self, name: &str, number: u8) {
        let request = api::CreateVolumeRequest {
            name: name.to_owned(),
            required_bytes: SIZE as u64,
            ..Default::default()
        };
        let made = self.client.clone().create_volume(request).await.unwrap();
        let path = self.site.volume_file(&made.into_inner().volume_id);
        fs::write(path, Self::bytes(number)).unwrap();
    }

    /// Makes more volumes than a page of a list has, and a snapshot of each.
    pub(crate) async fn crowd(&self) {
        let mut client = self.client.clone();
        for number in 0..=500 {
            let request = api::CreateVolumeRequest {
                name: format!("crowd-{number}"),
                required_bytes: 1,
                ..Default::default()
            };
            let made = client.create_volume(request).await.unwrap();
            let request = api::CreateSnapshotRequest {
                name: format!("crowd-{number}"),
                source_volume_id: made.into_inner().volume_id,
                ..Default::default()
            };
            client.create_snapshot(request).await.unwrap();
        }
        // What comes next has a later id.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// Asks the gateway alone to stop.
    pub(crate) fn stop_gateway(&self) {
        self.stop_gateway.cancel();
    }

    pub(crate) fn gateway_is_up(&self) -> bool {
        !self.served[0].is_finished()
    }

    /// How all streams went.
    pub(crate) async fn streams(&self) -> Vec<api::StreamStatus> {
        let mut client = StreamsClient::new(socket::channel(self.site.manager_socket()));
        let asked = api::ListStreamsRequest::default();
        let listed = client.list_streams(asked).await.unwrap().into_inner();
        listed.streams.iter().map(api::Stream::status).collect()
    }

    /// What the volume of a name holds, without the zeroes beyond.
    pub(crate) async fn content(&self, name: &str) -> Vec<u8> {
        let request = api::ListVolumesRequest::default();
        let listed = self.client.clone().list_volumes(request).await.unwrap();
        let volumes = listed.into_inner().volumes;
        let volume = volumes.iter().find(|volume| volume.name == name).unwrap();
        assert_eq!(volume.status(), api::VolumeStatus::Available, "{volume:?}");
        let mut bytes = fs::read(self.site.volume_file(&volume.volume_id)).unwrap();
        assert!(bytes[SIZE..].iter().all(|byte| *byte == 0));
        bytes.truncate(SIZE);
        bytes
    }

    /// Nothing is attached.
    pub(crate) fn assert_tidy(&self) {
        let left = self.storage.leftovers();
        assert!(left.attached.is_empty(), "{left:?}");
    }

    /// Nothing was made besides one volume.
    pub(crate) fn assert_only_the_volume(&self) {
        let left = self.storage.leftovers();
        assert_eq!(
            (left.volumes.len(), left.snapshots.len()),
            (1, 0),
            "{left:?}"
        );
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for served in self.served {
            served.await.unwrap();
        }
        let left = self.storage.leftovers();
        assert!(left.attached.is_empty(), "{left:?}");
    }
}

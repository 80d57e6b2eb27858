//! A manager and a gateway behind their sockets, and a client that sends what a test says and nothing else.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stockpot_gateway::GatewayConfig;
use stockpot_manager::fakes::Faults;
use stockpot_proto::stockpot::v1::{self as api, manager_client::ManagerClient};
use tokio::{net::UnixStream, sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;

use crate::support::{PATIENCE, Site, http};

/// Of the volumes that are backed up: less than Cinder can ask for, so that a test takes no minute.
pub(crate) const SIZE: u64 = 3 << 20;

/// What outlives the daemons run on it.
pub(crate) struct World {
    site: Site,
    pub(crate) faults: Arc<Faults>,
}

/// One run of manager and gateway.
pub(crate) struct Lab<'w> {
    pub(crate) world: &'w World,
    pub(crate) manager: ManagerClient<Channel>,
    /// The gateway and the manager, in the order in which they are stopped.
    parts: [(oneshot::Sender<()>, JoinHandle<()>); 2],
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// `Null` without one.
    pub(crate) body: Value,
}

impl World {
    /// With a profile `offsite` whose repository has the prefix `nightlybackups`.
    pub(crate) fn new() -> Self {
        let site = Site::new();
        let world = Self {
            faults: site.faults.clone(),
            site,
        };
        world.add_profile("offsite", "nightlybackups");
        world
    }

    pub(crate) fn add_profile(&self, name: &str, prefix: &str) {
        self.site.add_profile(name, "backups", prefix);
    }

    /// Nothing is on record any more; the storage and the bucket are what they were.
    pub(crate) async fn forget_catalog(&self) {
        self.site.until_unlocked().await;
        fs::remove_dir_all(self.site.path("state")).unwrap();
    }

    /// Content that tells volumes apart.
    pub(crate) fn fill(&self, volume: &str, byte: u8) {
        fs::write(self.site.volume_file(volume), content(byte)).unwrap();
    }

    /// Of a volume as it is shown.
    pub(crate) fn assert_content(&self, volume: &Value, byte: u8) {
        let id = volume["provider_id"].as_str().unwrap();
        let file = self.site.volume_file(id);
        assert!(fs::read(file).unwrap() == content(byte), "{volume}");
    }

    /// Nothing is half-open.
    pub(crate) fn assert_tidy(&self) {
        assert_eq!(
            self.site.stores.content().1,
            0,
            "multipart uploads are open"
        );
    }

    /// Whether the bucket answers.
    pub(crate) fn set_out_of_reach(&self, out_of_reach: bool) {
        self.site.stores.set_out_of_reach(out_of_reach);
    }

    /// Starts both, and waits until they take operations.
    pub(crate) async fn start(&self) -> Lab<'_> {
        let (stop_manager, stopped) = stop_signal();
        let managing = self.site.manager("", stopped).await;
        let text = format!(
            "{{socket: {}, limits: {{requestsPerSecondMax: 10000, requestsBurstMax: 10000}}}}",
            self.site.path("gateway.sock").display()
        );
        let config: GatewayConfig = serde_saphyr::from_str(&text).unwrap();
        let (stop_gateway, stopped) = stop_signal();
        let serving = self.site.gateway(config, stopped);
        let manager = self.site.ready().await;
        self.site.until_listening("gateway.sock").await;
        Lab {
            world: self,
            manager,
            parts: [(stop_gateway, serving), (stop_manager, managing)],
        }
    }
}

fn stop_signal() -> (
    oneshot::Sender<()>,
    impl Future<Output = ()> + Send + 'static,
) {
    let (stop, stopped) = oneshot::channel();
    let stopped = async move {
        let _ = stopped.await;
    };
    (stop, stopped)
}

fn content(byte: u8) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(SIZE).unwrap()];
    content[70_000..200_000].fill(byte);
    content
}

impl Lab<'_> {
    /// The gateway first, then the manager.
    pub(crate) async fn stop(self) {
        for (stop, served) in self.parts {
            let _ = stop.send(());
            served.await.unwrap();
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    /// With a microversion.
    pub(crate) async fn at(&self, version: &str, method: &str, path: &str, body: &str) -> Answer {
        let version = format!("volume {version}");
        let header = ("OpenStack-API-Version", version.as_str());
        self.send(method, path, &[header], body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut all = vec![
            ("host", "cinder.example:8776"),
            ("content-type", "application/json"),
        ];
        all.extend(headers);
        let socket = self.world.site.path("gateway.sock");
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let request = http::request(method, path, &all, Some(body.as_bytes()));
        let reply = http::exchange(&mut stream, &request).await;
        Answer {
            status: reply.status,
            body: match reply.text().as_str() {
                "" => Value::Null,
                _ => reply.json(),
            },
            headers: reply.headers,
        }
    }

    /// The id under which Cinder shows a volume.
    pub(crate) async fn shown(&self, volume: &str) -> String {
        let shown = self.get(&format!("/v3/p/volumes/{volume}")).await;
        let id = shown.body["volume"]["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36, "{id} is no UUID");
        id
    }

    /// A volume with content, which the manager made, as CSI would have it; its id there.
    pub(crate) async fn volume(&mut self, name: &str, byte: u8) -> String {
        let request = api::CreateVolumeRequest {
            name: name.to_owned(),
            required_bytes: SIZE,
            ..Default::default()
        };
        let made = self.manager.create_volume(request).await.unwrap();
        let id = made.into_inner().volume_id;
        self.world.fill(&id, byte);
        id
    }

    pub(crate) async fn attach(&mut self, volume: &str) {
        let request = api::AttachVolumeRequest {
            volume_id: volume.to_owned(),
            read_only: false,
            as_attached: false,
        };
        self.manager.attach_volume(request).await.unwrap();
    }

    pub(crate) async fn detach(&mut self, volume: &str) {
        let request = api::DetachVolumeRequest {
            volume_id: volume.to_owned(),
        };
        self.manager.detach_volume(request).await.unwrap();
    }

    /// Asks for a backup and waits until it is available.
    pub(crate) async fn backed_up(&self, volume: &str, name: &str) -> String {
        let body = json!({"backup": {"volume_id": volume, "name": name, "force": true}});
        let begun = self.post("/v3/p/backups", &body).await;
        assert_eq!(begun.status, 202, "{begun:?}");
        let id = begun.body["backup"]["id"].as_str().unwrap().to_owned();
        self.until("backup", &id, "available").await;
        id
    }

    /// Looks at a thing until it has a status; an error ends that.
    pub(crate) async fn until(&self, kind: &str, id: &str, wanted: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let path = format!("/v3/p/{kind}s/{id}");
            let answer = self.at("latest", "GET", &path, "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let thing = answer.body[kind].clone();
            if thing["status"] == wanted {
                return thing;
            }
            assert_ne!(thing["status"], "error", "{thing}");
            assert!(Instant::now() < deadline, "{thing}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Answer {
    /// The message of a fault, which has to be of this name and status.
    pub(crate) fn fault(&self, status: u16, name: &str) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        let fault = &self.body[name];
        assert_eq!(fault["code"], status, "{self:?}");
        let message = fault["message"].as_str().unwrap();
        assert!(!message.is_empty());
        message
    }
}

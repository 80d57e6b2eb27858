//! What managers on other nodes may do with the pools of this one.
//!
//! A volume's id carries the short id of the node whose manager made it. So a node that shows its certificate reaches
//! the volumes of its own name, with their snapshots, and no others, and this needs no record that could be lost. Whoever may
//! open this node's socket reaches all, but for making, growing and removing what is on this manager's record: for
//! that the manager is to be asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use stockpot_driver::{
    DriverError, VolumeId,
    remote::{
        Caller, CertificateFiles, Gate, Intent, Listeners, NodeCertificate, RenewedCertificate,
        StorageService, Subject,
    },
    target::{ExportRecord, Unrecorded},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, ConfigError, Manager, ManagerError,
    error::chain,
    ids::{self, NodeShortId},
    joined::joined,
};

/// How often this node's certificate is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// From here on its end is told.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What this node's certificate lets it do.
#[derive(Debug)]
pub(crate) struct Network {
    listeners: Listeners,
    certificate: Arc<RenewedCertificate>,
}

impl Network {
    /// Listens for other nodes, if the configuration says where.
    pub(crate) async fn bind(config: &Config) -> Result<Option<Self>, ManagerError> {
        let Some(serving) = &config.storage_node else {
            return Ok(None);
        };
        let files = files(config)?;
        // One that is wrong is told before anybody is listened to.
        read_certificate(config).await?;
        let listeners = Listeners::bind(&serving.listen).await?;
        Ok(Some(Self {
            listeners,
            certificate: Arc::new(RenewedCertificate::new(files)),
        }))
    }

    /// Answers other nodes until `stop`.
    pub(crate) async fn serve(
        self,
        service: &StorageService,
        stop: CancellationToken,
    ) -> Result<(), ManagerError> {
        for address in self.listeners.addresses() {
            tracing::info!(%address, "serving other nodes");
        }
        let serving = self.listeners.serve(service, &self.certificate, stop);
        Ok(serving.await?)
    }
}

fn wrong(problem: String) -> ConfigError {
    ConfigError {
        field: "certificate".to_owned(),
        problem,
    }
}

fn files(config: &Config) -> Result<CertificateFiles, ConfigError> {
    let files = config.certificate_files();
    files.ok_or_else(|| wrong("is not there".to_owned()))
}

/// This node's certificate, which has to be of this node.
async fn read_certificate(config: &Config) -> Result<NodeCertificate, ManagerError> {
    let files = files(config)?;
    let reading = tokio::task::spawn_blocking(move || NodeCertificate::read(&files));
    let read = joined(reading).await?;
    let certificate = read.map_err(|error| wrong(chain(&error)))?;
    if certificate.node() != config.node_name {
        let problem = format!(
            "is of node {}, and this is node {}",
            certificate.node(),
            config.node_name
        );
        return Err(wrong(problem).into());
    }
    Ok(certificate)
}

impl Manager {
    /// Says while there is time that this node's certificate ends; a wrong one is told at once.
    pub(crate) async fn start_certificate_watch(self: &Arc<Self>) -> Result<(), ManagerError> {
        if self.config.certificate.is_none() {
            return Ok(());
        }
        tell_the_end(&read_certificate(&self.config).await?);
        let manager = self.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = manager.stopping.cancelled() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                match read_certificate(&manager.config).await {
                    Ok(certificate) => tell_the_end(&certificate),
                    Err(error) => {
                        tracing::error!(error = chain(&error), "this node's certificate");
                    }
                }
            }
        });
        Ok(())
    }

    /// Whether a volume is one of a node that this one has pools for, or had: it is on that node's record.
    pub(crate) fn is_lent(&self, id: &VolumeId) -> bool {
        self.config.storage_node.is_some() && ids::is_volume_of_other(id, &self.node)
    }

    /// The service for managers on other nodes, with the pools that they may use.
    pub(crate) fn storage_service(self: &Arc<Self>) -> StorageService {
        let named = self.config.storage_node.as_ref();
        let named = named.and_then(|serving| serving.pools.as_ref());
        let own = self.config.pools.iter().filter(|pool| !pool.is_remote());
        let own: BTreeSet<&str> = own.map(|pool| pool.name()).collect();
        let pools: BTreeMap<_, _> = self
            .pools
            .iter()
            .filter(|(name, _)| own.contains(name.as_str()) && !self.unusable.has(name))
            .filter(|(name, _)| named.is_none_or(|named| named.contains(name)))
            .map(|(name, driver)| (name.clone(), driver.clone()))
            .collect();
        let gate = ManagerGate {
            manager: Arc::downgrade(self),
        };
        StorageService::tracked(
            &self.config.node_name,
            pools,
            Arc::new(gate),
            self.tasks.clone(),
        )
    }
}

fn tell_the_end(certificate: &NodeCertificate) {
    let left = certificate.facts().left();
    let days = left.as_secs() / (24 * 3600);
    if left.is_zero() {
        tracing::error!(
            "this node's certificate has expired: no other node talks to it until it has a new one (`stockpot pki issue`)"
        );
    } else if left <= WARN_BEFORE {
        tracing::warn!(
            days,
            "this node's certificate expires soon: put a new one in its place (`stockpot pki issue`)"
        );
    } else {
        tracing::info!(days, "this node's certificate lasts");
    }
}

/// The manager's word on who may do what.
#[derive(Debug)]
struct ManagerGate {
    /// The service must not keep a manager alive that was dropped.
    manager: Weak<Manager>,
}

impl ManagerGate {
    fn manager(&self) -> Result<Arc<Manager>, String> {
        self.manager
            .upgrade()
            .ok_or_else(|| "the manager is gone".to_owned())
    }
}

/// For whoever has to know later which node did what here.
fn record(node: &str, subject: Subject<'_>) {
    match subject {
        Subject::Volume(id) => {
            tracing::info!(node, volume_id = %id, "a node makes, grows or removes a volume");
        }
        Subject::Snapshot(id, of) => {
            tracing::info!(node, snapshot_id = %id, volume_id = %of, "a node cuts or removes a snapshot");
        }
    }
}

#[async_trait]
impl Gate for ManagerGate {
    fn ready(&self) -> Result<(), String> {
        let ready = self.manager()?.check_ready();
        ready.map_err(|error| error.to_string())
    }

    fn admit(&self, caller: &Caller) -> Result<(), String> {
        let Caller::Node(name) = caller else {
            return Ok(());
        };
        let manager = self.manager()?;
        let serving = manager.config.storage_node.as_ref();
        match serving.is_some_and(|serving| serving.allow.contains(name)) {
            true => Ok(()),
            false => Err(format!(
                "node {name} is not among those that `storageNode.allow` names on {}",
                manager.config.node_name
            )),
        }
    }

    async fn allow(
        &self,
        caller: &Caller,
        subject: Subject<'_>,
        intent: Intent,
    ) -> Result<(), String> {
        match (caller, intent) {
            (Caller::Node(name), _) => {
                if ids::is_volume_of(subject.volume(), &NodeShortId::of(name)) {
                    if intent == Intent::Change {
                        record(name, subject);
                    }
                    return Ok(());
                }
                Err(format!(
                    "volume {} is not one of node {name}",
                    subject.volume()
                ))
            }
            (Caller::Local, Intent::Use) => Ok(()),
            (Caller::Local, Intent::Change) => {
                let manager = self.manager()?;
                let is_on_record = match subject {
                    Subject::Volume(id) => {
                        manager.catalog.volume(id).await.map(|row| row.is_some())
                    }
                    Subject::Snapshot(id, _) => {
                        manager.catalog.snapshot(id).await.map(|row| row.is_some())
                    }
                };
                match is_on_record {
                    Ok(false) => Ok(()),
                    Ok(true) => Err(
                        "it is on the manager's record: ask the manager for that, not its storage"
                            .to_owned(),
                    ),
                    Err(error) => Err(chain(&error)),
                }
            }
        }
    }

    async fn exports(&self) -> Result<Vec<(Option<String>, ExportRecord)>, DriverError> {
        let failed = |text: String| DriverError::Host(text);
        let manager = self.manager().map_err(failed)?;
        let Some(exports) = &manager.exports else {
            // A node that hands out nothing has nobody connected.
            return Ok(Vec::new());
        };
        let records = exports.all().await.map_err(|error| failed(chain(&error)))?;
        let mut found = Vec::new();
        for record in records {
            found.push((exports.pool_of(&record.name).await?, record));
        }
        Ok(found)
    }

    async fn unrecorded(&self) -> Result<Vec<(Option<String>, Unrecorded)>, DriverError> {
        let manager = self.manager().map_err(DriverError::Host)?;
        let Some(exports) = &manager.exports else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for one in exports.unrecorded().await? {
            // One whose pool cannot be asked is there all the same.
            let pool = exports.pool_of(&one.name).await.unwrap_or_default();
            found.push((pool, one));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use stockpot_proto::stockpot::v1 as api;

    use super::*;
    use crate::{
        Parts,
        fakes::{FakeHost, FakeStorage, FakeStores, Faults},
        ids::new_volume_id,
    };

    async fn manager(dir: &std::path::Path) -> Arc<Manager> {
        let faults = Arc::new(Faults::default());
        let storage = FakeStorage::new(dir, faults.clone());
        let parts = Parts {
            pools: BTreeMap::from([("pool".to_owned(), storage.clone() as _)]),
            connector: Arc::new(FakeHost(storage)),
            stores: FakeStores::new(faults),
        };
        let text = format!(
            "{{nodeName: storage-1, stateDir: {0}/state, socket: {0}/s, profilesDir: {0}, credentialsDir: {0},
               pools: [{{name: pool, driver: file, directory: {0}/images}}]}}",
            dir.display()
        );
        let config = serde_saphyr::from_str(&text).unwrap();
        Manager::open(config, parts).await.unwrap()
    }

    #[tokio::test]
    async fn nodes_reach_what_carries_their_name_and_the_socket_what_is_on_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let manager = manager(dir.path()).await;
        let gate = ManagerGate {
            manager: Arc::downgrade(&manager),
        };
        // Nothing is taken before recovery has ended.
        assert!(gate.ready().unwrap_err().contains("ask again"));
        manager.recover().await.unwrap();
        gate.ready().unwrap();
        let worker = Caller::Node("worker-1".to_owned());
        // It is in no list, as there is none.
        assert!(
            gate.admit(&worker)
                .unwrap_err()
                .contains("storageNode.allow")
        );
        gate.admit(&Caller::Local).unwrap();

        let request = api::CreateVolumeRequest {
            name: "own".to_owned(),
            required_bytes: 1 << 20,
            ..Default::default()
        };
        let own = manager.clone().create_volume(request).await.unwrap().id;
        let workers = new_volume_id(&NodeShortId::of("worker-1"));
        let snapshot = "snap-1".parse().unwrap();
        let odd: VolumeId = format!("vol-{}x", NodeShortId::of("worker-1"))
            .parse()
            .unwrap();
        for (caller, subject, intent, allowed) in [
            (&worker, Subject::Volume(&workers), Intent::Change, true),
            (
                &worker,
                Subject::Snapshot(&snapshot, &workers),
                Intent::Change,
                true,
            ),
            (&worker, Subject::Volume(&own), Intent::Use, false),
            (
                &worker,
                Subject::Snapshot(&snapshot, &own),
                Intent::Use,
                false,
            ),
            (&worker, Subject::Volume(&odd), Intent::Use, false),
            (
                &Caller::Local,
                Subject::Volume(&workers),
                Intent::Change,
                true,
            ),
            (&Caller::Local, Subject::Volume(&own), Intent::Use, true),
            (&Caller::Local, Subject::Volume(&own), Intent::Change, false),
        ] {
            let answer = gate.allow(caller, subject, intent).await;
            assert_eq!(
                answer.is_ok(),
                allowed,
                "{caller:?} {subject:?}: {answer:?}"
            );
        }
        manager.stop().await;
        assert!(gate.ready().unwrap_err().contains("stopping"));
    }
}

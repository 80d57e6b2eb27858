//! What each call passes through: who calls, whether that is allowed, and to its end.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use stockpot_proto::stockpot::v1::storage as api;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status, transport::server::TlsConnectInfo};

use super::{CertificateFacts, arrivals::Asked, callers::Callers, failure::Refusal, wire};
use crate::{
    ConnectorProperties, DriverError, SnapshotId, VolumeDriver, VolumeId,
    target::{ExportRecord, Unrecorded, in_full},
};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// Whoever may open the unix socket.
    Local,
    /// The node whose certificate was shown.
    Node(String),
}

/// What is to be done with a volume or snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It is looked at, exported or connected to.
    Use,
    /// It is made, grown or removed.
    Change,
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A volume.
    Volume(&'a VolumeId),
    /// A snapshot, and the volume that it was cut from.
    Snapshot(&'a SnapshotId, &'a VolumeId),
}

impl<'a> Subject<'a> {
    /// The volume that says whose it is.
    #[must_use]
    pub fn volume(&self) -> &'a VolumeId {
        match self {
            Self::Volume(id) | Self::Snapshot(_, id) => id,
        }
    }
}

/// Decides who may do what. The answer to what is not allowed is the reason, for the caller to read.
#[async_trait]
pub trait Gate: Send + Sync + fmt::Debug {
    /// Whether calls are taken at all now.
    ///
    /// # Errors
    /// Why not, in words.
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether this caller may call at all.
    ///
    /// # Errors
    /// Why not, in words.
    fn admit(&self, caller: &Caller) -> Result<(), String>;

    /// Whether this caller may do that.
    ///
    /// # Errors
    /// Why not, in words.
    async fn allow(
        &self,
        caller: &Caller,
        subject: Subject<'_>,
        intent: Intent,
    ) -> Result<(), String>;

    /// Who is connected to what, each with its pool where one has it.
    ///
    /// # Errors
    /// If that cannot be told.
    async fn exports(&self) -> Result<Vec<(Option<String>, ExportRecord)>, DriverError>;

    /// Who is connected and on no record, each with its pool where one has it.
    ///
    /// # Errors
    /// If that cannot be told.
    async fn unrecorded(&self) -> Result<Vec<(Option<String>, Unrecorded)>, DriverError> {
        Ok(Vec::new())
    }
}

/// Lets whoever may open the socket do everything, and nobody else anything: where there is no manager.
#[derive(Debug, Clone, Copy)]
pub struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    fn admit(&self, caller: &Caller) -> Result<(), String> {
        match caller {
            Caller::Local => Ok(()),
            Caller::Node(name) => Err(format!("node {name} is not known here")),
        }
    }

    async fn allow(&self, _: &Caller, _: Subject<'_>, _: Intent) -> Result<(), String> {
        Ok(())
    }

    async fn exports(&self) -> Result<Vec<(Option<String>, ExportRecord)>, DriverError> {
        Ok(Vec::new())
    }
}

/// A message that names its pool.
pub(super) trait NamesPool {
    fn pool(&self) -> &str;
}

macro_rules! names_pool {
    ($($message:ident),+ $(,)?) => {$(
        impl NamesPool for api::$message {
            fn pool(&self) -> &str {
                &self.pool
            }
        }
    )+};
}

names_pool!(
    PoolRequest,
    ObjectRequest,
    MakeVolumeRequest,
    ReplaceVolumeRequest,
    CutRequest,
    ConnectRequest,
    DisconnectRequest,
    ChangedRequest,
);

/// What all calls share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) node: String,
    pub(super) pools: BTreeMap<String, Arc<dyn VolumeDriver>>,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) callers: Callers,
    /// Calls under way, also those whose callers went away.
    pub(super) tasks: TaskTracker,
}

/// How the service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Socket,
    Network,
}

impl Inner {
    /// Who makes this request, if calls of that caller are taken.
    pub(super) fn caller<R>(&self, way: Way, request: &Request<R>) -> Result<Caller, Refusal> {
        self.gate.ready().map_err(Refusal::NotReady)?;
        let caller = match way {
            Way::Socket => Caller::Local,
            Way::Network => Caller::Node(name_of(request)?),
        };
        self.gate.admit(&caller).map_err(|why| {
            tracing::warn!(?caller, why, "a call was refused");
            Refusal::Denied(why)
        })?;
        Ok(caller)
    }

    /// The pool of this name; the only one where none is named.
    fn pool(&self, name: &str) -> Result<(&String, &Arc<dyn VolumeDriver>), DriverError> {
        let found = match (name, self.pools.len()) {
            ("", 1) => self.pools.first_key_value(),
            _ => self.pools.get_key_value(name),
        };
        found.ok_or_else(|| {
            let known: Vec<&str> = self.pools.keys().map(String::as_str).collect();
            DriverError::InvalidArgument(format!(
                "storage node {} has no pool {name:?} for other nodes; it has {}",
                self.node,
                known.join(", ")
            ))
        })
    }
}

/// The node whose certificate was shown. TLS looks at its end once, when the connection is made, and a connection may last
/// for ever: so it is looked at here with each call.
fn name_of<R>(request: &Request<R>) -> Result<String, Refusal> {
    let connection = request.extensions().get::<TlsConnectInfo<Asked>>();
    if let Some(connection) = connection {
        connection.get_ref().note();
    }
    let certificates = connection.and_then(TlsConnectInfo::peer_certs);
    let first = certificates.as_ref().and_then(|chain| chain.first());
    let certificate = first.ok_or_else(|| Refusal::Denied("show a certificate".to_owned()))?;
    let facts = CertificateFacts::of_der(certificate).map_err(Refusal::Denied)?;
    let node = facts.node().map_err(Refusal::Denied)?;
    if facts.left().is_zero() {
        let why = format!(
            "the certificate of node {node} expired at {}: make a new one (`stockpot pki issue`) and connect with that",
            facts.end()
        );
        tracing::warn!(node, why, "a call was refused");
        return Err(Refusal::Expired(why));
    }
    Ok(node.to_owned())
}

/// One call: its pool's driver, and what its caller may do there.
#[derive(Debug, Clone)]
pub(super) struct Call {
    inner: Arc<Inner>,
    pub(super) caller: Caller,
    pub(super) driver: Arc<dyn VolumeDriver>,
}

impl Call {
    /// Does the work of a call to its end, even if the caller goes away meanwhile.
    pub(super) async fn carry_out<R, T, F>(
        inner: &Arc<Inner>,
        way: Way,
        request: Request<R>,
        work: impl FnOnce(Self, R) -> F + Send,
    ) -> Result<T, Status>
    where
        R: NamesPool + Send,
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let caller = inner.caller(way, &request)?;
        let permit = inner.callers.enter(&caller).await.map_err(|why| {
            tracing::warn!(?caller, why, "a call was refused");
            Refusal::Busy(why)
        })?;
        // The wait may have been long.
        inner.gate.ready().map_err(Refusal::NotReady)?;
        let request = request.into_inner();
        let (_, driver) = inner.pool(request.pool()).map_err(Refusal::Driver)?;
        let call = Self {
            inner: inner.clone(),
            caller,
            driver: driver.clone(),
        };
        let work = work(call, request);
        let whole = async move {
            let _permit = permit;
            work.await
        };
        match inner.tasks.spawn(whole).await {
            Ok(result) => result.map_err(Status::from),
            Err(error) => Err(Status::internal(format!("a call ended by itself: {error}"))),
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.inner.node
    }

    async fn check(&self, subject: Subject<'_>, intent: Intent) -> Result<(), Refusal> {
        let allowed = self.inner.gate.allow(&self.caller, subject, intent).await;
        allowed.map_err(|why| {
            tracing::warn!(caller = ?self.caller, why, "a call was refused");
            Refusal::Denied(why)
        })
    }

    /// Reads the id of a volume that the caller may do that with.
    pub(super) async fn volume(&self, id: &str, intent: Intent) -> Result<VolumeId, Refusal> {
        let id = wire::id(id).map_err(DriverError::InvalidArgument)?;
        self.check(Subject::Volume(&id), intent).await?;
        Ok(id)
    }

    /// Reads the id of a snapshot that the caller may do that with, whichever pool has it: what is exported goes by the id
    /// alone. One that is not there is nobody's.
    pub(super) async fn snapshot(&self, id: &str, intent: Intent) -> Result<SnapshotId, Refusal> {
        let id: SnapshotId = wire::id(id).map_err(DriverError::InvalidArgument)?;
        if let Some(info) = self.driver.snapshot(&id).await? {
            let subject = Subject::Snapshot(&id, &info.volume_id);
            self.check(subject, intent).await?;
        }
        for (pool, driver) in &self.inner.pools {
            if Arc::ptr_eq(driver, &self.driver) {
                continue;
            }
            match driver.snapshot(&id).await {
                Ok(Some(info)) => {
                    let subject = Subject::Snapshot(&id, &info.volume_id);
                    self.check(subject, intent).await?;
                }
                Ok(None) => {}
                // It may have another node's snapshot of this id.
                Err(error) if self.caller != Caller::Local => {
                    let why = format!(
                        "pool {pool} cannot be asked whose snapshot {id} is: {}",
                        in_full(&error)
                    );
                    tracing::warn!(caller = ?self.caller, why, "a call was refused");
                    return Err(Refusal::NotReady(why));
                }
                // Whoever may open the socket may have all: a group that is away does not stop what lies in others.
                Err(error) => {
                    tracing::warn!(pool, snapshot_id = %id, %error, "the pool cannot be asked for a snapshot");
                }
            }
        }
        Ok(id)
    }

    /// Whether the caller may see it.
    pub(super) async fn sees(&self, subject: Subject<'_>) -> bool {
        let allowed = self.inner.gate.allow(&self.caller, subject, Intent::Use);
        allowed.await.is_ok()
    }

    /// What the host says of itself; a node speaks for itself only.
    pub(super) fn host(&self, host: Option<api::Host>) -> Result<ConnectorProperties, Refusal> {
        let properties = wire::properties(host).map_err(DriverError::InvalidArgument)?;
        match &self.caller {
            Caller::Node(name) if *name != properties.host => Err(Refusal::Denied(format!(
                "the certificate is of node {name}, and the host calls itself {}: they have to be the same",
                properties.host
            ))),
            _ => Ok(properties),
        }
    }
}

//! A storage node with image files behind a line that can be cut, and nodes with certificates.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use stockpot_driver::{
    DriverError, VolumeDriver,
    file::{FileConfig, FileDriver},
    remote::{
        Address, Caller, CertificateFiles, Gate, Intent, Limits, Listeners, NodeError,
        RemoteConfig, RemoteDriver, RenewedCertificate, StorageService, Subject,
    },
    target::ExportRecord,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// An authority that lives as long as a test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate with these names, its files in a directory of its own.
    pub(crate) fn issue(&self, home: &Path, names: &[&str], expired: bool) -> CertificateFiles {
        let files = files_in(&home.join(format!("{}-{expired}", names.join("-"))));
        self.renew(&files, names, expired);
        files
    }

    /// One that lasts for so long.
    pub(crate) fn issue_for(&self, home: &Path, name: &str, life: Duration) -> CertificateFiles {
        let files = files_in(&home.join(format!("{name}-brief")));
        let end = SystemTime::now() + life;
        self.write(&files, &[name], |params| params.not_after = end.into());
        files
    }

    /// Puts a new certificate in the place of what is in these files.
    pub(crate) fn renew(&self, files: &CertificateFiles, names: &[&str], expired: bool) {
        self.write(files, names, |params| {
            if expired {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
        });
    }

    fn write(
        &self,
        files: &CertificateFiles,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        replace(&files.certificate, &certificate.pem());
        replace(&files.key, &key.serialize_pem());
        replace(&files.ca, &self.pem);
    }
}

fn files_in(directory: &Path) -> CertificateFiles {
    fs::create_dir_all(directory).unwrap();
    CertificateFiles {
        certificate: directory.join("node.pem"),
        key: directory.join("node.key"),
        ca: directory.join("ca.pem"),
    }
}

/// As a careful administrator does it: there is never half of a file.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

/// Lets `worker-1` and `worker-2` at volumes that begin with their last letter.
#[derive(Debug)]
struct ByLetter;

#[async_trait]
impl Gate for ByLetter {
    fn admit(&self, caller: &Caller) -> Result<(), String> {
        match caller {
            Caller::Node(name) if name.starts_with("worker-") => Ok(()),
            other => Err(format!("{other:?} is not known")),
        }
    }

    async fn allow(&self, caller: &Caller, subject: Subject<'_>, _: Intent) -> Result<(), String> {
        let Caller::Node(name) = caller else {
            return Err("not by a socket".to_owned());
        };
        match subject.volume().as_str().ends_with(&name[7..]) {
            true => Ok(()),
            false => Err(format!("{} is not of {name}", subject.volume())),
        }
    }

    async fn exports(&self) -> Result<Vec<(Option<String>, ExportRecord)>, DriverError> {
        Ok(Vec::new())
    }
}

/// What the line does with what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// Nothing gets through, and nobody is told.
    Silent,
    /// Every connection is broken, and none is taken.
    Cut,
}

pub(crate) struct Lab {
    pub(crate) home: tempfile::TempDir,
    pub(crate) authority: Authority,
    /// The storage node's certificate.
    pub(crate) files: CertificateFiles,
    pub(crate) address: SocketAddr,
    line: watch::Sender<Line>,
    /// Connections that were begun.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections that are there now.
    open: watch::Sender<usize>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let files = authority.issue(home.path(), &["storage-1"], false);
        let mut images = FileConfig::new(home.path().join("images"));
        images.allow_copy = true;
        let driver: Arc<dyn VolumeDriver> = Arc::new(FileDriver::new(images));
        driver.check().await.unwrap();
        let pools = [("pool".to_owned(), driver)].into();
        let service = StorageService::new("storage-1", pools, Arc::new(ByLetter));
        let anywhere = ["127.0.0.1:0".parse().unwrap()];
        let listeners = Listeners::bind(&anywhere).await.unwrap();
        let node = listeners.addresses().next().unwrap();
        let certificate = Arc::new(RenewedCertificate::new(files.clone()));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let serving = listeners.serve(&service, &certificate, stopped);
            serving.await.unwrap();
        });
        let (line, connections) = (watch::Sender::new(Line::Open), Arc::default());
        let open = watch::Sender::new(0);
        let address = lay_line(node, &line, &connections, &open).await;
        Self {
            home,
            authority,
            files,
            address,
            line,
            connections,
            open,
            stop,
            serving,
        }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Cuts the line, and waits until no connection is left.
    pub(crate) async fn cut(&self) {
        self.set(Line::Cut);
        let mut open = self.open.subscribe();
        let gone = open.wait_for(|open| *open == 0);
        let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
        gone.expect("every connection ends").unwrap();
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn config(&self, node: &str, files: CertificateFiles) -> RemoteConfig {
        let address = Address::Network(self.address.to_string());
        let mut config = RemoteConfig::new(node, address, "pool", Some(files));
        config.limits = Limits {
            connect: Duration::from_secs(5),
            look: Duration::from_secs(20),
            call: Duration::from_secs(20),
            long_call: Duration::from_secs(600),
            alive: Duration::from_secs(2),
            attempts: 3,
            pause: Duration::from_millis(50),
        };
        config
    }

    /// A driver of the node of this name.
    pub(crate) fn worker(&self, name: &str) -> RemoteDriver {
        let files = self.authority.issue(self.home.path(), &[name], false);
        RemoteDriver::new(self.config("storage-1", files))
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// One of those that are counted as open.
struct Connection(watch::Sender<usize>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// A line to the storage node that can be silenced and cut; where it begins.
async fn lay_line(
    to: SocketAddr,
    state: &watch::Sender<Line>,
    connections: &Arc<AtomicUsize>,
    open: &watch::Sender<usize>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let from = listener.local_addr().unwrap();
    let (state, connections) = (state.subscribe(), connections.clone());
    let open = open.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
            let mut state = state.clone();
            open.send_modify(|open| *open += 1);
            let open = open.clone();
            tokio::spawn(async move {
                let _open = Connection(open);
                if *state.borrow() == Line::Cut {
                    return;
                }
                let Ok(mut far) = tokio::net::TcpStream::connect(to).await else {
                    return;
                };
                loop {
                    let now = *state.borrow_and_update();
                    let copying = async {
                        match now {
                            Line::Open => {
                                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                            }
                            Line::Silent => std::future::pending().await,
                            Line::Cut => {}
                        }
                    };
                    tokio::select! {
                        () = copying => return,
                        changed = state.changed() => {
                            if changed.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    from
}

/// What went wrong between the nodes.
pub(crate) fn between<T: std::fmt::Debug>(result: Result<T, DriverError>) -> NodeError {
    match result.unwrap_err() {
        DriverError::Node(error) => *error,
        other => panic!("not between the nodes: {other:?}"),
    }
}

//! What OpenEBS's plugin does, step by step: one request a connection, documents as Go writes them, data on a port that it
//! opens after it has asked and that takes bytes until the other side closes.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
};

use crate::{
    lab::Bench,
    support::{PATIENCE, http},
};

/// The plugin's own is five seconds.
const ASK_EVERY: Duration = Duration::from_millis(30);

pub(crate) struct Plugin {
    socket: PathBuf,
    namespace: String,
    address: String,
    /// What it has stored, by the name of the backup.
    stored: HashMap<String, Vec<u8>>,
    pub(crate) local: bool,
    pub(crate) disable_incremental: bool,
    /// Another one than its own port.
    pub(crate) destination: Option<String>,
}

impl Plugin {
    pub(crate) fn new(bench: &Bench, namespace: &str) -> Self {
        Self {
            socket: bench.socket.clone(),
            namespace: namespace.to_owned(),
            address: bench.address.clone(),
            stored: HashMap::new(),
            local: false,
            disable_incremental: false,
            destination: None,
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// One request, to its status and body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        let headers = [
            ("Host", "127.0.0.1:5656"),
            ("User-Agent", "Go-http-client/1.1"),
            ("Content-Type", "application/json"),
        ];
        let body = body.unwrap_or_default().as_bytes();
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let request = http::request(method, path, &headers, Some(body));
        let reply = http::exchange(&mut stream, &request).await;
        assert!(
            !reply.headers.contains_key("transfer-encoding"),
            "{:?}",
            reply.headers
        );
        (reply.status, reply.text())
    }

    fn document(&self, volume: &str, schedule: &str, snap: &str) -> Value {
        let destination = self.destination.clone().unwrap_or_else(|| self.address());
        json!({
            "metadata": {"namespace": self.namespace, "creationTimestamp": null},
            "spec": {
                "backupName": schedule, "volumeName": volume, "snapName": snap, "prevSnapName": "",
                "backupDest": destination, "localSnap": self.local,
                "disableIncrementalBackups": self.disable_incremental, "pluginField": "kept",
            },
            "status": "",
        })
    }

    pub(crate) async fn post_backup(
        &self,
        volume: &str,
        schedule: &str,
        snap: &str,
    ) -> (u16, String) {
        let document = self.document(volume, schedule, snap).to_string();
        self.call("POST", "/latest/backups/", Some(&document)).await
    }

    pub(crate) async fn status(&self, volume: &str, schedule: &str, snap: &str) -> Value {
        let document = self.document(volume, schedule, snap).to_string();
        let (code, body) = self.call("GET", "/latest/backups/", Some(&document)).await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Asks until it has ended, as `checkBackupStatus` does.
    pub(crate) async fn ended(&self, volume: &str, schedule: &str, snap: &str) -> Value {
        let asking = async {
            loop {
                tokio::time::sleep(ASK_EVERY).await;
                let backup = self.status(volume, schedule, snap).await;
                if is_end(backup["status"].as_str().unwrap()) {
                    return backup;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    /// What `cleanupCompletedBackup` does: of a schedule that went well the one before goes, else this one; without a chain this one in
    /// any case, since no later one is told against it.
    pub(crate) async fn clean_up(&self, backup: &Value) {
        let spec = |key: &str| backup["spec"][key].as_str().unwrap().to_owned();
        let mut target = spec("snapName");
        let is_chained = backup["spec"]["disableIncrementalBackups"] == false;
        if is_chained && target != spec("backupName") && backup["status"] == "Done" {
            target = spec("prevSnapName");
            if target.is_empty() {
                return;
            }
        }
        let namespace = backup["metadata"]["namespace"].as_str().unwrap();
        assert_eq!(namespace, self.namespace);
        let (volume, schedule) = (spec("volumeName"), spec("backupName"));
        assert_eq!(self.delete(&target, &volume, &schedule).await, 200);
    }

    pub(crate) async fn delete(&self, snap: &str, volume: &str, schedule: &str) -> u16 {
        let path = format!(
            "/latest/backups/{snap}?namespace={}&schedule={schedule}&volume={volume}",
            self.namespace
        );
        self.call("DELETE", &path, None).await.0
    }

    /// A whole backup: asked for, taken, watched, cleaned up.
    pub(crate) async fn back_up(&mut self, volume: &str, schedule: &str, snap: &str) -> Value {
        let (code, body) = self.post_backup(volume, schedule, snap).await;
        assert_eq!((code, body.as_str()), (200, "\"\""));
        let (stored, ended) = self.taken(volume, schedule, snap).await;
        if let Some(bytes) = stored {
            self.stored.insert(snap.to_owned(), bytes);
        }
        self.clean_up(&ended).await;
        ended
    }

    /// Listens and watches until the end. What came is whole when the other side has closed.
    async fn taken(&self, volume: &str, schedule: &str, snap: &str) -> (Option<Vec<u8>>, Value) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        let taking = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut stored, mut buffer) = (Vec::new(), [0; 32 * 1024]);
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => return stored,
                    len => stored.extend(&buffer[..len]),
                }
            }
        };
        let mut taking = std::pin::pin!(taking);
        let mut watching = std::pin::pin!(self.ended(volume, schedule, snap));
        let mut stored = None;
        loop {
            tokio::select! {
                bytes = &mut taking, if stored.is_none() => stored = Some(bytes),
                ended = &mut watching => return (stored, ended),
            }
        }
    }

    /// Loses the end of what is stored.
    pub(crate) fn truncate(&mut self, snap: &str) {
        let stored = self.stored.get_mut(snap).unwrap();
        stored.truncate(stored.len() / 2);
    }

    pub(crate) async fn post_restore(
        &self,
        volume: &str,
        snap: &str,
        source: &str,
        local: bool,
        size: Option<&str>,
    ) -> (u16, String) {
        let document = json!({
            "metadata": {"namespace": self.namespace, "creationTimestamp": null},
            "spec": {
                "restoreName": snap, "volumeName": volume, "restoreSrc": source, "maxretrycount": 0, "retrycount": 0,
                "storageClass": "standard", "size": size.unwrap_or("0"), "localRestore": local,
            },
            "status": "",
        });
        self.call("POST", "/latest/restore/", Some(&document.to_string()))
            .await
    }

    /// Asks until a restore has ended, as `checkRestoreStatus` does: the answer is the bare status.
    pub(crate) async fn restored(&self, volume: &str, snap: &str) -> String {
        let document = json!({
            "metadata": {"namespace": self.namespace},
            "spec": {"restoreName": snap, "volumeName": volume},
        })
        .to_string();
        let asking = async {
            loop {
                let (code, body) = self.call("GET", "/latest/restore/", Some(&document)).await;
                assert_eq!(code, 200, "{body}");
                let status: String = serde_json::from_str(&body).unwrap();
                if is_end(&status) {
                    return status;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    /// A whole restore of what is stored: asked for, given, watched. With it the answer to the first.
    pub(crate) async fn restore(
        &self,
        volume: &str,
        snap: &str,
        size: Option<&str>,
    ) -> (String, Value) {
        let (code, body) = self
            .post_restore(volume, snap, &self.address, false, size)
            .await;
        assert_eq!(code, 200, "{body}");
        let listener = TcpListener::bind(&self.address).await.unwrap();
        let stored = &self.stored[snap];
        let giving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for piece in stored.chunks(32 * 1024) {
                stream.write_all(piece).await.unwrap();
            }
        };
        let (status, ()) = tokio::join!(self.restored(volume, snap), giving);
        (status, serde_json::from_str(&body).unwrap())
    }
}

fn is_end(status: &str) -> bool {
    match status {
        "Done" | "Failed" | "Invalid" => true,
        "Init" | "Pending" | "InProgress" => false,
        other => panic!("{other:?} is no status"),
    }
}

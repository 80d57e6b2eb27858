//! What is said about other hosts: how they get volumes of this one, whose pools are used here, and how nodes prove
//! who they are.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use stockpot_driver::{
    remote::{Address, CertificateFiles, RemoteConfig},
    target::TargetsConfig,
};

use super::{Config, ConfigError, PoolConfig};
use crate::ids::NodeShortId;

/// Exports over iSCSI, by the kernel's own target.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportsConfig {
    /// First part of each target's name, `iqn.YYYY-MM.REVERSED.DOMAIN:NODE`; unique to this host, and the same for ever.
    pub iqn_prefix: String,
    /// `ADDRESS:PORT` each, as other hosts reach this one; several are several paths.
    pub portals: Vec<SocketAddr>,
}

/// The service for managers on other nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageNodeConfig {
    /// `ADDRESS:PORT` each.
    pub listen: Vec<SocketAddr>,
    /// The names of the nodes that may call, as their certificates say them.
    pub allow: Vec<String>,
    /// The pools that they may use; all of this host's own otherwise.
    #[serde(default)]
    pub pools: Option<Vec<String>>,
}

/// A node's certificate, as `stockpot pki issue` makes it. Relative names start in `credentialsDir`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateConfig {
    /// The certificate, in PEM, and what leads from it to the authority.
    pub file: PathBuf,
    /// Its private key, in PEM; readable by its owner only.
    pub key_file: PathBuf,
    /// The authority of all nodes, in PEM.
    pub ca_file: PathBuf,
}

impl ExportsConfig {
    /// As the driver takes it.
    #[must_use]
    pub fn targets(&self) -> TargetsConfig {
        TargetsConfig::new(&self.iqn_prefix, self.portals.clone())
    }
}

impl Config {
    /// Where this node's certificate is, if it has one.
    #[must_use]
    pub fn certificate_files(&self) -> Option<CertificateFiles> {
        let files = self.certificate.as_ref()?;
        let whole = |file: &Path| self.credentials_dir.join(file);
        Some(CertificateFiles {
            certificate: whole(&files.file),
            key: whole(&files.key_file),
            ca: whole(&files.ca_file),
        })
    }

    /// How a pool of another node is reached; `None` if it is one of this node's own.
    ///
    /// # Errors
    /// If the address cannot be one.
    pub fn remote(&self, pool: &PoolConfig) -> Result<Option<RemoteConfig>, ConfigError> {
        let PoolConfig::Remote {
            name,
            node,
            address,
            pool,
        } = pool
        else {
            return Ok(None);
        };
        let address: Address = address.parse().map_err(|problem| ConfigError {
            field: format!("pools.{name}.address"),
            problem: format!("{problem}"),
        })?;
        if address.is_network() && self.certificate.is_none() {
            return Err(ConfigError {
                field: "certificate".to_owned(),
                problem: format!("is needed for pool {name}: nodes prove who they are"),
            });
        }
        let pool = pool.clone().unwrap_or_default();
        let files = self.certificate_files();
        Ok(Some(RemoteConfig::new(node, address, pool, files)))
    }

    pub(super) fn check_nodes(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: String| {
            Err(ConfigError {
                field: field.to_owned(),
                problem,
            })
        };
        for pool in &self.pools {
            self.remote(pool)?;
            if let PoolConfig::Remote { name, node, .. } = pool
                && (node.is_empty() || *node == self.node_name)
            {
                let problem = "has to be the name of another node".to_owned();
                return wrong(&format!("pools.{name}.node"), problem);
            }
        }
        // A storage node knows its callers by their certificates, and refuses to attach for a host of another name.
        if let Some(name) = &self.host.name
            && *name != self.node_name
            && self.pools.iter().any(PoolConfig::is_remote)
        {
            let problem = format!(
                "{name} has to be the nodeName, {}, where there is a pool of another node: leave it out",
                self.node_name
            );
            return wrong("host.name", problem);
        }
        if let Some(exports) = &self.exports
            && exports.portals.is_empty()
        {
            return wrong("exports.portals", "there is none; name one".to_owned());
        }
        let Some(serving) = &self.storage_node else {
            return Ok(());
        };
        if self.certificate.is_none() {
            let problem = "is needed for storageNode: nodes prove who they are".to_owned();
            return wrong("certificate", problem);
        }
        if self.exports.is_none() {
            let problem = "is needed for storageNode: other hosts attach over iSCSI".to_owned();
            return wrong("exports", problem);
        }
        if serving.listen.is_empty() {
            return wrong("storageNode.listen", "there is none; name one".to_owned());
        }
        if serving.allow.is_empty() || serving.allow.iter().any(String::is_empty) {
            let problem = "name the nodes that may call".to_owned();
            return wrong("storageNode.allow", problem);
        }
        // Whose a volume is follows from its node's short id.
        let mut short_ids = vec![(NodeShortId::of(&self.node_name), &self.node_name)];
        for name in &serving.allow {
            let short_id = NodeShortId::of(name);
            if let Some((_, other)) = short_ids.iter().find(|(known, _)| *known == short_id) {
                let problem = format!("{name} and {other} cannot be told apart; rename one");
                return wrong("storageNode.allow", problem);
            }
            short_ids.push((short_id, name));
        }
        for name in serving.pools.iter().flatten() {
            match self.pools.iter().find(|pool| pool.name() == name) {
                Some(pool) if !pool.is_remote() => {}
                Some(_) => {
                    let problem = format!("pool {name} is another node's: call that one");
                    return wrong("storageNode.pools", problem);
                }
                None => return wrong("storageNode.pools", format!("there is no pool {name}")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: &str = "
nodeName: storage-1
credentialsDir: /etc/x
pools: [{name: fast, driver: lvm-thin, volumeGroup: vg0, thinPool: pool0}]
exports: {iqnPrefix: 'iqn.2026-01.test:storage-1', portals: ['192.0.2.1:3260', '[2001:db8::1]:3260']}
storageNode: {listen: ['192.0.2.1:7420'], allow: [worker-1], pools: [fast]}
certificate: {file: node.pem, keyFile: /keys/node.key, caFile: ca.pem}
";
    const WORKER: &str = "
nodeName: worker-1
pools: [{name: far, driver: remote, node: storage-1, address: 'storage-1.example.net:7420', pool: fast}]
certificate: {file: node.pem, keyFile: node.key, caFile: ca.pem}
";

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn two_nodes() {
        let storage = parse(STORAGE).unwrap();
        let files = storage.certificate_files().unwrap();
        assert_eq!(files.certificate, Path::new("/etc/x/node.pem"));
        assert_eq!(files.key, Path::new("/keys/node.key"));
        assert_eq!(storage.exports.unwrap().targets().portals.len(), 2);
        let worker = parse(WORKER).unwrap();
        let remote = worker.remote(&worker.pools[0]).unwrap().unwrap();
        assert_eq!(
            (remote.node.as_str(), remote.pool.as_str()),
            ("storage-1", "fast")
        );
        let alone = parse(
            &WORKER
                .replace("storage-1.example.net:7420", "unix:///run/m.sock")
                .replace("certificate:", "# "),
        );
        alone.unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        for (text, change, with, named) in [
            (STORAGE, "certificate:", "# ", "certificate"),
            (STORAGE, "exports:", "# ", "exports"),
            (STORAGE, "allow: [worker-1]", "allow: []", "allow"),
            (STORAGE, "[worker-1]", "[storage-1]", "told apart"),
            (STORAGE, "[worker-1]", "[worker-1, worker-1]", "told apart"),
            (
                STORAGE,
                "listen: ['192.0.2.1:7420']",
                "listen: []",
                "listen",
            ),
            (STORAGE, "pools: [fast]", "pools: [slow]", "slow"),
            (STORAGE, "192.0.2.1:3260", "192.0.2.1", "portals"),
            (STORAGE, "iqnPrefix", "iqnprefix", "iqnprefix"),
            (WORKER, "certificate:", "# ", "certificate"),
            (
                WORKER,
                "storage-1.example.net:7420",
                "storage-1",
                "far.address",
            ),
            (WORKER, "node: storage-1", "node: worker-1", "far.node"),
            (WORKER, "pools:", "host: {name: other}\npools:", "host.name"),
        ] {
            let error = parse(&text.replace(change, with)).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}

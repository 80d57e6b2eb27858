//! What is said about other hosts: how they get volumes of this one, whose pools are used here, and how nodes prove
//! who they are.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de};
use stockpot_driver::{
    remote::{Address, CertificateFiles, RemoteConfig},
    target::{ExportName, TargetsConfig},
};

use super::{Config, ConfigError, PoolConfig, is_node_name};
use crate::ids::NodeShortId;

/// Longest first part of a target's name, in bytes.
const IQN_PREFIX_BYTES_MAX: usize = 150;

/// Exports over iSCSI, by the kernel's own target.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportsConfig {
    /// First part of each target's name, `iqn.YYYY-MM.REVERSED.DOMAIN:NODE`; unique to this host, and the same for ever.
    pub iqn_prefix: String,
    /// `ADDRESS:PORT` each, as other hosts reach this one; several are several paths.
    #[serde(deserialize_with = "addresses")]
    pub portals: Vec<SocketAddr>,
}

/// The service for managers on other nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageNodeConfig {
    /// `ADDRESS:PORT` each.
    #[serde(deserialize_with = "addresses")]
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

/// One of them, so that a mistake is found where it stands.
struct Place(SocketAddr);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            let shown: String = text.chars().take(80).collect();
            de::Error::custom(format!(
                "{shown:?} is no address with a port: write it as \"192.0.2.1:3260\" or \"[2001:db8::1]:3260\", with \
                 numbers and not names, in quotes"
            ))
        })
    }
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let places = Vec::<Place>::deserialize(deserializer)?;
    Ok(places.into_iter().map(|place| place.0).collect())
}

impl ExportsConfig {
    /// As the driver takes it.
    #[must_use]
    pub fn targets(&self) -> TargetsConfig {
        TargetsConfig::new(&self.iqn_prefix, self.portals.clone())
    }

    /// The name of the target that an export has.
    pub(crate) fn iqn_of(&self, name: &ExportName) -> String {
        format!("{}:{}", self.iqn_prefix, name.key())
    }

    /// Whether it has the form of a target of this host's own.
    pub(crate) fn is_own_target(&self, iqn: &str) -> bool {
        let rest = iqn.strip_prefix(&self.iqn_prefix);
        rest.is_some_and(|rest| rest.starts_with(':'))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: String| {
            Err(ConfigError {
                field: format!("exports.{field}"),
                problem,
            })
        };
        let prefix = &self.iqn_prefix;
        let is_sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
        let is_name = prefix.len() <= IQN_PREFIX_BYTES_MAX
            && prefix
                .strip_prefix("iqn.")
                .is_some_and(|rest| !rest.is_empty())
            && prefix.bytes().all(is_sound);
        if !is_name {
            let problem = format!(
                "{prefix:?} cannot be the first part of a target's name: iqn.YYYY-MM.REVERSED.DOMAIN:NODE in small letters, \
                 at most {IQN_PREFIX_BYTES_MAX} characters"
            );
            return wrong("iqnPrefix", problem);
        }
        if self.portals.is_empty() {
            return wrong("portals", "there is none; name one".to_owned());
        }
        for portal in &self.portals {
            let ip = portal.ip();
            if ip.is_unspecified() || ip.is_multicast() || portal.port() == 0 {
                let problem = format!(
                    "{portal}: name an address of this host that others can reach, and a port (3260)"
                );
                return wrong("portals", problem);
            }
        }
        Ok(())
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
            if let PoolConfig::Remote {
                name, node, pool, ..
            } = pool
            {
                if self.certificate.is_some() {
                    certifiable(&format!("pools.{name}.node"), node)?;
                }
                if pool.as_ref().is_some_and(String::is_empty) {
                    let problem = "name the pool there, or leave the key out for its only one";
                    return wrong(&format!("pools.{name}.pool"), problem.to_owned());
                }
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
        if let Some(exports) = &self.exports {
            exports.check()?;
        }
        if self.certificate.is_some() {
            certifiable("nodeName", &self.node_name)?;
        }
        match &self.storage_node {
            Some(serving) => self.check_serving(serving),
            None => Ok(()),
        }
    }

    fn check_serving(&self, serving: &StorageNodeConfig) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: String| {
            Err(ConfigError {
                field: field.to_owned(),
                problem,
            })
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
        for name in &serving.allow {
            certifiable("storageNode.allow", name)?;
        }
        for listen in &serving.listen {
            if listen.ip().is_multicast() {
                let problem =
                    format!("{listen} is an address of many hosts: name one of this host");
                return wrong("storageNode.listen", problem);
            }
        }
        if serving.pools.as_ref().is_some_and(Vec::is_empty) {
            let problem = "there is none; leave the key out for all of this node's own".to_owned();
            return wrong("storageNode.pools", problem);
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

/// Refuses a name that no certificate can have.
fn certifiable(field: &str, name: &str) -> Result<(), ConfigError> {
    if is_node_name(name) {
        return Ok(());
    }
    Err(ConfigError {
        field: field.to_owned(),
        problem: format!(
            "{name:?} cannot stand in a certificate: a node's name has letters, digits, '-' and '.'"
        ),
    })
}

#[cfg(test)]
mod tests;

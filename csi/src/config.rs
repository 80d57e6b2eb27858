//! What the frontend has to be told, and how an endpoint is written.

use std::path::PathBuf;

/// Name of the driver when nothing else is said: what storage classes call the `provisioner`.
pub const DEFAULT_DRIVER_NAME: &str = "csi.stockpot.dev";

/// Longest path of a unix socket that Linux takes, in bytes, without the final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Settings of the CSI frontend.
#[derive(Debug, Clone)]
pub struct CsiConfig {
    /// The unix socket to serve on; made by [`serve`](crate::serve), mode 0600.
    pub endpoint: PathBuf,
    /// The unix socket of the manager on this node.
    pub manager_socket: PathBuf,
    /// Name of this node as the orchestrator knows it; at most 192 bytes.
    pub node_id: String,
    /// Name of the driver: a domain name of at most 63 characters.
    pub driver_name: String,
}

impl CsiConfig {
    /// Settings with the default driver name.
    #[must_use]
    pub fn new(
        endpoint: impl Into<PathBuf>,
        manager_socket: impl Into<PathBuf>,
        node_id: impl Into<String>,
    ) -> Self {
        Self {
            endpoint: endpoint.into(),
            manager_socket: manager_socket.into(),
            node_id: node_id.into(),
            driver_name: DEFAULT_DRIVER_NAME.to_owned(),
        }
    }

    /// The key under which a node tells where its volumes are reachable: from itself only.
    #[must_use]
    pub fn topology_key(&self) -> String {
        format!("topology.{}/node", self.driver_name)
    }

    /// Whether the names keep the limits of the specification.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), EndpointError> {
        if !is_driver_name(&self.driver_name) {
            return Err(EndpointError::DriverName {
                name: self.driver_name.clone(),
            });
        }
        if self.node_id.is_empty() || self.node_id.len() > 192 {
            return Err(EndpointError::NodeId {
                node_id: self.node_id.clone(),
            });
        }
        Ok(())
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a unix socket.
    #[error(
        "CSI endpoint {endpoint:?} is not a unix socket: it has the form unix:///path/to/csi.sock"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// Not a driver name.
    #[error("CSI driver name {name:?} is not a domain name of at most 63 characters")]
    DriverName {
        /// What was given.
        name: String,
    },
    /// Not a node id.
    #[error("node id {node_id:?} is empty or longer than 192 bytes")]
    NodeId {
        /// What was given.
        node_id: String,
    },
}

/// The path of an endpoint written as `unix:///path`, `unix:/path` or `/path`.
///
/// # Errors
/// [`EndpointError::Endpoint`] if it is anything else.
pub fn parse_endpoint(endpoint: &str) -> Result<PathBuf, EndpointError> {
    let path = endpoint.strip_prefix("unix:").unwrap_or(endpoint);
    let path = path.strip_prefix("//").unwrap_or(path);
    let path_is_usable = path.starts_with('/')
        && !path.ends_with('/')
        && path.len() <= SOCKET_PATH_BYTES_MAX
        && !path.contains('\0');
    if path_is_usable {
        Ok(PathBuf::from(path))
    } else {
        Err(EndpointError::Endpoint {
            endpoint: endpoint.to_owned(),
        })
    }
}

/// RFC 1035 labels, joined by dots, 63 characters in all (specification, `GetPluginInfo`).
fn is_driver_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    name.len() <= 63 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for good in ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"] {
            assert_eq!(parse_endpoint(good), Ok(PathBuf::from("/run/x.sock")));
        }
        for bad in [
            "",
            "unix://",
            "tcp://1.2.3.4:5",
            "run/x.sock",
            "unix:run/x",
            "/run/",
            "http:///x",
        ] {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
        assert!(parse_endpoint(&format!("/{}", "a".repeat(107))).is_err());
    }

    #[test]
    fn names() {
        let mut config = CsiConfig::new("/a", "/b", "node-1");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.topology_key(), "topology.csi.stockpot.dev/node");
        for bad in ["", "a..b", "-a", "a_b", "a.b-"] {
            config.driver_name = bad.to_owned();
            assert!(config.check().is_err(), "{bad}");
        }
        config.driver_name = "x".repeat(64);
        assert!(config.check().is_err());
    }
}

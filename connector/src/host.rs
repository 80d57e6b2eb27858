//! The connector of this host: one implementation per kind of connection behind one face.

use std::{io, path::Path};

use async_trait::async_trait;
use stockpot_driver::{ConnectionInfo, ConnectorProperties};

use crate::{
    AttachedDevice, Connector, ConnectorError, IscsiConfig, IscsiConnector, LocalConnector,
    Recovered,
};

const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// What an administrator may say about the host.
#[derive(Debug, Clone, Default)]
pub struct HostConfig {
    /// The host's name among the hosts of the installation; the kernel's host name otherwise.
    pub host: Option<String>,
    /// The address at which storage nodes see this host.
    pub ip: Option<String>,
    /// How it attaches over iSCSI, and where its initiator's name is kept.
    pub iscsi: IscsiConfig,
}

/// Attaches whatever a driver hands out, by the kind of the connection.
#[derive(Debug, Clone, Default)]
pub struct HostConnector {
    config: HostConfig,
    local: LocalConnector,
    iscsi: IscsiConnector,
}

impl HostConnector {
    /// The connector of this host.
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        Self {
            iscsi: IscsiConnector::new(config.iscsi.clone()),
            config,
            local: LocalConnector::default(),
        }
    }
}

#[async_trait]
impl Connector for HostConnector {
    async fn properties(&self) -> Result<ConnectorProperties, ConnectorError> {
        let host = match &self.config.host {
            Some(host) => host.clone(),
            None => read(Path::new(HOSTNAME_FILE))
                .await?
                .unwrap_or_default()
                .trim()
                .to_owned(),
        };
        let initiator = read(&self.config.iscsi.initiator_file)
            .await?
            .and_then(|text| parse_initiator(&text));
        Ok(ConnectorProperties {
            host,
            ip: self.config.ip.clone(),
            initiator,
            multipath: self.iscsi.has_multipath().await,
        })
    }

    async fn connect(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError> {
        match connection {
            ConnectionInfo::Local(local) => self.local.connect(local).await,
            ConnectionInfo::Iscsi(iscsi) => self.iscsi.connect(iscsi).await,
        }
    }

    async fn confirm(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError> {
        match connection {
            ConnectionInfo::Local(local) => self.local.confirm(local).await,
            ConnectionInfo::Iscsi(iscsi) => self.iscsi.confirm(iscsi).await,
        }
    }

    async fn disconnect(&self, connection: &ConnectionInfo) -> Result<(), ConnectorError> {
        match connection {
            ConnectionInfo::Local(local) => self.local.disconnect(local).await,
            ConnectionInfo::Iscsi(iscsi) => self.iscsi.disconnect(iscsi).await,
        }
    }

    async fn recover(&self, wanted: &[ConnectionInfo]) -> Result<Recovered, ConnectorError> {
        let (mut local, mut iscsi) = (Vec::new(), Vec::new());
        for connection in wanted {
            match connection {
                ConnectionInfo::Local(connection) => local.push(connection.clone()),
                ConnectionInfo::Iscsi(connection) => iscsi.push(connection.clone()),
            }
        }
        let (local, mut recovered) = self.local.recover(&local);
        let (iscsi, found) = self.iscsi.recover(&iscsi).await?;
        let adopted = local.into_iter().map(ConnectionInfo::Local);
        let adopted = adopted.chain(iscsi.into_iter().map(ConnectionInfo::Iscsi));
        recovered.adopted.extend(adopted);
        recovered.removed.extend(found.removed);
        recovered.failed.extend(found.failed);
        Ok(recovered)
    }

    async fn sessions(&self) -> Result<Vec<String>, ConnectorError> {
        self.iscsi.sessions()
    }
}

/// A small text file, or `None` if it is not there.
async fn read(path: &Path) -> Result<Option<String>, ConnectorError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConnectorError::Io {
            doing: "cannot read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// The last `InitiatorName=` line counts, as it does for open-iscsi.
pub(crate) fn parse_initiator(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("InitiatorName="))
        .map(|name| name.trim().to_owned())
        .rfind(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initiator_names_are_parsed() {
        let text =
            "## comment\n#InitiatorName=iqn.old\nInitiatorName=iqn.1993-08.org.debian:01:ab\n";
        assert_eq!(
            parse_initiator(text).unwrap(),
            "iqn.1993-08.org.debian:01:ab"
        );
        for none in ["", "GenerateName=yes\n", "InitiatorName=\n"] {
            assert_eq!(parse_initiator(none), None);
        }
    }

    #[tokio::test]
    async fn the_host_names_itself() {
        let properties = HostConnector::default().properties().await.unwrap();
        assert!(!properties.host.is_empty());
        let mut config = HostConfig {
            host: Some("node-1".into()),
            ip: Some("192.0.2.1".into()),
            iscsi: IscsiConfig {
                initiator_file: "/nonexistent".into(),
                ..IscsiConfig::default()
            },
        };
        let properties = HostConnector::new(config.clone())
            .properties()
            .await
            .unwrap();
        assert_eq!(properties.host, "node-1");
        assert_eq!(properties.ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(properties.initiator, None);
        // The name that is told is the one that the connections are made with.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "InitiatorName=iqn.2026-01.test:a\n").unwrap();
        config.iscsi.initiator_file = file.path().into();
        let properties = HostConnector::new(config).properties().await.unwrap();
        assert_eq!(properties.initiator.as_deref(), Some("iqn.2026-01.test:a"));
    }
}

//! The daemon's configuration file: the manager's settings, and a `csi` section for the frontend beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use stockpot_csi::{CsiConfig, DEFAULT_DRIVER_NAME, parse_endpoint};
use stockpot_manager::config::Config as ManagerConfig;

/// Settings of `transfers` that can change while the daemon runs.
const CHANGEABLE: [&str; 2] = ["uploadBytesPerSecondMax", "downloadBytesPerSecondMax"];

/// Everything `serve` needs.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) manager: ManagerConfig,
    pub(crate) csi: Option<CsiConfig>,
    /// What is in the file but for what can change while the daemon runs.
    fixed: Value,
}

impl Config {
    /// Whether another reading differs in something that only a start heeds.
    pub(crate) fn differs_in_more_than_limits(&self, other: &Self) -> bool {
        self.fixed != other.fixed
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CsiSection {
    /// `unix:///path`.
    endpoint: String,
    #[serde(default)]
    driver_name: Option<String>,
}

/// Reads and checks the file, before anything is touched.
///
/// # Errors
/// What is wrong with it, naming the setting.
pub(crate) fn read(path: &Path) -> anyhow::Result<Config> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Config> {
    let document: Value = serde_saphyr::from_str(text)?;
    let Value::Object(mut document) = document else {
        bail!("it is not a mapping of settings");
    };
    let fixed = fixed(&document);
    // Taken out first, so that each part can refuse keys that it does not know.
    let csi = document.remove("csi");
    let manager: ManagerConfig = serde_json::from_value(Value::Object(document))?;
    manager.check()?;
    let csi = csi
        .map(|section| csi_config(section, &manager))
        .transpose()
        .context("csi")?;
    Ok(Config {
        manager,
        csi,
        fixed,
    })
}

fn fixed(document: &serde_json::Map<String, Value>) -> Value {
    let mut fixed = document.clone();
    if let Some(Value::Object(transfers)) = fixed.get_mut("transfers") {
        for setting in CHANGEABLE {
            transfers.remove(setting);
        }
        if transfers.is_empty() {
            fixed.remove("transfers");
        }
    }
    Value::Object(fixed)
}

fn csi_config(section: Value, manager: &ManagerConfig) -> anyhow::Result<CsiConfig> {
    let section: CsiSection = serde_json::from_value(section)?;
    let endpoint: PathBuf = parse_endpoint(&section.endpoint)?;
    let mut config = CsiConfig::new(endpoint, manager.socket.clone(), manager.node_name.clone());
    config.driver_name = section
        .driver_name
        .unwrap_or_else(|| DEFAULT_DRIVER_NAME.to_owned());
    config.check()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "
nodeName: n1
pools: [{name: p, driver: file, directory: /srv/p}]
csi: {endpoint: 'unix:///run/csi.sock', driverName: csi.example.org}
";

    #[test]
    fn both_parts_are_read() {
        let config = parse(WHOLE).unwrap();
        let csi = config.csi.unwrap();
        assert_eq!(csi.driver_name, "csi.example.org");
        assert_eq!(csi.node_id, "n1");
        assert_eq!(csi.manager_socket, config.manager.socket);
    }

    #[test]
    fn a_new_limit_is_told_from_other_changes() {
        let with = |transfers: &str| parse(&format!("{WHOLE}transfers: {transfers}\n")).unwrap();
        let before = parse(WHOLE).unwrap();
        let limited = with("{uploadBytesPerSecondMax: 1000}");
        assert!(!before.differs_in_more_than_limits(&limited));
        let limit = limited.manager.transfers.upload_bytes_per_second_max;
        assert_eq!(limit.map(u64::from), Some(1000));
        let more = with("{uploadBytesPerSecondMax: 1000, uploadsMax: 1}");
        assert!(limited.differs_in_more_than_limits(&more));
        assert!(more.differs_in_more_than_limits(&before));
    }

    #[test]
    fn mistakes_are_named() {
        for (change, with, named) in [
            ("endpoint:", "endpont:", "endpont"),
            ("unix:///run/csi.sock", "tcp://0.0.0.0:1", "tcp://"),
            ("nodeName", "nodename", "nodename"),
            ("csi.example.org", "no good", "no good"),
        ] {
            let error = format!("{:#}", parse(&WHOLE.replace(change, with)).unwrap_err());
            assert!(error.contains(named), "{named}: {error}");
        }
        assert!(parse("[]").is_err() && parse("").is_err());
    }
}

//! The daemon's configuration file: the manager's settings, and the sections `csi` and `gateway` for the frontends beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use stockpot_csi::{CsiConfig, DEFAULT_DRIVER_NAME, parse_endpoint};
use stockpot_gateway::GatewayConfig;
use stockpot_manager::config::{
    Config as ManagerConfig, FrontendConfig, SOCKET_PATH_BYTES_MAX, is_socket_path,
};

/// Settings of `transfers` that can change while the daemon runs.
const CHANGEABLE: [&str; 2] = ["uploadBytesPerSecondMax", "downloadBytesPerSecondMax"];

/// Everything `serve` needs.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) manager: ManagerConfig,
    pub(crate) csi: Option<CsiConfig>,
    pub(crate) gateway: Option<GatewayConfig>,
    /// What is in the file but for what can change while the daemon runs.
    fixed: Value,
}

impl Config {
    /// Whether another reading differs in something that only a start heeds.
    pub(crate) fn differs_in_more_than_limits(&self, other: &Self) -> bool {
        self.fixed != other.fixed
    }
}

/// The part of the file that the manager does not look into.
#[derive(Debug, Deserialize)]
struct Frontends {
    #[serde(default)]
    gateway: Option<GatewayConfig>,
}

/// Reads and checks the file, before anything is touched.
///
/// # Errors
/// What is wrong with it, naming the setting.
pub(crate) fn read(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| match path.exists() {
        true => format!("cannot read {}", path.display()),
        false => format!(
            "there is no {}: name the configuration with --config; docs/operations.md has an example",
            path.display()
        ),
    })?;
    parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Config> {
    // No snippets: somebody may have written a secret where none belongs.
    let options = || serde_saphyr::options! { with_snippet: false };
    let told = |error| told(error, text);
    let document: Value = serde_saphyr::from_str_with_options(text, options()).map_err(told)?;
    let Value::Object(document) = document else {
        bail!("it is not a mapping of settings");
    };
    // Read from the text once more: only so are mistakes told with their line and column.
    let manager: ManagerConfig =
        serde_saphyr::from_str_with_options(text, options()).map_err(told)?;
    manager.check()?;
    let csi = manager.csi.as_ref();
    let csi = csi
        .map(|section| csi_config(section, &manager))
        .transpose()
        .context("csi")?;
    let frontends: Frontends =
        serde_saphyr::from_str_with_options(text, options()).map_err(told)?;
    let gateway = frontends
        .gateway
        .map(|section| gateway_config(section, &manager, csi.as_ref()))
        .transpose()
        .context("gateway")?;
    Ok(Config {
        manager,
        csi,
        gateway,
        fixed: fixed(&document),
    })
}

/// What is wrong, with the setting whose value it is about, and its unit.
fn told(error: serde_saphyr::Error, text: &str) -> anyhow::Error {
    let key = error.location().and_then(|at| {
        let line = usize::try_from(at.line()).ok()?.checked_sub(1)?;
        let column = usize::try_from(at.column()).ok()?.checked_sub(1)?;
        let before: String = text.lines().nth(line)?.chars().take(column).collect();
        // Only where a value follows: the key alone is named already.
        let key = before.trim_end().strip_suffix(':')?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key = key.rsplit(|c| !is_word(c)).next().unwrap_or_default();
        Some(key.to_owned()).filter(|key| !key.is_empty())
    });
    let Some(key) = key else {
        return error.into();
    };
    let unit = [
        ("BytesPerSecond", ", a whole number of bytes per second"),
        ("Bytes", ", a whole number of bytes"),
        ("Seconds", ", a whole number of seconds"),
        ("Percent", ", a whole number of percent"),
    ];
    let unit = unit.iter().find(|(part, _)| key.contains(part));
    let unit = unit.map_or("", |(_, unit)| unit);
    anyhow::Error::new(error).context(format!("{key}{unit}"))
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

fn csi_config(section: &FrontendConfig, manager: &ManagerConfig) -> anyhow::Result<CsiConfig> {
    let endpoint: PathBuf = parse_endpoint(&section.endpoint)?;
    ensure!(
        is_socket_path(&endpoint),
        "endpoint: {} is longer than a socket's name may be, {SOCKET_PATH_BYTES_MAX} bytes",
        endpoint.display()
    );
    ensure!(
        endpoint != manager.socket,
        "endpoint: {} is the manager's `socket` already: each needs its own",
        endpoint.display()
    );
    let mut config = CsiConfig::new(endpoint, manager.socket.clone(), manager.node_name.clone());
    config.driver_name = section
        .driver_name
        .clone()
        .unwrap_or_else(|| DEFAULT_DRIVER_NAME.to_owned());
    config.check()?;
    Ok(config)
}

fn gateway_config(
    mut config: GatewayConfig,
    manager: &ManagerConfig,
    csi: Option<&CsiConfig>,
) -> anyhow::Result<GatewayConfig> {
    config.manager_socket = manager.socket.clone();
    config.check()?;
    ensure!(
        config.socket.is_none() || csi.map(|csi| &csi.endpoint) != config.socket.as_ref(),
        "socket: is the CSI endpoint already: each needs its own"
    );
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "
nodeName: n1
pools: [{name: p, driver: file, directory: /srv/p}]
csi: {endpoint: 'unix:///run/csi.sock', driverName: csi.example.org}
gateway: {socket: /run/gateway.sock}
";

    #[test]
    fn all_parts_are_read() {
        let config = parse(WHOLE).unwrap();
        let csi = config.csi.unwrap();
        assert_eq!(csi.driver_name, "csi.example.org");
        assert_eq!(csi.node_id, "n1");
        assert_eq!(csi.manager_socket, config.manager.socket);
        let gateway = config.gateway.unwrap();
        assert_eq!(gateway.manager_socket, config.manager.socket);
        assert!(
            parse("nodeName: n1\npools: [{name: p, driver: file, directory: /srv/p}]")
                .unwrap()
                .gateway
                .is_none()
        );
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
            (
                "/run/csi.sock",
                "/run/stockpot/manager.sock",
                "csi: endpoint",
            ),
            // Where it is, and what could be meant.
            ("nodeName: n1", "nodeName: n1\nstatedir: /x", "line 3"),
            ("nodeName: n1", "nodeName: n1\nstatedir: /x", "csi"),
            ("directory:", "folder:", "line 3"),
            ("endpoint:", "endpont:", "line 4"),
            ("{socket:", "{sokcet:", "line 5"),
            ("/run/gateway.sock", "/run/csi.sock", "gateway: socket"),
            ("/run/gateway.sock", "/run/stockpot/manager.sock", "gateway"),
            (
                "{socket: /run/gateway.sock}",
                "{listen: ['0.0.0.0:80']}",
                "tokensFile",
            ),
            ("/srv/p}]", "/srv/p}]\ntransfers: {workers: many}", "line 4"),
            (
                "/srv/p}]",
                "/srv/p}]\ntransfers: {workers: 2, uploadBytesPerSecondMax: 5MB}",
                "uploadBytesPerSecondMax, a whole number of bytes per second: ",
            ),
            (
                "/srv/p}]",
                "/srv/p}]\ntransfers:\n  giveUpAfterSeconds: soon",
                "giveUpAfterSeconds, a whole number of seconds: ",
            ),
        ] {
            let error = format!("{:#}", parse(&WHOLE.replace(change, with)).unwrap_err());
            assert!(error.contains(named), "{named}: {error}");
        }
        assert!(parse("[]").is_err() && parse("").is_err());
    }
}

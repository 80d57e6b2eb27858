//! Whether this host can attach over iSCSI at all; if not, which part is missing and what to do.

use std::{fs, path::Path};

use stockpot_command::{Command, find_program};

use super::IscsiConfig;
use crate::{ConnectorError, host::parse_initiator};

const TRANSPORT: &str = "/sys/class/iscsi_transport/tcp";

/// Checks programs, the initiator's name and the kernel; loads the kernel's module where it is only not loaded.
pub(super) async fn check(config: &IscsiConfig) -> Result<(), ConnectorError> {
    if find_program("iscsiadm").is_none() {
        return missing(
            "iscsiadm was not found; install open-iscsi (Debian package open-iscsi)".into(),
        );
    }
    check_name(&config.initiator_file)?;
    if Path::new(TRANSPORT).exists() {
        return Ok(());
    }
    let loaded = Command::new("modprobe")
        .package("kmod")
        .arg("iscsi_tcp")
        .run()
        .await;
    if Path::new(TRANSPORT).exists() {
        return Ok(());
    }
    let why = loaded
        .err()
        .map(|error| format!(": {error}"))
        .unwrap_or_default();
    missing(format!(
        "the kernel has no iSCSI over TCP; load its module iscsi_tcp (`modprobe iscsi_tcp`), on the host if this is a \
         container{why}"
    ))
}

fn check_name(file: &Path) -> Result<(), ConnectorError> {
    let text = fs::read_to_string(file).unwrap_or_default();
    if parse_initiator(&text).is_some() {
        return Ok(());
    }
    missing(format!(
        "{} names no initiator; write a line `InitiatorName=iqn.…` (`iscsi-iname` prints a fresh name) and start iscsid again",
        file.display()
    ))
}

fn missing<T>(text: String) -> Result<T, ConnectorError> {
    Err(ConnectorError::Host(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_initiator_name_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nonexistent/name")] {
            let error = check_name(path).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("InitiatorName=") && text.contains(path.to_str().unwrap()),
                "{text}"
            );
        }
        fs::write(file.path(), "InitiatorName=iqn.2026-01.test:a\n").unwrap();
        check_name(file.path()).unwrap();
    }
}

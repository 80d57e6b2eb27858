//! The kernel's view of a thin pool: `dmsetup`, and the tools that read a pool's metadata.
//!
//! `reserve_metadata_snap` makes the kernel keep one frozen copy of a pool's metadata, which may be read while the
//! pool is in use (kernel's `thin-provisioning.rst`). The live metadata must never be read.

use std::time::Duration;

use stockpot_command::{Command, CommandError};
use tokio::io::AsyncWrite;

use super::{report::Share, thin_xml::Wanted};
use crate::DriverError;

/// How long reading a pool's metadata may take: minutes for many terabytes in small blocks.
const READ_DEADLINE: Duration = Duration::from_secs(1800);

/// What `dmsetup status` says of a thin pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PoolStatus {
    /// Where the frozen copy of the metadata lies, if there is one.
    pub(super) frozen: Option<u64>,
    pub(super) data: Fill,
    pub(super) metadata: Fill,
    /// `rw`, or what it does not do any more: `ro`, `out_of_data_space`.
    pub(super) mode: String,
}

/// Blocks that are used, of all there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) used: u64,
    pub(super) total: u64,
}

impl Fill {
    /// `16/1024`
    fn parse(text: &str) -> Option<Self> {
        let (used, total) = text.split_once('/')?;
        let fill = Self {
            used: used.parse().ok()?,
            total: total.parse().ok()?,
        };
        (fill.total > 0).then_some(fill)
    }

    /// The used share.
    pub(super) fn share(self) -> Share {
        let hundredths =
            u128::from(self.used) * u128::from(Share::WHOLE.0) / u128::from(self.total);
        Share(u64::try_from(hundredths).unwrap_or(u64::MAX))
    }
}

/// The device-mapper name of a layer of a logical volume: hyphens are doubled.
pub(super) fn name(vg: &str, lv: &str, layer: &str) -> String {
    let escape = |text: &str| text.replace('-', "--");
    format!("{}-{}{layer}", escape(vg), escape(lv))
}

/// Looks at the device of a thin pool; `None` if there is none: LVM makes none for a pool without volumes.
pub(super) async fn pool_status(device: &str) -> Result<Option<PoolStatus>, DriverError> {
    let doing = || format!("cannot ask for the state of thin pool {device}");
    let text = match dmsetup(["status", device]).await {
        Ok(text) => text,
        Err(CommandError::Failed { stderr, .. }) if stderr.contains("does not exist") => {
            return Ok(None);
        }
        Err(error) => return Err(DriverError::command(doing(), error)),
    };
    match parse_status(&text) {
        Some(status) => Ok(Some(status)),
        None => Err(DriverError::Unexpected {
            doing: doing(),
            answer: text,
        }),
    }
}

/// Freezes a copy of the metadata.
pub(super) async fn freeze(device: &str) -> Result<(), DriverError> {
    message(device, "reserve_metadata_snap").await
}

/// Lets go of the frozen copy.
pub(super) async fn thaw(device: &str) -> Result<(), DriverError> {
    message(device, "release_metadata_snap").await
}

async fn message(device: &str, message: &str) -> Result<(), DriverError> {
    let doing = format!("cannot send {message} to {device}");
    let sent = dmsetup(["message", device, "0", message]).await;
    sent.map(drop)
        .map_err(|error| DriverError::command(doing, error))
}

/// How often a device is open: by others on top of it, and by programs.
pub(super) async fn open_count(device: &str) -> Result<u64, DriverError> {
    let doing = format!("cannot ask who has {device} open");
    let args = ["info", "--columns", "--noheadings", "-o", "open", device];
    let text = dmsetup(args).await;
    let text = text.map_err(|error| DriverError::command(doing.clone(), error))?;
    let parsed = text.trim().parse();
    parsed.map_err(|_| DriverError::Unexpected {
        doing,
        answer: text,
    })
}

async fn dmsetup<const N: usize>(args: [&str; N]) -> Result<String, CommandError> {
    let output = Command::new("dmsetup").package("dmsetup").args(args).run();
    Ok(output.await?.stdout_text())
}

/// Reads the frozen metadata on a device and passes the answer on, as XML.
pub(super) async fn read_frozen(
    metadata: &str,
    wanted: Wanted,
    sink: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<(), CommandError> {
    let command = match wanted {
        Wanted::Mapped { device } => Command::new("thin_dump")
            .args(["--metadata-snap", "--dev-id"])
            .arg(device.to_string()),
        Wanted::Changed { left, right, .. } => Command::new("thin_delta")
            .args(["--metadata-snap", "--snap1"])
            .arg(left.to_string())
            .arg("--snap2")
            .arg(right.to_string()),
    };
    let command = command.package("thin-provisioning-tools").arg(metadata);
    let command = command.deadline(READ_DEADLINE).stdout_into(sink);
    command.run().await.map(drop)
}

/// `0 131072 thin-pool 3 114/1024 16/1024 51 rw …`: metadata, data, the frozen copy's block or `-`, the mode.
fn parse_status(text: &str) -> Option<PoolStatus> {
    let mut words = text.split_whitespace().skip(2);
    if words.next()? != "thin-pool" {
        return None;
    }
    let metadata = Fill::parse(words.nth(1)?)?;
    let data = Fill::parse(words.next()?)?;
    let frozen = match words.next()? {
        "-" => None,
        block => Some(block.parse().ok()?),
    };
    Some(PoolStatus {
        frozen,
        data,
        metadata,
        mode: words.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let status = |text: &str| parse_status(text).map(|status| status.frozen);
        let free = "0 131072 thin-pool 3 113/1024 16/1024 - rw no_discard_passdown queue_if_no_space - 256 \n";
        assert_eq!(status(free), Some(None));
        let read = parse_status(free).unwrap();
        assert_eq!(
            (read.data.share(), read.metadata.share()),
            (Share(156), Share(1103))
        );
        assert_eq!(read.mode, "rw");
        assert_eq!(status(&free.replace("- rw", "51 rw")), Some(Some(51)));
        for bad in [
            "",
            "0 131072 linear 254:2 0",
            "0 131072 thin-pool Fail",
            "0 8 thin-pool 3 1/2 1/2 x rw",
        ] {
            assert_eq!(status(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_those_of_device_mapper() {
        assert_eq!(name("my-vg", "a-b", "-tpool"), "my--vg-a--b-tpool");
        assert_eq!(name("vg0", "pool", "_tmeta"), "vg0-pool_tmeta");
    }
}

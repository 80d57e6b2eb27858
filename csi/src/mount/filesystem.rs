//! The file systems: what is on a device, making one on an empty device, checking, growing.
//!
//! A crash in the middle of `mkfs` leaves something that may look finished. So a new file system gets
//! [`HALF_MADE`] as its label first and loses it when it is complete; on an empty volume whatever carries that label is made anew. It is
//! never mounted before. A volume with a content source is never formatted at all.

use std::{collections::HashMap, fmt, path::Path, time::Duration};

use stockpot_command::{Command, Exit};

use super::{Device, MountError};

/// Label of a file system that is still being made. XFS takes 12 bytes.
const HALF_MADE: &str = "sp-mkfs-half";

/// How long making, checking or growing may take.
const TOOL_DEADLINE: Duration = Duration::from_secs(1800);

/// A file system that volumes can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    /// By the name that the kernel, `blkid` and storage classes give it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "ext4" => Some(Self::Ext4),
            "xfs" => Some(Self::Xfs),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a device holds.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// Nothing that anybody knows.
    Nothing,
    Complete(FileSystem),
    /// Still labelled [`HALF_MADE`].
    HalfMade,
    /// Something else, in words.
    Other(String),
}

/// Makes the device ready to be mounted, and says with which file system: an empty volume is formatted, ext4 is
/// checked. `wanted` is `None` where any will do.
///
/// # Errors
/// [`MountError::NoFileSystem`] where one came from a source and holds none, [`MountError::OtherContent`] where it holds
/// something else than `wanted`, [`MountError::Damaged`] where the check found what it does not repair.
pub(crate) async fn prepare(
    device: &Device,
    wanted: Option<FileSystem>,
    has_content_source: bool,
) -> Result<FileSystem, MountError> {
    let other = |found: String| MountError::OtherContent {
        device: device.path().to_owned(),
        found,
        wanted: wanted.unwrap_or(FileSystem::Ext4),
    };
    let none = |found: String| MountError::NoFileSystem {
        device: device.path().to_owned(),
        found,
    };
    let fs = match probe(device).await? {
        Content::Complete(found) if wanted.is_none_or(|w| w == found) => found,
        Content::Complete(found) => return Err(other(found.to_string())),
        Content::Nothing | Content::HalfMade if has_content_source => {
            return Err(none(String::new()));
        }
        Content::Other(found) if has_content_source => return Err(none(found)),
        Content::Other(found) => return Err(other(found)),
        Content::Nothing | Content::HalfMade => {
            let fs = wanted.unwrap_or(FileSystem::Ext4);
            format(device, fs).await?;
            fs
        }
    };
    if fs == FileSystem::Ext4 && !device.is_read_only().await? {
        check_ext4(device).await?;
    }
    Ok(fs)
}

/// Grows a mounted file system to the size of its device; one that has it already is left as it is.
pub(crate) async fn grow(device: &Device, fs: FileSystem, at: &Path) -> Result<(), MountError> {
    let command = match fs {
        FileSystem::Ext4 => Command::new("resize2fs")
            .package("e2fsprogs")
            .arg(device.path()),
        FileSystem::Xfs => Command::new("xfs_growfs")
            .package("xfsprogs")
            .arg("-d")
            .arg(at),
    };
    command.deadline(TOOL_DEADLINE).run().await?;
    Ok(())
}

/// Looks at the device itself; `blkid` without its cache.
async fn probe(device: &Device) -> Result<Content, MountError> {
    device.check_readable().await?;
    let output = Command::new("blkid")
        .package("util-linux")
        .args(["--probe", "--output", "export"])
        .arg(device.path())
        .output()
        .await?;
    match output.exit {
        Exit::Code(0) => Ok(parse_export(&output.stdout_text())),
        Exit::Code(2) => Ok(Content::Nothing),
        Exit::Code(8) => Ok(Content::Other("signatures of several kinds".to_owned())),
        exit => Err(stockpot_command::CommandError::Failed {
            command: format!("blkid --probe {}", device.path().display()),
            exit,
            stderr: output.stderr,
        }
        .into()),
    }
}

fn parse_export(text: &str) -> Content {
    let values: HashMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let Some(kind) = values.get("TYPE") else {
        return match values.get("PTTYPE") {
            Some(table) => Content::Other(format!("a partition table ({table})")),
            None => Content::Other("something without a name".to_owned()),
        };
    };
    match FileSystem::parse(kind) {
        Some(_) if values.get("LABEL") == Some(&HALF_MADE) => Content::HalfMade,
        Some(fs) => Content::Complete(fs),
        None => Content::Other((*kind).to_owned()),
    }
}

/// Makes a file system on a device that holds nothing.
async fn format(device: &Device, fs: FileSystem) -> Result<(), MountError> {
    tracing::info!(device = %device.path().display(), %fs, "making a file system");
    let (make, finish) = match fs {
        FileSystem::Ext4 => (
            // No blocks kept for root: a volume belongs to its user.
            Command::new("mkfs.ext4")
                .package("e2fsprogs")
                .args(["-F", "-q", "-m", "0", "-L", HALF_MADE]),
            Command::new("tune2fs")
                .package("e2fsprogs")
                .args(["-L", ""]),
        ),
        FileSystem::Xfs => (
            Command::new("mkfs.xfs")
                .package("xfsprogs")
                .args(["-f", "-q", "-L", HALF_MADE]),
            Command::new("xfs_admin")
                .package("xfsprogs")
                .args(["-L", "--"]),
        ),
    };
    for step in [make, finish] {
        step.arg(device.path())
            .deadline(TOOL_DEADLINE)
            .run()
            .await?;
    }
    Ok(())
}

/// Replays the journal and repairs what is safe to repair (e2fsck(8): exit codes below 4 are success).
async fn check_ext4(device: &Device) -> Result<(), MountError> {
    let output = Command::new("e2fsck")
        .package("e2fsprogs")
        .arg("-p")
        .arg(device.path())
        .deadline(TOOL_DEADLINE)
        .output()
        .await?;
    match output.exit {
        Exit::Code(0..=3) => Ok(()),
        Exit::Code(code) if code & 4 != 0 => Err(MountError::Damaged {
            device: device.path().to_owned(),
            report: output.stdout_text().trim().chars().take(1000).collect(),
        }),
        exit => Err(stockpot_command::CommandError::Failed {
            command: format!("e2fsck -p {}", device.path().display()),
            exit,
            stderr: output.stderr,
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_blkid_says() {
        let ext4 = "DEVNAME=/dev/x\nUUID=1-2\nBLOCK_SIZE=4096\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(parse_export(ext4), Content::Complete(FileSystem::Ext4));
        let half = "DEVNAME=/dev/x\nLABEL=sp-mkfs-half\nTYPE=xfs\n";
        assert_eq!(parse_export(half), Content::HalfMade);
        assert_eq!(
            parse_export("TYPE=crypto_LUKS\n"),
            Content::Other("crypto_LUKS".to_owned())
        );
        assert_eq!(
            parse_export("PTTYPE=gpt\nPTUUID=1\n"),
            Content::Other("a partition table (gpt)".to_owned())
        );
        // An exit code of 0 and no name: never taken for empty.
        assert!(matches!(
            parse_export("DEVNAME=/dev/x\n"),
            Content::Other(_)
        ));
    }

    #[test]
    fn the_label_fits_into_both() {
        assert!(HALF_MADE.len() <= 12);
    }
}

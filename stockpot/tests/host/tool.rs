//! System tools as an administrator types them, and a volume group for one test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Runs a tool and returns what it printed.
#[expect(
    clippy::disallowed_methods,
    reason = "the administrator's own tools, to prepare and to look"
)]
pub(crate) fn sh(line: &str) -> anyhow::Result<String> {
    let output = std::process::Command::new("sh")
        .args(["-ec", line])
        .output()?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A volume group on a loop device of its own, gone when dropped.
pub(crate) struct Vg {
    pub(crate) name: String,
    device: String,
    image: PathBuf,
}

impl Vg {
    pub(crate) fn new(name: &str, size_mib: u64) -> anyhow::Result<Self> {
        ensure!(
            std::path::Path::new("/sys/module/dm_mod").exists(),
            "this test needs device-mapper: run it by `make host-tests`"
        );
        let image = std::env::temp_dir().join(format!("{name}.vg"));
        let device = sh(&format!(
            "truncate -s {size_mib}M {0}; losetup -f --show {0}",
            image.display()
        ))?;
        let this = Self {
            name: name.to_owned(),
            device,
            image,
        };
        sh(&format!("vgcreate -q {name} {}", this.device))?;
        Ok(this)
    }

    /// Names of the logical volumes in it.
    pub(crate) fn lvs(&self) -> anyhow::Result<Vec<String>> {
        let text = sh(&format!("lvs --noheadings -o lv_name {}", self.name))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }
}

impl Drop for Vg {
    fn drop(&mut self) {
        let _ = sh(&format!(
            "vgremove -q -f -y {}; losetup -d {}",
            self.name, self.device
        ));
        let _ = std::fs::remove_file(&self.image);
    }
}

/// A mounted file system, unmounted when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(device: &str, at: PathBuf) -> anyhow::Result<Self> {
        sh(&format!("mkdir -p {0}; mount {device} {0}", at.display()))?;
        Ok(Self(at))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = sh(&format!("umount {}", self.0.display()));
    }
}

/// SHA-256 of a file or device.
pub(crate) fn sha256(path: &Path) -> anyhow::Result<String> {
    let line = sh(&format!("sha256sum {}", path.display()))?;
    Ok(line.split_whitespace().next().context("a hash")?.to_owned())
}

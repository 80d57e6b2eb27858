//! Volume groups that live as long as a test.
//!
//! They are made only where a volume group can do no harm: inside the test host (`STOCKPOT_IN_TESTHOST=1`), or on a
//! machine whose owner said so (`STOCKPOT_TESTHOST=native`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::NamedTempFile;

use crate::exec::{self, ExecError};

/// The tag that marks a volume group of a test.
pub const TAG: &str = "stockpot-test";

/// Why no volume group was made.
#[derive(Debug, thiserror::Error)]
pub enum VgError {
    /// This is neither the test host nor a machine set aside for tests.
    #[error("volume groups are made in the test host only: run this with test-fixtures/testhost")]
    NotInTestHost,
    /// The file behind the loop device could not be made.
    #[error("cannot make the disk image")]
    Image(#[source] std::io::Error),
    /// A command failed.
    #[error("cannot make the volume group")]
    Command(#[from] ExecError),
}

/// A volume group with a thin pool, on a loop device over a sparse file. Dropping it removes the group, everything
/// in it, the loop device and the file.
#[derive(Debug)]
pub struct ThrowAwayVg {
    name: String,
    device: PathBuf,
    // Declared last: the file goes when the loop device over it is gone.
    _image: NamedTempFile,
}

impl ThrowAwayVg {
    /// The name of the thin pool in each group.
    pub const POOL: &'static str = "pool";

    /// Makes a group of `size_bytes`, at least 64 MiB, on a file where temporary files belong (a tmpfs in the test
    /// host). The thin pool takes four fifths of it; the rest is free for thick volumes.
    ///
    /// # Errors
    /// Outside the test host, and where the machine cannot do it.
    pub fn new(size_bytes: u64) -> Result<Self, VgError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        if !allowed() {
            return Err(VgError::NotInTestHost);
        }
        let image = NamedTempFile::with_prefix("stockpot-vg-").map_err(VgError::Image)?;
        image
            .as_file()
            .set_len(size_bytes)
            .map_err(VgError::Image)?;
        let device = exec::run(
            "losetup",
            &["--find", "--show", &image.path().to_string_lossy()],
        )?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("sptest{}x{number}", std::process::id());
        // From here on, dropping the value cleans up.
        let vg = Self {
            name,
            device: device.trim().into(),
            _image: image,
        };
        let device = vg.device.to_string_lossy();
        exec::run("vgcreate", &["--yes", "--addtag", TAG, &vg.name, &device])?;
        exec::run(
            "lvcreate",
            &[
                "--yes",
                "--type",
                "thin-pool",
                "--extents",
                "80%VG",
                "--name",
                Self::POOL,
                &vg.name,
            ],
        )?;
        drop(device);
        Ok(vg)
    }

    /// The name of the group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The disk below it.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for ThrowAwayVg {
    fn drop(&mut self) {
        let device = self.device.to_string_lossy();
        // Each step is tried even if the one before failed: the first may fail because there is no group yet.
        let steps: [(&str, &[&str]); 3] = [
            ("vgremove", &["--force", "--force", "--yes", &self.name]),
            ("pvremove", &["--force", "--force", "--yes", &device]),
            ("losetup", &["--detach", &device]),
        ];
        for (program, arguments) in steps {
            if let Err(error) = exec::run(program, arguments) {
                tracing::warn!(%error, "cleaning up a volume group");
            }
        }
    }
}

/// Whether volume groups may be made here.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but their environment"
)]
fn allowed() -> bool {
    let is = |name, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    is("STOCKPOT_IN_TESTHOST", "1") || is("STOCKPOT_TESTHOST", "native")
}

/// The empty disks that the test host was given (`--disk-new`), by their device nodes.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but their environment"
)]
#[must_use]
pub fn test_disks() -> Vec<PathBuf> {
    let names = std::env::var("STOCKPOT_TEST_DISKS").unwrap_or_default();
    names.split_whitespace().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_outside_the_test_host() {
        if !allowed() {
            assert!(matches!(
                ThrowAwayVg::new(1 << 30),
                Err(VgError::NotInTestHost)
            ));
        }
    }
}

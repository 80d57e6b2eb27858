//! A work bench for one test: an S3 server with a bucket, a folder, and the binary with the right environment.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use secrecy::ExposeSecret as _;
use stockpot_test_fixtures::s3::{Builder, Credentials, Server};

pub(crate) const BUCKET: &str = "backups";
pub(crate) const REPO: &str = "s3://backups/site-a";
pub(crate) const MIB: u64 = 1 << 20;

/// What a run of the binary said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Its result as JSON, if it ended well.
    pub(crate) fn json(&self) -> anyhow::Result<serde_json::Value> {
        ensure!(self.code == Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).with_context(|| format!("{self:?}"))
    }

    /// Checks that it failed with this exit code and said all of these words (any case).
    pub(crate) fn failed(&self, code: i32, words: &[&str]) -> anyhow::Result<()> {
        ensure!(self.code == Some(code), "expected exit {code}: {self:?}");
        let said = self.stderr.to_lowercase();
        for word in words {
            ensure!(
                said.contains(&word.to_lowercase()),
                "no {word:?} in: {}",
                self.stderr
            );
        }
        ensure!(!said.contains("panicked"), "{self:?}");
        Ok(())
    }
}

pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) dir: tempfile::TempDir,
    credentials: Credentials,
}

impl Bench {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::with(Server::builder())
    }

    pub(crate) fn with(builder: Builder) -> anyhow::Result<Self> {
        let server = builder.bucket(BUCKET).start()?;
        Ok(Self {
            credentials: server.credentials().clone(),
            server,
            dir: tempfile::tempdir()?,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A secret of its own for `--key-file`.
    pub(crate) fn key_file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, format!("{name}-{}\n", "k".repeat(40)))?;
        Ok(path)
    }

    /// A sparse image of `size` bytes with `pieces` of (offset, bytes) of data that does not compress.
    pub(crate) fn image(
        &self,
        name: &str,
        size: u64,
        pieces: &[(u64, usize)],
    ) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let file = File::create(&path)?;
        file.set_len(size)?;
        for (seed, (offset, len)) in pieces.iter().enumerate() {
            file.write_all_at(&noise(seed as u64 + 1, *len), *offset)?;
        }
        Ok(path)
    }

    /// The binary with this environment and nothing of the machine's.
    #[expect(
        clippy::disallowed_methods,
        reason = "the binary under test is started as a user does"
    )]
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockpot"));
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("AWS_ACCESS_KEY_ID", &self.credentials.access_key)
            .env(
                "AWS_SECRET_ACCESS_KEY",
                self.credentials.secret_key.expose_secret(),
            )
            .env("AWS_REGION", Server::REGION)
            .env("AWS_ENDPOINT_URL", self.server.endpoint())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Run> {
        finish(self.command().args(args).spawn()?)
    }

    /// Backs `image` up as volume `name`, unsealed, and returns the report.
    pub(crate) fn backup(&self, image: &Path, name: &str) -> anyhow::Result<serde_json::Value> {
        let image = image.to_str().context("path is text")?;
        self.run([
            "backup", image, "--to", REPO, "--volume", name, "-o", "json",
        ])?
        .json()
    }

    pub(crate) fn open_uploads(&self) -> usize {
        self.server.uploads(BUCKET).len()
    }
}

pub(crate) fn finish(child: Child) -> anyhow::Result<Run> {
    let output = child.wait_with_output()?;
    Ok(Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// The text field of a report.
pub(crate) fn text<'a>(report: &'a serde_json::Value, field: &str) -> anyhow::Result<&'a str> {
    report[field]
        .as_str()
        .with_context(|| format!("no {field} in {report}"))
}

/// Bytes that follow from `seed` and do not compress (splitmix64).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Writing to a vector cannot fail.
        let _ = bytes.write_all(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

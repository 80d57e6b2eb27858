//! An S3 server behind a proxy that stops requests on order, and the binary that speaks to it.

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail, ensure};
use secrecy::ExposeSecret as _;
use stockpot_test_fixtures::s3::{
    Action, Credentials, Fault, FaultProxy, Op, Server,
    real::{Kind, RealServer},
};

use crate::bucket::Bucket;

/// The repository of the tests.
pub(crate) const REPO: &str = "s3://backups/site-a";
const BUCKET: &str = "backups";
/// A verb that runs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// The server behind the proxy.
#[derive(Debug)]
enum Behind {
    InProcess(Box<Server>),
    Real(#[expect(dead_code, reason = "dropping it ends the server")] RealServer),
}

pub(crate) struct World {
    behind: Behind,
    proxy: FaultProxy,
    credentials: Credentials,
    pub(crate) dir: tempfile::TempDir,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It was killed, or failed with a message.
    Failed,
    /// It was harmed and got through.
    Done,
    /// It was done before anything happened to it.
    Untouched,
}

impl World {
    pub(crate) fn in_process() -> anyhow::Result<Self> {
        let server = Server::builder().bucket(BUCKET).start()?;
        Ok(Self {
            proxy: FaultProxy::to(&server.endpoint())?,
            credentials: server.credentials().clone(),
            behind: Behind::InProcess(Box::new(server)),
            dir: tempfile::tempdir()?,
        })
    }

    pub(crate) fn real(kind: Kind) -> anyhow::Result<Self> {
        let server = RealServer::start(kind)?;
        server.create_bucket(BUCKET)?;
        Ok(Self {
            proxy: FaultProxy::to(&server.endpoint())?,
            credentials: server.credentials().clone(),
            behind: Behind::Real(server),
            dir: tempfile::tempdir()?,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the binary under test is started as a user does"
    )]
    fn spawn(&self, args: &[String]) -> anyhow::Result<Child> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockpot"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("AWS_ACCESS_KEY_ID", &self.credentials.access_key)
            .env(
                "AWS_SECRET_ACCESS_KEY",
                self.credentials.secret_key.expose_secret(),
            )
            .env("AWS_REGION", Server::REGION)
            .env("AWS_ENDPOINT_URL", self.proxy.endpoint())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// Runs a verb to its good end; its result as JSON, and the requests it took.
    pub(crate) fn run(&self, args: &[String]) -> anyhow::Result<(serde_json::Value, u64)> {
        let before = self.proxy.journal().total();
        let output = self.spawn(args)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{args:?}: {}: {said}",
            output.status
        );
        ensure!(!said.contains("panicked"), "{args:?}: {said}");
        let result = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{args:?}: {}", String::from_utf8_lossy(&output.stdout)))?;
        Ok((result, (self.proxy.journal().total() - before) as u64))
    }

    /// Runs a verb and kills it when its `request`th request came: before the server sees it, or after it was carried out.
    pub(crate) fn kill_at(
        &self,
        args: &[String],
        request: u64,
        carried_out: bool,
    ) -> anyhow::Result<Attempt> {
        let faults = self.proxy.faults();
        let action = if carried_out {
            Action::HangAfter
        } else {
            Action::Hang
        };
        // All that follow hang as well: nothing happens after the moment of the kill.
        let first = faults.inject(Fault::new(action).nth(request));
        faults.inject(Fault::new(Action::Hang).after(request));
        let mut child = self.spawn(args)?;
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            if faults.fired(first) > 0 {
                break None;
            }
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            ensure!(Instant::now() < deadline, "{args:?} hangs");
            std::thread::sleep(Duration::from_millis(2));
        };
        let outcome = match ended {
            None => {
                // Others that were under way may still be answered, or not: both happen.
                std::thread::sleep(Duration::from_millis(request % 7 * 5));
                child.kill()?;
                child.wait()?;
                Attempt::Failed
            }
            Some(status) => {
                let mut said = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    stderr.read_to_string(&mut said)?;
                }
                ensure!(
                    status.success(),
                    "{args:?} failed undisturbed: {status}: {said}"
                );
                Attempt::Untouched
            }
        };
        faults.clear();
        Ok(outcome)
    }

    /// Runs a verb through faults. It gets through, or fails with a message; it never hangs and never panics.
    pub(crate) fn disturb(&self, args: &[String], faults: Vec<Fault>) -> anyhow::Result<Attempt> {
        let orders = self.proxy.faults();
        let ids: Vec<_> = faults
            .into_iter()
            .map(|fault| orders.inject(fault))
            .collect();
        let mut child = self.spawn(args)?;
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                let output = child.wait_with_output()?;
                bail!(
                    "{args:?} hangs: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let fired = ids.iter().map(|id| orders.fired(*id)).sum::<u64>();
        orders.clear();
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!said.contains("panicked"), "{args:?}: {said}");
        match output.status.code() {
            Some(0) if fired == 0 => Ok(Attempt::Untouched),
            Some(0) => Ok(Attempt::Done),
            Some(1) if fired > 0 => {
                ensure!(
                    said.contains("stockpot: "),
                    "{args:?} failed without a word: {said}"
                );
                Ok(Attempt::Failed)
            }
            code => bail!("{args:?}: exit code {code:?}: {said}"),
        }
    }

    /// What a real server holds.
    fn bucket(&self) -> anyhow::Result<Bucket> {
        Bucket::open(REPO, self.proxy.endpoint().as_str(), &self.credentials)
    }

    /// Lets an hour and more pass for the lists that killed prunes left. The clock of a real server cannot be set: there they are
    /// removed, as a prune does that comes later.
    pub(crate) fn age_condemned_lists(&self) -> anyhow::Result<()> {
        let Behind::InProcess(server) = &self.behind else {
            let bucket = self.bucket()?;
            for key in bucket.keys("condemned/")? {
                bucket.remove(&key)?;
            }
            return Ok(());
        };
        let before = SystemTime::now() - Duration::from_hours(3);
        for key in server.keys_with_prefix(BUCKET, "site-a/condemned/") {
            server.set_modified(BUCKET, &key, before);
        }
        Ok(())
    }

    /// Objects and open uploads below the repository that are neither its marker nor a tombstone.
    pub(crate) fn leftovers(&self) -> anyhow::Result<Vec<String>> {
        const KINDS: [&str; 4] = ["packs/", "intents/", "condemned/", "probe/"];
        let mut left = Vec::new();
        let open = match &self.behind {
            Behind::InProcess(server) => {
                for kind in KINDS {
                    left.extend(server.keys_with_prefix(BUCKET, &format!("site-a/{kind}")));
                }
                let uploads = server.uploads(BUCKET).into_iter();
                uploads.map(|upload| format!("{upload:?}")).collect()
            }
            Behind::Real(_) => {
                let bucket = self.bucket()?;
                for kind in KINDS {
                    left.extend(bucket.keys(kind)?);
                }
                let created = self.created_uploads();
                ensure!(!created.is_empty(), "no upload of several parts was seen");
                bucket.open_uploads(created)?
            }
        };
        left.extend(open.into_iter().map(|upload| format!("open: {upload}")));
        Ok(left)
    }

    /// The keys for which a multipart upload was ever asked for, below the repository.
    fn created_uploads(&self) -> BTreeSet<String> {
        let requests = self.proxy.journal().requests().into_iter();
        requests
            .filter(|request| request.op == Op::CreateMultipartUpload)
            .filter_map(|request| Some(request.key?.strip_prefix("site-a/")?.to_owned()))
            .collect()
    }
}

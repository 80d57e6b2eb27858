//! What a user is told after somebody deleted or overwrote objects in a bucket that keeps versions, on servers that others
//! wrote (`STOCKPOT_TEST_S3`).

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use aws_sdk_s3::{Client, primitives::ByteStream};
use secrecy::ExposeSecret as _;
use stockpot_test_fixtures::s3::real::{Kind, RealServer, requested};

use crate::bench::{BUCKET, REPO, Run, finish, noise};

const HINT: &str = "--first-versions";

/// A server with a bucket that keeps versions, with two snapshots of volume `v`.
struct Scene {
    server: RealServer,
    thief: Client,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(kind: Kind) -> anyhow::Result<Self> {
        let server = RealServer::start(kind)?;
        let scene = Self {
            thief: server.client(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            dir: tempfile::tempdir()?,
            server,
        };
        let make = scene.thief.create_bucket().bucket(BUCKET);
        // A bucket with Object Lock has versions.
        scene
            .runtime
            .block_on(make.object_lock_enabled_for_bucket(true).send())?;
        std::fs::write(scene.path("key"), "k".repeat(40))?;
        for seed in [1, 2] {
            std::fs::write(scene.path("disk.img"), noise(seed, 1 << 20))?;
            scene.backup()?.json()?;
        }
        Ok(scene)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn backup(&self) -> anyhow::Result<Run> {
        self.run(&[
            "backup",
            &self.path("disk.img"),
            "--to",
            REPO,
            "--volume",
            "v",
            "-o",
            "json",
        ])
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the binary under test is started as a user does"
    )]
    fn run(&self, args: &[&str]) -> anyhow::Result<Run> {
        let keys = self.server.credentials();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockpot"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("STOCKPOT_KEY_FILE", self.path("key"))
            .env("AWS_ACCESS_KEY_ID", &keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", keys.secret_key.expose_secret())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", self.server.endpoint())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        finish(command.spawn()?)
    }

    /// Keys in sight that start with `site-a/` and `prefix`.
    fn keys(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let list = self.thief.list_objects_v2().bucket(BUCKET);
        let found = self
            .runtime
            .block_on(list.prefix(format!("site-a/{prefix}")).send())?;
        let keys = found.contents().iter().filter_map(|object| object.key());
        Ok(keys.map(str::to_owned).collect())
    }

    fn delete(&self, prefix: &str) -> anyhow::Result<()> {
        let keys = self.keys(prefix)?;
        ensure!(!keys.is_empty(), "nothing below {prefix}");
        for key in keys {
            let delete = self.thief.delete_object().bucket(BUCKET).key(key);
            self.runtime.block_on(delete.send())?;
        }
        Ok(())
    }

    fn overwrite(&self, key: &str) -> anyhow::Result<()> {
        let put = self.thief.put_object().bucket(BUCKET).key(key);
        let body = ByteStream::from_static(b"coins");
        self.runtime.block_on(put.body(body).send())?;
        Ok(())
    }

    fn says(&self, args: &[&str], code: i32, words: &[&str]) -> anyhow::Result<()> {
        let run = self.run(args)?;
        run.failed(code, words).with_context(|| format!("{args:?}"))
    }

    /// The newest snapshot comes back whole from what was written first.
    fn comes_back(&self) -> anyhow::Result<()> {
        let out = self.path("back.img");
        let run = self.run(&[
            "restore",
            REPO,
            "latest:v",
            &out,
            "--first-versions",
            "--force",
        ])?;
        ensure!(run.code == Some(0), "{run:?}");
        ensure!(std::fs::read(out)? == std::fs::read(self.path("disk.img"))?);
        Ok(())
    }
}

fn on_each(test: impl Fn(&Scene) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for kind in requested()? {
        test(&Scene::new(kind)?).with_context(|| kind.name())?;
    }
    Ok(())
}

#[test]
fn a_repository_that_was_deleted_whole_is_pointed_to_and_not_made_anew() -> anyhow::Result<()> {
    on_each(|scene| {
        scene.delete("")?;
        for verb in ["snapshots", "verify", "prune"] {
            scene.says(&[verb, REPO], 1, &[HINT])?;
        }
        let image = scene.path("disk.img");
        scene.says(
            &["backup", &image, "--to", REPO],
            1,
            &[HINT, "another prefix"],
        )?;
        ensure!(scene.keys("")?.is_empty(), "something was written");
        scene.comes_back()
    })
}

#[test]
fn a_marker_that_was_deleted_or_overwritten_is_pointed_to() -> anyhow::Result<()> {
    on_each(|scene| {
        let image = scene.path("disk.img");
        let all = [
            vec!["snapshots", REPO],
            vec!["verify", REPO],
            vec!["prune", REPO],
            vec!["forget", REPO, "--keep-last", "1"],
            vec!["backup", &image, "--to", REPO],
        ];
        scene.delete("repository.json")?;
        for args in &all {
            scene.says(args, 1, &[HINT])?;
        }
        scene.overwrite("site-a/repository.json")?;
        for args in &all {
            scene.says(args, 1, &[HINT])?;
        }
        scene.comes_back()
    })
}

#[test]
fn snapshots_whose_records_were_deleted_are_not_passed_over() -> anyhow::Result<()> {
    on_each(|scene| {
        let newest = scene.keys("snapshots/v/")?.pop().context("a manifest")?;
        let newest = newest.trim_start_matches("site-a/");
        let name = newest
            .trim_start_matches("snapshots/v/")
            .trim_end_matches(".json");
        scene.delete(newest)?;
        let out = scene.path("out.img");
        // Not the older one that is left.
        scene.says(&["restore", REPO, "latest:v", &out], 1, &[HINT])?;
        let listed = scene.run(&["snapshots", REPO])?;
        ensure!(
            listed.code == Some(0) && listed.stderr.contains(HINT),
            "{listed:?}"
        );
        scene.says(&["verify", REPO], 1, &[HINT])?;
        scene.says(&["verify", REPO, name], 1, &[HINT])?;
        scene.says(&["prune", REPO], 1, &[HINT])?;
        scene.comes_back()
    })
}

#[test]
fn a_record_or_pack_that_was_overwritten_is_pointed_to() -> anyhow::Result<()> {
    on_each(|scene| {
        let newest = scene.keys("snapshots/v/")?.pop().context("a manifest")?;
        scene.overwrite(&newest)?;
        let out = scene.path("out.img");
        scene.says(&["restore", REPO, "latest:v", &out], 1, &[HINT])?;
        let listed = scene.run(&["snapshots", REPO])?;
        ensure!(
            listed.code == Some(0) && listed.stderr.contains(HINT),
            "{listed:?}"
        );
        scene.says(&["verify", REPO], 1, &[HINT])?;
        scene.says(&["prune", REPO], 1, &[HINT])?;
        scene.comes_back()?;
        let key = newest.trim_start_matches("site-a/");
        scene.delete(key)?;
        for pack in scene.keys("packs/")? {
            scene.overwrite(&pack)?;
        }
        scene.says(&["verify", REPO], 1, &[HINT])?;
        scene.says(&["prune", REPO], 1, &[HINT])?;
        scene.comes_back()
    })
}

#[test]
fn packs_of_data_that_were_deleted_are_missed_by_a_prune() -> anyhow::Result<()> {
    on_each(|scene| {
        // The largest is data; the maps and lists, which a prune has to read, are small.
        let list = scene.thief.list_objects_v2().bucket(BUCKET);
        let found = scene
            .runtime
            .block_on(list.prefix("site-a/packs/").send())?;
        let largest = found.contents().iter().max_by_key(|object| object.size());
        let pack = largest.and_then(|object| object.key()).context("a pack")?;
        scene.delete(pack.trim_start_matches("site-a/"))?;
        for verb in ["prune", "verify"] {
            let run = scene.run(&[verb, REPO])?;
            ensure!(run.stderr.contains(HINT), "{run:?}");
        }
        let pruned = scene.run(&["prune", REPO, "-o", "json"])?.json()?;
        let missing = pruned["missing_packs"].as_array().context("a list")?;
        ensure!(
            missing.len() == 1 && pack.ends_with(missing[0].as_str().context("a name")?),
            "{pruned}"
        );
        scene.comes_back()
    })
}

/// A thief who has the key as well forgets snapshots like their owner.
#[test]
fn what_was_forgotten_is_pointed_to_where_first_versions_are_read() -> anyhow::Result<()> {
    on_each(|scene| {
        let newest = scene.keys("snapshots/v/")?.pop().context("a manifest")?;
        let id = newest
            .trim_start_matches("site-a/snapshots/v/")
            .trim_end_matches(".json");
        scene.run(&["forget", REPO, id, "-o", "json"])?.json()?;
        let out = scene.path("out.img");
        let first = ["--first-versions"];
        let restore = ["restore", REPO, id, &out];
        scene.says(&restore, 1, &["was deleted"])?;
        scene.says(&[&restore[..], &first].concat(), 1, &["--deleted"])?;
        let listed = scene.run(&["snapshots", REPO, HINT])?;
        ensure!(listed.stderr.contains("--deleted"), "{listed:?}");
        let verify = ["verify", REPO, id, HINT];
        scene.says(&verify, 1, &["--deleted"])?;
        let verify = [&verify[..], &["--deleted", "--read-data", "-o", "json"]].concat();
        let report = scene.run(&verify)?.json()?;
        ensure!(report["snapshots"] == 1, "{report}");
        let restore = [&restore[..], &first, &["--deleted", "-o", "json"]].concat();
        let report = scene.run(&restore)?.json()?;
        ensure!(report["first_versions"] == true, "{report}");
        ensure!(std::fs::read(out)? == std::fs::read(scene.path("disk.img"))?);
        Ok(())
    })
}

/// Not a thief's doing, but it needs the same bucket.
#[test]
fn the_list_shows_until_when_snapshots_are_locked() -> anyhow::Result<()> {
    on_each(|scene| {
        let unlocked = scene.run(&["snapshots", REPO])?;
        ensure!(!unlocked.stdout.contains("LOCKED"), "{unlocked:?}");
        let image = scene.path("disk.img");
        let to = [
            "backup", &image, "--to", REPO, "--volume", "v", "-o", "json",
        ];
        let locked = scene
            .run(&[&to[..], &["--lock-days", "1"]].concat())?
            .json()?;
        let until = locked["locked_until"].as_str().context("a lock")?;
        let listed = scene.run(&["snapshots", REPO, "-o", "json"])?.json()?;
        ensure!(
            listed[0]["locked_until"].is_null() && listed[2]["locked_until"] == until,
            "{listed}"
        );
        let text = scene.run(&["snapshots", REPO])?.stdout;
        ensure!(
            text.contains("LOCKED UNTIL") && text.contains(&until[..10]),
            "{text}"
        );
        Ok(())
    })
}

//! What is done to a world, and what has to hold after each kill.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;

use crate::{
    storm,
    world::{Attempt, REPO, World},
};

const MIB: u64 = 1 << 20;
const IMAGE_SIZE_BYTES: u64 = 40 * MIB + 4096;
const VOLUME: &str = "disk";

/// Verbs that are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Backup,
    Restore,
    Forget,
    Prune,
}

struct History {
    world: World,
    random: StdRng,
    image: PathBuf,
    key: PathBuf,
    /// Committed snapshots and a copy of what they hold.
    known: BTreeMap<String, PathBuf>,
    copies: u64,
    /// Requests that a verb took when it was last left alone.
    took: BTreeMap<Verb, u64>,
    harmed: BTreeMap<Verb, u64>,
    failed: u64,
}

/// What befalls a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// SIGKILL at a request.
    Kill,
    /// A server or network that misbehaves.
    Storm,
}

/// Goes on until `times` verbs were harmed; what happened, in words.
pub(crate) fn run(world: World, harm: Harm, seed: u64, times: u64) -> anyhow::Result<String> {
    let image = world.path("disk.img");
    let key = world.path("key");
    fs::write(&key, "k".repeat(40))?;
    File::create(&image)?.set_len(IMAGE_SIZE_BYTES)?;
    let mut history = History {
        world,
        random: StdRng::seed_from_u64(seed),
        image,
        key,
        known: BTreeMap::new(),
        copies: 0,
        took: BTreeMap::new(),
        harmed: BTreeMap::new(),
        failed: 0,
    };
    history.write(24)?;
    history.whole(Verb::Backup)?;
    let mut round = 0;
    while history.harmed.values().sum::<u64>() < times {
        round += 1;
        ensure!(round < 20 * times + 20, "too seldom: {:?}", history.harmed);
        let verb = history.draw();
        history
            .round(verb, harm)
            .with_context(|| format!("round {round}: {verb:?}"))?;
    }
    history.end().context("at the end")?;
    let (harmed, failed) = (history.harmed, history.failed);
    Ok(format!("{harm:?}: {harmed:?}, {failed} of them failed"))
}

impl History {
    fn draw(&mut self) -> Verb {
        match self.random.random_range(0..10) {
            0..5 => Verb::Backup,
            5..7 => Verb::Prune,
            7 => Verb::Forget,
            _ => Verb::Restore,
        }
    }

    fn round(&mut self, verb: Verb, harm: Harm) -> anyhow::Result<()> {
        if verb == Verb::Backup {
            let pieces = self.random.random_range(1..12);
            self.write(pieces)?;
        }
        let wanted = self.pick()?;
        let out = self.world.path("restored.img");
        let args = self.arguments(verb, &wanted, &out)?;
        let (attempt, how) = match harm {
            Harm::Kill => self.kill(verb, &args)?,
            Harm::Storm => self.storm(&args)?,
        };
        match attempt {
            Attempt::Untouched => {}
            Attempt::Done => *self.harmed.entry(verb).or_default() += 1,
            Attempt::Failed => {
                *self.harmed.entry(verb).or_default() += 1;
                self.failed += 1;
                ensure!(
                    !(verb == Verb::Restore && out.exists()),
                    "{how}: half a volume has the name of a whole one"
                );
            }
        }
        if verb == Verb::Restore && attempt != Attempt::Failed {
            same(&out, &self.known[&wanted]).with_context(|| how.clone())?;
            fs::remove_file(&out)?;
        }
        // A backup that failed may have committed, a forget may have forgotten: the bucket says.
        self.learn(verb).with_context(|| how.clone())?;
        self.whole(verb)
            .with_context(|| format!("again, after {how}"))
    }

    fn kill(&mut self, verb: Verb, args: &[String]) -> anyhow::Result<(Attempt, String)> {
        let horizon = self.took.get(&verb).copied().unwrap_or(30);
        let request = self.random.random_range(1..=horizon + 2);
        let carried_out = self.random.random_bool(0.5);
        let attempt = self.world.kill_at(args, request, carried_out)?;
        let how = format!("a kill at request {request} (carried out: {carried_out})");
        Ok((attempt, how))
    }

    fn storm(&mut self, args: &[String]) -> anyhow::Result<(Attempt, String)> {
        let faults = storm::draw(&mut self.random);
        let how = format!("{faults:?}");
        let attempt = self
            .world
            .disturb(args, faults)
            .with_context(|| how.clone())?;
        Ok((attempt, how))
    }

    /// Runs a verb undisturbed and checks what it promises.
    fn whole(&mut self, verb: Verb) -> anyhow::Result<()> {
        let wanted = self.pick()?;
        let out = self.world.path("restored.img");
        let args = self.arguments(verb, &wanted, &out)?;
        let (result, requests) = self.world.run(&args)?;
        self.took.insert(verb, requests);
        match verb {
            Verb::Backup => {
                let id = result["snapshot_id"].as_str().context("snapshot_id")?;
                let id = id.to_owned();
                self.learn(verb)?;
                ensure!(self.known.contains_key(&id), "{id} is not listed");
            }
            Verb::Restore => {
                same(&out, &self.known[&wanted])?;
                fs::remove_file(&out)?;
            }
            Verb::Forget | Verb::Prune => self.learn(verb)?,
        }
        Ok(())
    }

    fn arguments(&self, verb: Verb, wanted: &str, out: &Path) -> anyhow::Result<Vec<String>> {
        let image = self.image.to_str().context("path")?;
        let out = out.to_str().context("path")?;
        let verb: &[&str] = match verb {
            // Small packs: a kill leaves some whole.
            Verb::Backup => &[
                "backup",
                image,
                "--to",
                REPO,
                "--volume",
                VOLUME,
                "--part-size",
                "5MiB",
                "--pack-size",
                "5MiB",
            ],
            Verb::Restore => &["restore", REPO, wanted, out],
            Verb::Forget => &["forget", REPO, "--keep-last", "3"],
            Verb::Prune => &["prune", REPO, "--give-up-after", "0s"],
        };
        let key = self.key.to_str().context("path")?;
        let common = ["--key-file", key, "-o", "json"];
        Ok(verb.iter().chain(&common).map(|&s| s.to_owned()).collect())
    }

    /// A committed snapshot; none before the first backup.
    fn pick(&mut self) -> anyhow::Result<String> {
        if self.known.is_empty() {
            return Ok(String::new());
        }
        let nth = self.random.random_range(0..self.known.len());
        Ok(self.known.keys().nth(nth).context("in range")?.clone())
    }

    /// Compares the listing with what is known. New snapshots hold the volume as it is now, and only a backup makes
    /// them; only a forget takes some away.
    fn learn(&mut self, verb: Verb) -> anyhow::Result<()> {
        let key = self.key.to_str().context("path")?.to_owned();
        let args = ["snapshots", REPO, "-o", "json", "--key-file", &key].map(str::to_owned);
        let (listing, _) = self.world.run(&args)?;
        let mut listed = Vec::new();
        for row in listing.as_array().context("a list")? {
            match row["status"].as_str().context("status")? {
                "committed" => listed.push(row["snapshot_id"].as_str().context("id")?.to_owned()),
                "uploading" => {}
                status => bail!("{status}: {row}"),
            }
        }
        for id in &listed {
            if self.known.contains_key(id) {
                continue;
            }
            ensure!(verb == Verb::Backup, "{verb:?} made {id}");
            self.copies += 1;
            let copy = self.world.path(&format!("copy-{}", self.copies));
            fs::copy(&self.image, &copy)?;
            self.known.insert(id.clone(), copy);
        }
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|id| !listed.contains(id))
            .cloned()
            .collect();
        ensure!(
            gone.is_empty() || verb == Verb::Forget,
            "{verb:?} lost {gone:?}"
        );
        for id in gone {
            if let Some(copy) = self.known.remove(&id) {
                fs::remove_file(copy)?;
            }
        }
        ensure!(!self.known.is_empty(), "nothing is left");
        Ok(())
    }

    /// Writes over pieces of the volume: data, and now and then zeroes.
    fn write(&mut self, pieces: u32) -> anyhow::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.image)?;
        for _ in 0..pieces {
            let len = self.random.random_range(1..2 * MIB);
            let mut bytes = vec![0; usize::try_from(len)?];
            if self.random.random_bool(0.8) {
                self.random.fill_bytes(&mut bytes);
            }
            file.write_all_at(&bytes, self.random.random_range(0..IMAGE_SIZE_BYTES - len))?;
        }
        file.sync_data()?;
        Ok(())
    }

    /// Everything that is known is whole; then all but one are forgotten, and a prune leaves what that one needs.
    fn end(&mut self) -> anyhow::Result<()> {
        let key = self.key.to_str().context("path")?.to_owned();
        let run = |history: &Self, verb: &[&str]| -> anyhow::Result<Value> {
            let common = ["--key-file", &key, "-o", "json"];
            let args: Vec<String> = verb.iter().chain(&common).map(|&s| s.to_owned()).collect();
            Ok(history.world.run(&args)?.0)
        };
        run(self, &["verify", REPO, "--read-data"])?;
        for (id, copy) in &self.known {
            let out = self.world.path("last.img");
            run(self, &["restore", REPO, id, out.to_str().context("path")?])?;
            same(&out, copy).with_context(|| id.clone())?;
            fs::remove_file(out)?;
        }
        run(self, &["prune", REPO, "--give-up-after", "0s"])?;
        let again = run(self, &["prune", REPO, "--give-up-after", "0s"])?;
        ensure!(
            again["to_delete_packs"] == 0 && again["done"]["aborted_multiparts"] == 0,
            "{again}"
        );
        ensure!(
            again["uploads"].as_array().is_some_and(Vec::is_empty),
            "{again}"
        );
        run(self, &["verify", REPO, "--read-data"])?;
        let ids: Vec<&str> = self.known.keys().map(String::as_str).collect();
        run(self, &[&["forget", REPO][..], &ids].concat())?;
        self.world.age_condemned_lists()?;
        run(self, &["prune", REPO, "--give-up-after", "0s"])?;
        let left = self.world.leftovers()?;
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    }
}

/// Compares two files byte by byte.
fn same(a: &Path, b: &Path) -> anyhow::Result<()> {
    let difference = stockpot_test_fixtures::image::first_difference(a, b)?;
    ensure!(difference.is_none(), "{}: {difference:?}", a.display());
    Ok(())
}

//! `forget` and `prune` as their users meet them.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::bench::{BUCKET, Bench, MIB, REPO, text};

/// Backs five versions of one volume up, and returns their ids.
fn five(bench: &Bench) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for number in 0..5 {
        let image = bench.image("disk.img", 20 * MIB, &[(number * MIB, 200_000)])?;
        ids.push(text(&bench.backup(&image, "v")?, "snapshot_id")?.to_owned());
    }
    Ok(ids)
}

fn forgotten(report: &Value) -> Vec<&str> {
    let rows = report["forgotten"].as_array();
    let rows = rows.into_iter().flatten();
    rows.filter_map(|row| row["snapshot_id"].as_str()).collect()
}

fn json(bench: &Bench, args: &[&str]) -> anyhow::Result<Value> {
    bench.run([args, &["-o", "json"]].concat())?.json()
}

fn packs(bench: &Bench) -> usize {
    bench.server.keys_with_prefix(BUCKET, "site-a/packs/").len()
}

#[test]
fn a_policy_is_shown_then_carried_out_and_the_room_comes_back() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let ids = five(&bench)?;
    let before = bench.server.snapshot(BUCKET).context("bucket")?;
    let shown = json(&bench, &["forget", REPO, "--keep-last", "2", "--dry-run"])?;
    ensure!(forgotten(&shown).len() == 3, "{shown}");
    ensure!(shown["kept"][0]["rules"][0] == "last", "{shown}");
    let planned = json(&bench, &["prune", REPO, "--dry-run"])?;
    ensure!(
        planned["to_delete_packs"] == 0 && planned["done"].is_null(),
        "{planned}"
    );
    ensure!(packs(&bench) > 5);
    bench.server.restore(BUCKET, &before);

    let done = json(&bench, &["forget", REPO, "--keep-last", "2"])?;
    let mut gone = forgotten(&done);
    gone.sort_unstable();
    let mut oldest: Vec<&str> = ids[..3].iter().map(String::as_str).collect();
    oldest.sort_unstable();
    ensure!(gone == oldest, "{done}");
    let all = packs(&bench);
    let planned = json(&bench, &["prune", REPO, "--dry-run"])?;
    ensure!(packs(&bench) == all);
    let pruned = json(&bench, &["prune", REPO])?;
    ensure!(
        pruned["done"]["deleted_packs"] == planned["to_delete_packs"],
        "{pruned}"
    );
    ensure!(packs(&bench) < all);
    let verified = bench.run(["verify", REPO, "--read-data"])?;
    ensure!(verified.code == Some(0), "{verified:?}");
    let again = bench.run(["prune", REPO])?;
    ensure!(
        again.code == Some(0) && again.stdout.contains("deleted 0 packs"),
        "{again:?}"
    );
    ensure!(again.stderr.contains("2 snapshots need"), "{again:?}");
    Ok(())
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_done() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let ids = five(&bench)?;
    bench.run(["forget", REPO])?.failed(2, &["--keep-"])?;
    bench
        .run(["forget", REPO, "--keep-last", "0"])?
        .failed(2, &["--keep-"])?;
    bench
        .run(["forget", REPO, "--keep-within", "0d"])?
        .failed(2, &["--keep-"])?;
    let both = [REPO, ids[0].as_str(), "--keep-last", "1"];
    bench
        .run([&["forget"][..], &both].concat())?
        .failed(2, &["cannot be used"])?;
    bench
        .run(["forget", REPO, &ids[0], "snap-nowhere"])?
        .failed(1, &["snap-nowhere"])?;
    bench
        .run(["forget", REPO, "--keep-last", "1", "--volume", "w"])?
        .failed(1, &["volume w"])?;
    bench
        .run(["prune", REPO, "--give-up-after", "soon"])?
        .failed(2, &["36h"])?;
    let listed = json(&bench, &["snapshots", REPO])?;
    ensure!(
        listed.as_array().is_some_and(|rows| rows.len() == 5),
        "{listed}"
    );
    Ok(())
}

#[test]
fn a_snapshot_is_forgotten_by_its_name_and_only_once() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let ids = five(&bench)?;
    for said in ["1 forgotten", "0 forgotten, 1 was forgotten before"] {
        let run = bench.run(["forget", REPO, &ids[4]])?;
        ensure!(
            run.code == Some(0) && run.stdout.contains(&ids[4]) && run.stdout.contains(said),
            "{run:?}"
        );
    }
    let again = json(&bench, &["forget", REPO, &ids[4], &ids[3]])?;
    ensure!(forgotten(&again) == [ids[3].as_str()], "{again}");
    let before = &again["already_forgotten"][0]["snapshot_id"];
    ensure!(*before == ids[4].as_str(), "{again}");
    let listed = json(&bench, &["snapshots", REPO])?;
    ensure!(
        listed.as_array().is_some_and(|rows| rows.len() == 3),
        "{listed}"
    );
    Ok(())
}

//! Uploads, one of which goes on with what a dead one left, prunes and deletions at the same time, in the orders that seeds
//! draw, with some of them killed: whatever is committed at the end can be restored, and after a quiet prune nothing else is left.

use std::time::Duration;

use stockpot_repository::{
    RepositoryError,
    prune::{PruneError, PruneSettings},
    snapshots::{self, Status},
    store::StoreError,
};

use super::{
    beds::{Bed, real_beds},
    scene::{Pruned, Scene, Uploaded},
};

/// Interleavings on each bed, unless `STOCKPOT_TEST_INTERLEAVINGS` says otherwise.
const INTERLEAVINGS: u64 = 12;

/// splitmix64: the same seed gives the same order for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        usize::try_from(word % sides as u64).unwrap()
    }

    fn settings(&mut self) -> PruneSettings {
        let or_never = |now: bool| match now {
            true => Duration::ZERO,
            false => Duration::from_hours(1000),
        };
        PruneSettings {
            give_up_after: or_never(self.roll(2) == 0),
            stale_after: or_never(self.roll(2) == 0),
            packs_per_round: 1 + self.roll(4),
            deletes_in_flight: 1 + self.roll(2),
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    committed: usize,
    adopted: usize,
    repacked: usize,
    given_up: usize,
    pruned: usize,
    stopped: usize,
    killed: usize,
    kept: usize,
}

fn was_killed(error: &RepositoryError) -> bool {
    format!("{error:?}").contains("the actor was killed")
}

impl Tally {
    /// What nobody did yet.
    fn lacks(&self) -> Option<&'static str> {
        let seen = [
            (self.committed, "nobody committed"),
            (self.given_up, "nobody gave up"),
            (self.pruned, "nobody pruned"),
            (self.killed, "nobody was killed"),
            (self.adopted, "nobody went on with what was left"),
            (self.repacked, "nobody gave up a sparse pack"),
        ];
        let lacking = seen.into_iter().find(|(count, _)| *count == 0);
        lacking.map(|(_, what)| what)
    }

    fn upload(&mut self, uploaded: Uploaded, has_killed: bool) {
        match uploaded {
            Ok(report) => {
                self.committed += 1;
                self.adopted += usize::from(report.adopted_packs > 0);
                self.repacked += usize::from(report.repacked_packs > 0);
            }
            Err(RepositoryError::Deleted { .. }) => self.given_up += 1,
            Err(error) if was_killed(&error) => {}
            // Refused at the commit, and killed before it could ask why.
            Err(RepositoryError::Store(StoreError::AlreadyExists { .. })) if has_killed => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    fn prune(&mut self, pruned: Pruned) {
        match pruned {
            Ok(_) => self.pruned += 1,
            Err(PruneError::ListTaken) => self.stopped += 1,
            Err(PruneError::Repository(error)) if was_killed(&error) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

const ACTORS: [&str; 6] = ["up-1", "up-2", "go-on", "prune-1", "prune-2", "delete"];

/// Lets requests through, one by one, as the dice say; kills somebody or nobody on the way: whether it did.
async fn run_all(scene: &Scene, dice: &mut Dice) -> bool {
    let mut doomed = (dice.roll(3) > 0).then(|| (dice.roll(150), ACTORS[dice.roll(ACTORS.len())]));
    let mut has_killed = false;
    for step in 0..10_000 {
        let waiting = scene.gate.waiting().await;
        if waiting.is_empty() {
            return has_killed;
        }
        if let Some((_, name)) = doomed.take_if(|(at, _)| *at == step) {
            scene.gate.kill(name);
            has_killed = true;
            continue;
        }
        let (name, what) = &waiting[dice.roll(waiting.len())];
        scene.gate.grant(name, what);
    }
    panic!("it never ends");
}

async fn interleave(bed: &Bed, seed: u64, tally: &mut Tally) {
    let mut dice = Dice(seed);
    let mut scene = Scene::new(bed.store(&format!("seed-{seed}")).await).await;
    scene.repack_below_percent = [0, 90][dice.roll(2)];
    let first = scene.up(seed * 100 + 1).await;
    let second = scene.up(seed * 100 + 2).await;
    // A prune has seen some of it before, or not; and something is of no use already, or not.
    if dice.roll(2) == 0 {
        scene.check_tidy().await;
    }
    let gone = scene.up(seed * 100 + 3).await;
    if dice.roll(2) == 0 {
        scene.delete(&gone).await;
    }
    // What is gone on with as the same snapshot, or as another; or there is nothing to go on with.
    let dead = match dice.roll(3) {
        0 => None,
        1 => Some((scene.dead_upload().await, true)),
        _ => Some((scene.dead_upload().await, false)),
    };
    let same = dead.and_then(|(id, same)| same.then_some(id));
    let mut opened = Vec::new();
    for name in ACTORS {
        opened.push(scene.seen_by(name, None).await);
    }
    let uploads = [
        scene.upload("up-1", &opened[0], seed * 100 + 4),
        scene.upload("up-2", &opened[1], seed * 100 + 5),
        scene.go_on("go-on", &opened[2], same),
    ];
    let prunes = [
        scene.prune("prune-1", &opened[3], dice.settings()),
        scene.prune("prune-2", &opened[4], dice.settings()),
    ];
    let deleting = {
        let repository = opened[5].clone();
        let mut victims = vec![first, second, gone];
        victims.remove(dice.roll(3));
        scene.gate.spawn("delete", async move {
            for victim in &victims {
                snapshots::delete(&repository, &Scene::volume(), victim).await?;
            }
            Ok::<(), RepositoryError>(())
        })
    };
    let has_killed = run_all(&scene, &mut dice).await;
    tally.killed += usize::from(has_killed);
    for uploaded in uploads {
        tally.upload(uploaded.await.unwrap(), has_killed);
    }
    for pruned in prunes {
        tally.prune(pruned.await.unwrap());
    }
    if let Err(error) = deleting.await.unwrap() {
        assert!(was_killed(&error), "{error:?}");
    }
    assert_eq!(scene.problems().await, 0, "seed {seed}");
    tally.kept += scene.check_images().await;
    scene.check_tidy().await;
    scene.check_images().await;
    let listed = snapshots::list(&scene.bench.repository).await.unwrap();
    let is_decided = |s: &Status| matches!(s, Status::Committed | Status::Deleted);
    assert!(listed.iter().all(|s| is_decided(&s.status)), "{listed:?}");
}

/// A number that the caller of the tests gave.
#[expect(
    clippy::disallowed_methods,
    reason = "it is the tests' own configuration"
)]
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

async fn run(bed: &Bed, count: u64) {
    let count = given("STOCKPOT_TEST_INTERLEAVINGS").unwrap_or(count);
    let start = given("STOCKPOT_TEST_SEED").unwrap_or(1);
    let mut tally = Tally::default();
    let (enough, most) = (start + count, start + 8 * count);
    // The same seed is not quite the same order everywhere: it goes on until each thing was seen, as few seeds would show little.
    let mut seeds = start..most;
    while let Some(seed) =
        seeds.find(|seed| *seed < enough || count >= INTERLEAVINGS && tally.lacks().is_some())
    {
        println!("{}: seed {seed}", bed.name);
        interleave(bed, seed, &mut tally).await;
    }
    println!("{}: {count} interleavings: {tally:?}", bed.name);
    if count >= INTERLEAVINGS {
        assert_eq!(tally.lacks(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    run(&Bed::memory(), INTERLEAVINGS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_real_servers() {
    for bed in real_beds().await {
        run(&bed, INTERLEAVINGS / 2).await;
    }
}

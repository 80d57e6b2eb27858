//! Kill the command line at any request of any verb, as a power cut does, or let the server misbehave, and go on.
//!
//! Each round changes a volume, starts a verb, stops its traffic at a request drawn at random (before or after the server
//! has carried it out), kills it with SIGKILL, and runs the verb again undisturbed; or it lets the verb meet answers that are late,
//! lost, doubled, refused, cut short or wrong, which it survives or reports. Whatever was committed has to be
//! there and identical, whatever was not must not look as if it were; at the end everything is verified, restored
//! and compared, and a prune leaves nothing that no snapshot needs.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `STOCKPOT_TEST_KILLS` | kills for each server (default 10) |
//! | `STOCKPOT_TEST_STORMS` | verbs that meet a misbehaving server, for each server (default 15) |
//! | `STOCKPOT_TEST_SEED` | where the random numbers start (default 1) |
//! | `STOCKPOT_TEST_S3` | real servers to run against as well: `versitygw`, `minio` |

mod bucket;
mod history;
mod storm;
mod world;

use anyhow::Context as _;
use stockpot_test_fixtures::s3::real::{self, Kind};

use crate::{history::Harm, world::World};

/// A number from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but their environment"
)]
fn number(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

fn run(world: World, harm: Harm) -> anyhow::Result<()> {
    let seed = number("STOCKPOT_TEST_SEED", 1)?;
    let times = match harm {
        Harm::Kill => number("STOCKPOT_TEST_KILLS", 10)?,
        Harm::Storm => number("STOCKPOT_TEST_STORMS", 15)?,
    };
    let said = history::run(world, harm, seed, times).with_context(|| format!("seed {seed}"))?;
    println!("{said}");
    Ok(())
}

fn against(kind: Kind, harm: Harm) -> anyhow::Result<()> {
    if real::requested()?.contains(&kind) {
        run(World::real(kind)?, harm)?;
    }
    Ok(())
}

#[test]
fn killed_anywhere() -> anyhow::Result<()> {
    run(World::in_process()?, Harm::Kill)
}

#[test]
fn killed_anywhere_on_versitygw() -> anyhow::Result<()> {
    against(Kind::Versitygw, Harm::Kill)
}

#[test]
fn killed_anywhere_on_minio() -> anyhow::Result<()> {
    against(Kind::Minio, Harm::Kill)
}

#[test]
fn a_server_that_misbehaves() -> anyhow::Result<()> {
    run(World::in_process()?, Harm::Storm)
}

#[test]
fn versitygw_misbehaving() -> anyhow::Result<()> {
    against(Kind::Versitygw, Harm::Storm)
}

#[test]
fn minio_misbehaving() -> anyhow::Result<()> {
    against(Kind::Minio, Harm::Storm)
}

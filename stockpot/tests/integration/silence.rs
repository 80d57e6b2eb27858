//! A server that does not answer is tried for long; whoever waits is told so meanwhile.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
};

use anyhow::{Context as _, ensure};
use tokio::net::TcpSocket;

use crate::bench::{Bench, REPO, finish};

const TOLD: &str = "the server does not answer usefully";

#[test]
fn that_nothing_is_answered_is_said_while_it_is_tried() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    // Connections are made, and nobody takes them.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let mut command = bench.command();
    command.env("AWS_ENDPOINT_URL", &endpoint);
    let mut child = command.args(["snapshots", REPO]).spawn()?;
    let stderr = child.stderr.take().context("stderr")?;
    let first = BufReader::new(stderr).lines().next();
    child.kill()?;
    child.wait()?;
    let first = first.context("it ended without a word")??;
    ensure!(first.contains(TOLD) && first.contains(&endpoint), "{first}");
    Ok(())
}

#[test]
fn it_is_said_once() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    // Nobody listens, and as long as it is bound nobody else can.
    let closed = TcpSocket::new_v4()?;
    closed.bind("127.0.0.1:0".parse()?)?;
    let endpoint = format!("http://{}", closed.local_addr()?);
    let mut command = bench.command();
    command.env("AWS_ENDPOINT_URL", endpoint);
    let run = finish(command.args(["snapshots", REPO]).spawn()?)?;
    run.failed(1, &[TOLD, "did not answer"])?;
    ensure!(run.stderr.matches(TOLD).count() == 1, "{run:?}");
    Ok(())
}

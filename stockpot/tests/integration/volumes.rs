//! The verbs for volumes, snapshots and the overview, asked of a daemon in a process of its own.

use std::{
    fs::{self, File},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use stockpot_proto::{socket, stockpot::v1::GetInfoRequest};

use crate::bench::{Bench, MIB, Run, text};

/// How long the daemon may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with the test, however that ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(bench: &Bench) -> anyhow::Result<Daemon> {
    let dir = bench.dir.path().display();
    let config = bench.path("config.yaml");
    let pools = format!("[{{name: p, driver: file, directory: {dir}/images, allowCopy: true}}]");
    let text = format!(
        "nodeName: node-1\nstateDir: {dir}/state\nsocket: {dir}/m.sock\nprofilesDir: {dir}/profiles\ncredentialsDir: {dir}\npools: {pools}\n"
    );
    fs::write(&config, text)?;
    fs::create_dir_all(bench.path("profiles"))?;
    let log = bench.path("log");
    let mut command = bench.command();
    command.arg("serve").arg("--config").arg(&config);
    let daemon = Daemon(command.stderr(File::create(&log)?).spawn()?);
    let mut client = socket::manager(bench.path("m.sock"));
    let started = Instant::now();
    loop {
        let info = client.get_info(GetInfoRequest {}).await;
        if info.is_ok_and(|info| info.into_inner().ready) {
            return Ok(daemon);
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{}",
            fs::read_to_string(&log)?
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks the daemon of this bench.
fn ask(bench: &Bench, line: &str) -> anyhow::Result<Run> {
    let mut command = bench.command();
    command.env("STOCKPOT_SOCKET", bench.path("m.sock"));
    crate::bench::finish(command.args(line.split(' ')).spawn()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_by_name_from_the_first_to_the_last() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let _daemon = start(&bench).await?;
    let ask = |line: &str| ask(&bench, line);
    ensure!(ask("export list -o json")?.json()? == serde_json::json!([]));
    let made = ask("volume create data --size 4MiB --label a=b -o json")?.json()?;
    let id = text(&made, "volume_id")?.to_owned();
    ensure!(
        made["status"] == "available" && made["metadata"]["a"] == "b",
        "{made}"
    );
    let again = ask("volume create data --size 4MiB --label a=b -o json")?.json()?;
    ensure!(again["volume_id"] == id.as_str(), "{again}");
    ask("volume create data --size 4MiB")?.failed(1, &["exists already", "metadata"])?;
    for name in ["data", &id] {
        let shown = ask(&format!("volume show {name}"))?;
        ensure!(
            shown.stdout.starts_with(&id) && shown.stdout.contains("labels: a=b"),
            "{shown:?}"
        );
    }
    ask("volume show nothing")?.failed(1, &["no volume", "nothing"])?;
    let grown = ask("volume extend data --size 6MiB -o json")?.json()?;
    ensure!(grown["size_bytes"] == 6 * MIB, "{grown}");
    let copy = ask("volume clone data copy -o json")?.json()?;
    ensure!(
        copy["source_volume_id"] == id.as_str() && copy["size_bytes"] == 6 * MIB,
        "{copy}"
    );
    let cut = ask("snapshot create data --name s1 -o json")?.json()?;
    ensure!(cut["local"] == "present" && cut["name"] == "s1", "{cut}");
    let from =
        ask("volume create third --from-snapshot s1 --copy local --size 8MiB --watch -o json")?
            .json()?;
    ensure!(from["source_snapshot_id"] == cut["snapshot_id"], "{from}");
    ask("volume create fourth --size 300")?.failed(2, &["300 bytes?", "300MiB"])?;
    ask("volume create fourth --from-snapshot s1 --copy cloud")?.failed(1, &["cloud"])?;
    ask("volume create fourth --from-snapshot s1 --size 1MiB")?.failed(1, &["less than"])?;
    ask("volume create fourth --from-snapshot s9")?.failed(1, &["no snapshot or backup", "s9"])?;
    ask("volume restore data s1")?.failed(1, &["cannot be restored from the cloud"])?;
    let kept = ask("volume cancel-restore data -o json")?.json()?;
    ensure!(kept["status"] == "available", "{kept}");
    ask("volume wait data")?
        .json()
        .err()
        .context("it is text")?;
    let listed = ask("volume list -o json")?.json()?;
    let names: Vec<&str> = listed
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    ensure!(names == ["data", "copy", "third"], "{listed}");
    let table = ask("volume list")?;
    ensure!(
        table.stdout.starts_with("VOLUME") && table.stdout.lines().count() == 4,
        "{table:?}"
    );
    for name in ["third", "copy"] {
        let gone = ask(&format!("volume delete {name} -o json"))?.json()?;
        ensure!(gone["removed"] == true && gone["name"] == name, "{gone}");
    }
    let gone = ask(&format!("volume delete {id}"))?;
    ensure!(gone.stdout.contains("removed volume data"), "{gone:?}");
    let again = ask(&format!("volume delete {id}"))?;
    ensure!(
        again.code == Some(0) && again.stdout.contains("nothing"),
        "{again:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_by_name() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let _daemon = start(&bench).await?;
    let ask = |line: &str| ask(&bench, line);
    ask("volume create data --size 4MiB")?;
    let cut = ask("snapshot create data --name s1 -o json")?.json()?;
    ensure!(
        cut["volume_name"] == "data" && cut["profile"].is_null() && cut["error"].is_null(),
        "{cut}"
    );
    let table = ask("snapshot list")?.stdout;
    let row = table.lines().find(|line| line.contains(" s1 "));
    ensure!(row.is_some_and(|row| row.contains(" data ")), "{table}");
    let shown = ask("snapshot show s1")?.stdout;
    ensure!(
        shown.contains("name: s1") && shown.contains("of data"),
        "{shown}"
    );
    // By its name: it is found, and nothing says where to.
    ask("backup create --snapshot s1")?.failed(1, &["no profile"])?;
    ask("backup create --snapshot s9")?.failed(1, &["no snapshot", "s9"])?;
    let unnamed = ask("snapshot create data -o json")?.json()?;
    ensure!(text(&unnamed, "name")?.starts_with("data-2"), "{unnamed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_tells_what_there_is() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let daemon = start(&bench).await?;
    ask(&bench, "volume create data --size 4MiB")?;
    let told = ask(&bench, "status -o json")?.json()?;
    ensure!(told["ready"] == true && told["node"] == "node-1", "{told}");
    ensure!(told["volumes"]["available"] == 1, "{told}");
    ensure!(
        told["pools"][0]["pool"] == "p" && told["pools"][0]["error"].is_null(),
        "{told}"
    );
    let screen = ask(&bench, "status")?;
    for words in [
        "node node-1  ready",
        "POOL",
        "volumes: 1 available",
        "transfers: none",
    ] {
        ensure!(screen.stdout.contains(words), "{words}: {screen:?}");
    }
    ask(&bench, "status --watch -o json")?.failed(2, &["--watch"])?;
    drop(daemon);
    ask(&bench, "status")?.failed(1, &["no driver is running"])?;
    ask(&bench, "volume list")?.failed(1, &["no driver is running"])
}

#[test]
fn a_file_that_is_no_profile_is_not_sent() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let file = bench.path("p.yaml");
    fs::write(&file, "just words\n")?;
    let line = format!("profile create {}", file.display());
    ask(&bench, &line)?.failed(2, &["p.yaml", "no profile"])?;
    ask(&bench, "profile create /no/such/file")?.failed(1, &["/no/such/file"])?;
    ask(&bench, "profile create /dev/zero")?.failed(1, &["/dev/zero"])?;
    fs::write(&file, "name: p\n")?;
    ask(&bench, &line)?.failed(1, &["no driver is running"])
}

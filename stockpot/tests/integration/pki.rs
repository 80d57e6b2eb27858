//! `pki …`: an authority and nodes' certificates.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};

use crate::bench::{Bench, Run};

struct Pki {
    bench: Bench,
    dir: String,
}

impl Pki {
    fn new() -> anyhow::Result<Self> {
        let bench = Bench::new()?;
        let dir = bench.path("pki");
        let dir = dir.to_str().context("path")?.to_owned();
        Ok(Self { bench, dir })
    }

    fn path(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.bench.path(name).to_str().context("path")?.to_owned())
    }

    fn issue(&self, node: &str, out: &str, days: &str) -> anyhow::Result<Run> {
        let out = self.path(out)?;
        self.bench.run([
            "pki", "issue", node, "--dir", &self.dir, "--out", &out, "--days", days,
        ])
    }
}

fn mode(path: &str) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

#[test]
fn an_authority_makes_certificates_of_nodes() -> anyhow::Result<()> {
    let pki = Pki::new()?;
    let made = pki.bench.run(["pki", "init", "--dir", &pki.dir])?;
    ensure!(made.code == Some(0), "{made:?}");
    let issued = pki.issue("storage-1.example", "storage-1", "30")?;
    ensure!(issued.code == Some(0), "{issued:?}");
    for key in ["pki/ca.key", "storage-1/node.key"] {
        let path = pki.path(key)?;
        ensure!(mode(&path)? == 0o600, "{key}: {:o}", mode(&path)?);
        let secret = std::fs::read_to_string(&path)?;
        let line = secret.lines().nth(1).context("a key has lines")?;
        for run in [&made, &issued] {
            ensure!(!run.stdout.contains(line) && !run.stderr.contains(line));
        }
    }
    let (node, ca) = (
        pki.path("storage-1/node.pem")?,
        pki.path("storage-1/ca.pem")?,
    );
    let shown = pki.bench.run(["pki", "show", &node, &ca, "-o", "json"])?;
    ensure!(shown.code == Some(0), "{shown:?}");
    let rows: serde_json::Value = serde_json::from_str(&shown.stdout)?;
    ensure!(rows[0]["names"] == serde_json::json!(["storage-1.example"]));
    ensure!(rows[0]["days_left"] == 29 && rows[0]["authority"] == false);
    ensure!(rows[1]["authority"] == true && rows[1]["valid"] == true);
    ensure!(std::fs::read(&ca)? == std::fs::read(pki.path("pki/ca.pem")?)?);
    Ok(())
}

#[test]
fn nothing_is_overwritten_and_mistakes_are_named() -> anyhow::Result<()> {
    let pki = Pki::new()?;
    let early = pki.issue("a", "a", "30")?;
    ensure!(
        early.code == Some(1) && early.stderr.contains("ca.pem"),
        "{early:?}"
    );
    let init = ["pki", "init", "--dir", &pki.dir, "--days", "100"];
    ensure!(pki.bench.run(init)?.code == Some(0));
    let key = std::fs::read(pki.path("pki/ca.key")?)?;
    let again = pki.bench.run(init)?;
    ensure!(
        again.code == Some(1)
            && again.stderr.contains("ca.key")
            && again.stderr.contains("another directory"),
        "{again:?}"
    );
    ensure!(std::fs::read(pki.path("pki/ca.key")?)? == key);
    let longer = pki.issue("a", "a", "101")?;
    ensure!(
        longer.code == Some(1) && longer.stderr.contains("--days"),
        "{longer:?}"
    );
    for bad in ["", "a b", "-a", "a..b", "a/b", "*.example", "192.0.2.1"] {
        let run = pki.issue(bad, "bad", "1")?;
        ensure!(matches!(run.code, Some(2)), "{bad}: {run:?}");
    }
    ensure!(!pki.bench.path("bad").exists() && !pki.bench.path("a").exists());
    ensure!(pki.issue("a", "a", "1")?.code == Some(0));
    let certificate = std::fs::read(pki.path("a/node.pem")?)?;
    let again = pki.issue("a", "a", "1")?;
    ensure!(
        again.code == Some(1)
            && again
                .stderr
                .contains("to renew it give --out a new directory"),
        "{again:?}"
    );
    ensure!(std::fs::read(pki.path("a/node.pem")?)? == certificate);
    // A key that anybody may read is nobody's any more.
    let key = pki.path("pki/ca.key")?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    let open = pki.issue("c", "c", "1")?;
    ensure!(
        open.code == Some(1) && open.stderr.contains("ca.key can be read by every user"),
        "{open:?}"
    );
    ensure!(!pki.bench.path("c").exists());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    // Another authority's certificate beside the new one would never do.
    let other = pki.path("other")?;
    ensure!(pki.bench.run(["pki", "init", "--dir", &other])?.code == Some(0));
    std::fs::create_dir(pki.path("b")?)?;
    std::fs::copy(pki.path("other/ca.pem")?, pki.path("b/ca.pem")?)?;
    let mixed = pki.issue("b", "b", "1")?;
    ensure!(
        mixed.code == Some(1) && mixed.stderr.contains("another authority"),
        "{mixed:?}"
    );
    ensure!(!pki.bench.path("b/node.pem").exists() && !pki.bench.path("b/node.key").exists());
    let no_certificate = pki.bench.run(["pki", "show", &pki.path("pki/ca.key")?])?;
    ensure!(no_certificate.code == Some(1) && no_certificate.stderr.contains("PEM"));
    Ok(())
}

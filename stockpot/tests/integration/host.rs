//! `host …`: the files by which a host does not look into volumes.

use anyhow::{Context as _, ensure};

use crate::bench::Bench;

#[test]
fn what_a_host_lacks_is_named_and_put_in_place() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let root = bench.path("host");
    std::fs::create_dir_all(root.join("etc/lvm"))?;
    std::fs::write(root.join("etc/lvm/lvm.conf"), "# nothing\n")?;
    let at = root.to_str().context("path")?;
    let check = ["host", "check", "--root", at];
    let before = bench.run(check)?;
    ensure!(before.code == Some(1), "{before:?}");
    ensure!(before.stdout.contains("57-stockpot.rules") && before.stdout.contains("lvmlocal.conf"));
    ensure!(
        before.stderr.contains("stockpot host install"),
        "{before:?}"
    );
    let done = bench.run(["host", "install", "--root", at, "-o", "json"])?;
    ensure!(done.code == Some(0), "{done:?}");
    let done: serde_json::Value = serde_json::from_str(&done.stdout)?;
    ensure!(
        done["written"].as_array().map(Vec::len) == Some(2),
        "{done}"
    );
    let after = bench.run(check)?;
    ensure!(
        after.code == Some(0) && after.stdout == "nothing is missing\n",
        "{after:?}"
    );
    std::fs::write(
        root.join("etc/lvm/lvm.conf"),
        "devices { global_filter = [ \"a|.*|\" ]\n}",
    )?;
    std::fs::remove_file(root.join("etc/lvm/lvmlocal.conf"))?;
    let own = bench.run(["host", "install", "--root", at])?;
    ensure!(
        own.code == Some(1) && own.stdout.contains("by hand"),
        "{own:?}"
    );
    // To put a pattern of ours in front of it does not help: the same disk has other names.
    let write = |filter: &str| {
        let text = format!("devices {{ global_filter = [ {filter} ] }}\n");
        std::fs::write(root.join("etc/lvm/lvm.conf"), text)
    };
    write("\"r|^/dev/stockpot/|\", \"a|.*|\"")?;
    let still = bench.run(check)?;
    ensure!(
        still.code == Some(1)
            && still
                .stdout
                .contains("\"a|.*|\" of its global_filter accepts /dev/sdb"),
        "{still:?}"
    );
    // What the message and the documentation say does.
    for good in [
        "\"a|^/dev/disk/by-id/nvme-MODEL_SERIAL-part3$|\", \"r|.*|\"",
        "\"r|^/dev/stockpot/|\", \"r|^/dev/sr0$|\"",
    ] {
        write(good)?;
        let sound = bench.run(check)?;
        ensure!(sound.code == Some(0), "{sound:?}");
    }
    Ok(())
}

//! Keys: a sealed bucket shows nothing, and opens with its own secret only.

use anyhow::{Context as _, ensure};

use crate::bench::{BUCKET, Bench, MIB, REPO, text};

#[test]
fn a_sealed_bucket_holds_no_plain_byte_and_opens_with_its_key() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let key = bench.key_file("key")?;
    let key = key.to_str().context("path")?;
    let image = bench.path("disk.img");
    let secret_text = b"the recipe of the soup, which nobody is to know. ";
    std::fs::write(&image, secret_text.repeat(9000))?;
    let report = bench
        .run([
            "backup",
            image.to_str().context("path")?,
            "--to",
            REPO,
            "--volume",
            "kitchen",
            "--label",
            "claim=grandmother",
            "--key-file",
            key,
            "-o",
            "json",
        ])?
        .json()?;
    for object in bench.server.objects(BUCKET) {
        let bytes = bench
            .server
            .object(BUCKET, &object.key)
            .context("it was listed")?;
        for words in [&b"recipe"[..], b"grandmother"] {
            ensure!(
                !bytes.windows(words.len()).any(|w| w == words),
                "{} shows {words:?}",
                object.key
            );
        }
    }
    let target = bench.path("out.img");
    let target = target.to_str().context("path")?;
    let id = text(&report, "snapshot_id")?;
    let run = bench.run(["restore", REPO, id, target, "--key-file", key])?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(std::fs::read(target)? == std::fs::read(&image)?);
    std::fs::remove_file(target)?;

    let other = bench.key_file("other")?;
    bench
        .run([
            "restore",
            REPO,
            id,
            target,
            "--key-file",
            other.to_str().context("path")?,
        ])?
        .failed(1, &["key"])?;
    bench
        .run(["restore", REPO, id, target])?
        .failed(1, &["sealed", "--key-file"])?;
    ensure!(
        !std::path::Path::new(target).exists(),
        "a refused restore left its target"
    );
    Ok(())
}

#[test]
fn a_passphrase_opens_and_a_wrong_one_does_not() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let right = bench.path("right");
    let wrong = bench.path("wrong");
    std::fs::write(&right, "correct horse battery staple\n")?;
    std::fs::write(&wrong, "incorrect horse\n")?;
    let (right, wrong) = (
        right.to_str().context("path")?,
        wrong.to_str().context("path")?,
    );
    let image = bench.image("disk.img", MIB, &[(0, 5000)])?;
    let run = bench.run([
        "backup",
        image.to_str().context("path")?,
        "--to",
        REPO,
        "--passphrase-file",
        right,
    ])?;
    ensure!(run.code == Some(0), "{run:?}");
    let list = bench
        .run(["snapshots", REPO, "--passphrase-file", right, "-o", "json"])?
        .json()?;
    ensure!(list.as_array().is_some_and(|l| l.len() == 1), "{list}");
    let refused = bench.run(["snapshots", REPO, "--passphrase-file", wrong])?;
    refused.failed(1, &["passphrase"])?;
    ensure!(
        !refused.stderr.contains("incorrect horse"),
        "the passphrase was shown: {refused:?}"
    );
    Ok(())
}

#[test]
fn a_writer_with_a_key_refuses_an_unsealed_repository() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", MIB, &[(0, 5000)])?;
    bench.backup(&image, "a")?;
    let key = bench.key_file("key")?;
    bench
        .run([
            "backup",
            image.to_str().context("path")?,
            "--to",
            REPO,
            "--key-file",
            key.to_str().context("path")?,
        ])?
        .failed(1, &["not sealed"])?;
    Ok(())
}

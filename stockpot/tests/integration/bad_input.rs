//! Each mistake gets a clear message and the right exit code, and leaves nothing behind.

use anyhow::{Context as _, ensure};
use stockpot_test_fixtures::{
    s3::{Action, Fault, Op, Server},
    tls::TestCa,
};

use crate::bench::{BUCKET, Bench, MIB, REPO};

fn with_image() -> anyhow::Result<(Bench, String)> {
    let bench = Bench::new()?;
    let image = bench.image("disk.img", 2 * MIB, &[(0, 5000)])?;
    let image = image.to_str().context("path")?.to_owned();
    Ok((bench, image))
}

#[test]
fn wrong_usage_is_exit_2() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    for (args, words) in [
        (vec!["backup", &image], vec!["--to"]),
        (vec!["frobnicate"], vec!["frobnicate"]),
        (vec!["backup", &image, "--to", "http://x/y"], vec!["s3://"]),
        (vec!["backup", &image, "--to", "s3://"], vec!["bucket"]),
        (
            vec!["backup", &image, "--to", REPO, "--volume", "No_Good"],
            vec!["volume", "a-z"],
        ),
        (
            vec!["backup", &image, "--to", REPO, "--chunk-size", "100000"],
            vec!["chunk", "64"],
        ),
        (
            vec!["backup", &image, "--to", REPO, "--part-size", "1MiB"],
            vec!["part size"],
        ),
        (
            vec![
                "backup",
                &image,
                "--to",
                REPO,
                "--key-file",
                "a",
                "--passphrase-file",
                "b",
            ],
            vec!["--passphrase-file"],
        ),
    ] {
        bench
            .run(&args)?
            .failed(2, &words)
            .with_context(|| format!("{args:?}"))?;
    }
    ensure!(
        bench.server.objects(BUCKET).is_empty(),
        "something was written"
    );
    Ok(())
}

#[test]
fn a_bucket_that_is_not_there() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    bench
        .run(["backup", &image, "--to", "s3://nowhere/x"])?
        .failed(1, &["bucket nowhere", "does not exist"])?;
    bench
        .run(["snapshots", "s3://nowhere/x"])?
        .failed(1, &["bucket nowhere", "does not exist"])?;
    Ok(())
}

#[test]
fn a_prefix_that_holds_no_repository_or_something_else() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    bench
        .run(["snapshots", REPO])?
        .failed(1, &["no repository", "site-a"])?;
    bench
        .server
        .put_object(BUCKET, "site-a/holiday.jpg", &b"not ours"[..]);
    bench
        .run(["backup", &image, "--to", REPO])?
        .failed(1, &["holiday.jpg"])?;
    ensure!(
        bench.server.objects(BUCKET).len() == 1,
        "something was written beside it"
    );
    Ok(())
}

#[test]
fn access_denied() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    bench
        .server
        .faults()
        .inject(Fault::new(Action::access_denied()).on(Op::CreateMultipartUpload));
    bench
        .run(["backup", &image, "--to", REPO])?
        .failed(1, &["access denied"])?;
    ensure!(
        bench
            .server
            .keys_with_prefix(BUCKET, "site-a/snapshots/")
            .is_empty()
    );
    Ok(())
}

#[test]
fn wrong_credentials_and_none() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    let wrong = bench
        .command()
        .env("AWS_SECRET_ACCESS_KEY", "not-the-secret-at-all")
        .args(["backup", &image, "--to", REPO])
        .spawn()?;
    let run = crate::bench::finish(wrong)?;
    run.failed(1, &["credentials"])?;
    ensure!(!run.stderr.contains("not-the-secret-at-all"), "{run:?}");
    let none = bench
        .command()
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .args(["backup", &image, "--to", REPO])
        .spawn()?;
    let run = crate::bench::finish(none)?;
    run.failed(1, &["no credentials were found", "AWS_ACCESS_KEY_ID"])?;
    ensure!(!run.stderr.contains("ProviderError"), "{run:?}");
    Ok(())
}

#[test]
fn an_untrusted_certificate_is_refused_and_a_private_ca_works() -> anyhow::Result<()> {
    let bench = Bench::with(Server::builder().tls(TestCa::new()?))?;
    let image = bench.image("disk.img", 2 * MIB, &[(0, 5000)])?;
    let image = image.to_str().context("path")?;
    bench
        .run(["backup", image, "--to", REPO])?
        .failed(1, &["certificate", "not trusted"])?;
    let ca = bench
        .server
        .ca()
        .context("it serves TLS")?
        .write_certificate(bench.dir.path())?;
    let ca = ca.to_str().context("path")?;
    let run = bench.run(["backup", image, "--to", REPO, "--ca-file", ca])?;
    ensure!(run.code == Some(0), "{run:?}");
    let by_environment = bench
        .command()
        .env("AWS_CA_BUNDLE", ca)
        .args(["snapshots", REPO])
        .spawn()?;
    let run = crate::bench::finish(by_environment)?;
    ensure!(run.code == Some(0), "{run:?}");
    let missing = bench.run([
        "backup",
        image,
        "--to",
        REPO,
        "--ca-file",
        "/nowhere/ca.pem",
    ])?;
    missing.failed(1, &["/nowhere/ca.pem"])?;
    Ok(())
}

#[test]
fn sources_that_cannot_be_read() -> anyhow::Result<()> {
    let (bench, _) = with_image()?;
    let missing = bench.path("missing.img");
    bench
        .run(["backup", missing.to_str().context("path")?, "--to", REPO])?
        .failed(1, &["missing.img"])?;
    let folder = bench.dir.path().to_str().context("path")?.to_owned();
    bench
        .run(["backup", &folder, "--to", REPO, "--volume", "x"])?
        .failed(1, &["directory"])?;
    let empty = bench.image("empty.img", 0, &[])?;
    bench
        .run(["backup", empty.to_str().context("path")?, "--to", REPO])?
        .failed(1, &["empty"])?;
    bench
        .run(["backup", "/dev/null", "--to", REPO, "--volume", "x"])?
        .failed(1, &["/dev/null"])?;
    ensure!(
        bench.server.objects(BUCKET).is_empty(),
        "a repository was made for a source that cannot be read"
    );
    Ok(())
}

#[test]
fn a_source_open_for_writing_needs_force() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    let writer = std::fs::OpenOptions::new().write(true).open(&image)?;
    bench
        .run(["backup", &image, "--to", REPO])?
        .failed(1, &["open for writing", "--force"])?;
    let run = bench.run(["backup", &image, "--to", REPO, "--force"])?;
    ensure!(run.code == Some(0), "{run:?}");
    drop(writer);
    Ok(())
}

#[test]
fn snapshots_and_targets_that_do_not_fit() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    bench.backup(image.as_ref(), "v")?;
    let out = bench.path("out.img");
    let out = out.to_str().context("path")?;
    bench
        .run(["restore", REPO, "snap-unknown", out])?
        .failed(1, &["snap-unknown"])?;
    bench
        .run(["restore", REPO, "latest:w", out])?
        .failed(1, &["w"])?;
    ensure!(!std::path::Path::new(out).exists());
    std::fs::write(out, b"somebody's only copy")?;
    bench
        .run(["restore", REPO, "latest:v", out])?
        .failed(1, &["out.img", "--force"])?;
    ensure!(std::fs::read(out)? == b"somebody's only copy");
    let run = bench.run(["restore", REPO, "latest:v", out, "--force"])?;
    ensure!(run.code == Some(0), "{run:?}");
    ensure!(std::fs::read(out)? == std::fs::read(&image)?);
    bench
        .run(["restore", REPO, "latest:v", "/nowhere/at/all.img"])?
        .failed(1, &["/nowhere/at/all.img"])?;
    Ok(())
}

#[test]
fn a_repository_or_manifest_of_a_future_version_is_refused() -> anyhow::Result<()> {
    let (bench, image) = with_image()?;
    bench.backup(image.as_ref(), "v")?;
    let manifest = bench
        .server
        .keys_with_prefix(BUCKET, "site-a/snapshots/")
        .pop()
        .context("a manifest")?;
    for key in [manifest.as_str(), "site-a/repository.json"] {
        let good = bench.server.object(BUCKET, key).context("object")?;
        let newer = String::from_utf8(good.to_vec())?.replacen("\"format\":1", "\"format\":2", 1);
        bench.server.put_object(BUCKET, key, newer);
        let run = bench.run([
            "restore",
            REPO,
            "latest:v",
            bench.path("out").to_str().context("path")?,
        ])?;
        ensure!(run.code == Some(1), "{run:?}");
        let run = bench.run(["verify", REPO])?;
        run.failed(1, &[]).with_context(|| key.to_owned())?;
        let said = format!("{}{}", run.stdout, run.stderr).to_lowercase();
        ensure!(
            said.contains("newer version") || said.contains("format 2"),
            "{run:?}"
        );
        bench.server.put_object(BUCKET, key, good);
    }
    Ok(())
}

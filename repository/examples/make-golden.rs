//! Makes the golden repositories of the format that this version writes: `cargo run -p stockpot-repository --example
//! make-golden -- FOLDER [NAME…]`. To be run once for each of them; what it made is kept for ever.
//!
//! - `unsealed`, `sealed-by-secret`, `sealed-by-passphrase`: two snapshots of one volume, the second built on the first and
//!   longer, and a deleted one.
//! - `sizes-…`: a volume that changes its size. It grows until its map has a level more, gets holes, shrinks until the level
//!   is gone, and is nothing but a hole.
//! - `increments-…`: a volume of which is told what changed: with discards, when it grows, shrinks and stays as it was, and
//!   with a sparse pack given up; between them one that was compared.
//! - `resumed-…`: a snapshot whose upload was broken off and went on, and one that refers to what the broken upload of
//!   another, deleted one left.
//!
//! Beside each bucket, `volumes.txt` has snapshot id, size in bytes and BLAKE3 of each volume's content. The sealed one of
//! `increments` has a second key slot, with the passphrase.

use std::{fmt::Write as _, fs, ops::Range, path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use stockpot_repository::{
    CreateOptions, Progress, Repository, UploadSettings,
    device::{Source, SourceOptions},
    format::{
        ids::{SnapshotId, VolumeId},
        keys::KeySource,
        manifest::Manifest,
    },
    snapshots,
    store::{
        ObjectStore, S3Store,
        s3::{CredentialSource, S3Config},
    },
    upload::{BaseChoice, Changes, UploadReport, UploadRequest, upload},
};
use stockpot_test_fixtures::s3::{Action, Fault, Op, Server};
use tokio_util::sync::CancellationToken;

/// The secret of the sealed ones. It protects nothing.
const SECRET: &str = "this secret is public and seals only golden repositories\n";
const PASSPHRASE: &str = "golden, and public\n";

const CHUNK: usize = 64 << 10;

/// How a snapshot comes into the repository.
enum How {
    /// As an upload does it by itself: whole, then compared.
    Alone,
    /// Told what changed since the one before, in bytes, and where data is.
    Told(Vec<Range<u64>>),
    /// Told that nothing changed, and made to give up packs of which less than nine tenths are needed.
    Repacked,
    /// Broken off after its first pack, then gone on with.
    Resumed,
    /// Broken off after its first pack.
    BrokenOff,
}

type Step = (&'static str, Vec<u8>, How);
type Steps = fn() -> Vec<Step>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().context("usage: make-golden FOLDER [NAME…]")?;
    let names: Vec<String> = args.collect();
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("secret"), SECRET)?;
    fs::write(folder.join("passphrase"), PASSPHRASE)?;
    let steps: [(&str, Steps); 4] = [
        ("", two),
        ("sizes-", sizes),
        ("increments-", increments),
        ("resumed-", resumed),
    ];
    for (kind, steps) in steps {
        for seal in ["unsealed", "sealed-by-secret", "sealed-by-passphrase"] {
            let name = format!("{kind}{seal}");
            let is_usual = kind.is_empty() || seal != "sealed-by-passphrase";
            if names.contains(&name) || (names.is_empty() && is_usual) {
                fill(&folder.join(&name), seal, steps()).await?;
            }
        }
    }
    Ok(())
}

fn key(seal: &str) -> Result<Option<KeySource>> {
    Ok(match seal {
        "unsealed" => None,
        "sealed-by-secret" => Some(KeySource::from_secret(SECRET.as_bytes())?),
        _ => Some(KeySource::from_passphrase(PASSPHRASE.as_bytes())?),
    })
}

fn two() -> Vec<Step> {
    let first = first_volume();
    let mut second = first.clone();
    second.extend(vec![0; 300 * CHUNK]);
    second[CHUNK..CHUNK + 8].copy_from_slice(b"changed!");
    second.extend(b"the end");
    vec![
        ("snap-first", first.clone(), How::Alone),
        ("snap-second", second, How::Alone),
        ("snap-deleted", first, How::Alone),
    ]
}

/// A volume through its sizes: the map has one level up to 64 chunks.
fn sizes() -> Vec<Step> {
    let first = first_volume()[..40 * CHUNK + 99].to_vec();
    let mut grown = first.clone();
    grown.resize(300 * CHUNK, 0);
    grown[200 * CHUNK..200 * CHUNK + 5].copy_from_slice(b"grown");
    grown[299 * CHUNK + 7] = 1;
    let mut holes = grown.clone();
    holes[CHUNK..2 * CHUNK].fill(0);
    holes[200 * CHUNK..201 * CHUNK].fill(0);
    let mut shrunk = holes[..20 * CHUNK + 1].to_vec();
    shrunk[20 * CHUNK] = b'!';
    vec![
        ("snap-first", first.clone(), How::Alone),
        ("snap-grown", grown, How::Alone),
        ("snap-holes", holes, How::Alone),
        ("snap-shrunk", shrunk, How::Alone),
        ("snap-empty", vec![0; 5 * CHUNK], How::Alone),
        ("snap-again", first.clone(), How::Alone),
        ("snap-deleted", first, How::Alone),
    ]
}

/// A range of chunks in bytes.
fn chunks(range: Range<usize>) -> Range<u64> {
    (range.start * CHUNK) as u64..(range.end * CHUNK) as u64
}

/// A volume of which is told what changed.
fn increments() -> Vec<Step> {
    let first = first_volume();
    let mut told = first.clone();
    told[CHUNK..CHUNK + 8].copy_from_slice(b"changed!");
    told[30 * CHUNK..33 * CHUNK].fill(b'n');
    // Discarded: one chunk, and what a whole leaf of the map had but for the end.
    told[2 * CHUNK..3 * CHUNK].fill(0);
    told[66 * CHUNK..67 * CHUNK].fill(0);
    let ranges = vec![chunks(1..3), chunks(30..33), chunks(66..67)];
    let mut compared = told.clone();
    compared[10 * CHUNK + 5] = b'c';
    compared[31 * CHUNK..32 * CHUNK].fill(0);
    let mut grown = compared.clone();
    grown.resize(130 * CHUNK + 77, 0);
    grown[129 * CHUNK] = b'g';
    grown[130 * CHUNK..].fill(b'e');
    let mut shrunk = grown[..20 * CHUNK + 1].to_vec();
    shrunk[20 * CHUNK] = b'!';
    vec![
        ("snap-first", first, How::Alone),
        ("snap-told", told, How::Told(ranges)),
        ("snap-compared", compared, How::Alone),
        ("snap-grown", grown.clone(), How::Told(Vec::new())),
        ("snap-unchanged", grown.clone(), How::Told(Vec::new())),
        ("snap-repacked", grown, How::Repacked),
        (
            "snap-shrunk",
            shrunk.clone(),
            How::Told(vec![chunks(20..21)]),
        ),
        ("snap-deleted", shrunk, How::Alone),
    ]
}

/// A volume whose uploads were broken off.
fn resumed() -> Vec<Step> {
    let first = first_volume();
    let mut dead = first.clone();
    dead[7 * CHUNK..9 * CHUNK].fill(b'd');
    dead[40 * CHUNK] = b'd';
    let mut adopting = dead.clone();
    adopting[8 * CHUNK] = b'a';
    adopting[66 * CHUNK..67 * CHUNK].fill(0);
    vec![
        ("snap-first", first, How::Resumed),
        ("snap-deleted", dead, How::BrokenOff),
        ("snap-adopting", adopting.clone(), How::Alone),
        ("snap-told", adopting, How::Told(Vec::new())),
    ]
}

/// A repository with these snapshots, one after the other, of which `snap-deleted` is deleted.
async fn fill(folder: &Path, seal: &str, steps: Vec<Step>) -> Result<()> {
    let server = Server::builder().bucket("golden").start()?;
    let store: Arc<dyn ObjectStore> = Arc::new(connect(&server).await?);
    let options = CreateOptions {
        key: key(seal)?,
        ..CreateOptions::default()
    };
    let (repository, _) = Repository::create(store.clone(), options).await?;
    if folder.ends_with("increments-sealed-by-secret") {
        let passphrase = KeySource::from_passphrase(PASSPHRASE.as_bytes())?;
        repository.add_key_slot(passphrase).await?;
    }
    let mut volumes = String::new();
    let mut newest = None;
    for (name, content, how) in &steps {
        let before = newest.as_ref();
        if let Some(manifest) = put(&server, &repository, name, content, how, before).await? {
            newest = Some(manifest);
        }
        if *name != "snap-deleted" {
            let hash = blake3::hash(content);
            writeln!(volumes, "{name} {} {hash}", content.len())?;
        }
    }
    let deleted = SnapshotId::new("snap-deleted")?;
    snapshots::delete(&repository, &VolumeId::new("vol-golden")?, &deleted).await?;
    for object in store.list("", None).await?.objects {
        let path = folder.join("bucket").join(&object.key);
        fs::create_dir_all(path.parent().context("a key has a folder")?)?;
        fs::write(path, store.get(&object.key, usize::MAX).await?)?;
    }
    fs::write(folder.join("volumes.txt"), volumes)?;
    Ok(())
}

async fn connect(server: &Server) -> Result<S3Store> {
    let mut config = S3Config::from_url("s3://golden/repository")?;
    config.endpoint = Some(server.endpoint());
    config.region = Some(Server::REGION.to_owned());
    let credentials = server.credentials();
    config.credentials = CredentialSource::Static {
        access_key_id: credentials.access_key.clone(),
        secret_access_key: credentials.secret_key.clone(),
        session_token: None,
    };
    Ok(S3Store::connect(config).await?)
}

/// Chunks that compress, one that does not, holes between them, and an odd end.
fn first_volume() -> Vec<u8> {
    let mut volume = vec![0; 70 * CHUNK + 1234];
    for (at, byte) in volume[..3 * CHUNK].iter_mut().enumerate() {
        *byte = b"stockpot keeps volumes "[at / 7 % 23];
    }
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    noise.fill(&mut volume[66 * CHUNK..67 * CHUNK]);
    let end = volume.len() - 10;
    volume[end..].copy_from_slice(b"0123456789");
    volume
}

/// One snapshot; `None` where it is left broken off.
async fn put(
    server: &Server,
    repository: &Repository,
    name: &str,
    content: &[u8],
    how: &How,
    before: Option<&Manifest>,
) -> Result<Option<Manifest>> {
    let mut request = UploadRequest {
        snapshot_id: SnapshotId::new(name)?,
        volume_id: VolumeId::new("vol-golden")?,
        volume_name: "golden".to_owned(),
        metadata: [("made-for".to_owned(), "reading back for ever".to_owned())].into(),
        cut_at: "2026-11-21T00:00:00Z".parse()?,
        extents: None,
        base: BaseChoice::Newest,
        source_check: None,
        changes: None,
        source_is_fixed: false,
        settings: UploadSettings::default(),
    };
    let told = |ranges: &Vec<Range<u64>>| {
        let since = before.context("there is one before")?.into();
        let ranges = ranges.clone();
        Ok::<_, anyhow::Error>(Some(Changes { since, ranges }))
    };
    match how {
        How::Alone => {}
        How::Told(ranges) => {
            request.changes = told(ranges)?;
            request.extents = Some(data_of(content));
        }
        How::Repacked => {
            request.changes = told(&Vec::new())?;
            request.settings.repack_below_percent = 90;
            request.settings.repack_gain_bytes_min = 1;
        }
        How::Resumed | How::BrokenOff => {
            request.source_is_fixed = true;
            request.settings.workers = 1;
            let gone = Fault::new(Action::access_denied()).on(Op::PutObject);
            // The first pack, number 0, is that of the chunks.
            server.faults().inject(gone.key("-1"));
            let broken = upload_once(repository, content, request.clone()).await;
            ensure!(broken.is_err(), "{name} was not broken off");
            server.faults().clear();
            if matches!(how, How::BrokenOff) {
                return Ok(None);
            }
        }
    }
    let report = upload_once(repository, content, request).await?;
    let is_as_meant = match how {
        How::Alone => name != "snap-adopting" || report.adopted_packs > 0,
        How::Told(_) => report.manifest.reason.to_string() == "incremental",
        How::Repacked => report.repacked_packs > 0,
        How::Resumed => report.adopted_packs > 0 && report.read_bytes == 0,
        How::BrokenOff => false,
    };
    if !is_as_meant {
        bail!("{name}: {report:?}");
    }
    Ok(Some(report.manifest))
}

/// Where a volume has data, in chunks.
fn data_of(content: &[u8]) -> Vec<Range<u64>> {
    let chunks = content.chunks(CHUNK).enumerate();
    let with_data = chunks.filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0));
    with_data
        .map(|(at, chunk)| (at * CHUNK) as u64..(at * CHUNK + chunk.len()) as u64)
        .collect()
}

async fn upload_once(
    repository: &Repository,
    content: &[u8],
    request: UploadRequest,
) -> Result<UploadReport> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), content)?;
    // Whoever has the file open for writing keeps it from being read as a source.
    let path = file.into_temp_path();
    let source = Source::open(&path, SourceOptions::default())?;
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    Ok(upload(repository, source, request, &progress, &none).await?)
}

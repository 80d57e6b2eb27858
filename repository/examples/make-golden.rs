//! Makes the golden repositories of the format that this version writes: `cargo run -p stockpot-repository --example
//! make-golden -- FOLDER`. To be run once for each version of the format; what it made is kept for ever.
//!
//! Three small repositories, unsealed, sealed by a secret and by a passphrase, each with two snapshots of one
//! volume, the second built on the first and longer, and a deleted one. Beside each bucket, `volumes.txt` has snapshot
//! id, size in bytes and BLAKE3 of each volume's content.
//!
//! And two, unsealed and sealed by the secret, of a volume that changes its size: it grows until its map has a level more, gets
//! holes, shrinks until the level is gone, and is nothing but a hole.

use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use anyhow::{Context, Result};
use stockpot_repository::{
    CreateOptions, Progress, Repository, UploadSettings,
    device::{Source, SourceOptions},
    format::{
        ids::{SnapshotId, VolumeId},
        keys::KeySource,
    },
    snapshots,
    store::{MemoryStore, ObjectStore},
    upload::{BaseChoice, UploadRequest, upload},
};
use tokio_util::sync::CancellationToken;

/// The secret of the sealed ones. It protects nothing.
const SECRET: &str = "this secret is public and seals only golden repositories\n";
const PASSPHRASE: &str = "golden, and public\n";

const CHUNK: usize = 64 << 10;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .context("usage: make-golden FOLDER")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("secret"), SECRET)?;
    fs::write(folder.join("passphrase"), PASSPHRASE)?;
    make(&folder.join("unsealed"), None).await?;
    let secret = KeySource::from_secret(SECRET.as_bytes())?;
    make(&folder.join("sealed-by-secret"), Some(secret)).await?;
    let passphrase = KeySource::from_passphrase(PASSPHRASE.as_bytes())?;
    make(&folder.join("sealed-by-passphrase"), Some(passphrase)).await?;
    let sizes = sizes();
    fill(&folder.join("sizes-unsealed"), None, &sizes).await?;
    let secret = KeySource::from_secret(SECRET.as_bytes())?;
    fill(&folder.join("sizes-sealed-by-secret"), Some(secret), &sizes).await
}

/// A volume through its sizes: the map has one level up to 64 chunks.
fn sizes() -> Vec<(&'static str, Vec<u8>)> {
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
    let empty = vec![0; 5 * CHUNK];
    let again = first.clone();
    vec![
        ("snap-first", first),
        ("snap-grown", grown),
        ("snap-holes", holes),
        ("snap-shrunk", shrunk),
        ("snap-empty", empty),
        ("snap-again", again.clone()),
        ("snap-deleted", again),
    ]
}

async fn make(folder: &Path, key: Option<KeySource>) -> Result<()> {
    let first = first_volume();
    let mut second = first.clone();
    second.extend(vec![0; 300 * CHUNK]);
    second[CHUNK..CHUNK + 8].copy_from_slice(b"changed!");
    second.extend(b"the end");
    let volumes = [
        ("snap-first", first.clone()),
        ("snap-second", second),
        ("snap-deleted", first),
    ];
    fill(folder, key, &volumes).await
}

/// A repository with these snapshots, one after the other, of which `snap-deleted` is deleted.
async fn fill(
    folder: &Path,
    key: Option<KeySource>,
    snapshots_in_turn: &[(&str, Vec<u8>)],
) -> Result<()> {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let options = CreateOptions {
        key,
        ..CreateOptions::default()
    };
    let (repository, _) = Repository::create(store.clone(), options).await?;
    let mut volumes = String::new();
    for (name, content) in snapshots_in_turn {
        put(&repository, name, content).await?;
        if *name != "snap-deleted" {
            writeln!(
                volumes,
                "{name} {} {}",
                content.len(),
                blake3::hash(content)
            )?;
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

async fn put(repository: &Repository, name: &str, content: &[u8]) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), content)?;
    // Whoever has the file open for writing keeps it from being read as a source.
    let path = file.into_temp_path();
    let source = Source::open(&path, SourceOptions::default())?;
    let request = UploadRequest {
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
    let (progress, none) = (Arc::new(Progress::new()), CancellationToken::new());
    upload(repository, source, request, &progress, &none).await?;
    Ok(())
}

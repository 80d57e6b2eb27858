//! Files with keys and passphrases: reading them without leaving copies, and without telling what they hold.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use stockpot_repository::format::{
    FormatError,
    keys::{KeySource, SECRET_SIZE_MIN},
};
use zeroize::Zeroizing;

use crate::{interrupt::Interrupt, sizes};

/// Longest file with a key or passphrase, in bytes: far more than either needs, and `/dev/zero` has an end.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// Bytes of a passphrase for a new slot, at least. Older ones open what they opened.
const PASSPHRASE_BYTES_MIN: usize = 8;

/// Bytes that a name has at least to be taken for a secret.
const SECRET_TEXT_BYTES_MIN: usize = 16;

/// Reads the key file or the passphrase file, whichever is given. A FIFO may keep it waiting as long as no signal comes.
///
/// # Errors
/// When the file cannot be read, or is too short or too long.
pub(crate) async fn key(
    file: Option<&Path>,
    passphrase: Option<&Path>,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<KeySource>> {
    let (path, is_key) = match (file, passphrase) {
        (Some(path), _) => (path.to_owned(), true),
        (None, Some(path)) => (path.to_owned(), false),
        (None, None) => return Ok(None),
    };
    interrupt
        .unless_blocking(move || read_key(&path, is_key).map(Some))
        .await
}

/// Refuses what is to open a repository from now on and could be guessed at once.
///
/// # Errors
/// A passphrase that is too short.
pub(crate) fn require_strength(new: &KeySource) -> anyhow::Result<()> {
    match new.passphrase_bytes() {
        Some(bytes) if bytes < PASSPHRASE_BYTES_MIN => bail!(
            "the passphrase has {}; a new one has to have at least {PASSPHRASE_BYTES_MIN}, better many more: whoever reads the bucket can \
             try as many as they like",
            sizes::count(bytes as u64, "byte")
        ),
        _ => Ok(()),
    }
}

fn read_key(path: &Path, is_key: bool) -> anyhow::Result<KeySource> {
    let content = read_secret(path, is_key)?;
    let shown = path.display();
    if !is_key {
        return KeySource::from_passphrase(&content)
            .with_context(|| format!("the passphrase in {shown} cannot be used"));
    }
    match KeySource::from_secret(&content) {
        Err(FormatError::Limit { found, .. }) => Err(anyhow!(
            "the key in {shown} has {found} bytes; it has to have at least {SECRET_SIZE_MIN} bytes"
        )),
        key => key.with_context(|| format!("the key in {shown} cannot be used")),
    }
}

fn read_secret(path: &Path, is_key: bool) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Never moved while it grows: a copy would not be wiped.
    let capacity = usize::try_from(SECRET_FILE_BYTES_MAX + 1).expect("64 KiB and a byte");
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    let file = File::open(path).map_err(|error| not_opened(path, is_key, error))?;
    warn_of_readers(path, &file);
    file.take(SECRET_FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        content.len() as u64 <= SECRET_FILE_BYTES_MAX,
        "{} has more than 64 KiB: that is no key and no passphrase",
        path.display()
    );
    Ok(content)
}

/// A name of a file that is not there may be the secret itself, given by mistake: it is not repeated then.
fn not_opened(path: &Path, is_key: bool, error: io::Error) -> anyhow::Error {
    let name = path.to_string_lossy();
    // Base64 has slashes too: what lies in no directory that is there may be that.
    let is_placed = path
        .ancestors()
        .skip(1)
        .any(|above| above.file_name().is_some() && above.is_dir());
    let looks_like_one = if is_key {
        !name.contains('.') && name.len() >= SECRET_TEXT_BYTES_MIN
    } else {
        // A passphrase may look like anything but a path that is written out.
        !["/", "./", "../"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    // What is there and may not be read is no secret.
    let is_there = error.kind() == io::ErrorKind::PermissionDenied;
    let may_be_secret = !is_there && !is_placed && looks_like_one;
    let cannot: &dyn fmt::Display = if may_be_secret {
        &"there is no such file, and its name is not repeated, since it may be a secret: give the name of a file that holds the key \
          or passphrase (such as ./NAME), never these themselves"
    } else {
        &format!("cannot read {name}")
    };
    anyhow::Error::new(error).context(cannot.to_string())
}

/// Files that anybody may read are used all the same: they may lie where nobody else comes.
fn warn_of_readers(path: &Path, file: &File) {
    let Ok(meta) = file.metadata() else {
        return;
    };
    if meta.is_file() && meta.mode() & 0o004 != 0 {
        tracing::warn!(
            "{} can be read by every user of this machine: chmod 600 it",
            path.display()
        );
    }
}

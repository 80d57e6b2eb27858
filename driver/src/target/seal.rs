//! Sealing records for wherever they are kept.
//!
//! A sealed record is a nonce and the record under AES-256-GCM, its name as associated data: it cannot be put in the
//! place of another. The key is a file of 32 random bytes, made at first, with mode 0600.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::{ExportName, ExportRecord, RecordsError};

const KEY_LEN: usize = 32;

/// Seals and opens the records of one host.
#[derive(Debug)]
pub struct Sealer {
    key: RandomizedNonceKey,
}

impl Sealer {
    /// Reads the key file, or makes it.
    ///
    /// # Errors
    /// If it cannot be made or read, or has another size than 32 bytes.
    pub fn open(key_file: &Path) -> Result<Self, RecordsError> {
        let key = read_or_make_key(key_file).map_err(|error| {
            RecordsError::because(format!("cannot open {}", key_file.display()), error)
        })?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key[..]).map_err(|_| {
            RecordsError::new(format!(
                "{} is no key: it must hold {KEY_LEN} bytes",
                key_file.display()
            ))
        })?;
        Ok(Self { key })
    }

    /// The record, sealed.
    ///
    /// # Errors
    /// If there are no random numbers.
    pub fn seal(&self, record: &ExportRecord) -> Result<Vec<u8>, RecordsError> {
        let mut bytes = record.to_bytes();
        let aad = Aad::from(record.name.key());
        let nonce = self
            .key
            .seal_in_place_append_tag(aad, &mut *bytes)
            .map_err(|_| RecordsError::new("cannot seal"))?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&bytes);
        Ok(sealed)
    }

    /// The record of this name; `None` if it was damaged, moved from another name, or sealed with another key.
    #[must_use]
    pub fn unseal(&self, name: &ExportName, sealed: &[u8]) -> Option<ExportRecord> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(name.key()), &mut bytes)
            .ok()?;
        ExportRecord::from_bytes(plain).filter(|record| record.name == *name)
    }
}

fn read_or_make_key(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(Zeroizing::new),
    }
    let mut key = Zeroizing::new(vec![0; KEY_LEN]);
    aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
    write_whole(path, &key)?;
    Ok(key)
}

/// Writes a file so that after a crash there is the old one or the new one, with mode 0600.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(directory)
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

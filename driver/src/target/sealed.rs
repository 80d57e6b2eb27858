//! Records as sealed files in a directory: where there is no catalog, and for tests.
//!
//! A file is a nonce and one sealed record (AES-256-GCM, its name as associated data). The key is a file of
//! 32 random bytes, made at first. All files have mode 0600, the directory 0700.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::{ExportName, ExportRecord, ExportRecords, RecordsError};
use crate::task::blocking;

const KEY_LEN: usize = 32;
const ENDING: &str = ".sealed";

/// Records in a directory.
#[derive(Debug, Clone)]
pub struct SealedDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    key: RandomizedNonceKey,
}

impl SealedDirectory {
    /// Opens the directory, which is made if it is not there, as is the key file.
    ///
    /// # Errors
    /// If they cannot be made or read, or the key file has another size than 32 bytes.
    pub async fn open(directory: &Path, key_file: &Path) -> Result<Self, RecordsError> {
        let (directory, key_file) = (directory.to_owned(), key_file.to_owned());
        blocking(move || {
            let failed = |path: &Path| {
                let doing = format!("cannot open {}", path.display());
                move |error: io::Error| RecordsError::because(doing, error)
            };
            make_directory(&directory).map_err(failed(&directory))?;
            let key = read_or_make_key(&key_file).map_err(failed(&key_file))?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, &key[..]).map_err(|_| {
                RecordsError::new(format!(
                    "{} is no key: it must hold {KEY_LEN} bytes",
                    key_file.display()
                ))
            })?;
            Ok(Self {
                inner: Arc::new(Inner { directory, key }),
            })
        })
        .await
    }
}

#[async_trait]
impl ExportRecords for SealedDirectory {
    async fn put(&self, record: &ExportRecord) -> Result<(), RecordsError> {
        let (inner, record) = (self.inner.clone(), record.clone());
        blocking(move || inner.put(&record)).await
    }

    async fn get(&self, name: &ExportName) -> Result<Option<ExportRecord>, RecordsError> {
        let (inner, name) = (self.inner.clone(), name.clone());
        blocking(move || inner.get(&name)).await
    }

    async fn remove(&self, name: &ExportName) -> Result<(), RecordsError> {
        let (inner, name) = (self.inner.clone(), name.clone());
        blocking(move || inner.remove(&name)).await
    }

    async fn all(&self) -> Result<Vec<ExportRecord>, RecordsError> {
        let inner = self.inner.clone();
        blocking(move || inner.all()).await
    }
}

impl Inner {
    fn path(&self, name: &ExportName) -> PathBuf {
        self.directory.join(format!("{}{ENDING}", name.key()))
    }

    fn put(&self, record: &ExportRecord) -> Result<(), RecordsError> {
        let path = self.path(&record.name);
        let mut bytes = record.to_bytes();
        let aad = Aad::from(record.name.key());
        let nonce = self
            .key
            .seal_in_place_append_tag(aad, &mut *bytes)
            .map_err(|_| RecordsError::new("cannot seal"))?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&bytes);
        write_whole(&path, &sealed).map_err(|error| {
            RecordsError::because(format!("cannot write {}", path.display()), error)
        })
    }

    fn get(&self, name: &ExportName) -> Result<Option<ExportRecord>, RecordsError> {
        let path = self.path(name);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let doing = format!("cannot read {}", path.display());
                return Err(RecordsError::because(doing, error));
            }
        };
        let record = self
            .unseal(name, &sealed)
            .filter(|record| record.name == *name);
        record.map(Some).ok_or_else(|| {
            RecordsError::new(format!(
                "{} is damaged, or was sealed with another key; remove it, and connect again",
                path.display()
            ))
        })
    }

    fn unseal(&self, name: &ExportName, sealed: &[u8]) -> Option<ExportRecord> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(name.key()), &mut bytes)
            .ok()?;
        ExportRecord::from_bytes(plain)
    }

    fn remove(&self, name: &ExportName) -> Result<(), RecordsError> {
        let path = self.path(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.and_then(|()| sync_directory(&self.directory)),
        };
        removed.map_err(|error| {
            RecordsError::because(format!("cannot remove {}", path.display()), error)
        })
    }

    fn all(&self) -> Result<Vec<ExportRecord>, RecordsError> {
        let failed = |error| {
            RecordsError::because(format!("cannot list {}", self.directory.display()), error)
        };
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let file = entry.map_err(failed)?.file_name();
            let name = file
                .to_str()
                .and_then(|file| file.strip_suffix(ENDING)?.parse().ok());
            let Some(name) = name else { continue };
            match self.get(&name) {
                Ok(record) => records.extend(record),
                Err(error) => tracing::warn!(%name, %error, "a record cannot be read"),
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
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
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
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

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::{super::records::tests::record, *};

    #[tokio::test]
    async fn records_are_sealed_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let (directory, key) = (home.path().join("records"), home.path().join("key"));
        let records = SealedDirectory::open(&directory, &key).await.unwrap();
        let (one, other) = (record("a"), record("b"));
        for _ in 0..2 {
            records.put(&one).await.unwrap();
            records.put(&other).await.unwrap();
        }
        let again = SealedDirectory::open(&directory, &key).await.unwrap();
        assert_eq!(again.get(&one.name).await.unwrap().as_ref(), Some(&one));
        assert_eq!(again.all().await.unwrap(), [one.clone(), other.clone()]);
        let file = directory.join("s.a.sealed");
        let secret = one.grants[0]
            .auth
            .initiator
            .password
            .expose_secret()
            .as_bytes();
        let content = fs::read(&file).unwrap();
        assert!(!content.windows(secret.len()).any(|window| window == secret));
        for path in [&file, &key] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        for _ in 0..2 {
            again.remove(&one.name).await.unwrap();
        }
        assert_eq!(records.all().await.unwrap(), [other]);
    }

    #[tokio::test]
    async fn a_record_that_was_changed_or_moved_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join("key");
        let records = SealedDirectory::open(home.path(), &key).await.unwrap();
        let one = record("a");
        records.put(&one).await.unwrap();
        let file = home.path().join("s.a.sealed");
        fs::copy(&file, home.path().join("s.b.sealed")).unwrap();
        assert!(records.get(&record("b").name).await.is_err());
        assert_eq!(records.all().await.unwrap().len(), 1);
        let mut content = fs::read(&file).unwrap();
        content[20] ^= 1;
        fs::write(&file, content).unwrap();
        let error = records.get(&one.name).await.unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        fs::write(&file, "").unwrap();
        assert!(records.get(&one.name).await.is_err());
        fs::write(&key, "short").unwrap();
        let error = SealedDirectory::open(home.path(), &key).await.unwrap_err();
        assert!(error.to_string().contains("32 bytes"), "{error}");
    }
}

//! Records as sealed files in a directory: for tests, which have no catalog.
//!
//! A file is one sealed record; the key is another file, made at first. All files have mode 0600, the directory 0700.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    ExportName, ExportRecord, ExportRecords, Recorded, RecordsError,
    seal::{Sealer, sync_directory, write_whole},
};
use crate::task::blocking;

const ENDING: &str = ".sealed";

/// Records in a directory.
#[derive(Debug, Clone)]
pub struct SealedDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    sealer: Sealer,
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
            let sealer = Sealer::open(&key_file)?;
            Ok(Self {
                inner: Arc::new(Inner { directory, sealer }),
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

    async fn all(&self) -> Result<Recorded, RecordsError> {
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
        let sealed = self.sealer.seal(record)?;
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
        let record = self.sealer.unseal(name, &sealed);
        record.map(Some).ok_or_else(|| {
            RecordsError::Unreadable(format!(
                "{} is damaged, or was sealed with another key",
                path.display()
            ))
        })
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

    fn all(&self) -> Result<Recorded, RecordsError> {
        let failed = |error| {
            RecordsError::because(format!("cannot list {}", self.directory.display()), error)
        };
        let mut all = Recorded::default();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let file = entry.map_err(failed)?.file_name();
            let name = file
                .to_str()
                .and_then(|file| file.strip_suffix(ENDING)?.parse().ok());
            let Some(name) = name else { continue };
            match self.get(&name) {
                Ok(record) => all.records.extend(record),
                Err(RecordsError::Unreadable(_)) => all.unreadable.push(name),
                Err(error) => return Err(error),
            }
        }
        all.records.sort_by(|a, b| a.name.cmp(&b.name));
        all.unreadable.sort();
        Ok(all)
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
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
        let all = again.all().await.unwrap();
        assert_eq!(all.records, [one.clone(), other.clone()]);
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
        assert_eq!(records.all().await.unwrap().records, [other]);
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
        let moved = record("b").name;
        assert!(records.get(&moved).await.is_err());
        let all = records.all().await.unwrap();
        assert_eq!((all.records.len(), all.unreadable), (1, vec![moved]));
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

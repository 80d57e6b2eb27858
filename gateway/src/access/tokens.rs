//! The file of tokens: a line `NAME:SHA-256 in hex` each, so that whoever reads it can still not call.
//!
//! It is read again when it changes. One that cannot be read then lets nobody in until it is mended: a token that
//! was taken out must not live on because of another line's mistake.

use std::{
    error::Error,
    fmt, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// Largest file that is read, in bytes.
const FILE_SIZE_MAX: u64 = 1 << 20;
const HASH_SIZE: usize = 32;

/// What tells that a file has changed: modification time, size, inode.
type Stamp = (i64, i64, u64, u64);

/// A file of tokens that cannot be used. Never holds what stands in it.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is not what it has to be.
    #[error("{} cannot be used: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// A token's name and hash.
struct Token {
    name: String,
    hash: [u8; HASH_SIZE],
}

/// The tokens of a file.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// Held for no longer than it takes to look: the file is never waited for with it.
    read: Mutex<(Stamp, Vec<Token>)>,
    /// Who reads the file holds it, so that what was read first never replaces what was read last.
    reading: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads a file.
    pub(crate) fn read(path: PathBuf) -> Result<Self, TokensError> {
        let stamp = stamp(&path);
        let tokens = parse(&path)?;
        Ok(Self(Arc::new(Shared {
            path,
            read: Mutex::new((stamp, tokens)),
            reading: tokio::sync::Mutex::default(),
        })))
    }

    /// Reads the file again if it has changed.
    pub(crate) async fn refresh(&self) {
        let _reading = self.0.reading.lock().await;
        let tokens = self.clone();
        let looked = tokio::task::spawn_blocking(move || tokens.look()).await;
        if let Err(error) = looked {
            tracing::error!(%error, "the file of tokens was not looked at");
        }
    }

    fn look(&self) {
        let now = stamp(&self.0.path);
        let before = self.0.read.lock().unwrap_or_else(PoisonError::into_inner).0;
        if before == now {
            return;
        }
        let tokens = parse(&self.0.path).unwrap_or_else(|error| {
            let error: &(dyn Error + 'static) = &error;
            tracing::error!(error, "no token is let in until the file is mended");
            Vec::new()
        });
        tracing::info!(tokens = tokens.len(), "the file of tokens was read again");
        *self.0.read.lock().unwrap_or_else(PoisonError::into_inner) = (now, tokens);
    }

    /// The name of a token, if it stood in the file when it was last read. Takes as long whichever it is.
    pub(crate) fn name_of(&self, token: &str) -> Option<String> {
        let hash = digest(&SHA256, token.as_bytes());
        let read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for known in &read.1 {
            if bool::from(known.hash.ct_eq(hash.as_ref())) {
                found = Some(&known.name);
            }
        }
        found.cloned()
    }
}

fn stamp(path: &Path) -> Stamp {
    fs::metadata(path)
        .map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
        .unwrap_or_default()
}

fn parse(path: &Path) -> Result<Vec<Token>, TokensError> {
    let failed = |source| TokensError::Read {
        path: path.to_owned(),
        source,
    };
    let unusable = |problem: String| TokensError::Unusable {
        path: path.to_owned(),
        problem,
    };
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_file() || meta.len() > FILE_SIZE_MAX {
        return Err(unusable(format!(
            "it is no file of at most {FILE_SIZE_MAX} bytes"
        )));
    }
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(unusable("others can write to it; chmod 600".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = token(line).ok_or_else(|| {
            unusable(format!(
                "line {number} has not the form NAME:HASH, with the token's SHA-256 in 64 hex digits \
                 (`printf %s TOKEN | sha256sum`)"
            ))
        })?;
        if tokens.iter().any(|other| other.name == token.name) {
            return Err(unusable(format!(
                "line {number} has a name that is there before"
            )));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn token(line: &str) -> Option<Token> {
    let (name, hash) = line.split_once(':')?;
    let (name, hash) = (name.trim(), hash.trim());
    let is_name = !name.is_empty() && name.len() <= 128 && !name.contains(char::is_control);
    if !is_name || hash.len() != 2 * HASH_SIZE || !hash.is_ascii() {
        return None;
    }
    let mut bytes = [0; HASH_SIZE];
    for (byte, digits) in bytes.iter_mut().zip(hash.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        // A sign is a number, too, to this function.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(Token {
        name: name.to_owned(),
        hash: bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn write(path: &Path, text: &str) {
        // Another file, so that it is told from the one before however quick this is.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    #[tokio::test]
    async fn a_file_is_read_again_and_a_broken_one_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        write(&path, &format!("# who\n\n one : {}\n", ABC.to_uppercase()));
        let tokens = Tokens::read(path.clone()).unwrap();
        assert_eq!(tokens.name_of("abc").as_deref(), Some("one"));
        assert_eq!(tokens.name_of(""), None);
        write(&path, &format!("two:{ABC}\n"));
        tokens.refresh().await;
        assert_eq!(tokens.name_of("abc").as_deref(), Some("two"));
        write(&path, &format!("two:{ABC}\nthree:abc\n"));
        tokens.refresh().await;
        assert_eq!(tokens.name_of("abc"), None);
        fs::remove_file(&path).unwrap();
        tokens.refresh().await;
        assert_eq!(tokens.name_of("abc"), None);
        write(&path, &format!("two:{ABC}\n"));
        tokens.refresh().await;
        assert_eq!(tokens.name_of("abc").as_deref(), Some("two"));
    }

    #[test]
    fn mistakes_are_named_and_nothing_is_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        for (text, named) in [
            ("hunter2".to_owned(), "line 1"),
            ("a:hunter2".to_owned(), "line 1"),
            (format!("a:{ABC}\n:{ABC}"), "line 2"),
            (format!("a:{ABC}\na:{ABC}"), "line 2"),
            (format!("a:{}", "+1".repeat(32)), "line 1"),
        ] {
            write(&path, &text);
            let error = Tokens::read(path.clone()).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        write(&path, "");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let error = Tokens::read(path.clone()).unwrap_err().to_string();
        assert!(error.contains("chmod"), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(Tokens::read(path), Err(TokensError::Read { .. })));
    }
}

//! The repository key, and where a user keeps what unwraps it.

use std::fmt;

use secrecy::{ExposeSecret, SecretBox, SecretString};
use zeroize::Zeroizing;

use super::{
    FormatError,
    hashes::{Purpose, random},
    ids::{KeyId, ObjectId},
};

/// Shortest secret file, bytes.
pub const SECRET_SIZE_MIN: usize = 32;

/// How the one line of an exported key begins.
const EXPORT_START: &str = "stockpot-repository-key-1:";

/// 32 random bytes from which everything secret is derived. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct RepositoryKey(Zeroizing<[u8; 32]>);

impl RepositoryKey {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`FormatError::Library`] when the system has no randomness.
    pub fn generate() -> Result<Self, FormatError> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// From bytes that a slot held.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The public name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let derived = Purpose::KeyId.derive(&[self.expose()]);
        let mut id = [0; 16];
        id.copy_from_slice(&derived[..16]);
        KeyId(id)
    }

    /// The key as one line of text, with a line feed: whoever has it opens the repository, whatever slots there are.
    #[must_use]
    pub fn export(&self) -> Zeroizing<String> {
        // Long enough from the start: a line that grows leaves copies behind.
        let mut line = Zeroizing::new(String::with_capacity(160));
        line.push_str(EXPORT_START);
        line.push_str(&self.id().to_string());
        line.push(':');
        line.push_str(&Zeroizing::new(hex::encode(self.expose())));
        line.push('\n');
        line
    }

    /// Reads what [`export`](Self::export) wrote, without the line feed.
    fn from_export(line: &[u8]) -> Result<Self, FormatError> {
        let malformed = |problem: &str| FormatError::malformed("exported key", problem);
        let text = std::str::from_utf8(line).map_err(|_| malformed("it is not text"))?;
        let (id, digits) = text
            .strip_prefix(EXPORT_START)
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| malformed("a part of it is missing"))?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut *bytes)
            .map_err(|_| malformed("it does not end with 64 hexadecimal digits"))?;
        let key = Self(bytes);
        if key.id().to_string() != id {
            return Err(malformed("a digit of it is wrong"));
        }
        Ok(key)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepositoryKey(…)")
    }
}

/// What a user gives to open a sealed repository, and, if he says so, which key slot it is for.
#[derive(Clone)]
pub struct KeySource {
    secret: Secret,
    slot: Option<ObjectId>,
}

/// The kinds of secrets.
pub(crate) enum Secret {
    /// Content of a secret file: at least 32 bytes.
    File(SecretBox<[u8]>),
    /// A passphrase.
    Passphrase(SecretString),
    /// The repository key itself, as it was exported: it needs no slot.
    Exported(RepositoryKey),
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        match self {
            Self::File(secret) => {
                let copy = secret.expose_secret().to_vec();
                Self::File(SecretBox::from(copy.into_boxed_slice()))
            }
            Self::Passphrase(text) => Self::Passphrase(text.clone()),
            Self::Exported(key) => Self::Exported(key.clone()),
        }
    }
}

impl KeySource {
    /// From the content of a secret file, without one trailing line feed. An exported key is known by how it begins.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when it is shorter than 32 bytes; [`FormatError::Malformed`] for a damaged exported key.
    pub fn from_secret(content: &[u8]) -> Result<Self, FormatError> {
        let content = strip_line_end(content);
        if content.starts_with(EXPORT_START.as_bytes()) {
            return Ok(Secret::Exported(RepositoryKey::from_export(content)?).into());
        }
        if content.len() < SECRET_SIZE_MIN {
            return Err(FormatError::Limit {
                what: "the number of bytes in the key file",
                found: content.len() as u64,
                limit: SECRET_SIZE_MIN as u64,
            });
        }
        let copy = content.to_vec().into_boxed_slice();
        Ok(Secret::File(SecretBox::from(copy)).into())
    }

    /// From the content of a passphrase file, without one trailing line feed.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when it is empty or not UTF-8.
    pub fn from_passphrase(content: &[u8]) -> Result<Self, FormatError> {
        let content = strip_line_end(content);
        match std::str::from_utf8(content) {
            Ok("") => Err(FormatError::malformed("passphrase", "it is empty")),
            Ok(text) => Ok(Secret::Passphrase(SecretString::from(text)).into()),
            Err(_) => Err(FormatError::malformed("passphrase", "it is not UTF-8")),
        }
    }

    /// For this slot only: no other is tried, and this one also where it is not among those that would be.
    #[must_use]
    pub fn for_slot(self, slot: ObjectId) -> Self {
        Self {
            slot: Some(slot),
            ..self
        }
    }

    /// The slot that it is for, if that was said.
    #[must_use]
    pub fn slot(&self) -> Option<&ObjectId> {
        self.slot.as_ref()
    }

    /// The repository key, if it is an exported one.
    #[must_use]
    pub fn exported(&self) -> Option<&RepositoryKey> {
        match &self.secret {
            Secret::Exported(key) => Some(key),
            Secret::File(_) | Secret::Passphrase(_) => None,
        }
    }

    /// Bytes of a passphrase; `None` for what is none.
    #[must_use]
    pub fn passphrase_bytes(&self) -> Option<usize> {
        match &self.secret {
            Secret::Passphrase(text) => Some(text.expose_secret().len()),
            Secret::File(_) | Secret::Exported(_) => None,
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.secret {
            Secret::File(_) => "key file",
            Secret::Passphrase(_) => "passphrase",
            Secret::Exported(_) => "exported key",
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.secret {
            Secret::File(secret) => secret.expose_secret(),
            Secret::Passphrase(text) => text.expose_secret().as_bytes(),
            Secret::Exported(key) => key.expose(),
        }
    }
}

impl From<Secret> for KeySource {
    fn from(secret: Secret) -> Self {
        Self { secret, slot: None }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySource({}, …)", self.kind())
    }
}

fn strip_line_end(content: &[u8]) -> &[u8] {
    match content.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_stripped_and_short_secrets_are_refused() {
        let secret = KeySource::from_secret(b"0123456789abcdef0123456789abcdef\r\n").unwrap();
        assert_eq!(secret.bytes().len(), 32);
        assert_eq!(
            KeySource::from_secret(&[b'\n'; 34]).unwrap().bytes().len(),
            33
        );
        assert!(KeySource::from_secret(b"0123456789abcdef0123456789abcde\n").is_err());
        assert!(KeySource::from_passphrase(b"\n").is_err());
        let shown = format!("{:?} {:?}", secret, RepositoryKey::generate().unwrap());
        assert_eq!(shown, "KeySource(key file, …) RepositoryKey(…)");
    }

    #[test]
    fn an_exported_key_comes_back_and_a_wrong_digit_is_seen() {
        let key = RepositoryKey::generate().unwrap();
        let line = key.export();
        let source = KeySource::from_secret(line.as_bytes()).unwrap();
        assert_eq!(source.exported().unwrap().expose(), key.expose());
        let shown = format!("{source:?}");
        assert!(!shown.contains(&hex::encode(key.expose())), "{shown}");
        for at in EXPORT_START.len()..line.len() - 1 {
            let mut bad = line.as_bytes().to_vec();
            bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
            assert!(KeySource::from_secret(&bad).is_err(), "byte {at}");
        }
    }
}

//! The repository key, and where a user keeps what unwraps it.

use std::fmt;

use secrecy::{ExposeSecret, SecretBox, SecretString};
use zeroize::Zeroizing;

use super::{
    FormatError,
    hashes::{Purpose, random},
    ids::KeyId,
};

/// Shortest secret file, bytes.
pub const SECRET_SIZE_MIN: usize = 32;

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

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepositoryKey(…)")
    }
}

/// What a user gives to open a sealed repository.
pub enum KeySource {
    /// Content of a secret file: at least 32 bytes.
    File(SecretBox<[u8]>),
    /// A passphrase.
    Passphrase(SecretString),
}

impl Clone for KeySource {
    fn clone(&self) -> Self {
        match self {
            Self::File(secret) => {
                let copy = secret.expose_secret().to_vec();
                Self::File(SecretBox::from(copy.into_boxed_slice()))
            }
            Self::Passphrase(text) => Self::Passphrase(text.clone()),
        }
    }
}

impl KeySource {
    /// From the content of a secret file, without one trailing line feed.
    ///
    /// # Errors
    /// [`FormatError::Limit`] when it is shorter than 32 bytes.
    pub fn from_secret(content: &[u8]) -> Result<Self, FormatError> {
        let content = strip_line_end(content);
        if content.len() < SECRET_SIZE_MIN {
            return Err(FormatError::Limit {
                what: "the number of bytes in the key file",
                found: content.len() as u64,
                limit: SECRET_SIZE_MIN as u64,
            });
        }
        Ok(Self::File(SecretBox::from(
            content.to_vec().into_boxed_slice(),
        )))
    }

    /// From the content of a passphrase file, without one trailing line feed.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when it is empty or not UTF-8.
    pub fn from_passphrase(content: &[u8]) -> Result<Self, FormatError> {
        let content = strip_line_end(content);
        match std::str::from_utf8(content) {
            Ok("") => Err(FormatError::malformed("passphrase", "it is empty")),
            Ok(text) => Ok(Self::Passphrase(SecretString::from(text))),
            Err(_) => Err(FormatError::malformed("passphrase", "it is not UTF-8")),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::File(secret) => secret.expose_secret(),
            Self::Passphrase(text) => text.expose_secret().as_bytes(),
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "KeySource::File(…)",
            Self::Passphrase(_) => "KeySource::Passphrase(…)",
        })
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
        assert_eq!(shown, "KeySource::File(…) RepositoryKey(…)");
    }
}

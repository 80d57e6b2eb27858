//! Access keys that the server in the process knows, and which of them have expired.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rand::RngExt as _;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};
use secrecy::{ExposeSecret as _, SecretString};

/// A pair of keys, with the session token that temporary ones have.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: SecretString,
    /// The session token.
    pub session_token: Option<SecretString>,
}

impl Credentials {
    /// New random keys.
    #[must_use]
    pub fn random() -> Self {
        Self {
            access_key: format!("AK{}", random_hex(9).to_uppercase()),
            secret_key: random_hex(20).into(),
            session_token: None,
        }
    }

    /// New random keys with a session token.
    #[must_use]
    pub fn random_temporary() -> Self {
        Self {
            session_token: Some(random_hex(40).into()),
            ..Self::random()
        }
    }
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0u8; bytes];
    rand::rng().fill(random.as_mut_slice());
    hex::encode(random)
}

#[derive(Debug)]
struct Known {
    credentials: Credentials,
    expired: bool,
}

/// The keys in force. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    known: Arc<RwLock<HashMap<String, Known>>>,
}

impl Keys {
    /// Accepts `credentials` from now on.
    pub fn add(&self, credentials: Credentials) {
        let known = Known {
            expired: false,
            credentials,
        };
        self.write()
            .insert(known.credentials.access_key.clone(), known);
    }

    /// Answers 400 `ExpiredToken` to this access key from now on.
    pub fn expire(&self, access_key: &str) {
        if let Some(known) = self.write().get_mut(access_key) {
            known.expired = true;
        }
    }

    /// Answers 403 `InvalidAccessKeyId` to this access key from now on.
    pub fn remove(&self, access_key: &str) {
        self.write().remove(access_key);
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let keys = self.read();
        let known = keys.get(access_key).ok_or_else(|| {
            s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            )
        })?;
        if known.expired {
            return Err(s3_error!(ExpiredToken, "The provided token has expired."));
        }
        Ok(SecretKey::from(
            known.credentials.secret_key.expose_secret(),
        ))
    }
}

#[async_trait::async_trait]
impl S3Access for Keys {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(signer) = context.credentials() else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        let keys = self.read();
        let expected = keys
            .get(&signer.access_key)
            .and_then(|known| known.credentials.session_token.as_ref());
        let sent = context.headers().get("x-amz-security-token");
        if expected.map(|token| token.expose_secret().as_bytes())
            != sent.map(http::HeaderValue::as_bytes)
        {
            return Err(s3_error!(
                InvalidToken,
                "The provided token is malformed or otherwise invalid."
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_expire_and_go() {
        let keys = Keys::default();
        let credentials = Credentials::random();
        let access_key = credentials.access_key.clone();
        assert!(keys.get_secret_key(&access_key).await.is_err());
        keys.add(credentials);
        assert!(keys.get_secret_key(&access_key).await.is_ok());
        keys.expire(&access_key);
        let error = keys.get_secret_key(&access_key).await.unwrap_err();
        assert_eq!(error.code().as_str(), "ExpiredToken");
        keys.remove(&access_key);
        let error = keys.get_secret_key(&access_key).await.unwrap_err();
        assert_eq!(error.code().as_str(), "InvalidAccessKeyId");
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials::random_temporary();
        let printed = format!("{credentials:?}");
        assert!(!printed.contains(credentials.secret_key.expose_secret()));
        assert!(!printed.contains(credentials.session_token.as_ref().unwrap().expose_secret()));
    }
}

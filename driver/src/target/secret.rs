//! Fresh secrets for one connection.

use aws_lc_rs::rand;
use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use super::TargetError;
use crate::{ChapCredentials, IscsiAuth};

/// Bytes of randomness in a secret; printed in hexadecimal it is twice as long.
const SECRET_BYTES: usize = 16;

/// Random secrets for both directions: never the same one, which targets refuse.
pub(super) fn fresh() -> Result<IscsiAuth, TargetError> {
    Ok(IscsiAuth {
        initiator: credentials("stockpot-initiator")?,
        target: Some(credentials("stockpot-target")?),
    })
}

fn credentials(username: &str) -> Result<ChapCredentials, TargetError> {
    let mut bytes = Zeroizing::new([0_u8; SECRET_BYTES]);
    rand::fill(bytes.as_mut())
        .map_err(|_| TargetError::Host("the system gives no random numbers".into()))?;
    // Written into one allocation of the right size: growing would leave copies behind.
    let mut text = String::with_capacity(2 * SECRET_BYTES);
    for byte in bytes.iter() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    let password = SecretString::from(text.as_str());
    text.zeroize();
    Ok(ChapCredentials {
        username: username.to_owned(),
        password,
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        let mut all: Vec<_> = [&one, &other]
            .into_iter()
            .flat_map(|auth| [&auth.initiator, auth.target.as_ref().unwrap()])
            .map(|credentials| credentials.password.expose_secret().to_owned())
            .collect();
        assert!(all.iter().all(|secret| secret.len() == 32));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }
}

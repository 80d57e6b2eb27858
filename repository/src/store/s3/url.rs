//! `s3://bucket/prefix`, and `http(s)://host:port` of an endpoint.

use std::{fmt, str::FromStr};

use crate::store::StoreError;

/// Longest prefix: S3 keys end at 1,024 bytes, and the longest key below the prefix has to fit.
const PREFIX_BYTES_MAX: usize = 512;

/// A bucket and the prefix of a repository in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket's name.
    pub bucket: String,
    /// Path below the bucket without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
}

impl FromStr for S3Url {
    type Err = StoreError;

    fn from_str(url: &str) -> Result<Self, StoreError> {
        let rest = url.strip_prefix("s3://").ok_or_else(|| {
            let shown = if url.contains('@') {
                "this".to_owned()
            } else {
                format!("{url:?}")
            };
            StoreError::Config(format!(
                "{shown} is not a repository: write s3://bucket/prefix"
            ))
        })?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let url = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.strip_suffix('/').unwrap_or(prefix).to_owned(),
        };
        url.check()?;
        Ok(url)
    }
}

impl S3Url {
    /// Refuses what no S3 server takes, and what would be read differently by two of them.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let Self { bucket, prefix } = self;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !(3..=63).contains(&bucket.len())
            || !bucket.chars().all(is_name)
            || !bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            // `user:password@host`, which is not to be repeated. A password with a slash reaches into the prefix.
            let shown = if bucket.contains(['@', ':']) || prefix.contains('@') {
                "what follows s3:// (credentials do not belong there)".to_owned()
            } else {
                format!("{bucket:?}")
            };
            return Err(StoreError::Config(format!(
                "{shown} is not a bucket's name: 3 to 63 letters, digits, dots and hyphens"
            )));
        }
        if prefix.len() > PREFIX_BYTES_MAX {
            return Err(StoreError::Config(format!(
                "the prefix is longer than {PREFIX_BYTES_MAX} bytes"
            )));
        }
        let is_sound = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .chars()
                    .all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\' | '%'))
        };
        if !prefix.is_empty() && !prefix.split('/').all(is_sound) {
            return Err(StoreError::Config(format!(
                "prefix {prefix:?} cannot be used: no empty parts, no dots alone, no spaces, ?, #, % or \\"
            )));
        }
        Ok(())
    }

    /// The full key of a key relative to the prefix.
    pub(super) fn full_key(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        }
    }

    /// The key relative to the prefix, if it lies below it.
    pub(super) fn relative_key<'k>(&self, full: &'k str) -> Option<&'k str> {
        if self.prefix.is_empty() {
            Some(full)
        } else {
            full.strip_prefix(&self.prefix)?.strip_prefix('/')
        }
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// Checks an endpoint's URL: scheme, host, no user, no path.
pub(super) fn check_endpoint(endpoint: &str) -> Result<http::Uri, StoreError> {
    // A URL may hold a password, so a refused one is not repeated when it has a user part.
    let shown = if endpoint.contains('@') {
        "the endpoint"
    } else {
        endpoint
    };
    let wrong = |why: &str| {
        StoreError::Config(format!(
            "{shown} is not an endpoint ({why}): write http(s)://host[:port]"
        ))
    };
    let uri: http::Uri = endpoint.parse().map_err(|_| wrong("not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("neither http nor https"));
    }
    match uri.authority() {
        None => return Err(wrong("no host")),
        Some(authority) if authority.as_str().contains('@') => {
            return Err(wrong("credentials do not belong in it"));
        }
        // The URL's parser takes any digits.
        Some(authority) if !has_sound_port(authority) => {
            return Err(wrong("its port is not a number from 1 to 65535"));
        }
        Some(_) => {}
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    // The URL's parser drops it.
    if endpoint.contains('#') {
        return Err(wrong("it has a fragment"));
    }
    Ok(uri)
}

fn has_sound_port(authority: &http::uri::Authority) -> bool {
    let after_host = &authority.as_str()[authority.host().len()..];
    match after_host.strip_prefix(':') {
        None => after_host.is_empty(),
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url: S3Url = "s3://bucket/a/b/".parse().unwrap();
        assert_eq!(
            (url.bucket.as_str(), url.prefix.as_str()),
            ("bucket", "a/b")
        );
        assert_eq!(url.to_string(), "s3://bucket/a/b");
        assert_eq!(url.full_key("x"), "a/b/x");
        assert_eq!(url.relative_key("a/b/x"), Some("x"));
        assert_eq!(url.relative_key("a/bc/x"), None);
        let url: S3Url = "s3://bucket".parse().unwrap();
        assert_eq!(url.full_key("x"), "x");
        assert_eq!(url.to_string(), "s3://bucket");
    }

    #[test]
    fn bad_urls_are_refused_with_a_reason() {
        for bad in [
            "",
            "bucket/x",
            "http://bucket/x",
            "s3://",
            "s3://ab",
            "s3://b cket",
            "s3://bucket//x",
            "s3://bucket/../x",
            "s3://bucket/a b",
            "s3://bucket/x?y",
            "s3://-bucket",
        ] {
            let error = bad.parse::<S3Url>().unwrap_err();
            assert!(matches!(error, StoreError::Config(_)), "{bad}: {error}");
        }
    }

    #[test]
    fn endpoints_are_checked_and_secrets_not_repeated() {
        assert!(check_endpoint("https://s3.example.org:9000").is_ok());
        for good in ["http://[::1]", "http://[::1]:80/", "https://h:65535/"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "s3.example.org",
            "ftp://x",
            "http://",
            "https://h/?q",
            "http://h:99999",
            "http://h:0",
            "http://h:",
            "http://[::1]:65536",
            "http://h/#fragment",
            "http://h#fragment",
            "http://h\n",
        ] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
        let error = check_endpoint("https://user:hunter2@host").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        for url in [
            "s3://user:hunter2@host/bucket",
            "s3://user:hunter2/x@host/bucket",
            "s3://hunter2@host/bucket",
            "https://user:hunter2@host/bucket",
        ] {
            let error = url.parse::<S3Url>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}

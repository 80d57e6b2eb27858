//! Which operation of S3 a request is, told from its method, path, query and headers.
//!
//! Faults and the journal sit in front of the server, which may be another program: they see HTTP, not calls.

use http::{HeaderMap, Method, Uri};

/// An operation of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are S3's own")]
pub enum Op {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    ListObjects,
    ListObjectsV2,
    ListMultipartUploads,
    DeleteObjects,
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    CopyObject,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    /// Anything else, such as the settings of a bucket.
    Other,
}

impl Op {
    /// Whether the operation changes something in the bucket.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(
            self,
            Self::ListBuckets
                | Self::HeadBucket
                | Self::ListObjects
                | Self::ListObjectsV2
                | Self::ListMultipartUploads
                | Self::GetObject
                | Self::HeadObject
                | Self::ListParts
                | Self::Other
        )
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) op: Op,
    pub(crate) bucket: Option<String>,
    /// The key; for listings, the prefix.
    pub(crate) key: Option<String>,
    pub(crate) access_key: Option<String>,
}

/// Reads a request's target. `domains` are the names below which a host name is a bucket.
pub(crate) fn classify(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    domains: &[String],
) -> Target {
    let query = Query::parse(uri.query().unwrap_or_default());
    let host = headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok());
    let path = percent_decode(uri.path().trim_start_matches('/'));
    let (bucket, key) = match host.and_then(|host| bucket_of_host(host, domains)) {
        Some(bucket) => (bucket.to_owned(), path),
        None => match path.split_once('/') {
            Some((bucket, key)) => (bucket.to_owned(), key.to_owned()),
            None => (path, String::new()),
        },
    };
    let op = if bucket.is_empty() {
        if method == Method::GET {
            Op::ListBuckets
        } else {
            Op::Other
        }
    } else if key.is_empty() {
        bucket_op(method, &query)
    } else {
        object_op(method, &query, headers)
    };
    let key = if key.is_empty() {
        query.get("prefix").map(percent_decode)
    } else {
        Some(key)
    };
    Target {
        op,
        bucket: Some(bucket).filter(|name| !name.is_empty()),
        key,
        access_key: access_key(headers),
    }
}

fn bucket_op(method: &Method, query: &Query<'_>) -> Op {
    match *method {
        Method::PUT if query.is_plain() => Op::CreateBucket,
        Method::HEAD => Op::HeadBucket,
        Method::DELETE if query.is_plain() => Op::DeleteBucket,
        Method::POST if query.has("delete") => Op::DeleteObjects,
        Method::GET if query.has("uploads") => Op::ListMultipartUploads,
        Method::GET if query.get("list-type") == Some("2") => Op::ListObjectsV2,
        Method::GET if !query.has_setting() => Op::ListObjects,
        _ => Op::Other,
    }
}

fn object_op(method: &Method, query: &Query<'_>, headers: &HeaderMap) -> Op {
    let upload = query.has("uploadId");
    match *method {
        Method::PUT if upload && query.has("partNumber") => Op::UploadPart,
        Method::PUT if headers.contains_key("x-amz-copy-source") => Op::CopyObject,
        Method::PUT if query.is_plain() => Op::PutObject,
        Method::GET if upload => Op::ListParts,
        Method::GET if !query.has_setting() => Op::GetObject,
        Method::HEAD => Op::HeadObject,
        Method::DELETE if upload => Op::AbortMultipartUpload,
        Method::DELETE if !query.has_setting() => Op::DeleteObject,
        Method::POST if upload => Op::CompleteMultipartUpload,
        Method::POST if query.has("uploads") => Op::CreateMultipartUpload,
        _ => Op::Other,
    }
}

/// The bucket in a virtual host name, with or without a port.
pub(crate) fn bucket_of_host<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    domains
        .iter()
        .find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'))
}

fn access_key(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (_, rest) = text.split_once("Credential=")?;
    rest.split('/').next().map(str::to_owned)
}

/// A query string, undecoded.
struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// No parameters but those that clients add to every request.
    fn is_plain(&self) -> bool {
        self.0
            .iter()
            .all(|(name, _)| *name == "x-id" || name.starts_with("X-Amz-"))
    }

    /// Whether the request is about a setting (`?acl`, `?versioning`…) and not about content.
    fn has_setting(&self) -> bool {
        const SETTINGS: [&str; 14] = [
            "acl",
            "attributes",
            "cors",
            "encryption",
            "lifecycle",
            "location",
            "logging",
            "object-lock",
            "policy",
            "retention",
            "tagging",
            "versioning",
            "versions",
            "website",
        ];
        SETTINGS.iter().any(|name| self.has(name))
    }
}

/// Decodes `%XX`; anything that is no escape stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let escape = bytes[position..]
            .strip_prefix(b"%")
            .and_then(|rest| rest.get(..2));
        let value = escape.and_then(|digits| hex::decode(digits).ok());
        match value.as_deref() {
            Some([byte]) => {
                decoded.push(*byte);
                position += 3;
            }
            _ => {
                decoded.push(bytes[position]);
                position += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: Method, host: &str, uri: &str) -> (Op, Option<String>, Option<String>) {
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().unwrap());
        let target = classify(
            &method,
            &uri.parse().unwrap(),
            &headers,
            &["localhost".to_owned()],
        );
        (target.op, target.bucket, target.key)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn path_style() {
        let host = "127.0.0.1:9000";
        assert_eq!(
            target(Method::GET, host, "/"),
            (Op::ListBuckets, None, None)
        );
        assert_eq!(
            target(Method::PUT, host, "/b"),
            (Op::CreateBucket, some("b"), None)
        );
        assert_eq!(
            target(Method::GET, host, "/b/k%20y/z?x-id=GetObject"),
            (Op::GetObject, some("b"), some("k y/z"))
        );
        assert_eq!(
            target(Method::PUT, host, "/b/k?partNumber=1&uploadId=u"),
            (Op::UploadPart, some("b"), some("k"))
        );
        assert_eq!(
            target(Method::POST, host, "/b/k?uploads"),
            (Op::CreateMultipartUpload, some("b"), some("k"))
        );
        assert_eq!(
            target(Method::POST, host, "/b/?delete"),
            (Op::DeleteObjects, some("b"), None)
        );
        assert_eq!(
            target(Method::GET, host, "/b?list-type=2&prefix=p%2F"),
            (Op::ListObjectsV2, some("b"), some("p/"))
        );
        assert_eq!(target(Method::GET, host, "/b?versioning").0, Op::Other);
    }

    #[test]
    fn virtual_hosts() {
        assert_eq!(
            target(Method::GET, "b.localhost:9000", "/k/l"),
            (Op::GetObject, some("b"), some("k/l"))
        );
        assert_eq!(
            target(Method::HEAD, "b.localhost", "/"),
            (Op::HeadBucket, some("b"), None)
        );
        assert_eq!(
            target(Method::GET, "localhost:9000", "/b/k"),
            (Op::GetObject, some("b"), some("k"))
        );
    }

    #[test]
    fn odd_escapes_are_kept() {
        assert_eq!(percent_decode("a%2Fb%zz%4"), "a/b%zz%4");
        assert_eq!(percent_decode("%C3%BC"), "ü");
    }

    #[test]
    fn the_access_key_is_in_the_authorization() {
        let mut headers = HeaderMap::new();
        let text = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        headers.insert("authorization", text.parse().unwrap());
        assert_eq!(access_key(&headers), some("AK"));
    }
}

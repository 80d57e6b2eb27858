//! Taking a request's body in, and checking it against what its headers say about it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use crate::s3::capabilities::{Capabilities, ChecksumSupport};
use crate::s3::checksum::{Algorithm, Checksum, Coverage, md5};

/// A body that arrived whole and is what its headers say.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) data: Bytes,
    pub(crate) md5: [u8; 16],
    pub(crate) checksum: Option<Checksum>,
}

/// What the headers announce about the body.
#[derive(Debug, Default)]
struct Announced {
    md5: Option<Vec<u8>>,
    algorithm: Option<Algorithm>,
    value: Option<Vec<u8>>,
}

/// Reads `body` to its end and verifies it.
///
/// # Errors
/// The S3 codes: `BadDigest`, `InvalidDigest`, `InvalidRequest`, `IncompleteBody`, `XAmzContentSHA256Mismatch`,
/// `NotImplemented` where `capabilities` say so.
pub(crate) async fn receive(
    headers: &HeaderMap,
    body: Option<StreamingBlob>,
    trailing: Option<&TrailingHeaders>,
    capabilities: Capabilities,
) -> S3Result<Received> {
    refuse_unsupported(headers, capabilities)?;
    let mut announced = announced(headers)?;
    let data = match body {
        Some(body) => read_all(body, headers).await?,
        None => Bytes::new(),
    };
    if announced.value.is_none()
        && let Some(trailing) = trailing.and_then(TrailingHeaders::take)
        && let Some((algorithm, value)) = checksum_header(&trailing)?
    {
        announced.algorithm = Some(algorithm);
        announced.value = Some(value);
    }
    verify(data, announced, capabilities)
}

fn verify(data: Bytes, announced: Announced, capabilities: Capabilities) -> S3Result<Received> {
    let md5 = md5([&data]);
    if announced.md5.is_some_and(|expected| expected != md5) {
        return Err(s3_error!(
            BadDigest,
            "The Content-MD5 you specified did not match what we received."
        ));
    }
    let mut checksum = None;
    if capabilities.checksums == ChecksumSupport::Verified
        && let Some(algorithm) = announced.algorithm
    {
        let expected = announced.value.ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "x-amz-sdk-checksum-algorithm specified, but no checksum or trailer was found."
            )
        })?;
        let value = algorithm.compute([&data]);
        if value != expected {
            let name = algorithm.name();
            return Err(s3_error!(
                BadDigest,
                "The {name} you specified did not match the calculated checksum."
            ));
        }
        checksum = Some(Checksum {
            algorithm,
            coverage: Coverage::FullObject,
            value,
        });
    }
    Ok(Received {
        data,
        md5,
        checksum,
    })
}

/// Refuses what an endpoint with these capabilities refuses, before it reads the body.
pub(crate) fn refuse_unsupported(headers: &HeaderMap, capabilities: Capabilities) -> S3Result<()> {
    let is_checksum = |name: &http::HeaderName| {
        let name = name.as_str();
        name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-mode"
            || name == "x-amz-sdk-checksum-algorithm"
    };
    if capabilities.checksums == ChecksumSupport::Rejected
        && let Some(name) = headers.keys().find(|name| is_checksum(name))
    {
        return Err(s3_error!(
            NotImplemented,
            "A header you provided implies functionality that is not implemented: {name}"
        ));
    }
    let payload = headers
        .get("x-amz-content-sha256")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !capabilities.streaming_payloads && payload.starts_with("STREAMING-") {
        return Err(s3_error!(
            NotImplemented,
            "Chunked and trailing payloads are not implemented"
        ));
    }
    if capabilities.requires_content_md5 && !headers.contains_key("content-md5") {
        return Err(s3_error!(
            InvalidRequest,
            "Missing required header for this request: Content-MD5"
        ));
    }
    Ok(())
}

fn announced(headers: &HeaderMap) -> S3Result<Announced> {
    let mut announced = Announced::default();
    if let Some(value) = headers.get("content-md5") {
        let decoded = STANDARD
            .decode(value.as_bytes())
            .ok()
            .filter(|decoded| decoded.len() == 16);
        let decoded = decoded.ok_or_else(|| {
            s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid.")
        })?;
        announced.md5 = Some(decoded);
    }
    if let Some(name) = headers
        .get("x-amz-sdk-checksum-algorithm")
        .and_then(|value| value.to_str().ok())
    {
        announced.algorithm = Algorithm::from_name(name);
    }
    if let Some((algorithm, value)) = checksum_header(headers)? {
        announced.algorithm = Some(algorithm);
        announced.value = Some(value);
    }
    Ok(announced)
}

/// The one checksum value among `headers`.
pub(crate) fn checksum_header(headers: &HeaderMap) -> S3Result<Option<(Algorithm, Vec<u8>)>> {
    let mut found = None;
    for algorithm in Algorithm::ALL {
        let Some(value) = headers.get(algorithm.header()) else {
            continue;
        };
        if found.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            ));
        }
        let decoded = value.to_str().ok().and_then(|text| algorithm.decode(text));
        let decoded = decoded.ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "Value for {} header is invalid.",
                algorithm.header()
            )
        })?;
        found = Some((algorithm, decoded));
    }
    Ok(found)
}

async fn read_all(mut body: StreamingBlob, headers: &HeaderMap) -> S3Result<Bytes> {
    let length = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let expected = length
        .and_then(|text| text.parse::<usize>().ok())
        .unwrap_or_default();
    // The header is only a hint for the first allocation: nothing bigger than a part is believed.
    let mut data = BytesMut::with_capacity(expected.min(64 * 1024 * 1024));
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => data.extend_from_slice(&chunk),
            Err(error) => return Err(body_error(error)),
        }
    }
    Ok(data.freeze())
}

/// Turns an error of the body's stream into S3's answer. The stream's own types are private to the S3 crate, which
/// leaves their text.
fn body_error(error: s3s::StdError) -> S3Error {
    let text = format!("{error:?} {error}");
    let mut answer = if text.contains("Sha256Mismatch") {
        let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        S3Error::with_message(
            code,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    } else if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch)
    } else {
        s3_error!(
            IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        )
    };
    if answer.status_code().is_none() {
        answer.set_status_code(StatusCode::BAD_REQUEST);
    }
    answer.set_source(error);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    async fn code(
        pairs: &[(&'static str, &str)],
        capabilities: Capabilities,
    ) -> Result<Received, String> {
        let body = StreamingBlob::wrap(futures::stream::iter([Ok::<_, std::io::Error>(
            Bytes::from_static(b"123456789"),
        )]));
        let received = receive(&headers(pairs), Some(body), None, capabilities).await;
        received.map_err(|error| error.code().as_str().to_owned())
    }

    #[tokio::test]
    async fn checksums_are_verified() {
        let all = Capabilities::default();
        let received = code(&[("x-amz-checksum-crc32c", "4waSgw==")], all)
            .await
            .unwrap();
        assert_eq!(received.checksum.unwrap().encoded(), "4waSgw==");
        assert_eq!(
            code(&[("x-amz-checksum-crc32c", "4waSgg==")], all)
                .await
                .unwrap_err(),
            "BadDigest"
        );
        assert_eq!(
            code(&[("x-amz-checksum-crc32c", "4waS")], all)
                .await
                .unwrap_err(),
            "InvalidRequest"
        );
        let two = [
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ];
        assert_eq!(code(&two, all).await.unwrap_err(), "InvalidRequest");
        assert_eq!(
            code(&[("x-amz-sdk-checksum-algorithm", "CRC32")], all)
                .await
                .unwrap_err(),
            "InvalidRequest"
        );
    }

    #[tokio::test]
    async fn content_md5_is_verified() {
        let all = Capabilities::default();
        assert!(
            code(&[("content-md5", "JfnnlDI7RTiF9RgfGyeh1w==")], all)
                .await
                .is_err()
        );
        let right = STANDARD.encode(md5([&Bytes::from_static(b"123456789")]));
        assert!(code(&[("content-md5", &right)], all).await.is_ok());
        assert_eq!(
            code(&[("content-md5", "abc")], all).await.unwrap_err(),
            "InvalidDigest"
        );
        assert_eq!(
            code(&[], all.requires_content_md5()).await.unwrap_err(),
            "InvalidRequest"
        );
    }

    #[tokio::test]
    async fn lesser_endpoints_refuse() {
        let lesser = Capabilities::default().no_checksums();
        assert_eq!(
            code(&[("x-amz-checksum-crc32c", "4waSgw==")], lesser)
                .await
                .unwrap_err(),
            "NotImplemented"
        );
        let chunked = [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")];
        assert_eq!(code(&chunked, lesser).await.unwrap_err(), "NotImplemented");
        assert!(code(&[], lesser).await.unwrap().checksum.is_none());
    }
}

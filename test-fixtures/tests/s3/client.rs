//! A client of the SDK for a server, and reading its errors.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials as SdkCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::error::metadata::ErrorMetadata;
use stockpot_test_fixtures::s3::{Credentials, Server};

/// A server with the bucket `bucket`, and a client of it that never retries.
pub(crate) fn start() -> (Server, Client) {
    let server = Server::builder().bucket("bucket").start().unwrap();
    let client = client(&server);
    (server, client)
}

pub(crate) fn client(server: &Server) -> Client {
    Client::from_conf(config(&server.endpoint(), server.credentials()).build())
}

pub(crate) fn config(endpoint: &str, keys: &Credentials) -> Builder {
    use secrecy::ExposeSecret as _;
    let token = keys
        .session_token
        .as_ref()
        .map(|token| token.expose_secret().to_owned());
    let secret = keys.secret_key.expose_secret();
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(Server::REGION))
        .force_path_style(true)
        .credentials_provider(SdkCredentials::new(
            &keys.access_key,
            secret,
            token,
            None,
            "test",
        ))
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(Duration::from_secs(20))
                .build(),
        )
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

pub(crate) fn bytes(data: &'static [u8]) -> ByteStream {
    ByteStream::from_static(data)
}

/// The S3 code of a failed request, or what kind of failure it was.
pub(crate) fn code<T, E, R>(result: Result<T, SdkError<E, R>>) -> String
where
    E: ProvideErrorMetadata,
{
    match result {
        Ok(_) => "ok".to_owned(),
        Err(SdkError::ServiceError(error)) => meta(error.err().meta()),
        Err(SdkError::DispatchFailure(_)) => "dispatch".to_owned(),
        Err(SdkError::ResponseError(_)) => "response".to_owned(),
        Err(SdkError::TimeoutError(_)) => "timeout".to_owned(),
        Err(_) => "other".to_owned(),
    }
}

fn meta(meta: &ErrorMetadata) -> String {
    meta.code().unwrap_or("none").to_owned()
}

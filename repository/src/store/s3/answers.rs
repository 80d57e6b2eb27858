//! Answers of a bounded length.
//!
//! The SDK collects every answer whole before it looks at it, but for an object's body. An endpoint that never ends one would
//! fill the memory, so a layer around the HTTP client ends it. Objects' bodies come in pieces, and whoever reads them
//! counts.

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connector_metadata::ConnectorMetadata,
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::HttpRequest,
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

/// Longest answer to a request that succeeded, in bytes. A page of a listing has 1000 keys of at most 1024 bytes, each of
/// which is three characters at worst.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Longest answer to a request that failed, in bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// An answer went on past what any may have.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {limit_bytes} bytes")]
pub(super) struct AnswerTooLong {
    limit_bytes: usize,
}

/// The client, with answers that end.
pub(super) fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(BoundedClient(client))
}

#[derive(Debug)]
struct BoundedClient(SharedHttpClient);

impl HttpClient for BoundedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(
            self.0.http_connector(settings, components),
        ))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        HttpClient::validate_base_client_config(&self.0, components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        HttpClient::validate_final_config(&self.0, components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let is_for_object = asks_for_object(request.method(), request.uri());
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            Ok(match (answer.status().is_success(), is_for_object) {
                (true, true) => answer,
                (true, false) => answer.map(|body| limited(body, ANSWER_BYTES_MAX)),
                (false, _) => answer.map(|body| limited(body, ERROR_BYTES_MAX)),
            })
        })
    }
}

/// The SDK names the operation in the query. No key or prefix can look like it: an equals sign in one is encoded.
fn asks_for_object(method: &str, uri: &str) -> bool {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    method == "GET" && query.split('&').any(|pair| pair == "x-id=GetObject")
}

fn limited(body: SdkBody, limit_bytes: usize) -> SdkBody {
    let body = Limited::new(body, limit_bytes).map_err(move |error| {
        if error.is::<LengthLimitError>() {
            AnswerTooLong { limit_bytes }.into()
        } else {
            error
        }
    });
    SdkBody::from_body_1_x(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_may_be_long() {
        for (method, uri, expected) in [
            ("GET", "http://h/b/k?x-id=GetObject", true),
            ("GET", "http://h/b/k?versionId=v&x-id=GetObject", true),
            ("PUT", "http://h/b/k?x-id=GetObject", false),
            ("GET", "http://h/b/k?x-id=GetObjectRetention", false),
            ("GET", "http://h/b?prefix=x-id%3DGetObject", false),
            ("GET", "http://h/b/x-id=GetObject", false),
        ] {
            assert_eq!(asks_for_object(method, uri), expected, "{method} {uri}");
        }
    }

    #[tokio::test]
    async fn a_body_may_fill_its_limit() {
        let full = limited(SdkBody::from(vec![0; 100]), 100);
        assert_eq!(full.collect().await.unwrap().to_bytes().len(), 100);
        let over = limited(SdkBody::from(vec![0; 101]), 100);
        let error = over.collect().await.unwrap_err();
        assert!(error.is::<AnswerTooLong>(), "{error}");
    }
}

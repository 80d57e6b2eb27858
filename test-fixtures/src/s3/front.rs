//! What stands in front of a server: notes each request, and carries out the faults that were ordered.
//!
//! It sees HTTP only, so the server behind may be the one in the process or any other.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use s3s::{Body, StdError};

use super::body::{Shape, ShapedBody};
use super::faults::{Action, Faults};
use super::journal::{Journal, Ticket};
use super::op::{Target, classify};

/// A server behind the front.
#[async_trait::async_trait]
pub(crate) trait Upstream: Send + Sync + 'static {
    /// Handles a request. An error closes the client's connection.
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, StdError>;
}

/// See the module.
pub(crate) struct Front {
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    /// Names below which a host name is a bucket.
    pub(crate) domains: Vec<String>,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed on order, or because the server behind failed")]
pub(crate) struct Dropped;

type Handled = Result<Response<Body>, Dropped>;

impl Front {
    /// Handles one request.
    pub(crate) async fn handle(
        &self,
        request: Request<Body>,
    ) -> Result<Response<ShapedBody>, Dropped> {
        let (parts, body) = request.into_parts();
        let ticket = self.journal.begin(classify(
            &parts.method,
            &parts.uri,
            &parts.headers,
            &self.domains,
        ));
        let action = self.faults.pick(ticket.target());
        let mut shape_in = Shape::AsIs;
        let mut shape_out = Shape::AsIs;
        if let Some(action) = &action {
            ticket.set_fault(action.name());
            match *action {
                Action::FlipRequest { at } => shape_in = Shape::FlipAt(at),
                Action::FlipResponse { at } => shape_out = Shape::FlipAt(at),
                Action::TruncateBody { keep_bytes } => shape_out = Shape::BreakAt(keep_bytes),
                Action::ShortenBody { keep_bytes } => shape_out = Shape::EndAt(keep_bytes),
                Action::StallBody { keep_bytes } => shape_out = Shape::StallAt(keep_bytes),
                _ => {}
            }
        }
        let body = Body::http_body_unsync(ShapedBody::new(body, shape_in, ticket.bytes_in()));
        let answer = match action {
            None => self.forward(Request::from_parts(parts, body)).await,
            Some(action) => self.act(action, parts, body, &ticket).await,
        };
        answer.map(|response| finish(response, shape_out, ticket))
    }

    async fn forward(&self, request: Request<Body>) -> Handled {
        self.upstream.call(request).await.map_err(|error| {
            tracing::debug!(%error, "the server behind gave no answer");
            Dropped
        })
    }

    async fn act(&self, action: Action, parts: Parts, body: Body, ticket: &Ticket) -> Handled {
        let head = parts.method == Method::HEAD;
        match action {
            Action::DropBefore => Err(Dropped),
            Action::Hang => std::future::pending().await,
            Action::Status { status, code } => {
                drain(body).await?;
                Ok(error_answer(
                    status_code(status),
                    code,
                    ticket.number(),
                    head,
                ))
            }
            Action::OkWithError { code } => {
                drain(body).await?;
                Ok(error_answer(StatusCode::OK, code, ticket.number(), head))
            }
            Action::EmptyListing => {
                drain(body).await?;
                Ok(xml_answer(StatusCode::OK, empty_listing(ticket.target())))
            }
            Action::DropDuring { after_bytes } => {
                let counter = Arc::new(AtomicU64::new(0));
                let _partly = ShapedBody::new(body, Shape::EndAt(after_bytes), counter)
                    .collect()
                    .await;
                Err(Dropped)
            }
            Action::LateDuplicate { after } => self.twice(parts, body, after).await,
            other => {
                if let Action::Delay(delay) = other {
                    tokio::time::sleep(delay).await;
                }
                let response = self.forward(Request::from_parts(parts, body)).await?;
                after_handling(other, response, ticket.number(), head).await
            }
        }
    }

    /// Handles a request, and once more after a while; the second answer goes nowhere.
    async fn twice(&self, parts: Parts, body: Body, after: Duration) -> Handled {
        let data = drain(body).await?;
        let again = Request::from_parts(parts.clone(), Body::from(data.clone()));
        let response = self
            .forward(Request::from_parts(parts, Body::from(data)))
            .await?;
        let upstream = Arc::clone(&self.upstream);
        let target = classify(again.method(), again.uri(), again.headers(), &self.domains);
        let journal = self.journal.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let ticket = journal.begin(target);
            ticket.set_fault("late-duplicate");
            if let Ok(response) = upstream.call(again).await {
                ticket.set_status(response.status());
            }
        });
        Ok(response)
    }
}

/// What an action does to the answer of a request that was handled.
async fn after_handling(
    action: Action,
    response: Response<Body>,
    number: u64,
    head: bool,
) -> Handled {
    match action {
        Action::DropAfter => {
            drain(response.into_body()).await?;
            Err(Dropped)
        }
        Action::HangAfter => {
            drain(response.into_body()).await?;
            std::future::pending().await
        }
        Action::AppliedThenStatus { status, code } => {
            drain(response.into_body()).await?;
            Ok(error_answer(status_code(status), code, number, head))
        }
        Action::WrongEtag => wrong_etag(response).await,
        Action::SetHeader { name, value } => {
            let mut response = response;
            let name = header::HeaderName::from_static(name);
            match value {
                Some(value) => drop(
                    response
                        .headers_mut()
                        .insert(name, HeaderValue::from_static(value)),
                ),
                None => drop(response.headers_mut().remove(name)),
            }
            Ok(response)
        }
        _ => Ok(response),
    }
}

/// Counts and shapes the answer's body, and closes the record with it.
fn finish(response: Response<Body>, shape: Shape, ticket: Ticket) -> Response<ShapedBody> {
    let (mut parts, body) = response.into_parts();
    ticket.set_status(parts.status);
    if let Ok(number) = HeaderValue::from_str(&format!("{:016X}", ticket.number())) {
        parts.headers.entry("x-amz-request-id").or_insert(number);
    }
    if let Shape::EndAt(keep) = shape {
        let length = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(length) = length {
            parts
                .headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(keep.min(length)));
        }
    }
    let counter = ticket.bytes_out();
    Response::from_parts(parts, ShapedBody::new(body, shape, counter).holding(ticket))
}

/// Reads a body to its end. One that fails means that the client is gone.
async fn drain(body: Body) -> Result<Bytes, Dropped> {
    body.collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|_| Dropped)
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn error_answer(status: StatusCode, code: &str, number: u64, head: bool) -> Response<Body> {
    if head {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        return response;
    }
    let body = format!(
        "<Error><Code>{code}</Code><Message>A fault ordered by the test</Message>\
         <RequestId>{number:016X}</RequestId></Error>"
    );
    xml_answer(status, body)
}

fn xml_answer(status: StatusCode, body: String) -> Response<Body> {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    response
}

fn empty_listing(target: &Target) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let bucket = escape(target.bucket.as_deref().unwrap_or_default());
    let prefix = escape(target.key.as_deref().unwrap_or_default());
    match target.op {
        super::op::Op::ListMultipartUploads => format!(
            "<ListMultipartUploadsResult><Bucket>{bucket}</Bucket><Prefix>{prefix}</Prefix>\
             <MaxUploads>1000</MaxUploads><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
        ),
        super::op::Op::ListParts => format!(
            "<ListPartsResult><Bucket>{bucket}</Bucket><Key>{prefix}</Key><MaxParts>1000</MaxParts>\
             <IsTruncated>false</IsTruncated></ListPartsResult>"
        ),
        _ => format!(
            "<ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>0</KeyCount>\
             <MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
        ),
    }
}

/// Replaces the entity tag in the headers, and in an XML body.
async fn wrong_etag(response: Response<Body>) -> Handled {
    const WRONG: &str = "00000000000000000000000000000000";
    let (mut parts, body) = response.into_parts();
    if parts.headers.contains_key(header::ETAG) {
        let value = HeaderValue::from_str(&format!("\"{WRONG}\"")).map_err(|_| Dropped)?;
        parts.headers.insert(header::ETAG, value);
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    if content_type.is_none_or(|kind| !kind.as_bytes().ends_with(b"xml")) {
        return Ok(Response::from_parts(parts, body));
    }
    let data = drain(body).await?;
    let mut text = String::from_utf8_lossy(&data).into_owned();
    if let (Some(start), Some(end)) = (text.find("<ETag>"), text.find("</ETag>"))
        && start < end
    {
        text.replace_range(start + "<ETag>".len()..end, &format!("&quot;{WRONG}&quot;"));
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(text)))
}

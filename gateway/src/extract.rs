//! Reading requests: as axum does it, with errors in the form of the API that was called.
//!
//! Each API names its own: `type Body<T> = crate::extract::Json<T, OpenSds>;`. None is called `Json`, `Path` or `Query`
//! there: utoipa would describe these by itself, and does not know what stands before a nested path.

use std::marker::PhantomData;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;

use crate::problem::{Fault, Form, Problem};

/// A body in JSON, whatever its content type says: half of the clients say nothing or something else.
#[derive(Debug)]
pub(crate) struct Json<T, F>(pub(crate) T, pub(crate) PhantomData<fn() -> F>);

impl<S, T, F> FromRequest<S> for Json<T, F>
where
    S: Send + Sync,
    T: DeserializeOwned,
    F: Form,
{
    type Rejection = Fault<F>;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let body = body(request, state).await?;
        if body.is_empty() {
            return Err(Problem::bad_request("the request has no body; it has to be JSON").into());
        }
        Ok(Self(parse(&body)?, PhantomData))
    }
}

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let read = Bytes::from_request(request, state).await;
    read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::bad_request("the body cannot be read to its end"),
    })
}

pub(crate) fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "the body is larger than the gateway takes (`limits.bodySizeBytesMax`)",
    )
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => format!("the body does not fit: {error}"),
            _ => format!("the body is not JSON: {error}"),
        };
        Problem::bad_request(problem)
    })
}

/// Parts of the path.
#[derive(Debug)]
pub(crate) struct Path<T, F>(pub(crate) T, pub(crate) PhantomData<fn() -> F>);

impl<S, T, F> FromRequestParts<S> for Path<T, F>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
    F: Form,
{
    type Rejection = Fault<F>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let read = read.map_err(|rejection| {
            Problem::new(
                rejection.status(),
                format!("path: {}", rejection.body_text()),
            )
        })?;
        Ok(Self(read.0, PhantomData))
    }
}

/// The query.
#[derive(Debug)]
pub(crate) struct Query<T, F>(pub(crate) T, pub(crate) PhantomData<fn() -> F>);

impl<S, T, F> FromRequestParts<S> for Query<T, F>
where
    S: Send + Sync,
    T: DeserializeOwned,
    F: Form,
{
    type Rejection = Fault<F>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let read = read.map_err(|rejection| {
            Problem::new(
                rejection.status(),
                format!("query: {}", rejection.body_text()),
            )
        })?;
        Ok(Self(read.0, PhantomData))
    }
}

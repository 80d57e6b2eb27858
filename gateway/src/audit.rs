//! The audit log: one event for each call that changes something, or would have.
//!
//! It says who called what, and how it went; never what was in a body or a header.

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::Method;

/// Longest path that is written down, in bytes.
const PATH_SIZE_MAX: usize = 512;

/// What a handler puts into the extensions of its answer, so that the audit log names what was made:
/// `(Extension(Touched(id)), …).into_response()`. Ids in the path are there anyway.
#[derive(Debug, Clone)]
pub(crate) struct Touched(pub(crate) String);

/// What a handler puts there, too, where something went.
#[derive(Debug, Clone)]
pub(crate) struct Removed {
    /// The manager's id of it.
    pub(crate) id: String,
    /// Which copies of it, in words.
    pub(crate) copies: &'static str,
}

/// The pattern of the path that a handler answered.
#[derive(Debug, Clone)]
pub(crate) struct Route(MatchedPath);

/// Tells the outside which pattern matched.
pub(crate) async fn note_route(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(Route(matched));
    }
    response
}

/// A call that is to be written down.
#[derive(Debug)]
pub(crate) struct Entry {
    method: Method,
    path: String,
}

impl Entry {
    /// For a call that changes something; `None` for one that only reads.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        (!reads).then(|| Self {
            method: method.clone(),
            path: shortened(path),
        })
    }

    /// Writes it down. `who` may be somebody who was not let in.
    pub(crate) fn write(&self, who: &str, response: &Response, took: Duration) {
        let route = response.extensions().get::<Route>();
        let touched = response.extensions().get::<Touched>();
        let removed = response.extensions().get::<Removed>();
        tracing::info!(
            target: "audit",
            who,
            method = %self.method,
            route = route.map_or("-", |route| route.0.as_str()),
            path = self.path,
            id = touched.map_or("", |touched| &touched.0),
            removed = removed.map_or("", |removed| &removed.id),
            copies = removed.map_or("", |removed| removed.copies),
            status = response.status().as_u16(),
            outcome = outcome(response.status()),
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "call"
        );
    }
}

fn outcome(status: http::StatusCode) -> &'static str {
    match status.as_u16() {
        200..=399 => "accepted",
        401 | 403 => "denied",
        400..=499 => "refused",
        _ => "failed",
    }
}

fn shortened(path: &str) -> String {
    let mut end = path.len().min(PATH_SIZE_MAX);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_is_not_written_down() {
        assert!(Entry::of(&Method::GET, "/v1beta/t/profiles").is_none());
        assert!(Entry::of(&Method::HEAD, "/").is_none());
        let long = format!("/{}", "ü".repeat(400));
        let entry = Entry::of(&Method::DELETE, &long).unwrap();
        assert!(entry.path.len() <= PATH_SIZE_MAX && long.starts_with(&entry.path));
    }
}

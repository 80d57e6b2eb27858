//! Microversions: which one a call is of, the documents that name them, and the headers that every answer has.

use std::str::FromStr;

use axum::{
    Json,
    extract::{OriginalUri, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use ulid::Ulid;

use super::{Cinder, asked, ids};
use crate::{
    problem::{self, Problem},
    state::Gateway,
};

const HEADER: HeaderName = HeaderName::from_static("openstack-api-version");
const REQUEST_IDS: [HeaderName; 2] = [
    HeaderName::from_static("x-openstack-request-id"),
    HeaderName::from_static("x-compute-request-id"),
];
/// The service type in the header.
const SERVICE: &str = "volume";
/// The newest minor that is served. From 3.67 on, paths need no project, which these do.
const NEWEST: u16 = 66;

/// A microversion: the minor of 3.x. What `/v2` offers is what 3.0 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Microversion(u16);

impl Microversion {
    const OLDEST: Self = Self(0);

    /// Whether what came with 3.`minor` is there.
    pub(super) fn has(self, minor: u16) -> bool {
        self.0 >= minor
    }
}

impl std::fmt::Display for Microversion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "3.{}", self.0)
    }
}

impl FromStr for Microversion {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text == "latest" {
            return Ok(Self(NEWEST));
        }
        let numbers = text.split_once('.').and_then(|(major, minor)| {
            let is_number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
            (is_number(major) && is_number(minor)).then_some((major, minor))
        });
        let Some((major, minor)) = numbers else {
            return Err(Problem::bad_request(format!(
                "API Version String {text:?} is of invalid format: it has to be 3.N or latest"
            )));
        };
        match (major.parse::<u16>(), minor.parse::<u16>()) {
            (Ok(3), Ok(minor)) if minor <= NEWEST => Ok(Self(minor)),
            _ => Err(Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                format!(
                    "Version {text} is not supported by the API. Minimum is 3.0 and maximum is 3.{NEWEST}."
                ),
            )),
        }
    }
}

/// The microversion that a call asks for: 3.0 if it says nothing of volumes.
fn of(headers: &HeaderMap) -> Result<Microversion, Problem> {
    let mut asked = Microversion::OLDEST;
    for value in headers.get_all(&HEADER) {
        let Ok(text) = value.to_str() else {
            return Err(Problem::bad_request(
                "the header OpenStack-API-Version is not text",
            ));
        };
        for of_service in text.split(',') {
            let of_service = of_service.trim();
            let (service, version) = of_service.split_once(' ').unwrap_or((of_service, ""));
            if service == SERVICE {
                asked = version.trim().parse()?;
            }
        }
    }
    Ok(asked)
}

/// Finds out the microversion of a call, and gives its answer the headers that clients look for.
pub(super) async fn stamp(
    OriginalUri(uri): OriginalUri,
    mut request: Request,
    next: Next,
) -> Response {
    // What is not below /v3 has no microversions.
    let asked = if uri.path().starts_with("/v3/") {
        of(request.headers()).map(Some)
    } else {
        Ok(None)
    };
    let (version, mut response) = match asked {
        Ok(asked) => {
            let version = asked.unwrap_or(Microversion::OLDEST);
            request.extensions_mut().insert(version);
            (asked, next.run(request).await)
        }
        Err(problem) => (None, problem::answer::<Cinder>(&problem)),
    };
    let headers = response.headers_mut();
    if let Some(version) = version
        && let Ok(value) = HeaderValue::from_str(&format!("{SERVICE} {version}"))
    {
        headers.insert(HEADER, value);
        headers.append(
            header::VARY,
            HeaderValue::from_static("OpenStack-API-Version"),
        );
    }
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        for name in REQUEST_IDS {
            headers.insert(name, id.clone());
        }
    }
    response
}

/// In the form that OpenStack gives its own.
fn request_id() -> String {
    format!("req-{}", ids::uuid(Ulid::generate()))
}

/// Every version of Cinder's API.
#[utoipa::path(get, path = "/", tag = "cinder", operation_id = "cinder_versions",
    responses((status = 300, description = "the versions that are served", body = Value)))]
pub(super) async fn all(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let origin = asked::origin(&headers, &gateway);
    let body = json!({"versions": [document(&origin, "v2"), document(&origin, "v3")]});
    (StatusCode::MULTIPLE_CHOICES, Json(body)).into_response()
}

/// Version 2 of Cinder's API.
#[utoipa::path(get, path = "/v2", tag = "cinder", operation_id = "cinder_version_2",
    responses((status = 200, description = "version 2", body = Value)))]
pub(super) async fn second(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let origin = asked::origin(&headers, &gateway);
    Json(json!({"versions": [document(&origin, "v2")]})).into_response()
}

/// Version 3 of Cinder's API, with the microversions served.
#[utoipa::path(get, path = "/v3", tag = "cinder", operation_id = "cinder_version_3",
    responses((status = 200, description = "version 3", body = Value)))]
pub(super) async fn third(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let origin = asked::origin(&headers, &gateway);
    Json(json!({"versions": [document(&origin, "v3")]})).into_response()
}

fn document(origin: &str, api: &str) -> Value {
    let (id, status, newest, oldest) = match api {
        "v3" => ("v3.0", "CURRENT", format!("3.{NEWEST}"), "3.0"),
        _ => ("v2.0", "DEPRECATED", String::new(), ""),
    };
    json!({
        "id": id,
        "status": status,
        "version": newest,
        "min_version": oldest,
        // Of this API's description, not of this program.
        "updated": "2026-11-21T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{origin}/{api}/")}],
        "media-types": [{
            "base": "application/json",
            "type": format!("application/vnd.openstack.volume+json;version={}", &api[1..]),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&str]) -> Result<Microversion, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).unwrap());
        }
        of(&headers)
    }

    #[test]
    fn the_microversion_of_a_call() {
        assert_eq!(asked(&[]), Ok(Microversion(0)));
        assert_eq!(asked(&["compute 2.1"]), Ok(Microversion(0)));
        assert_eq!(asked(&["compute 2.1, volume 3.43"]), Ok(Microversion(43)));
        assert_eq!(asked(&["compute 2.1", "volume 3.9"]), Ok(Microversion(9)));
        assert_eq!(asked(&["volume latest"]), Ok(Microversion(NEWEST)));
        for (bad, status) in [
            ("volume 3.67", 406),
            ("volume 2.0", 406),
            ("volume 99999999.1", 406),
            ("volume 3", 400),
            ("volume 3.+1", 400),
            ("volume x.y", 400),
            ("volume ", 400),
        ] {
            let problem = asked(&[bad]).unwrap_err();
            assert_eq!(problem.status.as_u16(), status, "{bad}");
        }
    }

    #[test]
    fn a_request_id_is_a_uuid() {
        let id = request_id();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [3, 8, 4, 4, 4, 12], "{id}");
    }
}

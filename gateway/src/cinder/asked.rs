//! What every call says beside its body: whose it is, of which microversion, and where links in the answer lead.

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use http::{HeaderMap, header, request::Parts};
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{Fault, bad_input, fields, version::Microversion};
use crate::{problem::Problem, state::Gateway};

/// What stands in the path of a collection.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path; `Asked` reads it")]
pub(super) struct ProjectPath {
    /// The project (tenant): a label, under which lists show what it made.
    project_id: String,
}

/// What stands in the path of one thing.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the path; `Asked` reads it")]
pub(super) struct ThingPath {
    /// The project (tenant).
    project_id: String,
    /// Its id.
    id: String,
}

/// What a call says of itself.
#[derive(Debug)]
pub(super) struct Asked {
    /// The project of the path.
    pub(super) project: String,
    /// The id of the path; empty in that of a collection.
    pub(super) id: String,
    /// Which features it may ask for.
    pub(super) version: Microversion,
    /// Whose the caller says it is: a label and no proof.
    pub(super) user: Option<String>,
    /// `http://host:port`.
    origin: String,
    /// `v2` or `v3`.
    api: &'static str,
    /// The project as it is written in the path.
    segment: String,
}

impl FromRequestParts<Gateway> for Asked {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Fault> {
        let version = parts.extensions.get::<Microversion>().copied();
        let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(parts, gateway).await;
        let params = RawPathParams::from_request_parts(parts, gateway).await;
        let params = params.map_err(|_| Problem::bad_request("the path is not valid UTF-8"))?;
        let (mut project, mut id) = (String::new(), String::new());
        for (name, value) in &params {
            match name {
                "project_id" => value.clone_into(&mut project),
                "id" => value.clone_into(&mut id),
                _ => {}
            }
        }
        fields::check_text("project_id", &project)?;
        if id.len() > fields::TEXT_LEN_MAX {
            return Err(bad_input("an id has at most 255 characters"));
        }
        let mut segments = uri.path().split('/').skip(1);
        let api = match segments.next() {
            Some("v2") => "v2",
            _ => "v3",
        };
        let user = parts.headers.get("x-user-id");
        let user = user.and_then(|user| user.to_str().ok());
        let user = user.filter(|user| !user.is_empty() && user.len() <= fields::TEXT_LEN_MAX);
        Ok(Self {
            project,
            id,
            version: version.ok_or_else(|| Problem::not_found("this version"))?,
            user: user.map(str::to_owned),
            origin: origin(&parts.headers, gateway),
            api,
            segment: segments.next().unwrap_or_default().to_owned(),
        })
    }
}

impl Asked {
    /// The address of a thing, or of a list, below the project.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}/{}/{}/{path}", self.origin, self.api, self.segment)
    }

    /// The links that everything has.
    pub(super) fn links(&self, collection: &str, id: &str) -> Value {
        json!([
            {"rel": "self", "href": self.address(&format!("{collection}/{id}"))},
            {"rel": "bookmark", "href": format!("{}/{}/{collection}/{id}", self.origin, self.segment)},
        ])
    }
}

/// Where the caller reached us, as far as it says.
pub(super) fn origin(headers: &HeaderMap, gateway: &Gateway) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        Some("http") => "http",
        _ if gateway.config.certificate.is_some() => "https",
        _ => "http",
    };
    let is_host = |host: &&str| {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        !host.is_empty() && host.bytes().all(sound)
    };
    let host = text(header::HOST.as_str()).filter(is_host);
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

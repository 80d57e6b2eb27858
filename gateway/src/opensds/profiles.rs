//! Profiles: named policies. The manager keeps them, as files.

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Map, Value};
use stockpot_proto::stockpot::v1 as api;
use tonic::Code;
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use super::{
    Answer, Asked, Body, Fault, Parts,
    listing::{self, Listing},
};
use crate::{audit::Touched, problem::Problem, state::Gateway};

/// How often a change is tried again where others change the same.
const TRIES_MAX: u32 = 8;
/// Fields by which a list can be ordered and filtered.
const FIELDS: [&str; 6] = [
    "id",
    "createdAt",
    "updatedAt",
    "name",
    "description",
    "storageType",
];

/// What the list can be asked for.
struct ListParams;

impl IntoParams for ListParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        listing::params(&FIELDS)
    }
}

/// A profile, as it is described; the manager reads it.
#[derive(Debug, ToSchema)]
#[schema(as = OpenSdsProfile, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct ProfileBody {
    /// Its name, unique.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// In words.
    description: Option<String>,
    /// block.
    storage_type: Option<String>,
    /// `schedule {datetime, occurrence}`, `retention {number, duration}`, and `topology {bucket, prefix, endpoint, …}`: where the
    /// cloud copy of a snapshot with this profile lies. Credentials and keys are named as files of the manager's folder, never
    /// told.
    snapshot_properties: Option<Map<String, Value>>,
    /// Kept. A profile that has some is for no snapshot.
    provisioning_properties: Option<Map<String, Value>>,
    /// Kept. A profile that has some is for no snapshot.
    replication_properties: Option<Map<String, Value>>,
    /// Kept. A profile that has some is for no snapshot.
    data_protection_properties: Option<Map<String, Value>>,
    /// Kept. A profile that has some is for no snapshot.
    custom_properties: Option<Map<String, Value>>,
}

/// Makes a profile. The same one again is answered as it is.
#[utoipa::path(post, path = "/profiles", tag = "OpenSDS", request_body = ProfileBody,
    responses((status = 200, description = "It is there.", body = ProfileBody)))]
pub(super) async fn create_profile(
    State(gateway): State<Gateway>,
    body: Body<Map<String, Value>>,
) -> Answer {
    let request = api::WriteProfileRequest {
        document: Value::Object(body.0).to_string(),
        ..Default::default()
    };
    let made = gateway.manager.profiles().create_profile(request).await?;
    answer(made.into_inner())
}

/// Lists profiles.
#[utoipa::path(get, path = "/profiles", tag = "OpenSDS",
    params(ListParams),
    responses((status = 200, description = "Those that fit.", body = Vec<ProfileBody>)))]
pub(super) async fn list_profiles(State(gateway): State<Gateway>, asked: Asked) -> Answer {
    let listing = Listing::parse(asked.0, &FIELDS)?;
    let request = api::ListProfilesRequest {};
    let listed = gateway
        .manager
        .profiles()
        .list_profile_documents(request)
        .await?;
    let profiles = listed.into_inner().profiles.into_iter();
    let all: Result<Vec<_>, _> = profiles.map(object).collect();
    Ok(Json(listing.of(all?)).into_response())
}

/// Shows one profile.
#[utoipa::path(get, path = "/profiles/{profileId}", tag = "OpenSDS",
    responses((status = 200, description = "It.", body = ProfileBody)))]
pub(super) async fn get_profile(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
) -> Answer {
    answer(find(&gateway, parts.0.1).await?)
}

/// Changes what the body names; a field that is `null` is taken out.
#[utoipa::path(put, path = "/profiles/{profileId}", tag = "OpenSDS",
    request_body = inline(Map<String, Value>),
    responses((status = 200, description = "As it is now.", body = ProfileBody)))]
pub(super) async fn update_profile(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
    body: Body<Map<String, Value>>,
) -> Answer {
    let mut tries = 1;
    loop {
        let found = find(&gateway, parts.0.1.clone()).await?;
        let request = changed(found, &body.0)?;
        match gateway.manager.profiles().update_profile(request).await {
            // Another change came between: both are wanted.
            Err(status) if status.code() == Code::Aborted && tries < TRIES_MAX => tries += 1,
            changed => return answer(changed?.into_inner()),
        }
    }
}

/// What is to be written so that a profile as it is says what a body says.
fn changed(
    found: api::ProfileDocument,
    asked: &Map<String, Value>,
) -> Result<api::WriteProfileRequest, Problem> {
    let (profile, replaces) = (found.id.clone(), found.document.clone());
    let Value::Object(mut document) = object(found)? else {
        return Err(odd());
    };
    for (name, value) in asked {
        match value {
            Value::Null => document.remove(name),
            value => document.insert(name.clone(), value.clone()),
        };
    }
    Ok(api::WriteProfileRequest {
        profile,
        document: Value::Object(document).to_string(),
        replaces,
    })
}

/// Removes a profile that nothing needs any more.
#[utoipa::path(delete, path = "/profiles/{profileId}", tag = "OpenSDS",
    responses((status = 200, description = "It is gone.")))]
pub(super) async fn delete_profile(
    State(gateway): State<Gateway>,
    parts: Parts<(String, String)>,
) -> Answer {
    let profile = find(&gateway, parts.0.1).await?.id;
    let request = api::DeleteProfileRequest {
        profile,
        force: false,
    };
    gateway.manager.profiles().delete_profile(request).await?;
    Ok(StatusCode::OK.into_response())
}

async fn find(gateway: &Gateway, profile: String) -> Result<api::ProfileDocument, Fault> {
    let request = api::GetProfileRequest { profile };
    let found = gateway.manager.profiles().get_profile(request).await?;
    Ok(found.into_inner())
}

fn answer(profile: api::ProfileDocument) -> Answer {
    let touched = Touched(profile.id.clone());
    let response: Response = Json(object(profile)?).into_response();
    Ok((Extension(touched), response).into_response())
}

/// A profile as OpenSDS tells it: with an id, also where it has none of its own.
fn object(profile: api::ProfileDocument) -> Result<Value, Problem> {
    let mut document: Value = serde_json::from_str(&profile.document).map_err(|_| odd())?;
    let fields = document.as_object_mut().ok_or_else(odd)?;
    fields.insert("id".to_owned(), profile.id.into());
    Ok(document)
}

fn odd() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the manager told a profile that is no JSON object",
    )
}

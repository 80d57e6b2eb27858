//! Sizes, times, names and metadata, as OpenSDS writes them.

use std::collections::{BTreeMap, HashMap};

use http::StatusCode;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use stockpot_proto::stockpot::v1 as api;
use tonic::{Code, Status};
use ulid::Ulid;

use super::Fault;
use crate::{problem::Problem, state::Gateway};

/// Sizes are told in GiB.
pub(super) const GIB: u64 = 1 << 30;
/// The only zone there is.
pub(super) const ZONE: &str = "default";

/// What we keep in the metadata of volumes and snapshots; it is told as fields of its own.
const DESCRIPTION: &str = "opensds.description";
const TENANT: &str = "opensds.tenant";
const RESERVED: &str = "opensds.";

/// The bytes of a size that a caller asks for.
pub(super) fn bytes_of(field: &str, gib: i64) -> Result<u64, Problem> {
    u64::try_from(gib)
        .ok()
        .filter(|gib| *gib > 0)
        .and_then(|gib| gib.checked_mul(GIB))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| Problem::bad_request(format!("{field}: {gib} is not a size in GiB")))
}

/// A size as it is told: whole GiB, none too few.
pub(super) fn gib_of(bytes: u64) -> u64 {
    bytes.div_ceil(GIB)
}

/// A time as OpenSDS writes it: UTC, to the second, without a zone.
pub(super) fn time_of(time: Option<prost_types::Timestamp>) -> String {
    time.and_then(|time| Timestamp::from_second(time.seconds).ok())
        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string())
        .unwrap_or_default()
}

/// The name that was asked for, or one that nothing else has.
pub(super) fn name_or_new(name: String, kind: &str) -> String {
    match name.is_empty() {
        true => format!("{kind}-{}", Ulid::generate().to_string().to_lowercase()),
        false => name,
    }
}

/// What is kept with what is made: the caller's metadata, the description, the tenant.
///
/// # Errors
/// A key that answers give a meaning of their own: what a caller keeps by it would not be told.
pub(super) fn kept(
    mut metadata: BTreeMap<String, String>,
    description: String,
    tenant: String,
    answered: &[&str],
) -> Result<HashMap<String, String>, Problem> {
    if let Some(key) = metadata.keys().find(|key| key.starts_with(RESERVED)) {
        let problem = format!("metadata: {key:?} begins with {RESERVED:?}, which is reserved");
        return Err(Problem::bad_request(problem));
    }
    if let Some(key) = metadata.keys().find(|key| answered.contains(&key.as_str())) {
        let instead = match key.as_str() {
            "profile" | "profileId" => "name the profile in the field profileId of the body",
            _ => "answers tell something else by it; take another key",
        };
        return Err(Problem::bad_request(format!(
            "metadata: {key:?} is reserved: {instead}"
        )));
    }
    if !description.is_empty() {
        metadata.insert(DESCRIPTION.to_owned(), description);
    }
    metadata.insert(TENANT.to_owned(), tenant);
    Ok(metadata.into_iter().collect())
}

/// Description, tenant, and the rest of what was kept.
pub(super) fn told(kept: &HashMap<String, String>) -> (String, String, BTreeMap<String, String>) {
    let of = |key: &str| kept.get(key).cloned().unwrap_or_default();
    let rest = kept.iter().filter(|(key, _)| !key.starts_with(RESERVED));
    let rest = rest.map(|(key, value)| (key.clone(), value.clone()));
    (of(DESCRIPTION), of(TENANT), rest.collect())
}

/// An object without its empty texts, as Go's encoder leaves them out.
pub(super) fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| match value {
                Value::String(text) => !text.is_empty(),
                Value::Bool(set) => *set,
                Value::Null => false,
                _ => true,
            });
            Value::Object(fields.collect())
        }
        other => other,
    }
}

/// What a body says, once fields that only answers have are left out. OpenSDS's clients send whole objects.
///
/// # Errors
/// A field that is not known, or would have an effect that is not to be had here.
pub(super) fn fields<T: DeserializeOwned>(
    mut body: Map<String, Value>,
    only_answered: &[&str],
    not_here: &[&str],
) -> Result<T, Problem> {
    for name in only_answered {
        body.remove(*name);
    }
    for name in not_here {
        let says_something = match body.remove(*name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
            Some(_) => true,
        };
        if says_something {
            let problem = format!("{name}: cannot be chosen here; leave it out");
            return Err(Problem::bad_request(problem));
        }
    }
    serde_json::from_value(Value::Object(body))
        .map_err(|error| Problem::bad_request(format!("the body does not fit: {error}")))
}

/// What a body names and is not there is the body's mistake, not the path's.
pub(super) fn named_in_body(status: Status) -> Fault {
    let is_absent = status.code() == Code::NotFound;
    let mut problem = Problem::from(status);
    if is_absent {
        problem.status = StatusCode::BAD_REQUEST;
    }
    problem.into()
}

/// The name of the profile that an id, or a name, stands for.
pub(super) async fn profile_name(gateway: &Gateway, id: &str) -> Result<String, Fault> {
    if id.is_empty() {
        return Ok(String::new());
    }
    let request = api::GetProfileRequest {
        profile: id.to_owned(),
    };
    let found = gateway.manager.profiles().get_profile(request).await;
    Ok(found.map_err(named_in_body)?.into_inner().name)
}

/// The ids of profiles by their names, where there is a name to look up.
pub(super) async fn profile_ids(
    gateway: &Gateway,
    is_needed: bool,
) -> Result<HashMap<String, String>, Fault> {
    if !is_needed {
        return Ok(HashMap::new());
    }
    let request = api::ListProfilesRequest {};
    let listed = gateway
        .manager
        .profiles()
        .list_profile_documents(request)
        .await?;
    let profiles = listed.into_inner().profiles.into_iter();
    Ok(profiles.map(|profile| (profile.name, profile.id)).collect())
}

/// The id of a profile by its name; the name itself when it is not there any more.
pub(super) fn id_of(ids: &HashMap<String, String>, name: &str) -> String {
    ids.get(name).map_or(name, String::as_str).to_owned()
}

/// Refuses a change of what stays as it was made.
pub(super) fn same(asked: &Map<String, Value>, now: &Value, what: &str) -> Result<(), Problem> {
    for (field, value) in asked {
        // Go's encoder leaves out what is empty, others do not.
        let is_empty = value.as_str() == Some("");
        if now.get(field).unwrap_or(&Value::Null) != value && !is_empty {
            let problem = format!("{field}: {what} stays as it was made; it cannot be changed");
            return Err(Problem::bad_request(problem));
        }
    }
    Ok(())
}

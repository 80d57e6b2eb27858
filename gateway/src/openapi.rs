//! What describes the APIs: OpenAPI 3.1 at `/openapi.json`, and pages to read it on at `/docs`.

use std::collections::BTreeSet;

use axum::Router;
use serde_json::{Map, Value, json};
use utoipa::openapi::{
    Components, Info, License, ObjectBuilder, OpenApi, OpenApiBuilder, Required, Type,
    path::{Parameter, ParameterBuilder, ParameterIn},
    security::{
        ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
    },
};
use utoipa_swagger_ui::SwaggerUi;

use crate::routes::Api;

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// What holds for all of it.
pub(crate) fn about() -> OpenApi {
    let mut info = Info::new("Stockpot's gateway", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Volumes, snapshots and backups by the APIs of OpenSDS, Cinder and cStor. On a unix socket nothing has to be \
         shown; on TCP a token or a certificate, unless the network is one that needs neither."
            .to_owned(),
    );
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    info.license = Some(license);
    let mut components = Components::new();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let header = ApiKey::Header(ApiKeyValue::new("X-Auth-Token"));
    components.add_security_scheme("token", SecurityScheme::ApiKey(header));
    let nothing = SecurityRequirement::default();
    let requirement = |name: &str| SecurityRequirement::new::<_, [&str; 0], &str>(name, []);
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([nothing, requirement("bearer"), requirement("token")]))
        .build()
}

/// A text that a query may have.
pub(crate) fn query_text(name: &str, meaning: &str) -> Parameter {
    query(
        name,
        meaning,
        ObjectBuilder::new().schema_type(Type::String),
    )
}

/// A number of 0 or more that a query may have.
pub(crate) fn query_count(name: &str, meaning: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::Integer);
    query(name, meaning, schema.minimum(Some(0)))
}

fn query(name: &str, meaning: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(meaning))
        .schema(Some(schema.build()))
        .build()
}

/// The bodies of errors that are JSON.
fn errors() -> [(&'static str, Value); 2] {
    let said = json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status."},
            "message": {"type": "string", "description": "What is wrong, and what to do."},
        },
    });
    let fault = json!({
        "type": "object",
        "description": "Its one field is named by the status: badRequest, itemNotFound, ….",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": said,
    });
    [("OpenSdsError", said), ("CinderFault", fault)]
}

/// What an error of an API has as its body.
fn error_content(api: Api) -> Value {
    let json = |name: &str| {
        let schema = format!("#/components/schemas/{name}");
        json!({"application/json": {"schema": {"$ref": schema}}})
    };
    match api {
        Api::OpenSds => json("OpenSdsError"),
        Api::Cinder => json("CinderFault"),
        Api::Cstor => json!({"text/plain": {"schema": {"type": "string"}}}),
    }
}

/// The document as it is served: what a handler cannot know of itself is added.
///
/// An API that answers below several paths has its operations once for each, so their ids get the first part of the path;
/// the parts of a path that an API is nested at are its operations' parameters, too; and each may answer an error, in the form
/// of its API.
pub(crate) fn document(description: &OpenApi) -> Value {
    let mut document = serde_json::to_value(description).unwrap_or_default();
    let mut ids = BTreeSet::new();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method).and_then(Value::as_object_mut) {
                complete(operation, path, &mut ids);
            }
        }
    }
    for (name, schema) in errors() {
        document["components"]["schemas"][name] = schema;
    }
    document
}

fn complete(operation: &mut Map<String, Value>, path: &str, ids: &mut BTreeSet<String>) {
    if let Some(id) = operation.get("operationId").and_then(Value::as_str) {
        let first = path
            .split('/')
            .find(|part| !part.is_empty())
            .unwrap_or("root");
        let mut unique = format!("{first}_{id}");
        while !ids.insert(unique.clone()) {
            unique.push('_');
        }
        operation.insert("operationId".to_owned(), unique.into());
    }
    let parameters = operation
        .entry("parameters")
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Some(parameters) = parameters.as_array_mut() {
        let names = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for name in names {
            let is_there = parameters
                .iter()
                .any(|parameter| parameter["name"] == name && parameter["in"] == "path");
            if !is_there {
                parameters.push(json!({
                    "name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
                }));
            }
        }
    }
    let responses = operation
        .entry("responses")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(responses) = responses.as_object_mut() {
        responses.entry("default").or_insert_with(
            || json!({"description": "It was refused, or failed; the body says why."}),
        );
        for (status, response) in responses {
            let is_error = status.starts_with(['4', '5']) || status == "default";
            if is_error && response.get("content").is_none() {
                response["content"] = error_content(Api::of(path));
            }
        }
    }
}

/// Serves the description and the pages.
pub(crate) fn pages<S: Clone + Send + Sync + 'static>(description: &OpenApi) -> Router<S> {
    SwaggerUi::new("/docs")
        .external_url_unchecked("/openapi.json", document(description))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_part_of_a_path_is_a_parameter() {
        let (_, description) = crate::routes::routes();
        let document = document(&description);
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in METHODS {
                let Some(operation) = item.get(method) else {
                    continue;
                };
                operations += 1;
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
                let parameters = operation["parameters"].as_array().unwrap();
                let named: BTreeSet<_> = parameters
                    .iter()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap()))
                    .collect();
                let parts = path.split('/').filter(|part| part.starts_with('{'));
                assert_eq!(named, parts.map(str::to_owned).collect(), "{method} {path}");
            }
        }
        assert!(operations >= 17, "{operations}");
        assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    }

    #[test]
    fn lists_tell_their_filters_and_errors_their_form() {
        let (_, description) = crate::routes::routes();
        let document = document(&description);
        let operation = |path: &str| &document["paths"][path]["get"];
        let queries = |path: &str| -> BTreeSet<String> {
            let all = operation(path)["parameters"].as_array().unwrap();
            let all = all.iter().filter(|parameter| parameter["in"] == "query");
            all.map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let backups = queries("/v3/{project_id}/backups/detail");
        for name in [
            "sort_key",
            "sort_dir",
            "project_id",
            "tenant_id",
            "container",
            "with_count",
        ] {
            assert!(backups.contains(name), "{name}: {backups:?}");
        }
        let volumes = queries("/v1beta/{tenantId}/block/volumes");
        for name in ["limit", "sortDir", "poolId", "snapshotId"] {
            assert!(volumes.contains(name), "{name}: {volumes:?}");
        }
        for (path, form) in [
            ("/v3/{project_id}/backups", "CinderFault"),
            ("/v1beta/{tenantId}/profiles", "OpenSdsError"),
            ("/healthz", "OpenSdsError"),
        ] {
            let content = &operation(path)["responses"]["default"]["content"];
            let named = content["application/json"]["schema"]["$ref"]
                .as_str()
                .unwrap();
            let schema = document.pointer(named.trim_start_matches('#')).unwrap();
            assert!(
                named.ends_with(form) && schema["type"] == "object",
                "{path}: {named}"
            );
        }
        let cstor = &operation("/latest/backups")["responses"]["default"];
        assert!(cstor["content"]["text/plain"].is_object(), "{cstor}");
    }
}

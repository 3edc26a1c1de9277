//! The description of all calls, as OpenAPI 3.1: made from the table that the routes are made from.

use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::call::{Call, Format};
use super::problem::Problem;

/// The description, as a document.
fn described(calls: &[Call]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    // What may be left out of a question is always there in an answer.
    let mut generators = Generators {
        taken: settings.clone().for_deserialize().into_generator(),
        given: settings.for_serialize().into_generator(),
    };
    let problem = generators.given.subschema_for::<Problem>();
    let mut paths = Map::new();
    for call in calls {
        let operation = operation(call, &problem, &mut generators);
        let path = paths.entry(call.path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            methods.insert(call.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let mut schemas = generators.given.take_definitions(true);
    schemas.extend(generators.taken.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fender's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A secret of [[admin.token]]" },
            },
        },
    })
}

/// What makes the schemas of what calls take, and of what they give.
struct Generators {
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

fn operation(call: &Call, problem: &Schema, generators: &mut Generators) -> Value {
    let mut parameters = path_parameters(call.path);
    if let Some(query) = call.query {
        parameters.extend(query_parameters(&query(&mut generators.taken)));
    }
    let (etag, heeds_etag) = call.tagged;
    if heeds_etag {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "An ETag as it was told: 412 if the letter has changed since",
            "schema": { "type": "string", "pattern": "^(\\*|(W/)?\"[!#-~]*\")$" },
        }));
    }
    if call.path == "/api/v1/events" {
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "required": false,
            "description": "The id of the last event that was read: what came after it is told first",
            "schema": { "type": "string", "pattern": "^[!-~]*$" },
        }));
    }
    let (status, format) = &call.answers;
    let mut fine = json!({ "description": call.about, "content": content(format, &mut generators.given) });
    if etag && let Value::Object(members) = &mut fine {
        let header = json!({ "ETag": { "required": true, "schema": { "type": "string" } } });
        members.insert("headers".to_owned(), header);
    }
    let mut responses = Map::from_iter([(status.as_str().to_owned(), fine)]);
    for code in failures(call) {
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let why = code.canonical_reason().unwrap_or_default();
        let probe = call.path.starts_with("/health/") && code == StatusCode::SERVICE_UNAVAILABLE;
        let content = if probe {
            content(format, &mut generators.given)
        } else {
            json!({ "application/problem+json": { "schema": problem } })
        };
        responses.insert(code.as_str().to_owned(), json!({ "description": why, "content": content }));
    }
    let mut operation = json!({
        "operationId": operation_id(&call.method, call.path),
        "summary": call.about,
        "x-fender-role": call.rule.as_str(),
        "security": if call.rule.needs_token() { json!([{ "token": [] }]) } else { json!([]) },
        "parameters": parameters,
        "responses": responses,
    });
    if let (Value::Object(members), Some((format, required))) = (&mut operation, &call.body) {
        let mut content = content(format, &mut generators.taken);
        let text = content.as_object_mut().and_then(|forms| forms.values_mut().next()?.get_mut("schema"));
        if let (Format::Other(..), Some(Value::Object(schema))) = (format, text) {
            schema.insert("minLength".to_owned(), json!(1)); // An empty one is a missing one.
        }
        let body = json!({ "required": required, "content": content });
        members.insert("requestBody".to_owned(), body);
    }
    operation
}

/// What may go wrong with any call, with those that have such input, and with this one.
fn failures(call: &Call) -> Vec<u16> {
    let mut codes = call.fails.to_vec();
    if call.rule.needs_token() {
        codes.extend([401, 403, 429, 503]);
    }
    if call.query.is_some() || call.body.is_some() || call.path.contains('{') {
        codes.push(400);
    }
    if call.method != Method::GET {
        codes.push(413);
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn content(format: &Format, generator: &mut SchemaGenerator) -> Value {
    match format {
        Format::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Format::Other(media_type, what) => {
            json!({ *media_type: { "schema": { "type": "string", "description": what } } })
        }
    }
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let what = match name {
                "id" if path.contains("/requests/") => "A `fender-request-id`, or a letter's id",
                "id" => "A letter's id",
                _ => "An upstream's name",
            };
            json!({
                "name": name, "in": "path", "required": true, "description": what,
                "schema": { "type": "string", "minLength": 1 },
            })
        })
        .collect()
}

/// One parameter for each property of the query's form.
fn query_parameters(schema: &Schema) -> Vec<Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let mut property = property.clone();
            never_null(&mut property);
            let about = property.as_object_mut().and_then(|members| members.remove("description"));
            json!({ "name": name, "in": "query", "required": false, "description": about, "schema": property })
        })
        .collect()
}

/// A query has no null: what is not asked for is left out.
fn never_null(property: &mut Value) {
    if let Some(Value::Array(words)) = property.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(kind) = property.get_mut("type")
        && let Value::Array(kinds) = kind
        && let [one, Value::String(null)] = kinds.as_slice()
        && null == "null"
    {
        *kind = one.clone();
    }
}

/// `post_breakers_name_reset`.
fn operation_id(method: &Method, path: &str) -> String {
    let parts = path.trim_start_matches("/api/v1").split('/').filter(|part| !part.is_empty());
    let words = parts.map(|part| part.trim_matches(['{', '}']).replace('-', "_"));
    let words: Vec<String> = std::iter::once(method.as_str().to_ascii_lowercase()).chain(words).collect();
    words.join("_")
}

/// The document, as it ships: a test holds it to what [`openapi`] makes. The program itself does not make it, since what would
/// is many times as large.
const DOCUMENT: &str = include_str!("openapi.json");

/// The document, made from the table of calls.
#[must_use]
pub fn openapi() -> Value {
    described(&super::server::calls(None, None))
}

pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

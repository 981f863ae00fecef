//! The publish API for back ends: `POST /api/<method>` with a key, as Centrifugo's (`centrifuge.md` 5).
//!
//! A method has no dot in its name; Slack's all have one, so both live on one port.
//!
//! - `methods`: from a name to what it does; `census`: who and what is there
//! - `placing`: from a channel to its owner, and the owner's answers

mod census;
mod methods;
mod placing;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::centrifuge::code::Fault;
use crate::centrifuge::rules::Rules;
use crate::control::Control;
use crate::ids::Peer;
use crate::limits::Limits;
use crate::ring::{Ring, Secret};

/// What the handlers of a node share.
#[derive(Clone, Debug)]
pub struct Api {
    control: Control,
    cell: CellNow,
    secret: Secret,
    rules: Arc<Rules>,
    limits: Limits,
    /// This life of the node, and when it began.
    life: u64,
    started: tokio::time::Instant,
}

/// What of a cell changes while it is up.
#[derive(Clone, Debug)]
pub struct CellNow {
    /// The newest ring.
    pub ring: watch::Receiver<Arc<Ring>>,
    /// Cores of gateways that are there, sorted.
    pub gateways: watch::Receiver<Vec<Peer>>,
}

/// Bytes of one request: a batch.
const BODY_BYTES_MAX: usize = 16 << 20;

impl Api {
    pub fn new(
        control: Control,
        cell: CellNow,
        secret: Secret,
        rules: Arc<Rules>,
        limits: &Limits,
        life: u64,
    ) -> Self {
        let started = tokio::time::Instant::now();
        Self { control, cell, secret, rules, limits: limits.clone(), life, started }
    }
}

/// The routes of the API.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for method in methods::NAMES {
        let handler = move |State(api): State<Api>,
                            RawQuery(query): RawQuery,
                            headers: HeaderMap,
                            body: Bytes| async move {
            answer(&api, method, query.as_deref(), &headers, &body).await
        };
        router = router.route(&format!("/api/{method}"), post(handler));
    }
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(api)
}

async fn answer(
    api: &Api,
    method: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    if !api.is_authorized(query, headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(arguments) = serde_json::from_slice::<&RawValue>(body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let outcome = methods::call(api, method, arguments).await;
    let is_bare = headers.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport");
    match outcome {
        Err(fault) if is_bare => {
            let status = match fault {
                Fault::BadRequest | Fault::NotAvailable => StatusCode::BAD_REQUEST,
                Fault::UnknownChannel | Fault::MethodNotFound => StatusCode::NOT_FOUND,
                Fault::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, in_json(&error_object(fault))).into_response()
        }
        // The answers of a batch are its answer.
        Ok(value) if method == "batch" => in_json(&value).into_response(),
        outcome => in_json(&wrapped(outcome)).into_response(),
    }
}

/// `{"result": ..}` or `{"error": ..}`.
fn wrapped(outcome: Result<Value, Fault>) -> Value {
    match outcome {
        Ok(result) => json!({ "result": result }),
        Err(fault) => json!({ "error": error_object(fault) }),
    }
}

fn error_object(fault: Fault) -> Value {
    json!({ "code": fault.code(), "message": fault.text() })
}

fn in_json(value: &Value) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], value.to_string())
}

impl Api {
    fn is_authorized(&self, query: Option<&str>, headers: &HeaderMap) -> bool {
        let rules = &self.rules.api;
        if rules.insecure {
            return true;
        }
        let Some(key) = rules.key.as_deref() else { return false };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("apikey "));
        let in_query =
            query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("api_key=")));
        [text("x-api-key"), bearer, in_query]
            .into_iter()
            .flatten()
            .any(|given| is_same(given.as_bytes(), key.as_bytes()))
    }
}

/// In a time that says nothing about where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

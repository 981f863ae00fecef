//! The HTTP door: Slack's Web API under `/api/`, the chat page, the operator's door under `/ctl/`, and what only a demo has under `/dev/`.
//!
//! - `arguments`: query, form, JSON and multipart as one map
//! - `pace`: how often something may happen
//! - `ctl`: the team, users and tokens, for operators; `challenges`: what their calls are proven over
//! - `dev`: the workspace with its tokens, and new users
//! - `methods`: from a name to what it does; `chat`, `conversations`, `users`, `rtm`: the methods

mod arguments;
mod challenges;
mod chat;
mod conversations;
mod ctl;
mod dev;
mod methods;
mod pace;
mod rtm;
#[cfg(test)]
mod tests;
mod users;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::arguments::Arguments;
use self::ctl::Operator;
use self::pace::Pace;
use super::database::{Bearer, Database, Demo, Refused};
use super::page;
use crate::control::Control;
use crate::limits::Limits;
use crate::ring::region::{Region, Regions};
use crate::ring::{Ring, Secret};
use crate::shard::Report;
use crate::wire::operator::OperatorKey;

/// Bytes of one request's body: a message with blocks is far below.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Words of `X-Forwarded-For` that are looked at: more proxies are in no row.
const FORWARDED_MAX: usize = 16;
/// How long whoever finds the node draining or full may wait before the next try, in seconds.
const RETRY_AFTER_S: u64 = 1;

/// Where Centrifuge clients and back ends come in, and with what: told to whoever asks a `dev`.
#[derive(Clone, Debug, Default)]
pub struct GuestDoor {
    pub url: String,
    pub token_secret: String,
    pub api_url: String,
    pub api_key: String,
}

/// Who is at the other end of a request's connection: the client, or a proxy before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remote(pub SocketAddr);

/// What the handlers of a node share.
#[derive(Clone, Debug)]
pub struct Site {
    database: Database,
    control: Control,
    limits: Limits,
    /// Where websockets are accepted, as `ws://host:port`.
    ws_url: Arc<str>,
    guests: Arc<GuestDoor>,
    /// Where clients are sent, and the ring, which says which of these regions drain.
    regions: Arc<Regions>,
    ring: Option<watch::Receiver<Arc<Ring>>>,
    /// The cell's.
    secret: Secret,
    is_draining: Arc<AtomicBool>,
    boots: Arc<Mutex<Pace>>,
    /// Calls of `rtm.connect` that came too often.
    boots_shed: Arc<AtomicU64>,
    operator: Arc<Operator>,
    /// Whose tokens are told to whoever asks; none: nobody's.
    demo: Option<Arc<Demo>>,
}

impl Site {
    /// What operators prove to know is `key`.
    pub fn new(
        database: Database,
        control: Control,
        limits: &Limits,
        ws_url: &str,
        key: OperatorKey,
    ) -> Self {
        Self {
            operator: Arc::new(Operator::new(key)),
            demo: None,
            secret: database.secret(),
            database,
            control,
            limits: limits.clone(),
            ws_url: ws_url.into(),
            guests: Arc::default(),
            regions: Arc::default(),
            ring: None,
            is_draining: Arc::default(),
            boots: Arc::new(Mutex::new(Pace::new(limits.boots_per_second, limits.boots_burst))),
            boots_shed: Arc::default(),
        }
    }

    /// A webapp of a cell of many nodes: they all have this secret.
    pub fn of_cell(self, secret: Secret) -> Self {
        Self { secret, ..self }
    }

    /// A webapp of several regions.
    pub fn with_regions(self, regions: Regions, ring: watch::Receiver<Arc<Ring>>) -> Self {
        Self { regions: Arc::new(regions), ring: Some(ring), ..self }
    }

    /// The workspace with all tokens is told to whoever asks.
    pub fn with_demo(self, demo: Demo) -> Self {
        Self { demo: Some(Arc::new(demo)), ..self }
    }

    pub fn with_guests(self, guests: GuestDoor) -> Self {
        Self { guests: Arc::new(guests), ..self }
    }

    /// Names and values for `/metrics`.
    pub fn report(&self, into: &mut Report) {
        into.gauge("boots_shed_total", self.boots_shed.load(Ordering::Relaxed) as f64);
    }

    /// From now on every call is answered with 503: come again, to the next process.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }
}

/// The routes of a node's HTTP port, but for `/health` and `/metrics`.
pub fn router(site: Site) -> Router {
    let mut router = Router::new()
        // Slashes too many are a base URL that was put together in another way.
        .route("/api/{*method}", any(api))
        .route("/ctl/challenge", post(ctl::challenge))
        .route("/ctl/call", post(ctl::call));
    if site.demo.is_some() {
        router = router
            .route("/dev/workspace.json", get(dev::workspace))
            .route("/dev/users", post(dev::create_user));
    }
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(site).merge(page::router())
}

/// Why a call has no answer with `ok` true.
#[derive(Clone, Debug)]
enum Failure {
    /// Slack's error name, with status 200.
    Refused(&'static str),
    /// Too often, or full: 429, and when to come again.
    Limited { seconds: u64 },
    /// A transient fault: 503. Never 200, which clients take for the last word.
    Unavailable(&'static str),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::BUSY => Self::Limited { seconds: RETRY_AFTER_S },
            Refused::UNAVAILABLE => Self::Unavailable("service_unavailable"),
            Refused::INTERNAL => Self::Unavailable("internal_error"),
            Refused(reason) => Self::Refused(reason),
        }
    }
}

/// What an answer adds to `"ok": true`.
type Answer = Result<Value, Failure>;

fn refuse<T>(reason: &'static str) -> Result<T, Failure> {
    Err(Failure::Refused(reason))
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let wait = |status: StatusCode, error: &str, seconds: u64| {
            let value = json!({ "ok": false, "error": error });
            (status, [(RETRY_AFTER, seconds.to_string())], in_json(&value)).into_response()
        };
        match self {
            Self::Refused(error) => {
                in_json(&json!({ "ok": false, "error": error })).into_response()
            }
            Self::Limited { seconds } => {
                wait(StatusCode::TOO_MANY_REQUESTS, "ratelimited", seconds)
            }
            Self::Unavailable(error) => wait(StatusCode::SERVICE_UNAVAILABLE, error, RETRY_AFTER_S),
        }
    }
}

fn in_json(value: &Value) -> impl IntoResponse + use<> {
    let headers = [(CONTENT_TYPE, "application/json; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (headers, value.to_string())
}

/// One call as a method sees it.
struct Call<'a> {
    site: &'a Site,
    arguments: Arguments,
    headers: HeaderMap,
    remote: Option<Remote>,
}

async fn api(State(site): State<Site>, Path(method): Path<String>, request: Request) -> Response {
    if site.is_draining.load(Ordering::Relaxed) {
        return Failure::Unavailable("service_unavailable").into_response();
    }
    match answer(&site, method.trim_matches('/'), request).await {
        Ok(value) => in_json(&value).into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn answer(site: &Site, method: &str, request: Request) -> Answer {
    let headers = request.headers().clone();
    let remote = request.extensions().get().map(|&ConnectInfo(remote)| remote);
    let arguments = Arguments::read(request).await?;
    let call = Call { site, arguments, headers, remote };
    let mut value = methods::call(method, &call).await?;
    if value.get("ok").is_none() {
        value["ok"] = true.into();
    }
    Ok(value)
}

impl Call<'_> {
    /// Who calls: by the header, or by the argument `token`.
    fn bearer(&self) -> Result<Bearer, Failure> {
        let header = self.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_string())
        });
        let Some(token) = bearer.or_else(|| self.arguments.text("token")) else {
            return refuse("not_authed");
        };
        Ok(self.site.database.bearer(&token)?)
    }

    /// Where this client finds websockets: when we listen everywhere, at the name by which it found us.
    fn ws_url(&self) -> String {
        let url = &self.site.ws_url;
        match self.host().map(without_port) {
            None => url.to_string(),
            Some(name) => url
                .replace("//0.0.0.0:", &format!("//{name}:"))
                .replace("//[::]:", &format!("//{name}:")),
        }
    }

    /// The region to which this client is sent, if there are any: the one that it names, or that of its network, or the nearest to that which
    /// does not drain.
    fn region(&self) -> Option<Region> {
        let asked = self.headers.get("x-region").and_then(|value| value.to_str().ok());
        let ring = self.site.ring.as_ref().map(|ring| Arc::clone(&ring.borrow()));
        let is_draining =
            |name: &str| ring.as_ref().is_some_and(|ring| ring.drain_of(name).is_some());
        self.site.regions.choose(asked.map(str::trim), self.addresses(), is_draining).cloned()
    }

    /// By which this client is known, from itself to the last proxy before us. Anybody may say what he likes here, as he may name a region.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let lists = self.headers.get_all("x-forwarded-for").into_iter();
        let words = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
        let address = |word: &str| {
            let word = word.trim();
            word.parse().or_else(|_| word.parse().map(|with_port: SocketAddr| with_port.ip())).ok()
        };
        let forwarded = words.take(FORWARDED_MAX).filter_map(address);
        forwarded.chain(self.remote.map(|Remote(remote)| remote.ip()))
    }

    /// Where this client found us.
    fn url(&self) -> String {
        let forwarded = self.headers.get("x-forwarded-proto");
        let scheme =
            if forwarded.is_some_and(|scheme| scheme == "https") { "https" } else { "http" };
        self.host().map_or_else(|| "/".into(), |host| format!("{scheme}://{host}/"))
    }

    /// The name, and perhaps the port, by which this client found us.
    fn host(&self) -> Option<&str> {
        let host = self.headers.get(HOST)?.to_str().ok()?;
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        (!host.is_empty() && host.bytes().all(is_fine)).then_some(host)
    }
}

/// `[::1]:80` and `name:80` as `[::1]` and `name`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

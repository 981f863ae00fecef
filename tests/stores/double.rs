//! A Consul that misbehaves when it is told to: the endpoints that the ring store uses, on loopback, and the faults of real ones.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::sync::watch;

/// What goes wrong from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// 500 "No cluster leader" to everything.
    NoLeader,
    /// 429 to everything: too many connections of one client.
    TooMany,
    /// A write is done, and the connection ends without an answer.
    CutAfterWrite,
    /// A write is done, and the answer is 500.
    FailAfterWrite,
    /// A write is answered after a longer time than anybody waits.
    SlowWrite,
    /// An answer of 64 MiB.
    Huge,
    /// An answer that comes byte by byte.
    SlowBody,
    /// An answer that is no JSON.
    Garbage,
    /// Values that are no base64.
    BadBase64,
    /// Bytes of a value changed.
    Flipped,
    /// Watches return at once, without news.
    Spurious,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    index: u64,
    pairs: BTreeMap<String, (u64, Vec<u8>)>,
    fault: Fault,
    /// Grows with each restore, which ends all watches, as Consul does.
    life: u64,
    /// Requests so far.
    asked: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Double {
    kept: Arc<watch::Sender<Kept>>,
    pub(crate) address: String,
}

type Asked = Query<BTreeMap<String, String>>;

impl Double {
    /// Serves on a port of its own until the runtime ends.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("consul://{}", listener.local_addr().expect("bound"));
        let kept = Arc::new(watch::Sender::new(Kept { index: 10, ..Kept::default() }));
        let double = Self { kept, address };
        let router = Router::new()
            .route("/v1/kv/{*key}", get(read))
            .route("/v1/txn", put(write))
            .with_state(double.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        double
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.kept.send_modify(|kept| kept.fault = fault);
    }

    pub(crate) fn asked(&self) -> u64 {
        self.kept.borrow().asked
    }

    /// A snapshot, as an operator takes it.
    pub(crate) fn snapshot(&self) -> Kept {
        self.kept.borrow().clone()
    }

    /// Back to a snapshot: indexes go back too.
    pub(crate) fn restore(&self, snapshot: Kept) {
        let life = self.kept.borrow().life + 1;
        self.kept.send_replace(Kept { life, ..snapshot });
    }

    pub(crate) fn forget(&self, key: &str) {
        self.kept.send_modify(|kept| {
            kept.index += 1;
            kept.pairs.remove(key);
        });
    }

    fn count(&self) -> Fault {
        let mut fault = Fault::None;
        self.kept.send_if_modified(|kept| {
            kept.asked += 1;
            fault = kept.fault;
            false
        });
        fault
    }
}

async fn read(
    State(double): State<Double>,
    Path(key): Path<String>,
    Query(asked): Asked,
) -> Response {
    let fault = double.count();
    if let Some(refusal) = refuse(fault) {
        return refusal;
    }
    if let Some(index) = asked.get("index").and_then(|index| index.parse::<u64>().ok())
        && fault != Fault::Spurious
    {
        let mut news = double.kept.subscribe();
        let life = double.kept.borrow().life;
        let is_new = |kept: &Kept| {
            kept.pairs.get(&key).is_none_or(|(modified, _)| *modified > index)
                || kept.fault != Fault::None
                || kept.life != life
        };
        let _ = tokio::time::timeout(Duration::from_secs(60), news.wait_for(is_new)).await;
    }
    let kept = double.kept.borrow().clone();
    let index = kept.index.to_string();
    let is_asked = |name: &str| {
        if asked.contains_key("recurse") { name.starts_with(&key) } else { name == key }
    };
    let pairs: Vec<Value> = kept
        .pairs
        .iter()
        .filter(|(name, _)| is_asked(name))
        .map(|(name, (modified, value))| {
            let mut value = value.clone();
            if kept.fault == Fault::Flipped
                && let Some(byte) = value.get_mut(40)
            {
                *byte ^= 0x10;
            }
            let text = if kept.fault == Fault::BadBase64 { "?!".into() } else { STANDARD.encode(value) };
            json!({"CreateIndex": 1, "ModifyIndex": modified, "LockIndex": 0, "Key": name, "Flags": 0, "Value": text})
        })
        .collect();
    let head = [("X-Consul-Index", index)];
    // A key that is not there has an index all the same.
    if pairs.is_empty() {
        return (StatusCode::NOT_FOUND, head).into_response();
    }
    match fault {
        Fault::Huge => (head, vec![b' '; 64 << 20]).into_response(),
        Fault::Garbage => (head, "<html>proxy error</html>").into_response(),
        Fault::SlowBody => {
            (head, Body::from_stream(drops(Value::from(pairs).to_string().into()))).into_response()
        }
        _ => (head, Value::from(pairs).to_string()).into_response(),
    }
}

async fn write(State(double): State<Double>, body: Bytes) -> Response {
    let fault = double.count();
    if let Some(refusal) = refuse(fault) {
        return refusal;
    }
    if body.len() > 512 << 10 {
        return (StatusCode::PAYLOAD_TOO_LARGE, "Request body too large").into_response();
    }
    let verbs: Vec<Value> = serde_json::from_slice(&body).expect("a transaction");
    let mut errors = Vec::new();
    double.kept.send_if_modified(|kept| {
        for (at, verb) in verbs.iter().enumerate() {
            let verb = &verb["KV"];
            let there =
                kept.pairs.get(verb["Key"].as_str().expect("a key")).map_or(0, |(index, _)| *index);
            if verb["Index"] != json!(there) {
                errors.push(json!({"OpIndex": at, "What": "failed index check"}));
            }
        }
        if !errors.is_empty() {
            return false;
        }
        kept.index += 1;
        for verb in &verbs {
            let verb = &verb["KV"];
            if verb["Verb"] == "cas" {
                let value =
                    STANDARD.decode(verb["Value"].as_str().expect("a value")).expect("base64");
                kept.pairs.insert(verb["Key"].as_str().expect("a key").into(), (kept.index, value));
            }
        }
        true
    });
    match fault {
        // A body that breaks off: the client sees the end of the connection.
        Fault::CutAfterWrite => {
            Body::from_stream(stream::once(async { Err::<Bytes, _>(io::Error::other("cut")) }))
                .into_response()
        }
        Fault::FailAfterWrite => {
            (StatusCode::INTERNAL_SERVER_ERROR, "leadership lost while committing log")
                .into_response()
        }
        Fault::SlowWrite => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            StatusCode::OK.into_response()
        }
        _ if errors.is_empty() => {
            json!({"Results": [], "Errors": null}).to_string().into_response()
        }
        _ => (StatusCode::CONFLICT, json!({"Results": null, "Errors": errors}).to_string())
            .into_response(),
    }
}

fn refuse(fault: Fault) -> Option<Response> {
    match fault {
        Fault::NoLeader => {
            Some((StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader").into_response())
        }
        Fault::TooMany => Some(
            (StatusCode::TOO_MANY_REQUESTS, "Your IP is issuing too many concurrent connections")
                .into_response(),
        ),
        _ => None,
    }
}

/// One byte, a pause, one byte.
fn drops(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(0, move |at| {
        let byte = (at < bytes.len()).then(|| bytes.slice(at..=at));
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            byte.map(|byte| (Ok(byte), at + 1))
        }
    })
}

//! Consul's HTTP API: `?recurse&consistent` to read, `/v1/txn` to write, a blocking query to be told.
//!
//! Its indexes are not epochs: they go back after a restore. Its agents' health is nothing that we look at.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::hosts::{Hosts, Kind};
use super::{Failed, Mark, PARTS, PATIENCE, SEATS, Scope, Value, WATCH, Write};

/// Agents to ask, in order: any of them knows the whole.
#[derive(Clone, Debug)]
pub(super) struct Consul {
    hosts: Hosts,
    prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    modify_index: u64,
    value: Option<String>,
}

impl Consul {
    pub(super) fn new(client: Client, list: Vec<String>, cell: &str) -> Self {
        Self { hosts: Hosts { client, list }, prefix: format!("rt/{cell}/ring/") }
    }

    pub(super) async fn parts(&self, scope: Scope) -> Result<[Option<Value>; 3], Failed> {
        let key = match scope {
            Scope::Seats => format!("{}{SEATS}?consistent", self.prefix),
            Scope::Ring => format!("{}?recurse&consistent", self.prefix),
        };
        let (status, bytes) = self.get(&format!("/v1/kv/{key}"), PATIENCE).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok([None, None, None]);
        }
        let pairs: Vec<Pair> = serde_json::from_slice(&bytes).map_err(|error| {
            Failed::Unusable(format!("Consul's answer is no list of keys: {error}"))
        })?;
        let mut parts = [None, None, None];
        for Pair { key, modify_index, value } in pairs {
            let Some(at) =
                PARTS.iter().position(|part| key.strip_prefix(&self.prefix) == Some(*part))
            else {
                continue;
            };
            let bytes = STANDARD.decode(value.unwrap_or_default()).map_err(|error| {
                Failed::Unusable(format!("Consul's value of {key} is no base64: {error}"))
            })?;
            parts[at] = Some((Mark(modify_index), bytes));
        }
        Ok(parts)
    }

    pub(super) async fn write(&self, writes: Vec<Write<'_>>) -> Result<bool, Failed> {
        let verbs: Vec<Json> = writes
            .into_iter()
            .map(|Write { part, was, bytes }| {
                let key = format!("{}{part}", self.prefix);
                // Index 0 means: only if there is none.
                let index = was.map_or(0, |mark| mark.0);
                match bytes {
                    Some(bytes) => json!({"KV": {"Verb": "cas", "Key": key, "Index": index, "Value": STANDARD.encode(bytes)}}),
                    None => json!({"KV": {"Verb": "check-index", "Key": key, "Index": index}}),
                }
            })
            .collect();
        let put = |client: &Client, host: &str| {
            client.put(format!("{host}/v1/txn")).timeout(PATIENCE).json(&verbs)
        };
        let is_told = |status| [StatusCode::OK, StatusCode::CONFLICT].contains(&status);
        let (status, _) = self.hosts.ask(Kind::Write, put, is_told).await?;
        Ok(status == StatusCode::OK)
    }

    /// A blocking query is told of more than changes, and sometimes of less: it says "look", not "changed".
    pub(super) async fn changed(&self, known: Mark) -> Result<(), Failed> {
        // A key's own index, as it was read just now, begins the wait: one that was written since returns at once. A restore ends all waits, and
        // the next one begins with the lower index that the read after it finds.
        let path = format!(
            "/v1/kv/{}{SEATS}?index={}&wait={}s",
            self.prefix,
            known.0.max(1),
            WATCH.as_secs()
        );
        // The server adds up to a sixteenth.
        self.get(&path, WATCH + WATCH / 16 + PATIENCE).await.map(|_| ())
    }

    /// A key that is not there is an answer too.
    async fn get(&self, path: &str, patience: Duration) -> Result<(StatusCode, Vec<u8>), Failed> {
        let get =
            |client: &Client, host: &str| client.get(format!("{host}{path}")).timeout(patience);
        let is_there = |status: StatusCode| status.is_success() || status == StatusCode::NOT_FOUND;
        self.hosts.ask(Kind::Read, get, is_there).await
    }
}

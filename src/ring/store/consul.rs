//! Consul's HTTP API: `?recurse&consistent` to read, `/v1/txn` to write, a blocking query to be told.
//!
//! Its indexes are not epochs: they go back after a restore. Its agents' health is nothing that we look at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Failed, Mark, PARTS, PATIENCE, SEATS, Value, WATCH, Write, body, failed};

/// Agents to ask, in order: any of them knows the whole.
#[derive(Clone, Debug)]
pub(super) struct Consul {
    client: Client,
    hosts: Vec<String>,
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
    pub(super) fn new(client: Client, hosts: Vec<String>, cell: &str) -> Self {
        Self { client, hosts, prefix: format!("rt/{cell}/ring/") }
    }

    pub(super) async fn parts(&self) -> Result<[Option<Value>; 3], Failed> {
        let (status, bytes) =
            self.get(&format!("/v1/kv/{}?recurse&consistent", self.prefix), PATIENCE).await?;
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
        let mut last = None;
        for host in &self.hosts {
            let asked = self
                .client
                .put(format!("{host}/v1/txn"))
                .timeout(PATIENCE)
                .json(&verbs)
                .send()
                .await;
            match asked {
                // Nobody was there to do anything: the next one is asked.
                Err(error) if error.is_connect() => last = Some(failed(&error)),
                Err(error) => return Err(failed(&error)),
                Ok(answer) => {
                    let status = answer.status();
                    let bytes = body(answer).await?;
                    return match status {
                        StatusCode::OK => Ok(true),
                        StatusCode::CONFLICT => Ok(false),
                        _ => Err(Failed::Unknown(said(status, &bytes))),
                    };
                }
            }
        }
        Err(last.unwrap_or_else(|| Failed::Unreachable("no address".into())))
    }

    /// A blocking query is told of more than changes, and sometimes of less: it says "look", not "changed".
    pub(super) async fn changed(&self, known: Mark) -> Result<(), Failed> {
        // A key's own index begins the wait: one that was written since returns at once, and one that went back does too, as it is lower.
        let path = format!(
            "/v1/kv/{}{SEATS}?index={}&wait={}s",
            self.prefix,
            known.0.max(1),
            WATCH.as_secs()
        );
        // The server adds up to a sixteenth.
        self.get(&path, WATCH + WATCH / 16 + PATIENCE).await.map(|_| ())
    }

    /// The first agent that answers.
    async fn get(
        &self,
        path: &str,
        patience: std::time::Duration,
    ) -> Result<(StatusCode, Vec<u8>), Failed> {
        let mut last = Failed::Unreachable("no address".into());
        for host in &self.hosts {
            let asked = self.client.get(format!("{host}{path}")).timeout(patience).send().await;
            let answer = match asked {
                Ok(answer) => answer,
                Err(error) => {
                    last = Failed::Unreachable(error.to_string());
                    continue;
                }
            };
            let status = answer.status();
            match body(answer).await {
                Ok(bytes) if status.is_success() || status == StatusCode::NOT_FOUND => {
                    return Ok((status, bytes));
                }
                Ok(bytes) => last = Failed::Unreachable(said(status, &bytes)),
                Err(Failed::Unknown(why)) => last = Failed::Unreachable(why),
                Err(failed) => last = failed,
            }
        }
        Err(last)
    }
}

fn said(status: StatusCode, bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).trim().chars().take(200).collect();
    format!("it says {status}: {text}")
}

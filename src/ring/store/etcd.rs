//! etcd v3 by its JSON gateway: one range to read, one transaction to write, a watch that is read until its first word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::hosts::{Hosts, Kind};
use super::{Failed, Mark, PARTS, PATIENCE, SEATS, Scope, Value, WATCH, Write};

/// Members to ask, in order.
#[derive(Clone, Debug)]
pub(super) struct Etcd {
    hosts: Hosts,
    prefix: String,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Pair>,
}

/// The gateway writes 64-bit numbers as texts.
#[derive(Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
    mod_revision: String,
}

#[derive(Deserialize)]
struct Done {
    #[serde(default)]
    succeeded: bool,
}

impl Etcd {
    pub(super) fn new(client: Client, list: Vec<String>, cell: &str) -> Self {
        Self { hosts: Hosts { client, list }, prefix: format!("rt/{cell}/ring/") }
    }

    fn key(&self, part: &str) -> String {
        STANDARD.encode(format!("{}{part}", self.prefix))
    }

    pub(super) async fn parts(&self, scope: Scope) -> Result<[Option<Value>; 3], Failed> {
        // Linearizable unless one asks otherwise. The end of a prefix is the prefix with its last byte grown by one: `/` becomes `0`.
        let end = format!("{}0", self.prefix.trim_end_matches('/'));
        let ask = match scope {
            Scope::Seats => json!({"key": self.key(SEATS)}),
            Scope::Ring => json!({"key": self.key(""), "range_end": STANDARD.encode(end)}),
        };
        let bytes = self.ask("/v3/kv/range", &ask, Kind::Read).await?;
        let broken =
            |what: &str| Failed::Unusable(format!("etcd's answer is no list of keys: {what}"));
        let range: Range =
            serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))?;
        let mut parts = [None, None, None];
        for pair in range.kvs {
            let Some(at) = PARTS.iter().position(|part| pair.key == self.key(part)) else {
                continue;
            };
            let value = STANDARD.decode(&pair.value).map_err(|error| broken(&error.to_string()))?;
            let revision =
                pair.mod_revision.parse().map_err(|_| broken("a revision is no number"))?;
            parts[at] = Some((Mark(revision), value));
        }
        Ok(parts)
    }

    pub(super) async fn write(&self, writes: Vec<Write<'_>>) -> Result<bool, Failed> {
        // A key that is not there has revision 0.
        let revision = |was: Option<Mark>| was.map_or(0, |mark| mark.0).to_string();
        let compare: Vec<Json> = writes
            .iter()
            .map(|write| json!({"key": self.key(write.part), "target": "MOD", "result": "EQUAL", "mod_revision": revision(write.was)}))
            .collect();
        let success: Vec<Json> = writes
            .iter()
            .filter_map(|write| write.bytes.as_ref().map(|bytes| (write.part, bytes)))
            .map(|(part, bytes)| json!({"request_put": {"key": self.key(part), "value": STANDARD.encode(bytes)}}))
            .collect();
        let bytes = self
            .ask("/v3/kv/txn", &json!({"compare": compare, "success": success}), Kind::Write)
            .await?;
        let done: Done = serde_json::from_slice(&bytes).map_err(|error| {
            Failed::Unknown(format!("etcd's answer is none of a transaction: {error}"))
        })?;
        Ok(done.succeeded)
    }

    /// A watch from the next revision on: what was written since `known` is told at once.
    pub(super) async fn changed(&self, known: Mark) -> Result<(), Failed> {
        let from = (known.0 + 1).to_string();
        let create = json!({"create_request": {"key": self.key(SEATS), "start_revision": from}});
        let mut last = Failed::Unreachable("no address".into());
        for host in &self.hosts.list {
            let asked = self
                .hosts
                .client
                .post(format!("{host}/v3/watch"))
                .timeout(WATCH)
                .json(&create)
                .send()
                .await;
            let mut answer = match asked {
                Ok(answer) => answer,
                Err(error) => {
                    last = Failed::Unreachable(error.to_string());
                    continue;
                }
            };
            // The first word says that the watch is made; the second is news, or that it was cancelled because `from` is compacted.
            let mut words = 0;
            loop {
                match answer.chunk().await {
                    Ok(Some(chunk)) => {
                        let text = String::from_utf8_lossy(&chunk);
                        words += text.matches('\n').count();
                        if words > 1 || text.contains("\"events\"") || text.contains("\"canceled\"")
                        {
                            return Ok(());
                        }
                    }
                    Err(error) if error.is_timeout() => return Ok(()),
                    Ok(None) | Err(_) => {
                        last = Failed::Unreachable("the watch ended".into());
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn ask(&self, path: &str, ask: &Json, kind: Kind) -> Result<Vec<u8>, Failed> {
        let post = |client: &Client, host: &str| {
            client.post(format!("{host}{path}")).timeout(PATIENCE).json(ask)
        };
        let (_, bytes) = self.hosts.ask(kind, post, |status| status.is_success()).await?;
        Ok(bytes)
    }
}

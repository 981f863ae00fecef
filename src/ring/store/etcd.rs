//! etcd v3 by its JSON gateway: one range to read, one transaction to write, a watch that is read until its first word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Failed, Mark, PARTS, PATIENCE, SEATS, Value, WATCH, Write, body, failed};

/// Members to ask, in order.
#[derive(Clone, Debug)]
pub(super) struct Etcd {
    client: Client,
    hosts: Vec<String>,
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
    pub(super) fn new(client: Client, hosts: Vec<String>, cell: &str) -> Self {
        Self { client, hosts, prefix: format!("rt/{cell}/ring/") }
    }

    fn key(&self, part: &str) -> String {
        STANDARD.encode(format!("{}{part}", self.prefix))
    }

    pub(super) async fn parts(&self) -> Result<[Option<Value>; 3], Failed> {
        // Linearizable unless one asks otherwise. The end of a prefix is the prefix with its last byte grown by one: `/` becomes `0`.
        let end = format!("{}0", self.prefix.trim_end_matches('/'));
        let ask = json!({"key": self.key(""), "range_end": STANDARD.encode(end)});
        let bytes = self.ask("/v3/kv/range", &ask, false).await?;
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
        let bytes =
            self.ask("/v3/kv/txn", &json!({"compare": compare, "success": success}), true).await?;
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
        for host in &self.hosts {
            let asked = self
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

    /// The first member that answers. `is_write`: one that was reached may have done it, and no other is asked.
    async fn ask(&self, path: &str, ask: &Json, is_write: bool) -> Result<Vec<u8>, Failed> {
        let mut last = Failed::Unreachable("no address".into());
        for host in &self.hosts {
            let asked =
                self.client.post(format!("{host}{path}")).timeout(PATIENCE).json(ask).send().await;
            let answer = match asked {
                Ok(answer) => answer,
                Err(error) if is_write && !error.is_connect() => return Err(failed(&error)),
                Err(error) => {
                    last = Failed::Unreachable(error.to_string());
                    continue;
                }
            };
            let status = answer.status();
            let bytes = match body(answer).await {
                Ok(bytes) => bytes,
                Err(failed) if is_write => return Err(failed),
                Err(Failed::Unknown(why)) => {
                    last = Failed::Unreachable(why);
                    continue;
                }
                Err(failed) => {
                    last = failed;
                    continue;
                }
            };
            if status.is_success() {
                return Ok(bytes);
            }
            let text: String = String::from_utf8_lossy(&bytes).trim().chars().take(200).collect();
            let why = format!("it says {status}: {text}");
            if is_write {
                return Err(Failed::Unknown(why));
            }
            last = Failed::Unreachable(why);
        }
        Err(last)
    }
}

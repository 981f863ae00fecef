//! One call of a webapp, proven by the cell's key, and its answer, which proves the same.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::wire::operator::{CHALLENGE, OperatorKey, PROOF, Side};

/// From the question to the answer: a commit of a slow disk.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A webapp, and what proves that we may ask it.
pub(super) struct Webapp {
    url: String,
    key: OperatorKey,
    client: reqwest::Client,
}

impl Webapp {
    /// # Errors
    /// A sentence: there is no key, or no such address.
    pub(super) fn new(url: &str, key: &Path) -> Result<Self, String> {
        let fault = |why: &dyn std::fmt::Display| format!("--key {}: {why}", key.display());
        let file = std::fs::read(key).map_err(|error| fault(&error))?;
        let key = OperatorKey::of(&file).map_err(|why| fault(&why))?;
        if !url.starts_with("http://") {
            return Err(format!("--webapp {url}: not http://HOST:PORT"));
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let client = client.map_err(|error| format!("cannot start: {error}"))?;
        Ok(Self { url: url.trim_end_matches('/').into(), key, client })
    }

    /// What it answers when it did what was asked.
    ///
    /// # Errors
    /// A sentence: why it was not done.
    pub(super) async fn call(&self, call: &Value) -> Result<Value, String> {
        let given = self.client.post(format!("{}/ctl/challenge", self.url));
        let given = given.send().await.map_err(|error| self.fault(error))?;
        let text = given.text().await.map_err(|error| self.fault(error))?;
        let given: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(challenge) = given["challenge"].as_str() else {
            return Err(format!("{} is no webapp of campanile, or an older one", self.url));
        };
        let body = call.to_string();
        let proof = self.key.proof(Side::Operator, challenge, body.as_bytes());
        let asked = self.client.post(format!("{}/ctl/call", self.url));
        let asked = asked.header(CHALLENGE, challenge).header(PROOF, proof).body(body);
        let answer = asked.send().await.map_err(|error| self.fault(error))?;
        let proof = answer.headers().get(PROOF).and_then(|proof| proof.to_str().ok());
        let proof = proof.map(ToString::to_string);
        let text = answer.text().await.map_err(|error| self.fault(error))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_its =
            |proof: &String| self.key.is_proven(Side::Webapp, challenge, text.as_bytes(), proof);
        match (proof.as_ref().is_some_and(is_its), value["ok"] == true) {
            (true, true) => Ok(value),
            (true, false) => Err(value["why"].as_str().unwrap_or("nothing was done").into()),
            (false, _) => Err(match value["error"].as_str() {
                Some("invalid_auth") => {
                    format!("{} has another key than --key says", self.url)
                }
                Some("invalid_challenge") => {
                    format!("{} was started anew just now: try again", self.url)
                }
                Some("ratelimited" | "service_unavailable") => {
                    format!("{} takes no calls now: try again", self.url)
                }
                _ => format!("{} does not answer as one that knows the cell's key", self.url),
            }),
        }
    }

    fn fault(&self, error: reqwest::Error) -> String {
        let mut why: &dyn std::error::Error = &error.without_url();
        while let Some(source) = why.source() {
            why = source;
        }
        format!("--webapp {}: {why}", self.url)
    }
}

//! Calls of Centrifuge clients to a back end of the operator's: one HTTP request each, as Centrifugo's rpc proxy makes it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::wire::Message;
use crate::wire::message::not_called;

/// Whom to ask, and how long. Per process.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Client,
    endpoint: String,
}

/// What a back end says.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    result: Option<Outcome<'a>>,
    error: Option<Refusal>,
    disconnect: Option<Farewell>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct Farewell {
    code: u32,
    #[serde(default)]
    reason: String,
}

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 << 10;

impl Caller {
    /// # Errors
    /// A sentence: it cannot be made.
    pub fn new(endpoint: &str, timeout: Duration) -> Result<Self, String> {
        let client = Client::builder().timeout(timeout).no_proxy().build();
        let client = client.map_err(|error| format!("rpc.proxy: {error}"))?;
        Ok(Self { client, endpoint: endpoint.into() })
    }

    /// The answer to an encoded [`Message::Call`], encoded.
    pub async fn answer(&self, question: Vec<u8>) -> Vec<u8> {
        let Ok(call @ Message::Call { ask, .. }) = Message::decode(&question) else {
            unreachable!("asked with a call only");
        };
        let outcome = self.call(&call).await;
        if let Err(why) = &outcome {
            tracing::warn!("rpc.proxy {}: {why}", self.endpoint);
        }
        let mut bytes = Vec::new();
        match outcome.as_deref().map_err(String::as_str).and_then(read) {
            Ok((code, temporary, text, data)) => {
                let called = Message::Called { ask, code, temporary, text: &text, data: &data };
                called.encode(&mut bytes);
            }
            Err(_) => not_called(ask).encode(&mut bytes),
        }
        bytes
    }

    async fn call(&self, call: &Message<'_>) -> Result<Vec<u8>, String> {
        let Message::Call { user, client, method, data, is_json, .. } = *call else {
            unreachable!("asked with a call only");
        };
        let mut asked = json!({
            "client": client, "transport": "websocket", "user": user, "method": method,
            "protocol": if is_json { "json" } else { "protobuf" },
            "encoding": if is_json { "json" } else { "binary" },
        });
        match serde_json::from_slice::<&RawValue>(data) {
            Ok(raw) => {
                asked["data"] = serde_json::to_value(raw).map_err(|error| error.to_string())?;
            }
            Err(_) if data.is_empty() => {}
            Err(_) => asked["b64data"] = STANDARD.encode(data).into(),
        }
        let fault = |error: reqwest::Error| error.without_url().to_string();
        let request = self.client.post(&self.endpoint).json(&asked);
        let mut answer =
            request.send().await.and_then(reqwest::Response::error_for_status).map_err(fault)?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(fault)? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        Ok(body)
    }
}

type Read = (u32, bool, String, Vec<u8>);

/// A code (0: done), whether it may be tried again, a text, and data.
fn read(body: &[u8]) -> Result<Read, &str> {
    const NONE: &str = "neither result, error nor disconnect";
    let said: Said<'_> = serde_json::from_slice(body).map_err(|_| NONE)?;
    match said {
        Said { error: Some(Refusal { code, message, temporary }), .. } if code > 0 => {
            // Clients do not bear an error without a text (T5).
            let text = if message.is_empty() { "error".into() } else { message };
            Ok((code, temporary, text, Vec::new()))
        }
        Said { disconnect: Some(Farewell { code, reason }), .. } => {
            Ok((code, false, reason, Vec::new()))
        }
        Said { result: Some(Outcome { data, b64data }), .. } => {
            let data = match (data, b64data) {
                (_, Some(text)) => STANDARD.decode(text).map_err(|_| NONE)?,
                (Some(raw), None) => raw.get().as_bytes().to_vec(),
                (None, None) => Vec::new(),
            };
            Ok((0, false, String::new(), data))
        }
        _ => Err(NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_result_an_error_or_a_goodbye() {
        let done = (0, false, String::new(), br#"{"a":1}"#.to_vec());
        assert_eq!(read(br#"{"result":{"data":{"a":1}}}"#), Ok(done));
        assert_eq!(read(br#"{"result":{"b64data":"AQI="}}"#).map(|read| read.3), Ok(vec![1, 2]));
        assert_eq!(read(br#"{"result":{}}"#).map(|read| read.0), Ok(0));
        let refused = (1_000, true, "no".to_string(), Vec::new());
        assert_eq!(
            read(br#"{"error":{"code":1000,"message":"no","temporary":true}}"#),
            Ok(refused)
        );
        assert_eq!(read(br#"{"error":{"code":1000}}"#).map(|read| read.2), Ok("error".into()));
        assert_eq!(
            read(br#"{"disconnect":{"code":4500,"reason":"go"}}"#).map(|read| read.0),
            Ok(4_500)
        );
        for wrong in [&b"{}"[..], b"", b"[]", br#"{"result":{"b64data":"?"}}"#] {
            assert!(read(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}

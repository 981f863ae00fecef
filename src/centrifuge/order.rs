//! What a back end orders for a user's connections: judged by the API that takes it, and read by the same code on each core that obeys.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::code::Fault;
use super::message::StreamPosition;
use super::token::Grant;

/// The arguments of `subscribe`, `unsubscribe`, `disconnect` and `refresh` (`centrifuge.md` 5).
#[derive(Debug, Deserialize)]
pub struct Order<'a> {
    /// Whose connections; empty: those of nobody in particular.
    #[serde(borrow)]
    pub user: Cow<'a, str>,
    /// Only this connection.
    #[serde(default, borrow)]
    pub client: Cow<'a, str>,
    #[serde(default, borrow)]
    pub channel: Cow<'a, str>,
    /// All but these connections.
    #[serde(default)]
    pub whitelist: Vec<String>,
    pub disconnect: Option<Farewell>,
    #[serde(default)]
    pub expired: bool,
    /// Seconds since 1970.
    pub expire_at: Option<u64>,
    pub recover_since: Option<StreamPosition>,
    /// Read apart: raw JSON does not pass through a flattened field.
    #[serde(skip)]
    pub grant: Grant,
}

/// With what a connection is closed.
#[derive(Debug, Deserialize)]
pub struct Farewell {
    pub code: u16,
    pub reason: String,
}

impl Farewell {
    /// Some clients come back for ever when they are told no reason, or one that they take for JSON (T3, T4).
    pub fn is_fine(&self) -> bool {
        let is_json = serde_json::from_str::<Value>(&self.reason).is_ok();
        (3_000..5_000).contains(&self.code) && (1..=123).contains(&self.reason.len()) && !is_json
    }
}

impl<'a> Order<'a> {
    /// # Errors
    /// `BadRequest`: nothing that anybody could obey.
    pub fn read(arguments: &'a [u8]) -> Result<Self, Fault> {
        let order: Self = serde_json::from_slice(arguments).map_err(|_| Fault::BadRequest)?;
        if order.disconnect.as_ref().is_some_and(|farewell| !farewell.is_fine()) {
            return Err(Fault::BadRequest);
        }
        let grant = serde_json::from_slice(arguments).map_err(|_| Fault::BadRequest)?;
        Ok(Self { grant, ..order })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_could_obey_is_refused() {
        let good =
            r#"{"user":"4","channel":"a","info":{"a":1},"disconnect":{"code":4000,"reason":"go"}}"#;
        let order = Order::read(good.as_bytes()).expect("an order");
        assert_eq!((&*order.user, &*order.channel), ("4", "a"));
        assert_eq!(order.grant.info(), br#"{"a":1}"#);
        for bad in [
            "{}",
            r#"{"user":4}"#,
            r#"{"user":"4","override":{"presence":true}}"#,
            r#"{"user":"4","b64info":7}"#,
            r#"{"user":"4","disconnect":{"code":2999,"reason":"go"}}"#,
            r#"{"user":"4","disconnect":{"code":4000,"reason":""}}"#,
            r#"{"user":"4","disconnect":{"code":4000,"reason":"42"}}"#,
        ] {
            assert_eq!(Order::read(bad.as_bytes()).err(), Some(Fault::BadRequest), "{bad}");
        }
    }
}

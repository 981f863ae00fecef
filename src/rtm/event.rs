//! Everything that a server says to an RTM client, as JSON: appended to a buffer, without the websocket around it.

use std::fmt::Write;

use super::command::{Id, Scalar};
use super::error::{Fault, code_of};

/// The first words. `epoch` is the database's, `region` the gateway's, if it has one.
pub fn hello(epoch: &str, region: Option<&str>, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"type":"hello","fast_reconnect":false,"epoch":"#);
    text(epoch, into);
    if let Some(region) = region {
        into.extend_from_slice(br#","region":"#);
        text(region, into);
    }
    into.push(b'}');
}

/// A message is stored.
pub fn ack(reply_to: &[u8], ts: &str, said: &str, seq: u64, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"ok":true"#);
    reply(reply_to, into);
    into.extend_from_slice(br#","ts":"#);
    text(ts, into);
    into.extend_from_slice(br#","text":"#);
    text(said, into);
    into.extend_from_slice(br#","seq":"#);
    number(seq, into);
    into.push(b'}');
}

/// What a frame with a number wanted was not done.
pub fn refusal(reply_to: &[u8], fault: Fault, into: &mut Vec<u8>) {
    refused(reply_to, fault.code(), fault.text(), into);
}

/// A post was refused by the webapp, by Slack's name of the error.
pub fn post_refusal(reply_to: &[u8], reason: &str, into: &mut Vec<u8>) {
    match reason {
        "no_text" => refusal(reply_to, Fault::TextMissing, into),
        "slow_down" => refusal(reply_to, Fault::TooFast, into),
        reason => refused(reply_to, code_of(reason), reason, into),
    }
}

fn refused(reply_to: &[u8], code: i32, why: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"ok":false"#);
    reply(reply_to, into);
    error_object(code, why, into);
}

/// A fault that answers no numbered frame.
pub fn error(fault: Fault, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"type":"error""#);
    error_object(fault.code(), fault.text(), into);
}

fn error_object(code: i32, why: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(br#","error":{"code":"#);
    display(code, into);
    into.extend_from_slice(br#","msg":"#);
    text(why, into);
    into.extend_from_slice(b"}}");
}

/// The answer to `ping`, with everything flat that was in it.
pub fn pong(reply_to: &[u8], fields: &[(&str, Scalar<'_>)], into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"type":"pong""#);
    reply(reply_to, into);
    for (key, value) in fields {
        into.push(b',');
        text(key, into);
        into.push(b':');
        scalar(*value, into);
    }
    into.push(b'}');
}

/// Complete: nothing is spliced into it.
pub fn user_typing(channel: &str, user: &str, thread_ts: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"type":"user_typing","channel":"#);
    text(channel, into);
    into.extend_from_slice(br#","user":"#);
    text(user, into);
    if !thread_ts.is_empty() {
        into.extend_from_slice(br#","thread_ts":"#);
        text(thread_ts, into);
    }
    into.push(b'}');
}

/// Users of whom the same is to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Active,
    Away,
}

/// The form for clients that did not ask for another: one user.
pub fn presence_change(user: &str, is: Presence, into: &mut Vec<u8>) {
    presence_head(is, into);
    into.extend_from_slice(br#""user":"#);
    text(user, into);
    into.push(b'}');
}

/// The form for clients that are batch_presence_aware: always a list.
pub fn presence_changes<'a>(
    users: impl IntoIterator<Item = &'a str>,
    is: Presence,
    into: &mut Vec<u8>,
) {
    presence_head(is, into);
    into.extend_from_slice(br#""users":["#);
    for (nth, user) in users.into_iter().enumerate() {
        if nth > 0 {
            into.push(b',');
        }
        text(user, into);
    }
    into.extend_from_slice(b"]}");
}

fn presence_head(is: Presence, into: &mut Vec<u8>) {
    into.extend_from_slice(match is {
        Presence::Active => br#"{"type":"presence_change","presence":"active","#,
        Presence::Away => br#"{"type":"presence_change","presence":"away","#,
    });
}

/// The connection ends soon; a client connects anew at once.
pub const GOODBYE: &[u8] = br#"{"type":"goodbye"}"#;

/// Where to connect next time.
pub fn reconnect_url(url: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"type":"reconnect_url","url":"#);
    text(url, into);
    into.push(b'}');
}

/// `from..=to` of a channel are not sent: `events.list` has them.
pub fn gap(seq_of: &str, from: u64, to: u64, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"type":"gap","seq_of":"#);
    text(seq_of, into);
    into.extend_from_slice(br#","from":"#);
    number(from, into);
    into.extend_from_slice(br#","to":"#);
    number(to, into);
    into.push(b'}');
}

/// A durable event: the payload, which is a JSON object, with its place.
pub fn durable(payload: &[u8], seq: u64, seq_of: &str, into: &mut Vec<u8>) {
    let head = payload.trim_ascii_end();
    let head = head.strip_suffix(b"}").unwrap_or(head);
    into.extend_from_slice(head);
    if !head.trim_ascii_end().ends_with(b"{") {
        into.push(b',');
    }
    into.extend_from_slice(br#""seq":"#);
    number(seq, into);
    into.extend_from_slice(br#","seq_of":"#);
    text(seq_of, into);
    into.push(b'}');
}

/// A client's number, as it will be said back; nothing when there was none.
pub fn reply_to(id: Id<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(id) = id {
        scalar(id, &mut bytes);
    }
    bytes
}

fn reply(reply_to: &[u8], into: &mut Vec<u8>) {
    if !reply_to.is_empty() {
        into.extend_from_slice(br#","reply_to":"#);
        into.extend_from_slice(reply_to);
    }
}

fn scalar(value: Scalar<'_>, into: &mut Vec<u8>) {
    match value {
        Scalar::Null => into.extend_from_slice(b"null"),
        Scalar::Bool(is) => display(is, into),
        Scalar::Int(number) => display(number, into),
        Scalar::Uint(n) => number(n, into),
        // `Debug` of a float keeps the point and is JSON for finite ones.
        Scalar::Float(number) => display(format_args!("{number:?}"), into),
        Scalar::Text(value) => text(value, into),
    }
}

fn number(value: u64, into: &mut Vec<u8>) {
    display(value, into);
}

fn display(value: impl std::fmt::Display, into: &mut Vec<u8>) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl Write for Bytes<'_> {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            self.0.extend_from_slice(s.as_bytes());
            Ok(())
        }
    }
    write!(Bytes(into), "{value}").expect("a vector takes everything");
}

/// A JSON string.
fn text(value: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        into.extend_from_slice(&value.as_bytes()[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            display(format_args!("\\u{byte:04x}"), into);
        } else {
            into.extend_from_slice(escape);
        }
    }
    into.extend_from_slice(&value.as_bytes()[plain..]);
    into.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut bytes = Vec::new();
        write(&mut bytes);
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn everything_that_is_said_is_json() {
        let id = reply_to(Some(Scalar::Uint(7)));
        assert_eq!(
            value(|into| ack(&id, "1.000001", "a \"b\"", 9, into)),
            json!({"ok": true, "reply_to": 7, "ts": "1.000001", "text": "a \"b\"", "seq": 9})
        );
        assert_eq!(
            value(|into| refusal(&id, Fault::TextMissing, into)),
            json!({"ok": false, "reply_to": 7, "error": {"code": 2, "msg": "message text is missing"}})
        );
        assert_eq!(
            value(|into| refusal(&[], Fault::TooFast, into)),
            json!({"ok": false, "error": {"code": -1, "msg": "slow down, too many messages..."}})
        );
        assert_eq!(
            value(|into| post_refusal(&id, "not_in_channel", into)),
            json!({"ok": false, "reply_to": 7, "error": {"code": 9, "msg": "not_in_channel"}})
        );
        assert_eq!(
            value(|into| error(Fault::Expired, into)),
            json!({"type": "error", "error": {"code": 1, "msg": "Socket URL has expired"}})
        );
        assert_eq!(
            value(|into| pong(&id, &[("f", Scalar::Float(1.0)), ("t", Scalar::Null)], into)),
            json!({"type": "pong", "reply_to": 7, "f": 1.0, "t": null})
        );
        assert_eq!(
            value(|into| presence_changes(["U1", "U2"], Presence::Away, into)),
            json!({"type": "presence_change", "presence": "away", "users": ["U1", "U2"]})
        );
        assert_eq!(
            value(|into| presence_change("U1", Presence::Active, into)),
            json!({"type": "presence_change", "presence": "active", "user": "U1"})
        );
        assert_eq!(
            value(|into| user_typing("C1", "U1", "", into)),
            json!({"type": "user_typing", "channel": "C1", "user": "U1"})
        );
        assert_eq!(
            value(|into| gap("C1", 3, 9, into)),
            json!({"type": "gap", "seq_of": "C1", "from": 3, "to": 9})
        );
        assert_eq!(value(|into| hello("e", None, into))["epoch"], "e");
        assert_eq!(value(|into| into.extend_from_slice(GOODBYE)), json!({"type": "goodbye"}));
        assert_eq!(value(|into| reconnect_url("ws://h/", into))["url"], "ws://h/");
    }

    #[test]
    fn a_place_is_spliced_into_any_object() {
        for (payload, expected) in [
            (r#"{"type":"x"}"#, json!({"type": "x", "seq": 3, "seq_of": "C1"})),
            ("{}", json!({"seq": 3, "seq_of": "C1"})),
            ("{ } \n", json!({"seq": 3, "seq_of": "C1"})),
        ] {
            assert_eq!(value(|into| durable(payload.as_bytes(), 3, "C1", into)), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(said in any::<String>()) {
            prop_assert_eq!(value(|into| text(&said, into)), Value::String(said));
        }
    }
}

//! One websocket message to commands, and replies to bytes: JSON lines, or Protobuf messages behind their lengths.

use prost::Message;

use super::message::{Command, Reply};

/// In which of two forms a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Json,
    Protobuf,
}

/// The bytes are no commands: the connection ends with 3501.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// The empty reply: `{}`, or the byte 0.
pub const JSON_PING: &[u8] = b"{}";
pub const PROTOBUF_PING: &[u8] = &[0];

impl Framing {
    /// What a client asks for by its sub-protocol and its query, and the sub-protocol to answer with.
    ///
    /// An empty list of sub-protocols is the same as none (T14); the one that is chosen is said back, or browsers hang up (T15).
    pub fn negotiate(protocols: Option<&str>, query: &str) -> (Self, Option<&'static str>) {
        let offers = |name: &str| {
            protocols.is_some_and(|list| list.split(',').any(|one| one.trim() == name))
        };
        if offers(PROTOBUF_NAME) {
            return (Self::Protobuf, Some(PROTOBUF_NAME));
        }
        let echo = offers(JSON_NAME).then_some(JSON_NAME);
        let asks = |pair: &str| pair == "format=protobuf" || pair == "cf_protocol=protobuf";
        if query.split('&').any(asks) {
            return (Self::Protobuf, echo);
        }
        (Self::Json, echo)
    }

    /// The commands of one websocket message, in order. An empty message, a blank line and a length too long are broken.
    pub fn commands(self, bytes: &[u8]) -> Result<Vec<Command>, Broken> {
        match self {
            Self::Json => {
                let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                lines
                    .split(|byte| *byte == b'\n')
                    .map(|line| match line.trim_ascii_start().first() {
                        // A list of fields would pass for an object.
                        Some(b'{') => serde_json::from_slice(line).map_err(|_| Broken),
                        _ => Err(Broken),
                    })
                    .collect()
            }
            Self::Protobuf => {
                let (mut rest, mut commands) = (bytes, Vec::new());
                while !rest.is_empty() || commands.is_empty() {
                    commands.push(Command::decode_length_delimited(&mut rest).map_err(|_| Broken)?);
                }
                Ok(commands)
            }
        }
    }

    /// Appends one reply, alone in its websocket message.
    pub fn write(self, reply: &Reply, into: &mut Vec<u8>) {
        match self {
            Self::Json => {
                serde_json::to_writer(into, reply).expect("what is raw was JSON at the door");
            }
            Self::Protobuf => reply.encode_length_delimited(into).expect("a vector grows"),
        }
    }

    pub fn ping(self) -> &'static [u8] {
        match self {
            Self::Json => JSON_PING,
            Self::Protobuf => PROTOBUF_PING,
        }
    }
}

const JSON_NAME: &str = "centrifuge-json";
const PROTOBUF_NAME: &str = "centrifuge-protobuf";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centrifuge::message::{Nothing, SubscribeResult};

    #[test]
    fn a_framing_is_chosen_by_protocol_or_query() {
        let is = Framing::negotiate;
        assert_eq!(is(None, ""), (Framing::Json, None));
        assert_eq!(is(Some(""), "cf_protocol_version=v2"), (Framing::Json, None));
        assert_eq!(is(Some("centrifuge-json"), ""), (Framing::Json, Some("centrifuge-json")));
        assert_eq!(
            is(Some("x, centrifuge-protobuf"), ""),
            (Framing::Protobuf, Some("centrifuge-protobuf"))
        );
        assert_eq!(is(None, "a=b&format=protobuf"), (Framing::Protobuf, None));
        assert_eq!(is(None, "cf_protocol=protobuf"), (Framing::Protobuf, None));
    }

    #[test]
    fn json_commands_are_lines() {
        let read = |text: &str| Framing::Json.commands(text.as_bytes());
        let two = read(
            "{\"connect\":{\"token\":\"t\",\"subs\":{}},\"id\":1}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\",\"unknown\":[1]}}\n",
        );
        let two = two.expect("two commands");
        assert_eq!((two[0].id, two[1].id), (1, 2));
        assert_eq!(two[1].subscribe.as_ref().map(|one| &*one.channel), Some("a"));
        assert_eq!(read("{}").expect("a pong")[0], Command::default());
        let data = read(
            "{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":{ \"x\" : [1.0, \"\u{e9}\"] }}}",
        );
        let data = data.expect("a publish")[0].publish.clone().expect("is one").data;
        assert_eq!(data, "{ \"x\" : [1.0, \"\u{e9}\"] }".as_bytes());
        for broken in
            ["", "\n", "{}\n\n", "{}\n\n{}", "{", "[]", "7", "{\"id\":\"1\"}", "{\"id\":-1}"]
        {
            assert_eq!(read(broken), Err(Broken), "{broken:?}");
        }
        assert_eq!(
            Framing::Json.commands(b"{\"id\":1,\"rpc\":{\"method\":\"\xff\"}}"),
            Err(Broken)
        );
    }

    #[test]
    fn protobuf_commands_are_behind_their_lengths() {
        // id 1, connect {}; then an empty command.
        let two = Framing::Protobuf.commands(&[4, 8, 1, 0x22, 0, 0]).expect("two commands");
        assert_eq!((two.len(), two[0].id, &two[1]), (2, 1, &Command::default()));
        assert!(two[0].connect.is_some());
        for broken in [&[][..], &[5, 8, 1, 0x22, 0], &[0xff, 0xff], &[2, 8]] {
            assert_eq!(Framing::Protobuf.commands(broken), Err(Broken), "{broken:?}");
        }
    }

    #[test]
    fn replies_omit_zeros_but_keep_what_selects_the_kind() {
        let write = |framing: Framing, reply: &Reply| {
            let mut bytes = Vec::new();
            framing.write(reply, &mut bytes);
            bytes
        };
        let publish = Reply { id: 4, publish: Some(Nothing {}), ..Reply::default() };
        assert_eq!(write(Framing::Json, &publish), b"{\"id\":4,\"publish\":{}}");
        assert_eq!(write(Framing::Protobuf, &publish), [4, 8, 4, 0x42, 0]);
        let subscribe =
            Reply { id: 2, subscribe: Some(SubscribeResult::default()), ..Reply::default() };
        assert_eq!(write(Framing::Json, &subscribe), b"{\"id\":2,\"subscribe\":{}}");
        assert_eq!(write(Framing::Json, &Reply::default()), JSON_PING);
        assert_eq!(write(Framing::Protobuf, &Reply::default()), PROTOBUF_PING);
    }
}

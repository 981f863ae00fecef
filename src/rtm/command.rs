//! One text frame of a client to a closed command. Whatever a client sends becomes one of these, or a fault that it is told.

use simd_json::prelude::*;
use simd_json::{Buffers, Node, StaticNode};

use super::error::Fault;

/// What a client wants. Strings lie in the frame's own bytes.
#[derive(Clone, PartialEq, Debug)]
pub enum Command<'a> {
    Message {
        id: Id<'a>,
        channel: &'a str,
        /// May be empty: the session says so to the client.
        text: &'a str,
        /// Empty: not in a thread.
        thread_ts: &'a str,
        /// Empty: none.
        client_msg_id: &'a str,
    },
    Typing {
        id: Id<'a>,
        channel: &'a str,
        thread_ts: &'a str,
    },
    /// `fields`: everything flat that was in it, to be said back.
    Ping {
        id: Id<'a>,
        fields: Vec<(&'a str, Scalar<'a>)>,
    },
    PresenceSub {
        id: Id<'a>,
        ids: Vec<&'a str>,
    },
    PresenceQuery {
        id: Id<'a>,
        ids: Vec<&'a str>,
    },
    /// Where the client stands, by `seq_of`. Several frames; the last one says so.
    Resume {
        id: Id<'a>,
        epoch: &'a str,
        positions: Vec<(&'a str, u64)>,
        last: bool,
    },
    /// Somebody is at the keyboard.
    Tickle,
    Unknown {
        id: Id<'a>,
    },
}

/// A value without parts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'a str),
}

/// The client's number of a frame: said back as `reply_to` as it came. `None`: there was none.
pub type Id<'a> = Option<Scalar<'a>>;

/// Why a frame is no command, and whom to tell.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Wrong<'a> {
    pub id: Id<'a>,
    pub fault: Fault,
}

/// Nesting of a frame: more is an attack on somebody's stack.
const DEPTH_MAX: u32 = 32;

/// Per shard: memory of the JSON parser.
#[derive(Default)]
pub struct Parser {
    buffers: Buffers,
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parser(..)")
    }
}

impl Parser {
    /// Parses a frame in place: its bytes are changed. `ids_max`: ids of a presence list.
    pub fn parse<'a>(
        &mut self,
        frame: &'a mut [u8],
        ids_max: usize,
    ) -> Result<Command<'a>, Wrong<'a>> {
        let nobody = |fault| Wrong { id: None, fault };
        if !is_safe(frame) {
            return Err(nobody(Fault::Malformed));
        }
        let tape = simd_json::to_tape_with_buffers(frame, &mut self.buffers)
            .map_err(|_| nobody(Fault::Malformed))?;
        Fields::of(&tape.0).ok_or_else(|| nobody(Fault::NoObject))?.command(ids_max)
    }
}

/// The fields of the frame that mean something, as places in the tape.
struct Fields<'t, 'a> {
    nodes: &'t [Node<'a>],
    kind: Option<usize>,
    id: Option<usize>,
    channel: Option<usize>,
    text: Option<usize>,
    thread_ts: Option<usize>,
    client_msg_id: Option<usize>,
    ids: Option<usize>,
    epoch: Option<usize>,
    positions: Option<usize>,
    last: Option<usize>,
}

impl<'t, 'a> Fields<'t, 'a> {
    fn of(nodes: &'t [Node<'a>]) -> Option<Self> {
        let Some(Node::Object { .. }) = nodes.first() else { return None };
        let mut fields = Self {
            nodes,
            kind: None,
            id: None,
            channel: None,
            text: None,
            thread_ts: None,
            client_msg_id: None,
            ids: None,
            epoch: None,
            positions: None,
            last: None,
        };
        for (key, at) in members(nodes, 0) {
            let field = match key {
                "type" => &mut fields.kind,
                "id" => &mut fields.id,
                "channel" => &mut fields.channel,
                "text" => &mut fields.text,
                "thread_ts" => &mut fields.thread_ts,
                "client_msg_id" => &mut fields.client_msg_id,
                "ids" => &mut fields.ids,
                "epoch" => &mut fields.epoch,
                "positions" => &mut fields.positions,
                "last" => &mut fields.last,
                _ => continue,
            };
            *field = Some(at);
        }
        Some(fields)
    }

    fn command(&self, ids_max: usize) -> Result<Command<'a>, Wrong<'a>> {
        let id = match self.id.map(|at| scalar(&self.nodes[at])) {
            None | Some(Some(Scalar::Null)) => None,
            Some(Some(id)) => Some(id),
            Some(None) => {
                return Err(Wrong { id: None, fault: Fault::Field("id is not a number") });
            }
        };
        let wrong = |fault| Wrong { id, fault };
        let kind = match self.kind.map(|at| &self.nodes[at]) {
            None => return Err(wrong(Fault::TypeMissing)),
            Some(Node::String(kind)) => *kind,
            Some(_) => return Err(wrong(Fault::Field("type is not a string"))),
        };
        let command = match kind {
            "message" => self.message(id),
            "typing" => self.channel().and_then(|channel| {
                let thread_ts = self.text(self.thread_ts, "thread_ts is not a string")?;
                Ok(Command::Typing { id, channel, thread_ts })
            }),
            "ping" => Ok(Command::Ping { id, fields: self.flat() }),
            "presence_sub" => self.ids(ids_max).map(|ids| Command::PresenceSub { id, ids }),
            "presence_query" => self.ids(ids_max).map(|ids| Command::PresenceQuery { id, ids }),
            "resume" => self.resume(id),
            "tickle" => Ok(Command::Tickle),
            _ => Ok(Command::Unknown { id }),
        };
        command.map_err(wrong)
    }

    fn message(&self, id: Id<'a>) -> Result<Command<'a>, Fault> {
        Ok(Command::Message {
            id,
            channel: self.channel()?,
            text: self.text(self.text, "text is not a string")?,
            thread_ts: self.text(self.thread_ts, "thread_ts is not a string")?,
            client_msg_id: self.text(self.client_msg_id, "client_msg_id is not a string")?,
        })
    }

    fn channel(&self) -> Result<&'a str, Fault> {
        match self.text(self.channel, "channel is not a string")? {
            "" => Err(Fault::ChannelMissing),
            channel => Ok(channel),
        }
    }

    /// A string; empty when it is not there or null.
    fn text(&self, at: Option<usize>, wrong: &'static str) -> Result<&'a str, Fault> {
        match at.map(|at| &self.nodes[at]) {
            None | Some(Node::Static(StaticNode::Null)) => Ok(""),
            Some(Node::String(text)) => Ok(text),
            Some(_) => Err(Fault::Field(wrong)),
        }
    }

    fn flat(&self) -> Vec<(&'a str, Scalar<'a>)> {
        members(self.nodes, 0)
            .filter(|(key, _)| !matches!(*key, "type" | "id" | "reply_to"))
            .filter_map(|(key, at)| Some((key, scalar(&self.nodes[at])?)))
            .collect()
    }

    fn ids(&self, ids_max: usize) -> Result<Vec<&'a str>, Fault> {
        const WRONG: Fault = Fault::Field("ids is not a list of strings");
        let Some(at) = self.ids else { return Err(WRONG) };
        let Node::Array { len, .. } = self.nodes[at] else { return Err(WRONG) };
        if len > ids_max {
            return Err(Fault::TooManyIds);
        }
        // A list of strings has one node for each.
        let ids = self.nodes[at + 1..].iter().take(len);
        ids.map(|node| if let Node::String(id) = node { Ok(*id) } else { Err(WRONG) }).collect()
    }

    fn resume(&self, id: Id<'a>) -> Result<Command<'a>, Fault> {
        const WRONG: Fault = Fault::Field("positions is not an object of numbers");
        let positions = match self.positions.map(|at| (at, &self.nodes[at])) {
            None => Vec::new(),
            Some((at, Node::Object { .. })) => members(self.nodes, at)
                .map(|(key, at)| match scalar(&self.nodes[at]) {
                    Some(Scalar::Uint(offset)) => Ok((key, offset)),
                    Some(Scalar::Int(offset)) => {
                        Ok((key, u64::try_from(offset).map_err(|_| WRONG)?))
                    }
                    _ => Err(WRONG),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(WRONG),
        };
        let last = match self.last.map(|at| &self.nodes[at]) {
            None | Some(Node::Static(StaticNode::Null)) => false,
            Some(Node::Static(StaticNode::Bool(last))) => *last,
            Some(_) => return Err(Fault::Field("last is not true or false")),
        };
        let epoch = self.text(self.epoch, "epoch is not a string")?;
        Ok(Command::Resume { id, epoch, positions, last })
    }
}

/// Keys of the object at a place of the tape, with the places of their values.
fn members<'t, 'a>(
    nodes: &'t [Node<'a>],
    object: usize,
) -> impl Iterator<Item = (&'a str, usize)> + use<'t, 'a> {
    let len = if let Node::Object { len, .. } = nodes[object] { len } else { 0 };
    let mut at = object + 1;
    (0..len).map_while(move |_| {
        let Node::String(key) = nodes.get(at)? else { return None };
        let value = at + 1;
        at = value
            + match nodes.get(value)? {
                Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
                _ => 1,
            };
        Some((*key, value))
    })
}

fn scalar<'a>(node: &Node<'a>) -> Option<Scalar<'a>> {
    match *node {
        Node::String(text) => Some(Scalar::Text(text)),
        Node::Static(StaticNode::Null) => Some(Scalar::Null),
        Node::Static(StaticNode::Bool(is)) => Some(Scalar::Bool(is)),
        Node::Static(StaticNode::I64(number)) => Some(Scalar::Int(number)),
        Node::Static(StaticNode::U64(number)) => Some(Scalar::Uint(number)),
        Node::Static(other) => other.as_f64().filter(|n| n.is_finite()).map(Scalar::Float),
        _ => None,
    }
}

/// Whether a frame may be parsed: brackets outside of strings are not nested too deeply, before anything recurses into them; and no
/// escape is half a character, which the parser would let into a string that is not UTF-8.
fn is_safe(frame: &[u8]) -> bool {
    let (mut depth, mut at) = (0u32, 0);
    while let Some(&byte) = frame.get(at) {
        at += 1;
        match byte {
            b'"' => match text_end(frame, at) {
                Some(end) => at = end,
                None => return false,
            },
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Where the string that begins at `at` ends. `None`: it does not, or it has half a character.
fn text_end(frame: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match frame.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                at = match surrogate(frame, at) {
                    None => at + 2,
                    Some(0xd800..0xdc00) => {
                        let low = surrogate(frame, at + 6)?;
                        if low < 0xdc00 {
                            return None;
                        }
                        at + 12
                    }
                    Some(_) => return None,
                }
            }
            _ => at += 1,
        }
    }
}

/// The surrogate that is escaped here, if it is one.
fn surrogate(frame: &[u8], at: usize) -> Option<u32> {
    let six = frame.get(at..at + 6)?;
    let hex = std::str::from_utf8(six.strip_prefix(b"\\u")?).ok()?;
    u32::from_str_radix(hex, 16).ok().filter(|code| (0xd800..0xe000).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frame: &str, expected: &Result<Command<'_>, Wrong<'_>>) {
        let mut bytes = frame.as_bytes().to_vec();
        assert_eq!(&Parser::default().parse(&mut bytes, 3), expected, "{frame}");
    }

    fn fault(frame: &str) -> Fault {
        let mut bytes = frame.as_bytes().to_vec();
        Parser::default().parse(&mut bytes, 3).expect_err(frame).fault
    }

    #[test]
    fn the_frames_of_real_clients_become_commands() {
        check(
            r#"{"id":1,"type":"message","channel":"C1","text":"h\u00e9 \"q\"","client_msg_id":"x"}"#,
            &Ok(Command::Message {
                id: Some(Scalar::Uint(1)),
                channel: "C1",
                text: "hé \"q\"",
                thread_ts: "",
                client_msg_id: "x",
            }),
        );
        check(
            "{\"type\":\"typing\",\"id\":2,\"channel\":\"C1\"}\n",
            &Ok(Command::Typing { id: Some(Scalar::Uint(2)), channel: "C1", thread_ts: "" }),
        );
        check(
            r#"{"type":"ping","id":3,"time":1403299273342,"nested":{"a":[1]},"flag":true,"x":"y"}"#,
            &Ok(Command::Ping {
                id: Some(Scalar::Uint(3)),
                fields: vec![
                    ("time", Scalar::Uint(1_403_299_273_342)),
                    ("flag", Scalar::Bool(true)),
                    ("x", Scalar::Text("y")),
                ],
            }),
        );
        check(
            r#"{"type":"presence_sub","id":0,"ids":["U1","U2"]}"#,
            &Ok(Command::PresenceSub { id: Some(Scalar::Uint(0)), ids: vec!["U1", "U2"] }),
        );
        check(
            r#"{"type":"resume","epoch":"e","positions":{"C1":7,"U1":0},"last":true}"#,
            &Ok(Command::Resume {
                id: None,
                epoch: "e",
                positions: vec![("C1", 7), ("U1", 0)],
                last: true,
            }),
        );
        check(
            r#"{"type":"whatever","id":-4}"#,
            &Ok(Command::Unknown { id: Some(Scalar::Int(-4)) }),
        );
    }

    #[test]
    fn ids_of_any_scalar_are_kept() {
        for (id, kept) in [
            ("0", Some(Scalar::Uint(0))),
            ("1.5", Some(Scalar::Float(1.5))),
            ("\"7\"", Some(Scalar::Text("7"))),
            ("null", None),
            ("true", Some(Scalar::Bool(true))),
            ("9223372036854775808", Some(Scalar::Uint(1 << 63))),
        ] {
            let expected = Ok(Command::Ping { id: kept, fields: Vec::new() });
            check(&format!(r#"{{"type":"ping","id":{id}}}"#), &expected);
        }
        assert_eq!(fault(r#"{"type":"ping","id":[1]}"#), Fault::Field("id is not a number"));
    }

    #[test]
    fn what_is_no_command_is_told_by_its_fault() {
        for frame in [
            "",
            "{",
            "nonsense",
            "\0",
            r#"{"type":"ping","id":1e999}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"\ud800":1}"#,
            r#"{"a":"\ud83d\ud83d"}"#,
            r#"{"a":"\ud83d"#,
        ] {
            assert_eq!(fault(frame), Fault::Malformed, "{frame}");
        }
        for frame in ["[]", "null", "42", r#""text""#] {
            assert_eq!(fault(frame), Fault::NoObject, "{frame}");
        }
        assert_eq!(fault("{}"), Fault::TypeMissing);
        assert_eq!(fault(r#"{"type":7}"#), Fault::Field("type is not a string"));
        assert_eq!(fault(r#"{"type":"message","text":"x"}"#), Fault::ChannelMissing);
        assert_eq!(
            fault(r#"{"type":"message","channel":7,"text":"x"}"#),
            Fault::Field("channel is not a string")
        );
        assert_eq!(
            fault(r#"{"type":"message","channel":"C1","text":{}}"#),
            Fault::Field("text is not a string")
        );
        assert_eq!(fault(r#"{"type":"presence_sub","ids":["1","2","3","4"]}"#), Fault::TooManyIds);
        for ids in [r#""U1""#, "[1,2]", r#"[["U1"]]"#, "{}"] {
            let frame = format!(r#"{{"type":"presence_query","ids":{ids}}}"#);
            assert_eq!(fault(&frame), Fault::Field("ids is not a list of strings"));
        }
        for positions in ["[]", r#"{"C1":-1}"#, r#"{"C1":"7"}"#, r#"{"C1":1.5}"#] {
            let frame = format!(r#"{{"type":"resume","positions":{positions}}}"#);
            assert_eq!(fault(&frame), Fault::Field("positions is not an object of numbers"));
        }
    }

    #[test]
    fn characters_of_two_escapes_are_one() {
        let mut bytes = br#"{"type":"typing","channel":"\ud83d\ude00\\ud800"}"#.to_vec();
        let command = Parser::default().parse(&mut bytes, 3);
        assert_eq!(
            command,
            Ok(Command::Typing { id: None, channel: "\u{1f600}\\ud800", thread_ts: "" })
        );
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_parsed() {
        assert_eq!(fault(&"[".repeat(8_000)), Fault::Malformed);
        assert_eq!(fault(&r#"{"a":"#.repeat(3_000)), Fault::Malformed);
        let text = "[".repeat(100);
        let frame = format!(r#"{{"type":"message","channel":"C1","text":"\"{text}"}}"#);
        assert!(Parser::default().parse(&mut frame.into_bytes(), 3).is_ok());
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        let frame = br#"{"type":"resume","id":1,"epoch":"e","positions":{"C1":7},"last":true,"ids":["U1",2,{}]}"#;
        for at in 0..frame.len() {
            for byte in 0..=255 {
                let mut bytes = frame.to_vec();
                bytes[at] = byte;
                let _ = Parser::default().parse(&mut bytes, 3);
                let _ = Parser::default().parse(&mut frame[..at].to_vec(), 3);
            }
        }
    }
}

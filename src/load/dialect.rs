//! How each kind of server is talked to: what is said to come in, to follow, to publish; and what is heard.

use std::fmt::Write as _;

use hmac::{Hmac, Mac as _};
use memchr::memmem::{Finder, find};
use serde_json::{Value, json};
use sha2::Sha256;

use super::arguments::Dialect;
use super::mark::{self, Mark};

/// What one message of a server comes to.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Heard {
    /// The server knows who we are: channels may be followed.
    Welcome,
    /// So many channels are followed; all of them, where a server does not say which.
    Following(Following),
    /// A publication of ours was taken.
    Published,
    /// A publication, and the place that it has (0: none told).
    Delivery(Mark, u64),
    /// To be said at once.
    Answer(Vec<u8>),
    /// Something was refused.
    Refused(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Following {
    All,
    /// The number of the subscription among those of the connection, and where it stands.
    One {
        nth: u32,
        epoch: String,
        offset: u64,
        is_recovered: bool,
    },
}

/// What is kept of one connection between messages.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// Nats: a mark that was cut by the end of a message.
    tail: Vec<u8>,
    is_welcome: bool,
    /// Pusher: who we are there.
    socket_id: String,
}

/// A dialect with all that it needs to know.
#[derive(Debug)]
pub(super) struct Tongue {
    dialect: Dialect,
    app: (String, String),
    /// Whether places are wanted.
    has_places: bool,
    marks: Finder<'static>,
}

/// Numbers of Centrifuge commands: 1 is connect, then the subscriptions, then all others.
const FIRST_SUBSCRIPTION: u32 = 2;
const PUBLICATIONS: u32 = 1 << 30;
const PONG: &[u8] = b"PONG\r\n";

impl Tongue {
    pub(super) fn new(dialect: Dialect, app: (String, String), has_places: bool) -> Self {
        Self { dialect, app, has_places, marks: Finder::new(mark::WORD) }
    }

    /// Whether a connection follows its channels without saying so.
    pub(super) fn follows_by_itself(&self) -> bool {
        self.dialect == Dialect::Rtm
    }

    /// Whether a server says that it took a publication.
    pub(super) fn answers_publications(&self) -> bool {
        matches!(self.dialect, Dialect::Centrifuge | Dialect::Rtm)
    }

    /// Whether who publishes must follow the channels.
    pub(super) fn publishers_follow(&self) -> bool {
        self.dialect == Dialect::Pusher
    }

    /// What is said when the websocket is open.
    pub(super) fn hello(&self, token: &str) -> Option<Vec<u8>> {
        match self.dialect {
            Dialect::Centrifuge => {
                let connect =
                    json!({ "id": 1, "connect": { "token": token, "name": "campanile-load" } });
                Some(connect.to_string().into())
            }
            Dialect::Nats => {
                Some(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n".to_vec())
            }
            Dialect::Rtm | Dialect::Raw | Dialect::Pusher => None,
        }
    }

    /// Whether nobody has to be waited for before channels are followed.
    pub(super) fn is_welcome_at_once(&self) -> bool {
        self.dialect == Dialect::Raw
    }

    /// What is said to follow the `nth` channel of a connection; `since`: where it stood.
    pub(super) fn follow(
        &self,
        talk: &Talk,
        nth: u32,
        channel: &str,
        since: Option<(&str, u64)>,
    ) -> Option<Vec<u8>> {
        match self.dialect {
            Dialect::Centrifuge => {
                let id = FIRST_SUBSCRIPTION + nth;
                let subscribe = match since {
                    Some((epoch, offset)) => {
                        json!({ "channel": channel, "recover": true, "epoch": epoch, "offset": offset })
                    }
                    None => json!({ "channel": channel }),
                };
                Some(json!({ "id": id, "subscribe": subscribe }).to_string().into())
            }
            Dialect::Raw => Some(format!("S {channel}").into()),
            Dialect::Nats => Some(format!("SUB {channel} {}\r\nPING\r\n", nth + 1).into()),
            Dialect::Pusher => {
                let (key, secret) = &self.app;
                let channel = format!("private-{channel}");
                let mut mac =
                    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
                mac.update(format!("{}:{channel}", talk.socket_id).as_bytes());
                let mut auth = format!("{key}:");
                for byte in mac.finalize().into_bytes() {
                    write!(auth, "{byte:02x}").expect("a text grows");
                }
                let data = json!({ "channel": channel, "auth": auth });
                Some(json!({ "event": "pusher:subscribe", "data": data }).to_string().into())
            }
            Dialect::Rtm => None,
        }
    }

    /// Writes the `nth` publication, into `channel`.
    pub(super) fn publish(
        &self,
        nth: u32,
        channel: &str,
        mark: Mark,
        bytes: usize,
        into: &mut Vec<u8>,
    ) {
        let id = PUBLICATIONS + nth % PUBLICATIONS;
        let (head, tail) = match self.dialect {
            Dialect::Centrifuge => (
                format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{{"m":""#),
                r#""}}}"#,
            ),
            Dialect::Rtm => {
                (format!(r#"{{"type":"message","id":{id},"channel":"{channel}","text":""#), r#""}"#)
            }
            Dialect::Raw => (format!("P {channel} "), ""),
            Dialect::Nats => (format!("PUB {channel} {}\r\n", bytes.max(mark::BYTES)), "\r\n"),
            Dialect::Pusher => (
                format!(r#"{{"event":"client-load","channel":"private-{channel}","data":{{"m":""#),
                r#""}}"#,
            ),
        };
        // In JSON the payload is the whole object.
        let around = if matches!(self.dialect, Dialect::Centrifuge | Dialect::Pusher) {
            r#"{"m":""}"#.len()
        } else {
            0
        };
        into.extend_from_slice(head.as_bytes());
        mark::text(mark, bytes.saturating_sub(around), into);
        into.extend_from_slice(tail.as_bytes());
    }

    /// Somebody types, where a dialect has that.
    pub(super) fn typing(&self, channel: &str) -> Option<Vec<u8>> {
        let is_rtm = self.dialect == Dialect::Rtm;
        is_rtm.then(|| json!({ "type": "typing", "channel": channel }).to_string().into())
    }

    /// What a message comes to, into `heard`.
    pub(super) fn hear(&self, talk: &mut Talk, message: &[u8], heard: &mut Vec<Heard>) {
        match self.dialect {
            Dialect::Centrifuge => {
                for line in message.split(|byte| *byte == b'\n') {
                    self.hear_centrifuge(line, heard);
                }
            }
            Dialect::Rtm => self.hear_rtm(message, heard),
            Dialect::Raw if message.starts_with(b"s ") => {
                heard.push(Heard::Following(Following::All));
            }
            Dialect::Raw => self.deliveries(message, heard),
            Dialect::Nats => self.hear_nats(talk, message, heard),
            Dialect::Pusher => self.hear_pusher(talk, message, heard),
        }
    }

    fn deliveries(&self, message: &[u8], heard: &mut Vec<Heard>) {
        for at in self.marks.find_iter(message) {
            if let Some(mark) = Mark::read(&message[at..]) {
                let offset = if self.has_places { offset_of(&message[at..]) } else { 0 };
                heard.push(Heard::Delivery(mark, offset));
            }
        }
    }

    fn hear_centrifuge(&self, line: &[u8], heard: &mut Vec<Heard>) {
        if line == b"{}" {
            return heard.push(Heard::Answer(b"{}".to_vec()));
        }
        if line.starts_with(br#"{"push":"#) {
            if find(line, br#""unsubscribe":"#).is_some() && find(line, mark::WORD).is_none() {
                heard.push(Heard::Refused(text(line)));
            }
            return self.deliveries(line, heard);
        }
        if line.ends_with(br#""publish":{}}"#) {
            return heard.push(Heard::Published);
        }
        let Ok(reply) = serde_json::from_slice::<Value>(line) else {
            return heard.push(Heard::Refused(text(line)));
        };
        if reply.get("error").is_some() {
            heard.push(Heard::Refused(text(line)));
        } else if reply.get("connect").is_some() {
            heard.push(Heard::Welcome);
        } else if let (Some(id), Some(subscribe)) = (reply["id"].as_u64(), reply.get("subscribe")) {
            self.deliveries(line, heard);
            heard.push(Heard::Following(Following::One {
                nth: (id as u32).saturating_sub(FIRST_SUBSCRIPTION),
                epoch: subscribe["epoch"].as_str().unwrap_or_default().into(),
                offset: subscribe["offset"].as_u64().unwrap_or(0),
                is_recovered: subscribe["recovered"].as_bool().unwrap_or(false),
            }));
        }
    }

    fn hear_rtm(&self, message: &[u8], heard: &mut Vec<Heard>) {
        if message.starts_with(br#"{"type":"hello""#) {
            heard.push(Heard::Welcome);
        } else if message.starts_with(br#"{"ok":false"#) {
            heard.push(Heard::Refused(text(message)));
        } else if message.starts_with(br#"{"ok":"#) {
            heard.push(Heard::Published);
        } else {
            self.deliveries(message, heard);
        }
    }

    fn hear_nats(&self, talk: &mut Talk, message: &[u8], heard: &mut Vec<Heard>) {
        let joined;
        let mut all = message;
        if !talk.tail.is_empty() {
            talk.tail.extend_from_slice(message);
            joined = std::mem::take(&mut talk.tail);
            all = &joined;
        }
        let mut end = 0;
        for at in self.marks.find_iter(all) {
            if let Some(mark) = Mark::read(&all[at..]) {
                heard.push(Heard::Delivery(mark, 0));
                end = at + mark::BYTES;
            }
        }
        talk.tail.extend_from_slice(&all[end.max(all.len().saturating_sub(mark::BYTES))..]);
        // What a server says besides begins a message. The first answer is to our coming, each other one to a subscription.
        for _ in message.chunks(PONG.len()).take_while(|words| *words == PONG) {
            let is_first = !std::mem::replace(&mut talk.is_welcome, true);
            heard.push(if is_first { Heard::Welcome } else { Heard::Following(Following::All) });
        }
        if message.starts_with(b"PING") {
            heard.push(Heard::Answer(b"PONG\r\n".to_vec()));
        } else if message.starts_with(b"-ERR") {
            heard.push(Heard::Refused(text(message)));
        }
    }

    fn hear_pusher(&self, talk: &mut Talk, message: &[u8], heard: &mut Vec<Heard>) {
        if find(message, mark::WORD).is_some() {
            return self.deliveries(message, heard);
        }
        let Ok(told) = serde_json::from_slice::<Value>(message) else { return };
        match told["event"].as_str().unwrap_or_default() {
            "pusher:connection_established" => {
                let data = told["data"].as_str().unwrap_or_default();
                let data: Value = serde_json::from_str(data).unwrap_or_default();
                talk.socket_id = data["socket_id"].as_str().unwrap_or_default().into();
                heard.push(Heard::Welcome);
            }
            "pusher_internal:subscription_succeeded" => {
                heard.push(Heard::Following(Following::All));
            }
            "pusher:ping" => {
                heard.push(Heard::Answer(br#"{"event":"pusher:pong","data":{}}"#.to_vec()));
            }
            "pusher:error" => heard.push(Heard::Refused(text(message))),
            _ => {}
        }
    }
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(&message[..message.len().min(300)]).into_owned()
}

/// The first offset behind a publication's data; 0: none.
fn offset_of(bytes: &[u8]) -> u64 {
    const KEY: &[u8] = br#""offset":"#;
    let Some(at) = find(bytes, KEY) else { return 0 };
    let digits = bytes[at + KEY.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { run: 1, channel: 2, number: 3, due_ns: 4 };

    fn tongue(dialect: Dialect) -> Tongue {
        Tongue::new(dialect, ("key".into(), "secret".into()), true)
    }

    fn heard(dialect: Dialect, message: &[u8]) -> Vec<Heard> {
        let mut heard = Vec::new();
        tongue(dialect).hear(&mut Talk::default(), message, &mut heard);
        heard
    }

    #[test]
    fn a_publication_has_the_bytes_that_were_asked_for_and_is_json() {
        for dialect in [Dialect::Centrifuge, Dialect::Pusher] {
            let mut bytes = Vec::new();
            tongue(dialect).publish(0, "c", MARK, 200, &mut bytes);
            let value: Value = serde_json::from_slice(&bytes).expect("JSON");
            let data = value["publish"]["data"].as_object().or_else(|| value["data"].as_object());
            assert_eq!(serde_json::to_string(&data).expect("JSON").len(), 200, "{value}");
        }
    }

    #[test]
    fn deliveries_are_found_wherever_they_stand() {
        let mut one = Vec::new();
        mark::text(MARK, 60, &mut one);
        let one = String::from_utf8(one).expect("text");
        let push = |offset: u32| {
            format!(
                r#"{{"push":{{"channel":"c","pub":{{"data":{{"m":"{one}"}},"offset":{offset}}}}}}}"#
            )
        };
        let two = format!("{}\n{}\n{{}}", push(7), push(8));
        assert_eq!(
            heard(Dialect::Centrifuge, two.as_bytes()),
            [Heard::Delivery(MARK, 7), Heard::Delivery(MARK, 8), Heard::Answer(b"{}".to_vec())]
        );
        let reply = format!(
            r#"{{"id":5,"subscribe":{{"epoch":"e","publications":[{{"data":{{"m":"{one}"}},"offset":9}}],"recovered":true,"offset":8}}}}"#
        );
        let following = Following::One { nth: 3, epoch: "e".into(), offset: 8, is_recovered: true };
        assert_eq!(
            heard(Dialect::Centrifuge, reply.as_bytes()),
            [Heard::Delivery(MARK, 9), Heard::Following(following)]
        );
        // Cut anywhere, a mark of a stream is found once.
        let stream = format!("MSG c 1 60\r\n{one}\r\nMSG c 1 60\r\n{one}\r\n");
        for cut in 1..stream.len() {
            let (mut talk, mut heard) = (Talk::default(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                tongue(Dialect::Nats).hear(&mut talk, part.as_bytes(), &mut heard);
            }
            assert_eq!(heard, [Heard::Delivery(MARK, 0), Heard::Delivery(MARK, 0)], "at {cut}");
        }
    }

    #[test]
    fn a_subscription_stands_when_nats_says_so() {
        let (mut talk, mut heard) = (Talk::default(), Vec::new());
        for message in ["INFO {}\r\n", "PONG\r\n", "PONG\r\nPONG\r\n"] {
            tongue(Dialect::Nats).hear(&mut talk, message.as_bytes(), &mut heard);
        }
        let following = Heard::Following(Following::All);
        assert_eq!(heard, [Heard::Welcome, following.clone(), following]);
    }

    #[test]
    fn what_is_refused_is_heard() {
        for (dialect, message) in [
            (
                Dialect::Centrifuge,
                &br#"{"id":4,"error":{"code":103,"message":"permission denied"}}"#[..],
            ),
            (
                Dialect::Centrifuge,
                br#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}"#,
            ),
            (Dialect::Rtm, br#"{"ok":false,"reply_to":1,"error":{"code":2,"msg":"x"}}"#),
            (Dialect::Nats, b"-ERR 'x'\r\n"),
            (Dialect::Pusher, br#"{"event":"pusher:error","data":{"code":4009}}"#),
        ] {
            assert!(matches!(heard(dialect, message)[..], [Heard::Refused(_)]), "{dialect:?}");
        }
    }
}

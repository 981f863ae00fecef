//! How each kind of server is talked to: what is said to come in, to follow, to publish; and what is heard.

use std::fmt::Write as _;

use hmac::{Hmac, Mac as _};
use memchr::memmem::{Finder, find};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::arguments::{Config, Dialect};
use super::mark::{self, Mark};

/// What one message of a server comes to.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Heard {
    /// The server knows who we are: channels may be followed. In RTM the epoch of all places.
    Welcome(String),
    /// So many channels are followed; all of them, where a server does not say which.
    Following(Following),
    /// The publication of ours with this number was taken, or not.
    Published(u32),
    Unpublished(u32, String),
    /// A publication, and the place that it has (0: none told).
    Delivery(Mark, u64),
    /// To be said at once.
    Answer(Vec<u8>),
    /// Something was refused.
    Refused(String),
    /// A channel is not followed any more, and may be asked for again; what was said.
    Unfollowed(String, String),
    /// It was told that something is lost.
    Lost(String),
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
    pub(super) dialect: Dialect,
    pub(super) app: (String, String),
    /// Whether places are wanted.
    pub(super) has_places: bool,
    /// Whether who publishes must follow the channels.
    pub(super) publishers_follow: bool,
    pub(super) marks: Finder<'static>,
}

/// Numbers of Centrifuge commands: 1 is connect, then the subscriptions, then all others.
const FIRST_SUBSCRIPTION: u32 = 2;
const PUBLICATIONS: u32 = 1 << 30;
const PONG: &[u8] = b"PONG\r\n";
/// A code of Centrifuge's unsubscribe.
const COMES_AGAIN: u64 = 2_500;
/// Of one `resume`: a frame of a client has its bound.
const PLACES_PER_FRAME: usize = 200;
/// Names of numbers.
const ID: &[u8] = br#""id":"#;
const REPLY_TO: &[u8] = br#""reply_to":"#;
const OFFSET: &[u8] = br#""offset":"#;
const SEQ: &[u8] = br#""seq":"#;

impl Tongue {
    /// `has_places`: they are wanted.
    pub(super) fn new(config: &Config, has_places: bool) -> Self {
        let (dialect, app) = (config.dialect, config.app.clone());
        // Channels that are given are a workspace's, whose members publish.
        let is_given = config.tokens.is_some();
        let publishers_follow =
            dialect == Dialect::Pusher || (dialect == Dialect::Centrifuge && is_given);
        Self { dialect, app, has_places, publishers_follow, marks: Finder::new(mark::WORD) }
    }

    /// Whether a connection follows its channels without saying so.
    pub(super) fn follows_by_itself(&self) -> bool {
        self.dialect == Dialect::Rtm
    }

    /// Whether a server says that it took a publication.
    pub(super) fn answers_publications(&self) -> bool {
        matches!(self.dialect, Dialect::Centrifuge | Dialect::Rtm)
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

    /// Where everybody stands, in RTM: the frames that say it, of which the last one says so.
    pub(super) fn resume<'a>(
        epoch: &str,
        places: impl Iterator<Item = (&'a str, u64)>,
    ) -> Vec<Vec<u8>> {
        let all: Vec<_> = places.collect();
        let mut frames = Vec::new();
        let mut rest = &all[..];
        loop {
            let (some, more) = rest.split_at(rest.len().min(PLACES_PER_FRAME));
            let places: Map<String, Value> =
                some.iter().map(|(name, offset)| ((*name).into(), (*offset).into())).collect();
            let is_last = more.is_empty();
            let frame =
                json!({ "type": "resume", "epoch": epoch, "positions": places, "last": is_last });
            frames.push(frame.to_string().into());
            if is_last {
                return frames;
            }
            rest = more;
        }
    }

    /// Writes the `nth` publication, into `channel`; gives the number that its answer has.
    pub(super) fn publish(
        &self,
        nth: u32,
        channel: &str,
        mark: Mark,
        bytes: usize,
        into: &mut Vec<u8>,
    ) -> u32 {
        let id = PUBLICATIONS + nth % PUBLICATIONS;
        let (head, tail) = match self.dialect {
            Dialect::Centrifuge => (
                format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{{"text":""#),
                r#""}}}"#,
            ),
            Dialect::Rtm => {
                (format!(r#"{{"type":"message","id":{id},"channel":"{channel}","text":""#), r#""}"#)
            }
            Dialect::Raw => (format!("P {channel} "), ""),
            Dialect::Nats => (format!("PUB {channel} {}\r\n", bytes.max(mark::BYTES)), "\r\n"),
            Dialect::Pusher => (
                format!(
                    r#"{{"event":"client-load","channel":"private-{channel}","data":{{"text":""#
                ),
                r#""}}"#,
            ),
        };
        // In JSON the payload is the whole object.
        let around = if matches!(self.dialect, Dialect::Centrifuge | Dialect::Pusher) {
            r#"{"text":""}"#.len()
        } else {
            0
        };
        into.extend_from_slice(head.as_bytes());
        mark::text(mark, bytes.saturating_sub(around), into);
        into.extend_from_slice(tail.as_bytes());
        id
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
                let key = if self.dialect == Dialect::Rtm { SEQ } else { OFFSET };
                let offset =
                    if self.has_places { number(&message[at..], key).unwrap_or(0) } else { 0 };
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
                heard.push(unfollowed(line));
            }
            return self.deliveries(line, heard);
        }
        if line.ends_with(br#""publish":{}}"#) {
            return heard.push(Heard::Published(id_of(line, ID)));
        }
        let Ok(reply) = serde_json::from_slice::<Value>(line) else {
            return heard.push(Heard::Refused(text(line)));
        };
        if reply.get("error").is_some() {
            heard.push(refused(line, ID));
        } else if reply.get("connect").is_some() {
            heard.push(Heard::Welcome(String::new()));
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
            let told: Value = serde_json::from_slice(message).unwrap_or_default();
            heard.push(Heard::Welcome(told["epoch"].as_str().unwrap_or_default().into()));
        } else if message.starts_with(br#"{"ok":false"#) {
            heard.push(refused(message, REPLY_TO));
        } else if message.starts_with(br#"{"ok":"#) {
            heard.push(Heard::Published(id_of(message, REPLY_TO)));
        } else if message.starts_with(br#"{"type":"gap""#) {
            heard.push(Heard::Lost(text(message)));
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
            heard.push(if is_first {
                Heard::Welcome(String::new())
            } else {
                Heard::Following(Following::All)
            });
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
                heard.push(Heard::Welcome(String::new()));
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

/// What was refused is a publication of ours, or something else.
fn refused(message: &[u8], key: &[u8]) -> Heard {
    match id_of(message, key) {
        id if id >= PUBLICATIONS => Heard::Unpublished(id, text(message)),
        _ => Heard::Refused(text(message)),
    }
}

/// From a code on, a subscription that ended is to be asked for again.
fn unfollowed(line: &[u8]) -> Heard {
    let told: Value = serde_json::from_slice(line).unwrap_or_default();
    let push = &told["push"];
    match (push["channel"].as_str(), push["unsubscribe"]["code"].as_u64()) {
        (Some(channel), Some(code)) if code >= COMES_AGAIN => {
            Heard::Unfollowed(channel.into(), text(line))
        }
        _ => Heard::Refused(text(line)),
    }
}

/// The number of the command that a message answers; 0: of none.
fn id_of(message: &[u8], key: &[u8]) -> u32 {
    number(message, key).and_then(|id| u32::try_from(id).ok()).unwrap_or(0)
}

/// The first number that has this name: behind a publication's mark, its place.
fn number(bytes: &[u8], key: &[u8]) -> Option<u64> {
    let at = find(bytes, key)? + key.len();
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { run: 1, channel: 2, number: 3, due_ns: 4 };

    fn tongue(dialect: Dialect) -> Tongue {
        Tongue {
            dialect,
            app: ("key".into(), "secret".into()),
            has_places: true,
            publishers_follow: false,
            marks: Finder::new(mark::WORD),
        }
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
        assert_eq!(heard, [Heard::Welcome(String::new()), following.clone(), following]);
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
                br#"{"push":{"channel":"c","unsubscribe":{"code":2000,"reason":"x"}}}"#,
            ),
            (Dialect::Rtm, br#"{"ok":false,"reply_to":1,"error":{"code":2,"msg":"x"}}"#),
            (Dialect::Nats, b"-ERR 'x'\r\n"),
            (Dialect::Pusher, br#"{"event":"pusher:error","data":{"code":4009}}"#),
        ] {
            assert!(matches!(heard(dialect, message)[..], [Heard::Refused(_)]), "{dialect:?}");
        }
    }

    #[test]
    fn an_answer_is_to_the_publication_that_it_names() {
        const ID: u32 = PUBLICATIONS + 7;
        for dialect in [Dialect::Centrifuge, Dialect::Rtm] {
            assert_eq!(tongue(dialect).publish(7, "c", MARK, 99, &mut Vec::new()), ID);
        }
        let reply = |rest: &str| format!(r#"{{"id":{ID},{rest}}}"#);
        let taken = heard(Dialect::Centrifuge, reply(r#""publish":{}"#).as_bytes());
        assert_eq!(taken, [Heard::Published(ID)]);
        let refused = reply(r#""error":{"code":100,"message":"internal server error"}"#);
        let answer = heard(Dialect::Centrifuge, refused.as_bytes());
        assert_eq!(answer, [Heard::Unpublished(ID, refused)]);
        let taken = format!(r#"{{"ok":true,"reply_to":{ID},"ts":"1.0","text":"x","seq":4}}"#);
        assert_eq!(heard(Dialect::Rtm, taken.as_bytes()), [Heard::Published(ID)]);
        let refused = format!(r#"{{"ok":false,"reply_to":{ID},"error":{{"code":9,"msg":"x"}}}}"#);
        let answer = heard(Dialect::Rtm, refused.as_bytes());
        assert_eq!(answer, [Heard::Unpublished(ID, refused)]);
    }

    #[test]
    fn who_comes_again_hears_where_it_stands() {
        let mut one = Vec::new();
        mark::text(MARK, 60, &mut one);
        let one = String::from_utf8(one).expect("text");
        let event =
            format!(r#"{{"type":"message","text":"{one}","ts":"1.0","seq":9,"seq_of":"c"}}"#);
        assert_eq!(heard(Dialect::Rtm, event.as_bytes()), [Heard::Delivery(MARK, 9)]);
        let hello = br#"{"type":"hello","epoch":"e1"}"#;
        assert_eq!(heard(Dialect::Rtm, hello), [Heard::Welcome("e1".into())]);
        let gap = br#"{"type":"gap","seq_of":"c","from":3,"to":9}"#;
        assert!(matches!(heard(Dialect::Rtm, gap)[..], [Heard::Lost(_)]));
        let ended = br#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}"#;
        let Some(Heard::Unfollowed(channel, _)) = heard(Dialect::Centrifuge, ended).pop() else {
            panic!("it is to come again")
        };
        assert_eq!(channel, "c");
        let places: Vec<_> = (0..201).map(|nth| (format!("C{nth}"), nth)).collect();
        let places = places.iter().map(|(name, offset)| (&**name, *offset));
        let frames = Tongue::resume("e1", places);
        let frames: Vec<Value> =
            frames.iter().map(|frame| serde_json::from_slice(frame).expect("JSON")).collect();
        let lasts: Vec<_> = frames.iter().map(|frame| frame["last"].as_bool()).collect();
        assert_eq!(lasts, [Some(false), Some(true)]);
        assert_eq!(
            (&frames[1]["epoch"], &frames[1]["positions"]),
            (&json!("e1"), &json!({ "C200": 200 }))
        );
    }
}

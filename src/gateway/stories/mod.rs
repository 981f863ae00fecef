//! Stories of one gateway core between clients, a desk, the interest of its channels, and time.
//!
//! - `doors`: how connections begin and end; `posts`: what clients say and are told; `guests`: what guests may see; `moves`: owners that
//!   change; `dots`: what presence shards are told of users; `regions`: one that drains;
//!   `relays`: gateways that stand for owners; `returns`: clients that come back
//! - everything at once, with several cores and every fault, is what `tests/sim` plays

mod doors;
mod dots;
mod guests;
mod moves;
mod posts;
mod regions;
mod relays;
mod returns;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::shard::{Gateway, GatewayConfig};
use crate::centrifuge::rules::Rules;
use crate::ids::{Ask, Conn, Handle, NodeId, Origin, Peer, Role};
use crate::limits::Limits;
use crate::ring::{Ring, Secret};
use crate::shard::{
    Budget, Counter, Door, Edge, Effect, Effects, Input, Report, Shard, Slices, Why,
};
use crate::time::{Mono, Now};
use crate::websocket::writer;
use crate::wire::tally::Tally;
use crate::wire::{Hello, Message, Packed, VERSION};

const ME: NodeId = NodeId(0);
const LIFE: u64 = 77;
/// The interest's side of the same core.
const CORE: Peer = Peer { node: ME, role: Role::Gateway, core: 0 };
const OWNER: Peer = Peer { node: ME, role: Role::Channel, core: 0 };
const DESK: Peer = Peer { node: ME, role: Role::Webapp, core: Peer::CONTROL_CORE };

/// A connection by its place, in its first life.
fn conn(index: u32) -> Conn {
    Conn::new(0, index, 1)
}

/// What a client was sent.
#[derive(PartialEq, Debug)]
enum Told {
    /// An HTTP answer, by its first line.
    Http(String),
    Json(Value),
    Ping,
    Close(u16, String),
}

struct Stage {
    gateway: Gateway,
    now: Now,
    effects: Effects,
    /// Encoded messages by who they are for.
    said: Vec<(Peer, Vec<u8>)>,
    /// What owners were told of subscriptions.
    tallies: Vec<(Peer, Tally)>,
    /// Bytes that reached each client.
    told: BTreeMap<Conn, Vec<u8>>,
    /// Clients whose sockets take nothing.
    stuck: Vec<Conn>,
    closed: Vec<(Conn, bool)>,
    /// Links that were broken.
    reset: Vec<Peer>,
    counted: BTreeMap<&'static str, u32>,
}

impl Stage {
    /// With all links up.
    fn new(limits: &Limits) -> Self {
        Self::with_rules(limits, Arc::default())
    }

    fn with_rules(limits: &Limits, rules: Arc<Rules>) -> Self {
        Self::with(limits, GatewayConfig { rules, ..Self::config() })
    }

    fn config() -> GatewayConfig {
        GatewayConfig {
            node: ME,
            desk: DESK,
            core: 0,
            cores: 1,
            life: LIFE,
            secret: Secret([7; 16]),
            hands_over: false,
            echo: true,
            rules: Arc::default(),
            url: Some("ws://tower".into()),
            region: Some("eu".into()),
            relays: Vec::new(),
        }
    }

    fn with(limits: &Limits, config: GatewayConfig) -> Self {
        assert_eq!(limits.fault(), None);
        let mut stage = Self {
            gateway: Gateway::new(config, limits),
            now: Now { mono: Mono(1_000_000_000), ..Now::default() },
            effects: Effects::default(),
            said: Vec::new(),
            tallies: Vec::new(),
            told: BTreeMap::new(),
            stuck: Vec::new(),
            closed: Vec::new(),
            reset: Vec::new(),
            counted: BTreeMap::new(),
        };
        stage.input(Input::Ring { ring: &Ring::new(&[(ME, 1)]) });
        for peer in [CORE, OWNER, DESK] {
            stage.up(peer, 1);
        }
        stage
    }

    fn input(&mut self, input: Input<'_>) {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        self.gateway.handle(self.now, input, &mut effects);
        self.obey(&effects);
        self.effects = effects;
        self.settle();
    }

    fn obey(&mut self, effects: &Effects) {
        for effect in effects.list() {
            match *effect {
                Effect::Send { peer, message, .. } => {
                    let bytes = effects.bytes(message).to_vec();
                    // What is subscribed where is said in every story, and of interest in one.
                    match Message::decode(&bytes) {
                        Ok(Message::Tally { count, sum, .. }) => {
                            self.tallies.push((peer, Tally { count, sum }));
                        }
                        _ => self.said.push((peer, bytes)),
                    }
                }
                Effect::Dirty { conn, .. } => {
                    self.told.entry(conn).or_default();
                }
                Effect::Close { conn, reset } => self.closed.push((conn, reset)),
                Effect::Reset { peer } => self.reset.push(peer),
                Effect::Count { what, by } => *self.counted.entry(what.name()).or_default() += by,
                _ => {}
            }
        }
    }

    /// Writes what sockets take.
    fn settle(&mut self) {
        let takes = |conn: &Conn| !self.stuck.contains(conn);
        let conns: Vec<Conn> = self.told.keys().copied().filter(takes).collect();
        for conn in conns {
            let mut slices = Slices::new(1 << 20);
            self.gateway.outgoing(conn, &mut slices);
            let bytes = slices.list.concat();
            if !bytes.is_empty() {
                self.told.entry(conn).or_default().extend_from_slice(&bytes);
                let sent = bytes.len();
                let mut effects = Effects::default();
                self.gateway.handle(self.now, Input::Sent { conn, bytes: sent }, &mut effects);
                self.obey(&effects);
            }
        }
    }

    /// Time goes by, with every deadline on its way.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(due) = self.gateway.deadline().filter(|due| *due <= end) {
            self.now.mono = due.max(self.now.mono);
            self.input(Input::Tick);
            self.advance();
        }
        self.now.mono = end;
    }

    fn advance(&mut self) {
        loop {
            let mut effects = Effects::default();
            let more = self.gateway.advance(self.now, Budget { units: 64 }, &mut effects);
            self.obey(&effects);
            self.settle();
            if !more {
                return;
            }
        }
    }

    fn up(&mut self, peer: Peer, life: u32) {
        let hello = Hello { version: VERSION, ..Hello::default() };
        self.input(Input::PeerUp { peer, life, hello });
        self.advance();
    }

    fn hear(&mut self, peer: Peer, message: Message<'_>) {
        self.input(Input::Wire { peer, message });
    }

    fn bytes(&mut self, conn: Conn, bytes: &[u8]) {
        self.input(Input::Received { conn, bytes: &mut bytes.to_vec() });
    }

    fn knock(&mut self, conn: Conn, path: &str) {
        let remote = SocketAddr::from(([127, 0, 0, 1], 9));
        self.input(Input::Accepted { conn, door: Door::Websocket, remote });
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.bytes(conn, request.as_bytes());
    }

    /// A connection of alice's that was greeted, follows C1 and her own channel, and was told so.
    fn connect(&mut self, conn: Conn) {
        self.knock(conn, "/websocket/t1");
        let [Message::Redeem { ask, .. }] = self.heard(DESK)[..] else { panic!("a ticket") };
        let mut list = Vec::new();
        let channels = Packed::pack([("C1", 0u64), ("U1", 0)], &mut list);
        let (user, team, epoch, token) = ("U1", "T1", "e1", 7);
        let boot = Message::Boot { ask, user, team, epoch, flags: 0, token, channels };
        self.said.clear();
        self.hear(DESK, boot);
        for (name, handle) in self.subscribed() {
            assert!(["C1", "U1"].contains(&name.as_str()));
            self.hear(CORE, Message::Suback { handle, epoch: 0, tip: 0 });
        }
        self.said.clear();
        assert_eq!(self.kinds(conn), ["hello"]);
    }

    /// Channels that the hub asked its interest for, with their handles.
    fn subscribed(&self) -> Vec<(String, Handle)> {
        let subscribe = |message: Message<'_>| match message {
            Message::Subscribe { handle, name, .. } => Some((name.to_string(), handle)),
            _ => None,
        };
        self.heard(CORE).into_iter().filter_map(subscribe).collect()
    }

    /// The handle of C1 is the first that is given.
    fn publish(&mut self, offset: u64, origin: Origin) {
        let payload = format!(r#"{{"type":"message","channel":"C1","text":"m{offset}"}}"#);
        let (handle, payload) = (Handle(0), payload.as_bytes());
        self.hear(CORE, Message::Publication { handle, offset, origin, member: None, payload });
    }

    fn say(&mut self, conn: Conn, text: &str) {
        let mut frame = Vec::new();
        writer::masked(writer::TEXT, text.as_bytes(), [1, 2, 3, 4], &mut frame);
        self.bytes(conn, &frame);
    }

    /// What was said to a peer and not cleared yet.
    fn heard(&self, peer: Peer) -> Vec<Message<'_>> {
        let to = self.said.iter().filter(|(to, _)| *to == peer);
        to.map(|(_, bytes)| Message::decode(bytes).expect("it encodes")).collect()
    }

    /// What a client was sent since the last look.
    fn told(&mut self, conn: Conn) -> Vec<Told> {
        let bytes = std::mem::take(self.told.entry(conn).or_default());
        let mut rest = &bytes[..];
        let mut told = Vec::new();
        if rest.starts_with(b"HTTP/") {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("headers") + 4;
            let head = String::from_utf8_lossy(&rest[..end]);
            let status = head.lines().next().unwrap_or_default().to_string();
            rest = &rest[end..];
            if !status.contains("101") {
                rest = &[];
            }
            told.push(Told::Http(status));
        }
        while let [first, len, ..] = *rest {
            let (len, at) = match len {
                126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                short => (usize::from(short), 2),
            };
            let payload = &rest[at..at + len];
            told.push(match first & 0x0f {
                writer::TEXT => Told::Json(serde_json::from_slice(payload).expect("JSON")),
                writer::PING => Told::Ping,
                writer::CLOSE => Told::Close(
                    u16::from_be_bytes([payload[0], payload[1]]),
                    String::from_utf8_lossy(&payload[2..]).into(),
                ),
                other => panic!("opcode {other}"),
            });
            rest = &rest[at + len..];
        }
        told
    }

    /// The same, by their types and texts.
    fn kinds(&mut self, conn: Conn) -> Vec<String> {
        let told = self.told(conn).into_iter().filter(|one| !matches!(one, Told::Http(_)));
        told.map(|one| match one {
            Told::Json(value) => match (&value["type"], &value["text"], &value["error"]["code"]) {
                (Value::String(kind), Value::String(text), _) => format!("{kind} {text}"),
                (Value::String(kind), _, Value::Number(code)) => format!("{kind} {code}"),
                (Value::String(kind), ..) => kind.clone(),
                (_, Value::String(text), _) => format!("ack {text} {}", value["seq"]),
                (.., Value::Number(code)) => format!("refused {code}"),
                _ => value.to_string(),
            },
            Told::Ping => "ping".into(),
            Told::Close(code, why) => format!("close {code} {why}"),
            Told::Http(status) => status,
        })
        .collect()
    }

    fn gauge(&self, name: &str) -> f64 {
        let mut report = Report::default();
        self.gateway.report(&mut report);
        report.gauges.iter().find(|(other, _)| *other == name).map_or(-1.0, |(_, value)| *value)
    }

    fn counted(&self, what: Counter) -> u32 {
        self.counted.get(what.name()).copied().unwrap_or(0)
    }
}

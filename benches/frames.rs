//! What the frame codec and the hub's fan-out cost, without sockets: `cargo bench --bench frames`.

use std::hint::black_box;
use std::net::SocketAddr;

use campanile::gateway::shard::{Gateway, GatewayConfig};
use campanile::ids::{Ask, Conn, Handle, NodeId, Origin, Peer, Role};
use campanile::limits::Limits;
use campanile::ring::{Ring, Secret};
use campanile::shard::{Door, Edge, Effect, Effects, Input, Shard, Slices};
use campanile::time::{Mono, Now, Wall};
use campanile::websocket::writer::{TEXT, frame, masked};
use campanile::websocket::{Bounds, Event, Reader};
use campanile::wire::{Hello, Message, Packed};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ME: NodeId = NodeId(0);
const HUB: Peer = Peer { node: ME, role: Role::Gateway, core: 0 };
const DESK: Peer = Peer { node: ME, role: Role::Webapp, core: Peer::CONTROL_CORE };
const NOW: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_700_000_000_000_000) };

/// Client frames to events, and events to server frames.
fn codec(c: &mut Criterion) {
    let bounds = Bounds { message_bytes_max: 16_384, fragments_max: 64 };
    let mut group = c.benchmark_group("frames");
    for len in [40, 400, 4_000] {
        let text = "Grüße ".repeat(len / 8 + 1)[..len].to_string();
        let mut wire = Vec::new();
        masked(TEXT, text.as_bytes(), [1, 2, 3, 4], &mut wire);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("read a text of {len} bytes"), |b| {
            let mut reader = Reader::default();
            b.iter_batched_ref(
                || wire.clone(),
                |bytes| {
                    let mut at = 0;
                    let event = reader.next(bytes, &mut at, &bounds).expect("a good frame");
                    assert!(matches!(black_box(event), Some(Event::Text(_))));
                },
                BatchSize::SmallInput,
            );
        });
        let mut out = Vec::with_capacity(8_192);
        group.bench_function(format!("write a text of {len} bytes"), |b| {
            b.iter(|| {
                out.clear();
                frame(TEXT, black_box(text.as_bytes()), &mut out);
            });
        });
    }
    group.finish();
}

/// One publication to a thousand connections of one core: encoded, queued, lent to the socket, and told as sent.
fn fan_out(c: &mut Criterion) {
    const MEMBERS: u32 = 1_000;
    let mut core = Core::new(MEMBERS);
    let mut group = c.benchmark_group("hub");
    group.throughput(Throughput::Elements(u64::from(MEMBERS)));
    group.bench_function("a publication to 1,000 members", |b| b.iter(|| core.publish()));
    group.finish();
}

/// A gateway shard with its sockets played.
struct Core {
    gateway: Gateway,
    effects: Effects,
    dirty: Vec<Conn>,
    channel: Handle,
    offset: u64,
    members: u32,
}

impl Core {
    fn new(members: u32) -> Self {
        let limits = Limits { connections_per_user_max: members, ..Limits::DEFAULT };
        let secret = Secret([7; 16]);
        let config = GatewayConfig {
            node: ME,
            desk: DESK,
            core: 0,
            cores: 1,
            life: 1,
            secret,
            hands_over: false,
            echo: false,
            rules: std::sync::Arc::default(),
            url: None,
            region: None,
            relays: Vec::new(),
        };
        let mut core = Self {
            gateway: Gateway::new(config, &limits),
            effects: Effects::default(),
            dirty: Vec::new(),
            channel: Handle(0),
            offset: 0,
            members,
        };
        core.input(Input::Ring { ring: &Ring::new(&[(ME, 1)]) });
        for peer in [HUB, DESK] {
            core.input(Input::PeerUp { peer, life: 1, hello: Hello::default() });
        }
        for index in 0..members {
            core.connect(Conn::new(0, index, 1));
        }
        core.flush();
        core
    }

    /// A handshake, a ticket, and the membership of one channel.
    fn connect(&mut self, conn: Conn) {
        let remote = SocketAddr::from(([127, 0, 0, 1], 9));
        self.input(Input::Accepted { conn, door: Door::Websocket, remote });
        let mut request = b"GET /websocket/t HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_vec();
        let ask = self.asked(|core| core.input(Input::Received { conn, bytes: &mut request }));
        let mut list = Vec::new();
        let channels = Packed::pack([("C1", 0u64)], &mut list);
        let (user, team, epoch, token) = ("U1", "T1", "e", 1);
        let boot = Message::Boot { ask, user, team, epoch, flags: 0, token, channels };
        self.input(Input::Wire { peer: DESK, message: boot });
        if let Some(handle) = self.subscribed() {
            self.channel = handle;
            let (epoch, tip) = (0, 0);
            let message = Message::Suback { handle, epoch, tip };
            self.input(Input::Wire { peer: HUB, message });
        }
    }

    /// The number of the question that an input leads to.
    fn asked(&mut self, act: impl FnOnce(&mut Self)) -> Ask {
        act(self);
        self.messages()
            .find_map(|message| match message {
                Message::Redeem { ask, .. } => Some(ask),
                _ => None,
            })
            .expect("a ticket is looked up")
    }

    /// The handle of a channel that the last input subscribed to.
    fn subscribed(&self) -> Option<Handle> {
        self.messages().find_map(|message| match message {
            Message::Subscribe { handle, name: "C1", .. } => Some(handle),
            _ => None,
        })
    }

    fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.effects.list().iter().filter_map(|effect| match *effect {
            Effect::Send { message, .. } => Message::decode(self.effects.bytes(message)).ok(),
            _ => None,
        })
    }

    fn input(&mut self, input: Input<'_>) {
        self.effects.clear();
        self.gateway.handle(NOW, input, &mut self.effects);
        for effect in self.effects.list() {
            if let Effect::Dirty { conn, .. } = *effect {
                self.dirty.push(conn);
            }
        }
    }

    fn publish(&mut self) {
        self.offset += 1;
        let payload = br#"{"type":"message","channel":"C1","user":"U2","text":"Has anybody seen the new tower?","ts":"1700000000.000100"}"#;
        let message = Message::Publication {
            handle: self.channel,
            offset: self.offset,
            origin: Origin::NOBODY,
            member: None,
            payload,
        };
        self.input(Input::Wire { peer: HUB, message });
        assert_eq!(self.dirty.len(), self.members as usize);
        self.flush();
    }

    /// The kernel takes everything.
    fn flush(&mut self) {
        for conn in std::mem::take(&mut self.dirty) {
            let mut slices = Slices::new(64 << 10);
            self.gateway.outgoing(conn, &mut slices);
            let bytes = black_box(&slices).bytes;
            self.input(Input::Sent { conn, bytes });
        }
    }
}

criterion_group!(benches, codec, fan_out);
criterion_main!(benches);

//! Golden bytes: every wire message, link envelope and placement of `tests/vectors/` is encoded and decoded exactly so.
//!
//! A difference here is a change of the protocol between nodes: raise `wire::VERSION`, say so in the commit, and write the files
//! anew with `UPDATE_VECTORS=1 cargo test --test vectors`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use campanile::ids::{Ask, Conn, Handle, Key, Origin, Role, Slot};
use campanile::ring::{Secret, placement_hash, slot_of};
use campanile::wire::link::{Bounds, Class, Link, envelopes};
use campanile::wire::message::TAGS;
use campanile::wire::{Member, Membership, Message, Packed, Terms};

const KEY: Key = Key([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
const SLOT: Slot = Slot(0x81c9);
const HANDLE: Handle = Handle(0x0a0b_0c0d);
const ASK: Ask = Ask(0x1122_3344);
const ORIGIN: Origin = Origin { life: 0x0102_0304_0506_0708, conn: Conn(0x1112_1314_1516_1718) };
const JOINED: Member<'_> =
    Member { what: Membership::Joined, user: "U1", channel: "C024BE91L", offset: 300 };
const LEFT: Member<'_> =
    Member { what: Membership::Left, user: "U1", channel: "C024BE91L", offset: 301 };
const TEXT: &str = "caf\u{e9} \u{1f514}";
const PAYLOAD: &[u8] = b"{\"type\":\"message\"}";

/// Nodes 1 and 3.
const NODES: Packed<'static> = Packed(b"\x01\x00\x03\x00");

/// At least one value of each message, every variant of a field among them. A name may stand more than once.
fn samples() -> Vec<Message<'static>> {
    let pairs: &'static mut Vec<u8> = Box::leak(Box::default());
    let channels = Packed::pack([("U1", 7u64), ("C024BE91L", 300)], pairs);
    let two: &'static mut Vec<u8> = Box::leak(Box::default());
    let tokens = Packed::pack([(7u32, "U1"), (9, "U024BE7LH")], two);
    let events: &'static mut Vec<u8> = Box::leak(Box::default());
    let publications = Packed::pack([(300u64, PAYLOAD), (301, b"")], events);
    let numbers: &'static mut Vec<u8> = Box::leak(Box::default());
    let ids = Packed::pack([1u64, u64::MAX], numbers);
    let rows: &'static mut Vec<u8> = Box::leak(Box::default());
    let seats = Packed::pack([(0u16, 1u32), (7, 9)], rows);
    let (namespace, seat_epoch, offset) = (0, 9, 1 << 40);
    vec![
        Message::Subscribe {
            slot: SLOT,
            seat_epoch,
            key: KEY,
            handle: HANDLE,
            namespace: 0x0102,
            name: "C024BE91L",
        },
        Message::Unsubscribe { slot: SLOT, key: KEY, handle: HANDLE },
        Message::Fetch {
            slot: SLOT,
            seat_epoch,
            key: KEY,
            handle: HANDLE,
            ask: ASK,
            after: 299,
            count_max: 256,
            bytes_max: 65_536,
            name: "C024BE91L",
        },
        Message::Read {
            slot: SLOT,
            seat_epoch,
            key: KEY,
            ask: ASK,
            namespace: 1,
            after: 299,
            count_max: 256,
            bytes_max: 65_536,
            name: ".news:1",
        },
        Message::Enter {
            slot: SLOT,
            seat_epoch,
            key: KEY,
            ask: ASK,
            conn: ORIGIN.conn,
            user: KEY,
            is_new: true,
            is_told: false,
            info: PAYLOAD,
        },
        Message::Exit { slot: SLOT, seat_epoch, key: KEY, ask: ASK, conn: ORIGIN.conn },
        Message::Present { slot: SLOT, seat_epoch, key: KEY, ask: ASK, is_listed: true },
        Message::Erase { slot: SLOT, seat_epoch, key: KEY, ask: ASK },
        Message::Emit { slot: SLOT, key: KEY, origin: ORIGIN, payload: PAYLOAD },
        Message::Suback { handle: HANDLE, epoch: 3, tip: offset },
        Message::Unsuback { handle: HANDLE },
        Message::Subnack { handle: HANDLE, why: 3 },
        Message::Publication {
            handle: HANDLE,
            offset,
            origin: ORIGIN,
            member: None,
            payload: PAYLOAD,
        },
        Message::Publication {
            handle: HANDLE,
            offset,
            origin: Origin::NOBODY,
            member: Some(LEFT),
            payload: b"",
        },
        Message::Past { ask: ASK, offset, origin: ORIGIN, member: Some(JOINED), payload: PAYLOAD },
        Message::PastEnd { ask: ASK, handle: HANDLE, upto: offset, complete: true, missing: 0 },
        Message::PastEnd { ask: ASK, handle: HANDLE, upto: 300, complete: false, missing: 200 },
        Message::PastRefused { ask: ASK, handle: HANDLE },
        Message::ReadIs { ask: ASK, ok: true, epoch: 3, tip: offset, publications },
        Message::Noted { ask: ASK, ok: true },
        Message::PresentIs { ask: ASK, ok: true, clients: 2, users: 1, infos: Packed(b"") },
        Message::Moving { slot: SLOT, ring_epoch: offset, epoch: 3, floor: 300 },
        Message::MovingChannel {
            slot: SLOT,
            key: KEY,
            tip: offset,
            left_s: 60,
            version: 7,
            era: Key::default(),
        },
        Message::MovingPast { slot: SLOT, key: KEY, offset, origin: ORIGIN, payload: PAYLOAD },
        Message::MovingOnce { slot: SLOT, once: KEY, offset },
        Message::Moved { slot: SLOT },
        Message::Event { handle: HANDLE, origin: ORIGIN, payload: PAYLOAD },
        Message::Publish {
            slot: SLOT,
            seat_epoch,
            key: KEY,
            ask: ASK,
            namespace,
            offset,
            origin: ORIGIN,
            member: Some(JOINED),
            terms: Terms { kept_s: 300, once: KEY, version: 7, era: KEY },
            name: "U1",
            payload: PAYLOAD,
        },
        Message::Published { ask: ASK, accepted: true, why: 0, seat_epoch, epoch: 3, offset },
        Message::Published { ask: ASK, accepted: false, why: 2, seat_epoch, epoch: 0, offset: 0 },
        Message::Tally { ring_epoch: 9, count: 3, sum: 0x0102_0304_0506_0708 },
        Message::Tip { ask: ASK, name: "C024BE91L" },
        Message::TipIs { ask: ASK, found: true, tip: offset },
        Message::Range { ask: ASK, name: "C024BE91L", from: 1, to: offset, bytes_max: 65_536 },
        Message::RangeEvent {
            ask: ASK,
            offset,
            origin: ORIGIN,
            member: Some(LEFT),
            payload: PAYLOAD,
        },
        Message::RangeEnd { ask: ASK, ok: true, upto: offset },
        Message::Redeem { ask: ASK, ticket: "t-0123456789abcdef" },
        Message::Boot {
            ask: ASK,
            user: "U1",
            team: "T024BE7LD",
            epoch: "e1",
            flags: 0b1011,
            token: 7,
            channels,
        },
        Message::Refused { ask: ASK, retry: true },
        Message::Renew { ask: ASK, user: "U1", token: 7, flags: 0b11 },
        Message::Revoke { tokens },
        Message::Admit { ask: ASK, user: "U1", channel: "C024BE91L" },
        Message::Admitted { ask: ASK, is_member: true, offset, epoch: "e1" },
        Message::Call {
            ask: ASK,
            user: "U1",
            client: "c-1",
            method: "shop:buy",
            data: PAYLOAD,
            is_json: true,
        },
        Message::Called { ask: ASK, code: 1_000, temporary: true, text: "no", data: b"" },
        Message::Ticketed { ask: ASK, path: "/websocket/t-1" },
        Message::Post {
            ask: ASK,
            user: "U1",
            channel: "C024BE91L",
            text: TEXT,
            thread_ts: "",
            client_msg_id: "m-1",
            origin: ORIGIN,
            nth: 7,
            again: true,
        },
        Message::Posted { ask: ASK, offset, ts: "1700000000.000100", text: TEXT },
        Message::PostFailed { ask: ASK, reason: "not_in_channel" },
        Message::Online { slot: SLOT, user: KEY, connections: 2, manual_away: true, bot: false },
        Message::Offline { slot: SLOT, user: KEY },
        Message::Active { slot: SLOT, user: KEY },
        Message::Watch { slot: SLOT, user: KEY, handle: HANDLE },
        Message::Unwatch { slot: SLOT, user: KEY, handle: HANDLE },
        Message::Presence { handle: HANDLE, active: true },
        Message::Manual { slot: SLOT, user: KEY, away: true },
        Message::PresenceQuery { ask: ASK, slot: SLOT, user: KEY },
        Message::PresenceIs {
            ask: ASK,
            active: false,
            online: true,
            auto_away: true,
            manual_away: false,
            connections: 2,
            idle_s: 601,
        },
        Message::PresenceUnknown { ask: ASK },
        Message::Order { ask: ASK, what: 3, arguments: b"{\"user\":\"42\"}" },
        Message::Obeyed { ask: ASK, connections: 2 },
        Message::Census { ask: ASK, from: 7 },
        Message::CensusIs {
            ask: ASK,
            next: 9,
            clients: 2,
            users: 1,
            subscriptions: 3,
            channels: Packed(b""),
        },
        Message::Committed {
            id: 5,
            namespace,
            offset,
            origin: ORIGIN,
            member: Some(LEFT),
            name: "C024BE91L",
            payload: PAYLOAD,
        },
        Message::OutboxRead { ask: ASK, after: 4, count_max: 512 },
        Message::OutboxEnd { ask: ASK, last: 5, more: true },
        Message::OutboxRemove { ask: ASK, ids },
        Message::Removed { ask: ASK, ok: true },
        Message::RingRead { ask: ASK },
        Message::RingIs { ask: ASK, ring_epoch: 12, seats },
        Message::Replace {
            ask: ASK,
            ring_epoch: 9,
            node: 3,
            incarnation: 0x0102_0304,
            live: NODES,
        },
        Message::Replaced { ask: ASK, what: 1 },
        Message::EvenOut { ask: ASK, ring_epoch: 7 },
        Message::Beat { number: 9, echo: 8, ring_epoch: 12, lost: NODES },
        Message::Suspects { dead: Packed(b"\x03\x00\x04\x03\x02\x01\0\0\0\0") },
        Message::RingNews { since: 11, ring_epoch: 12, news: PAYLOAD },
        Message::RingWanted { since: 0, ring_epoch: 12, at: 65_536, bytes_max: 65_536 },
        Message::RingPart { ring_epoch: 12, at: 65_536, all: 400_000, part: PAYLOAD },
        Message::RingSince { since: 11 },
    ]
}

/// `Name`, and `Name/2` for a further value of the same message.
fn named() -> Vec<(String, Message<'static>)> {
    let mut seen = BTreeMap::<&str, u32>::new();
    samples()
        .into_iter()
        .map(|message| {
            let nth = seen.entry(message.name()).or_default();
            *nth += 1;
            let name = message.name();
            (if *nth == 1 { name.to_string() } else { format!("{name}/{nth}") }, message)
        })
        .collect()
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "whole bytes: {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}

/// Compares `lines` with a file of `tests/vectors/`, or writes it when asked to.
fn check(file: &str, head: &str, lines: &[(String, String)]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let text = lines.iter().fold(format!("# {head}\n"), |mut text, (name, value)| {
            writeln!(text, "{name} {value}").expect("a string takes everything");
            text
        });
        std::fs::write(&path, text).expect("the vectors are written");
    }
    let text = std::fs::read_to_string(&path).expect("the vectors are there");
    let golden: Vec<(String, String)> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(' ').expect("name value"))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    for (now, golden) in lines.iter().zip(&golden) {
        assert_eq!(now, golden, "{file} differs: a change of the protocol");
    }
    assert_eq!(lines.len(), golden.len(), "{file} has as many lines as there are values");
}

#[test]
fn every_message_has_its_golden_bytes() {
    let lines: Vec<_> =
        named().iter().map(|(name, message)| (name.clone(), hex(&encoded(message)))).collect();
    check("wire.txt", "Every wire message: name, bytes in hex.", &lines);
    for ((name, message), (_, golden)) in named().iter().zip(&lines) {
        let bytes = unhex(golden);
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(message), "{name} is read back");
    }
}

#[test]
fn no_message_is_without_a_vector_and_no_tag_is_given_twice() {
    let mut tags = BTreeMap::new();
    for (tag, name) in TAGS {
        assert_eq!(tags.insert(*tag, *name), None, "tag {tag} is given twice");
        let has_vector = samples()
            .iter()
            .any(|message| message.name() == *name && encoded(message).first() == Some(tag));
        assert!(has_vector, "{name} has no vector");
    }
}

#[test]
fn a_message_cut_anywhere_or_with_a_byte_too_many_is_broken() {
    for (name, message) in named() {
        let mut bytes = encoded(&message);
        for len in 0..bytes.len() {
            assert!(Message::decode(&bytes[..len]).is_err(), "{name} cut at {len}");
        }
        bytes.push(0);
        assert!(Message::decode(&bytes).is_err(), "{name} and one byte");
    }
}

#[test]
fn link_envelopes_have_their_golden_bytes() {
    let bounds = Bounds { bytes_max: 1 << 16, messages_max: 16 };
    let (mut from, mut to) = (Link::new(bounds), Link::new(bounds));
    to.receive(&from.take().expect("a hello"));
    from.receive(&to.take().expect("a hello"));
    let lines: Vec<_> = Role::ALL
        .into_iter()
        .zip(Role::ALL.into_iter().cycle().skip(1))
        .map(|(a, b)| {
            from.send(a, b, &encoded(&Message::Unsuback { handle: HANDLE }), Class::Live);
            let bytes = from.take().expect("one envelope").bytes;
            let read: Vec<_> = envelopes(&bytes).map(|one| one.expect("whole")).collect();
            assert!(matches!(read[..], [(x, y, _)] if x == a && y == b), "read back");
            (format!("{}->{}", a.as_str(), b.as_str()), hex(&bytes))
        })
        .collect();
    check("link.txt", "Unsuback in a link's envelope: from->to, bytes in hex.", &lines);
}

#[test]
fn names_have_their_golden_hash_slot_and_key() {
    let secret = Secret(*b"0123456789abcdef");
    let lines: Vec<_> = ["C024BE91L", "T024BE7LD", "U1", "", "caf\u{e9}", "a name with spaces"]
        .into_iter()
        .map(|name| {
            let (hash, slot) = (placement_hash(name.as_bytes()), slot_of(name).0);
            let key = hex(&secret.key_of(name).0);
            (hex(name.as_bytes()) + ":", format!("{hash:016x} {slot:04x} {key}"))
        })
        .collect();
    check(
        "placement.txt",
        "A name in hex, a colon; its placement hash, its slot, its key under `0123456789abcdef`.",
        &lines,
    );
}

/// Whatever decodes is canonical: it encodes to the same bytes. Nothing panics.
fn read(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        assert_eq!(encoded(&message), bytes, "one value, one encoding");
    }
    let packed = Packed(bytes);
    assert!(packed.iter::<u64>().count() <= bytes.len() / 8, "a list ends with its bytes");
    assert!(packed.iter::<(&str, u64)>().count() <= bytes.len() / 12, "and so does this one");
    assert!(envelopes(bytes).count() <= bytes.len() / 6 + 1, "and a batch");
}

fn members() -> impl Strategy<Value = Option<(bool, String, String, u64)>> {
    proptest::option::of((any::<bool>(), ".{0,20}", ".{0,20}", any::<u64>()))
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn a_changed_message_never_panics(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        let mut bytes = encoded(which.get(&samples));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read(&bytes);
        read(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_publication_is_read_as_it_was_written(
        (namespace, offset, slot, epoch) in any::<(u16, u64, u16, u32)>(),
        (life, conn, key) in any::<(u64, u64, [u8; 12])>(),
        who in members(),
        name in ".{0,60}",
        payload in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let member = who.as_ref().map(|(joined, user, channel, offset)| Member {
            what: if *joined { Membership::Joined } else { Membership::Left },
            user,
            channel,
            offset: *offset,
        });
        let message = Message::Publish {
            slot: Slot(slot),
            seat_epoch: epoch,
            key: Key(key),
            ask: Ask(epoch),
            namespace,
            offset,
            origin: Origin { life, conn: Conn(conn) },
            member,
            terms: Terms::default(),
            name: &name,
            payload: &payload,
        };
        let bytes = encoded(&message);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
        read(&bytes);
    }

    #[test]
    fn a_list_is_read_as_it_was_written(
        items in proptest::collection::vec((".{0,20}", any::<u64>()), 0..50),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        let packed = Packed::pack(items.iter().map(|(name, tip)| (name.as_str(), *tip)), &mut bytes);
        let back: Vec<(String, u64)> =
            packed.iter::<(&str, u64)>().map(|(name, tip)| (name.to_string(), tip)).collect();
        prop_assert_eq!(&back, &items);
        let part = Packed(&packed.0[..cut.index(packed.0.len() + 1)]);
        prop_assert!(part.iter::<(&str, u64)>().count() <= items.len());
    }
}

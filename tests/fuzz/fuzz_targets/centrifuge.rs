//! The Centrifuge dialect against bytes that nobody meant: what comes in from clients and back ends is refused or understood, and what is
//! understood is said the same way in both framings.
#![no_main]

#[path = "../../../src/centrifuge/mod.rs"]
#[allow(dead_code, unused_imports)]
mod centrifuge;

use centrifuge::delta;
use centrifuge::filter::Filter;
use centrifuge::framing::Framing;
use centrifuge::message::{Command, Error, Publication, Reply};
use centrifuge::order::Order;
use centrifuge::payload::{self, Marks};
use centrifuge::push;
use centrifuge::rules::{Name, Rules, one_line};
use centrifuge::token::Keys;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => commands(Framing::Json, bytes),
        1 => commands(Framing::Protobuf, bytes),
        2 => {
            let _ = Order::read(bytes);
            if let Ok(text) = std::str::from_utf8(bytes) {
                let keys = Keys::new(Some("secret"), None, None, None, None).expect("a secret is a key");
                assert!(keys.verify(text, 0).is_err(), "nobody forges a token by chance");
            }
        }
        3 => publication(bytes),
        4 => {
            let (old, new) = bytes.split_at(bytes.len() / 2);
            if let Some(patch) = delta::between(old, new) {
                assert!(patch.len() < new.len(), "a patch that is no shorter is of no use");
                assert_eq!(applied(old, &patch), new);
            }
        }
        _ => {
            if let Ok(config) = serde_json::from_slice(bytes) {
                let _ = centrifuge::config::read(config);
            }
        }
    }
});

fn commands(framing: Framing, bytes: &[u8]) {
    let Ok(commands) = framing.commands(bytes) else { return };
    assert!(!commands.is_empty());
    for command in commands {
        // What was understood is understood again.
        let again = Command::decode(&*command.encode_to_vec()).expect("what was encoded");
        assert_eq!(again, command);
        if let Some(publish) = &command.publish {
            publication(&publish.data);
        }
        if let Some(subscribe) = &command.subscribe {
            if let Some(node) = &subscribe.tf
                && let Some(filter) = Filter::read(node)
            {
                filter.passes(&Default::default());
            }
            if let Some(name) = Name::read(&subscribe.channel, 254) {
                let _ = (name.rest(), name.conversation(), name.is_of_user("42"));
                assert_eq!(Rules::outside(&Rules::inside(name.whole)), name.whole);
            }
        }
    }
}

/// Somebody's data, on its way to subscribers of both framings.
fn publication(data: &[u8]) {
    let (marks, data) = Marks::of(data.to_vec(), true);
    if !marks.is_binary {
        assert!(!data.contains(&b'\n'), "T10");
        assert_eq!(one_line(&data).as_deref(), Some(&*data));
    }
    let payload = marks.write(&Publication { data: data.clone(), ..Publication::default() });
    let (again, encoded) = payload::split(&payload);
    assert_eq!(again, marks);
    assert_eq!(payload::read(&payload, 7, true).is_none(), marks.is_binary);
    for framing in [Framing::Json, Framing::Protobuf] {
        if framing == Framing::Json && marks.is_binary {
            continue;
        }
        let mut bytes = Vec::new();
        push::publication(framing, "a:1", 7, encoded, &mut bytes);
        let whole = match framing {
            Framing::Json => is_json(&bytes),
            Framing::Protobuf => Reply::decode_length_delimited(&*bytes).is_ok_and(|reply| {
                reply.push.and_then(|push| push.publication).is_some_and(|one| one.data == data && one.offset == 7)
            }),
        };
        assert!(whole, "{framing:?}");
    }
    let error = Error { code: 1, message: String::from_utf8_lossy(&data).into(), temporary: true };
    let mut bytes = Vec::new();
    Framing::Json.write(&Reply { id: 1, error: Some(error), ..Reply::default() }, &mut bytes);
    assert!(is_json(&bytes) && !bytes.contains(&b'\n'));
}

/// By its grammar: a number may be larger than any that we could hold.
fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok()
}

/// A Fossil patch, as a client applies it.
fn applied(source: &[u8], patch: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
    let mut at = 0;
    let read = |at: &mut usize| {
        let mut number = 0;
        while let Some(digit) = DIGITS.iter().position(|digit| patch.get(*at) == Some(digit)) {
            number = number << 6 | digit;
            *at += 1;
        }
        *at += 1;
        (number, patch[*at - 1])
    };
    let (len, _) = read(&mut at);
    let mut target = Vec::new();
    loop {
        match read(&mut at) {
            (count, b'@') => {
                let (from, _) = read(&mut at);
                target.extend_from_slice(&source[from..from + count]);
            }
            (count, b':') => {
                target.extend_from_slice(&patch[at..at + count]);
                at += count;
            }
            (_, b';') => {
                assert_eq!(target.len(), len);
                return target;
            }
            (_, other) => panic!("{other} is no operation"),
        }
    }
}

//! Golden bytes of the Centrifuge dialect: every command is read the same from both framings, every reply and push is written exactly so.
//!
//! A difference here is one that clients see. `UPDATE_VECTORS=1 cargo test --test centrifuge_vectors` writes the file anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use campanile::centrifuge::code::Fault;
use campanile::centrifuge::framing::Framing;
use campanile::centrifuge::message::*;
use prost::Message as _;

/// The wire examples of the protocol: each command in JSON. Its Protobuf is in the file.
const COMMANDS: &[(&str, &str)] = &[
    ("pong", "{}"),
    ("connect", r#"{"id":1,"connect":{"token":"t","name":"js","version":"5.8.0","data":{"a":1}}}"#),
    (
        "connect with positions",
        r#"{"id":1,"connect":{"subs":{"a:1":{"recover":true,"offset":7,"epoch":"kqzh"}}}}"#,
    ),
    (
        "subscribe",
        r#"{"id":2,"subscribe":{"channel":"a:1","flag":1,"positioned":true,"recoverable":true,"join_leave":true}}"#,
    ),
    (
        "recover",
        r#"{"subscribe":{"channel":"a:1","recover":true,"epoch":"kqzh","offset":7,"token":"t","delta":"fossil"},"id":2}"#,
    ),
    ("unsubscribe", r#"{"id":3,"unsubscribe":{"channel":"a:1"}}"#),
    ("publish", r#"{"id":4,"publish":{"channel":"a:1","data":{"x":[1.50, "caf\u00e9"]}}}"#),
    ("presence", r#"{"id":5,"presence":{"channel":"a:1"}}"#),
    ("presence_stats", r#"{"id":6,"presence_stats":{"channel":"a:1"}}"#),
    (
        "history",
        r#"{"id":7,"history":{"channel":"a:1","limit":-1,"since":{"offset":3,"epoch":"kqzh"},"reverse":true}}"#,
    ),
    ("rpc", r#"{"id":8,"rpc":{"method":"m","data":null}}"#),
    ("refresh", r#"{"id":9,"refresh":{"token":"t"}}"#),
    ("sub_refresh", r#"{"id":9,"sub_refresh":{"channel":"a:1","token":"t"}}"#),
    ("send", r#"{"send":{"data":{}}}"#),
    ("ping", r#"{"id":1,"ping":{}}"#),
];

fn info() -> ClientInfo {
    ClientInfo {
        user: "42".into(),
        client: "u-1".into(),
        conn_info: b"{\"n\":1}".to_vec(),
        chan_info: b"[]".to_vec(),
    }
}

fn publication(offset: u64) -> Publication {
    let tags = BTreeMap::from([("k".into(), "v".into())]);
    Publication { data: b"{\"x\":1}".to_vec(), info: Some(info()), offset, tags, delta: false }
}

fn replies() -> Vec<(&'static str, Reply)> {
    let reply = Reply::default;
    let push = |push: Push| Reply { push: Some(push), ..Reply::default() };
    let of = |channel: &str| Push { channel: channel.into(), ..Push::default() };
    let error = |fault: Fault| Error {
        code: fault.code(),
        message: fault.text().into(),
        temporary: fault.is_temporary(),
    };
    let nothing = Some(Nothing {});
    let subscribed = SubscribeResult {
        expires: true,
        ttl: 60,
        recoverable: true,
        epoch: "kqzh".into(),
        publications: vec![publication(8)],
        recovered: true,
        offset: 7,
        positioned: true,
        data: b"1".to_vec(),
        was_recovering: true,
        delta: true,
    };
    let connected = ConnectResult {
        client: "u-1".into(),
        version: "1".into(),
        expires: true,
        ttl: 600,
        subs: BTreeMap::from([("#42".into(), SubscribeResult::default())]),
        ping: 25,
        pong: true,
    };
    let refreshed =
        RefreshResult { client: "u-1".into(), version: "1".into(), expires: true, ttl: 600 };
    let history =
        HistoryResult { publications: vec![publication(3)], epoch: "kqzh".into(), offset: 3 };
    let presence = Presence { presence: BTreeMap::from([("u-1".into(), info())]) };
    let stats = PresenceStats { num_clients: 0, num_users: 0 };
    let subscribe = SubscribePush {
        recoverable: true,
        epoch: "e".into(),
        offset: 3,
        positioned: true,
        data: b"{}".to_vec(),
    };
    let unsubscribe = UnsubscribePush { code: 2500, reason: "insufficient state".into() };
    vec![
        ("ping", reply()),
        ("error", Reply { id: 9, error: Some(error(Fault::PermissionDenied)), ..reply() }),
        ("temporary error", Reply { id: 9, error: Some(error(Fault::Internal)), ..reply() }),
        ("connect", Reply { id: 1, connect: Some(connected), ..reply() }),
        ("subscribe", Reply { id: 2, subscribe: Some(subscribed), ..reply() }),
        (
            "plain subscribe",
            Reply { id: 2, subscribe: Some(SubscribeResult::default()), ..reply() },
        ),
        ("unsubscribe", Reply { id: 3, unsubscribe: nothing, ..reply() }),
        ("publish", Reply { id: 4, publish: nothing, ..reply() }),
        ("presence", Reply { id: 5, presence: Some(presence), ..reply() }),
        ("nobody", Reply { id: 5, presence: Some(Presence::default()), ..reply() }),
        ("presence_stats", Reply { id: 6, presence_stats: Some(stats), ..reply() }),
        ("history", Reply { id: 7, history: Some(history), ..reply() }),
        ("position", Reply { id: 7, history: Some(HistoryResult::default()), ..reply() }),
        ("refresh", Reply { id: 9, refresh: Some(refreshed), ..reply() }),
        (
            "sub_refresh",
            Reply {
                id: 9,
                sub_refresh: Some(SubRefreshResult { expires: true, ttl: 60 }),
                ..reply()
            },
        ),
        ("push pub", push(Push { publication: Some(publication(8)), ..of("a:1") })),
        ("push join", push(Push { join: Some(Coming { info: info() }), ..of("a:1") })),
        ("push leave", push(Push { leave: Some(Coming { info: info() }), ..of("a:1") })),
        ("push unsubscribe", push(Push { unsubscribe: Some(unsubscribe), ..of("a:1") })),
        ("push subscribe", push(Push { subscribe: Some(subscribe), ..of("a:1") })),
        (
            "push refresh",
            push(Push { refresh: Some(RefreshPush { expires: true, ttl: 60 }), ..Push::default() }),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[test]
fn every_command_and_every_reply_has_its_golden_bytes() {
    let mut text = String::from("# The Centrifuge dialect: what, in JSON, in Protobuf (hex).\n");
    for (name, json) in COMMANDS {
        let command = &Framing::Json.commands(json.as_bytes()).expect("a command")[0];
        let protobuf = command.encode_length_delimited_to_vec();
        assert_eq!(
            Framing::Protobuf.commands(&protobuf).as_deref(),
            Ok(&[command.clone()][..]),
            "{name}"
        );
        writeln!(text, "command {name}\t{json}\t{}", hex(&protobuf)).expect("a string");
    }
    for (name, reply) in replies() {
        let (mut json, mut protobuf) = (Vec::new(), Vec::new());
        Framing::Json.write(&reply, &mut json);
        Framing::Protobuf.write(&reply, &mut protobuf);
        let json = String::from_utf8(json).expect("JSON is text");
        assert!(!json.contains('\n'), "{name}: a line break ends a message");
        writeln!(text, "reply {name}\t{json}\t{}", hex(&protobuf)).expect("a string");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/centrifuge.txt");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &text).expect("the vectors are written");
    }
    let golden = std::fs::read_to_string(&path).expect("the vectors are there");
    for (now, golden) in text.lines().zip(golden.lines()) {
        assert_eq!(now, golden, "a difference that clients see");
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

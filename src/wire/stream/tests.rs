//! What a stream says and hears, and whom it refuses.

use super::*;
use crate::ids::Role;

fn us(node: u16, cell: &str) -> Identity {
    Identity {
        cell: cell.into(),
        node: NodeId(node),
        incarnation: 7 + u64::from(node),
        roles: Roles::of(&[Role::Gateway, Role::Presence]),
        core: 3,
        cores: 8,
        ring_epoch: 42,
    }
}

fn dialed(us: Identity, key: u8) -> Stream {
    let nonce = [us.node.0 as u8; 32];
    Stream::dial(us, 3, CellKey([key; 32]), nonce, Mono::default())
}

fn answered(us: Identity, key: u8) -> Stream {
    let nonce = [us.node.0 as u8; 32];
    // Which core is meant, it hears.
    Stream::answer(Identity { core: 0, ..us }, CellKey([key; 32]), nonce, Mono::default())
}

fn at(millis: u64) -> Mono {
    Mono::default() + Duration::from_millis(millis)
}

/// Carries what both say until neither says more; each piece cut into `cut` bytes.
fn carry(a: &mut Stream, b: &mut Stream, cut: usize) -> Result<(Vec<Got>, Vec<Got>), Fault> {
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    while !a.outgoing.is_empty() || !b.outgoing.is_empty() {
        for piece in std::mem::take(&mut a.outgoing).chunks(cut) {
            b.receive(Mono::default(), piece, &mut at_b)?;
        }
        for piece in std::mem::take(&mut b.outgoing).chunks(cut) {
            a.receive(Mono::default(), piece, &mut at_a)?;
        }
    }
    Ok((at_a, at_b))
}

fn pair() -> (Stream, Stream) {
    let (mut a, mut b) = (dialed(us(1, "c"), 5), answered(us(2, "c"), 5));
    carry(&mut a, &mut b, 4_096).expect("both are ours");
    (a, b)
}

fn batch(bytes: &[u8]) -> Batch {
    Batch {
        life: 3,
        is_hello: false,
        handled: Handled { messages: 9, bytes: 1 << 40 },
        messages: 1,
        bytes: bytes.to_vec(),
    }
}

#[test]
fn two_that_know_the_key_learn_who_the_other_is_however_the_bytes_are_cut() {
    for cut in [1, 2, 7, 64, 4_096] {
        let (mut a, mut b) = (dialed(us(1, "c"), 5), answered(us(2, "c"), 5));
        let (at_a, at_b) = carry(&mut a, &mut b, cut).expect("both are ours");
        assert_eq!(at_a, [Got::Up { other: us(2, "c"), version: VERSION }]);
        assert_eq!(at_b, [Got::Up { other: us(1, "c"), version: VERSION }]);
        a.send(&batch(b"one"));
        a.send(&batch(b"two"));
        b.send(&batch(b""));
        let (at_a, at_b) = carry(&mut a, &mut b, cut).expect("in order");
        assert_eq!(at_b, [Got::Batch(batch(b"one")), Got::Batch(batch(b"two"))]);
        assert_eq!(at_a, [Got::Batch(batch(b""))]);
    }
}

#[test]
fn strangers_are_refused_before_anything_is_believed() {
    let meet = |mut other: Stream| {
        let mut a = dialed(us(1, "c"), 5);
        carry(&mut a, &mut other, 4_096).expect_err("a stranger")
    };
    assert_eq!(meet(answered(us(2, "d"), 5)), Fault::Cell("c".into()));
    assert_eq!(meet(answered(us(2, "c"), 6)), Fault::Key);
    assert_eq!(meet(answered(us(1, "c"), 5)), Fault::Ourselves);
    assert_eq!(meet(answered(Identity { cores: 3, ..us(2, "c") }, 5)), Fault::Broken);
    // Who sends our own words back proves nothing.
    let mut a = dialed(us(1, "c"), 5);
    let echo = a.outgoing.clone();
    assert_eq!(a.receive(Mono::default(), &echo, &mut Vec::new()), Err(Fault::Ourselves));
}

#[test]
fn a_twin_is_told_by_who_knows_the_key_and_by_nobody_else() {
    let (mut a, mut b) = pair();
    a.send(&batch(b"before"));
    a.disown();
    let mut got = Vec::new();
    let told = b.receive(Mono::default(), &a.outgoing, &mut got);
    assert_eq!((told, got), (Err(Fault::Twin(b.us().node)), vec![Got::Batch(batch(b"before"))]));
    let stranger = [1, 0, 0, 0, TWIN];
    let heard = answered(us(1, "c"), 5).receive(Mono::default(), &stranger, &mut Vec::new());
    assert_eq!(heard, Err(Fault::Broken));
}

#[test]
fn a_proof_is_worth_nothing_in_another_conversation() {
    let (mut a, mut b) = (dialed(us(1, "c"), 5), answered(us(2, "c"), 5));
    b.receive(Mono::default(), &std::mem::take(&mut a.outgoing), &mut Vec::new()).expect("greets");
    let tape = b.outgoing;
    a.receive(Mono::default(), &tape, &mut Vec::new()).expect("the first time");
    assert!(a.is_up());
    let mut again = Stream::dial(us(1, "c"), 3, CellKey([5; 32]), [9; 32], Mono::default());
    assert_eq!(again.receive(Mono::default(), &tape, &mut Vec::new()), Err(Fault::Key));
}

#[test]
fn bytes_that_make_no_sense_end_it() {
    let mut got = Vec::new();
    let mut fresh =
        |bytes: &[u8]| answered(us(1, "c"), 5).receive(Mono::default(), bytes, &mut got);
    assert_eq!(fresh(b"GET / HTTP/1.1\r\n"), Err(Fault::TooLong(u32::from_le_bytes(*b"GET "))));
    assert_eq!(fresh(&[1, 0, 0, 0, BATCH]), Err(Fault::Broken));
    assert_eq!(fresh(&[0, 0, 0, 0]), Err(Fault::Broken));
    assert_eq!(fresh(&[255, 255, 255, 255]), Err(Fault::TooLong(u32::MAX)));
    let mut other = dialed(us(2, "c"), 5).outgoing;
    other[13] = 200;
    other[15] = 201;
    assert_eq!(fresh(&other), Err(Fault::Version(200, 201)));
    let (mut a, _) = pair();
    let long = (LINK_FRAME_BYTES_MAX + 1).to_le_bytes();
    assert_eq!(
        a.receive(Mono::default(), &long, &mut got),
        Err(Fault::TooLong(LINK_FRAME_BYTES_MAX + 1))
    );
}

#[test]
fn what_is_missing_or_doubled_ends_it() {
    let (mut a, mut b) = pair();
    a.send(&batch(b"one"));
    let one = std::mem::take(&mut a.outgoing);
    a.send(&batch(b"two"));
    let two = std::mem::take(&mut a.outgoing);
    let mut got = Vec::new();
    assert_eq!(
        b.receive(Mono::default(), &two, &mut got),
        Err(Fault::Sequence { expected: 1, got: 2 })
    );
    let (mut a, mut b) = pair();
    a.send(&batch(b"one"));
    let twice = [one.clone(), one].concat();
    assert_eq!(
        b.receive(Mono::default(), &twice, &mut got),
        Err(Fault::Sequence { expected: 2, got: 1 })
    );
    // Lost at the end: the beat tells.
    let (mut a, mut b) = pair();
    a.send(&batch(b"lost"));
    a.outgoing.clear();
    a.tick(at(250)).expect("heard just now");
    assert_eq!(
        b.receive(at(250), &a.outgoing, &mut got),
        Err(Fault::Sequence { expected: 1, got: 0 })
    );
}

#[test]
fn silence_ends_it_and_beats_keep_it() {
    let (mut a, mut b) = pair();
    let mut millis = 0;
    for _ in 0..50 {
        millis += 200;
        a.tick(at(millis)).expect("beats come");
        b.tick(at(millis)).expect("beats come");
        let mut got = Vec::new();
        b.receive(at(millis), &std::mem::take(&mut a.outgoing), &mut got).expect("a beat");
        a.receive(at(millis), &std::mem::take(&mut b.outgoing), &mut got).expect("a beat");
        assert!(got.is_empty());
    }
    let end = millis + LINK_SILENCE_MAX.as_millis() as u64;
    a.tick(at(end - 1)).expect("not yet");
    assert_eq!(a.tick(at(end)), Err(Fault::Silent(LINK_SILENCE_MAX)));
    // Who never says hello is silent too.
    assert!(answered(us(1, "c"), 5).tick(at(5_000)).is_err());
}

#[test]
fn who_says_more_than_its_certificate_is_told_nothing() {
    let right = |roles: Roles| {
        let (cell, name) = ("c".to_string(), "gw".to_string());
        Warrant { cell, name, roles, number: None }
    };
    let names = || Arc::new(Names([(1, "gw".to_string())].into()));
    let meet = |warrant: Warrant| {
        let (a, mut b) = (dialed(us(1, "c"), 5), answered(us(2, "c"), 5));
        b.vouch(warrant, names());
        let refused = b.receive(Mono::default(), &a.outgoing, &mut Vec::new());
        assert_eq!(refused.is_err(), b.outgoing.is_empty(), "not even who we are");
        refused
    };
    assert_eq!(meet(right(us(1, "c").roles)), Ok(()));
    assert_eq!(
        meet(right(Roles::of(&[Role::Gateway]))),
        Err(Fault::Unwarranted(Unwarranted::Roles(Roles::of(&[Role::Presence]))))
    );
    let another = Warrant { name: "cs".into(), ..right(us(1, "c").roles) };
    assert!(matches!(meet(another), Err(Fault::Unwarranted(Unwarranted::Name { .. }))));
}

#[test]
fn a_byte_now_and_then_proves_nothing() {
    let (a, mut b) = (dialed(us(1, "c"), 5), answered(us(2, "c"), 5));
    let greeting = LINK_GREETING_MAX.as_millis() as u64;
    for (nth, byte) in a.outgoing.iter().enumerate() {
        let now = at(nth as u64 * 300);
        if nth as u64 * 300 >= greeting {
            assert!(b.deadline() <= now);
            assert_eq!(b.tick(now), Err(Fault::Slow));
            return;
        }
        b.tick(now).expect("not yet");
        b.receive(now, &[*byte], &mut Vec::new()).expect("the beginning of a hello");
    }
    panic!("a hello is longer than that");
}

#[test]
fn a_plain_side_knows_tls_when_it_sees_it() {
    let fresh =
        |bytes: &[u8]| answered(us(1, "c"), 5).receive(Mono::default(), bytes, &mut Vec::new());
    assert_eq!(fresh(&[0x16, 3, 1, 2, 0, 1]), Err(Fault::Secured));
    assert_eq!(fresh(&[0x15, 3, 3, 0, 2, 2, 10]), Err(Fault::Secured));
    assert!(matches!(fresh(&[0x17, 3, 3, 0, 2]), Err(Fault::TooLong(_))));
    let hello = dialed(us(1, "c"), 5).outgoing;
    assert!(is_greeting(&hello) && !is_greeting(&hello[..12]) && !is_greeting(&[0x16; 64]));
}

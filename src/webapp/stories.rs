//! Stories of the desk: who asks, what the database is asked, and who is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::desk::Desk;
use crate::ids::{Ask, Key, NodeId, Origin, Peer, Role, Slot};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Counter, Effect, Effects, Input, Report, Shard};
use crate::time::{Mono, Now};
use crate::wire::link::Class;
use crate::wire::{Hello, Message, Packed};

const ME: NodeId = NodeId(0);
const GATEWAY: Peer = Peer { node: ME, role: Role::Gateway, core: 0 };
const OWNER: Peer = Peer { node: ME, role: Role::Channel, core: 0 };
const OTHER: Peer = Peer { node: ME, role: Role::Channel, core: 1 };

fn tiny() -> Limits {
    Limits {
        commits_max: 2,
        boots_burst: 2,
        source_reads_max: 2,
        fetches_max: 3,
        mail_messages_max: 6,
        bulk_messages_per_room: 12,
        ..Limits::DEFAULT
    }
}

/// A desk, what it asked, and what it said to whom, as text.
struct Office {
    desk: Desk,
    now: Now,
    asked: Vec<(Ask, String)>,
    said: Vec<(Peer, String)>,
    bulk: BTreeMap<Peer, u32>,
    counted: BTreeMap<&'static str, u32>,
}

impl Office {
    fn open() -> Self {
        Self::with(&tiny())
    }

    fn with(limits: &Limits) -> Self {
        let mut office = Self {
            desk: Desk::new(ME, limits),
            now: Now::default(),
            asked: Vec::new(),
            said: Vec::new(),
            bulk: BTreeMap::new(),
            counted: BTreeMap::new(),
        };
        for peer in [GATEWAY, OWNER, OTHER] {
            office.up(peer, 1);
        }
        office
    }

    fn input(&mut self, input: Input<'_>) {
        let mut out = Effects::default();
        self.desk.handle(self.now, input, &mut out);
        for effect in out.list() {
            match *effect {
                Effect::Send { peer, message, class } => {
                    let message = Message::decode(out.bytes(message)).expect("a whole message");
                    self.said.push((peer, short(&message)));
                    *self.bulk.entry(peer).or_default() += u32::from(class == Class::Bulk);
                }
                Effect::Ask { ask, question } => {
                    let message = Message::decode(out.bytes(question)).expect("a whole question");
                    self.asked.push((ask, short(&message)));
                }
                Effect::Count { what, by } => *self.counted.entry(what.name()).or_default() += by,
                other => panic!("a desk has no {other:?}"),
            }
        }
    }

    fn say(&mut self, peer: Peer, message: Message<'_>) {
        self.input(Input::Wire { peer, message });
    }
    fn up(&mut self, peer: Peer, life: u32) {
        self.input(Input::PeerUp { peer, life, hello: Hello::default() });
    }
    fn lost(&mut self, peer: Peer) {
        self.input(Input::PeerLost { peer });
    }
    fn post(&mut self, ask: u32) {
        self.post_of(ask, false);
    }
    fn post_of(&mut self, ask: u32, again: bool) {
        let message = Message::Post {
            ask: Ask(ask),
            user: "U1",
            channel: "C1",
            text: "hi",
            thread_ts: "",
            client_msg_id: "",
            origin: Origin::NOBODY,
            nth: 0,
            again,
        };
        self.say(GATEWAY, message);
    }
    fn redeem(&mut self, ask: u32) {
        self.say(GATEWAY, Message::Redeem { ask: Ask(ask), ticket: "t" });
    }
    fn tip(&mut self, peer: Peer, ask: u32, name: &str) {
        self.say(peer, Message::Tip { ask: Ask(ask), name });
    }
    fn range(&mut self, peer: Peer, ask: u32, name: &str, from: u64, to: u64) {
        self.say(peer, Message::Range { ask: Ask(ask), name, from, to, bytes_max: 1_000 });
    }

    /// The database answers the `nth` question that was asked.
    fn answer(&mut self, nth: usize, message: Message<'_>) {
        let (ask, _) = self.asked[nth];
        self.input(Input::Answer { ask, message });
    }
    /// A range, from its first event to its end.
    fn answer_range(&mut self, nth: usize, from: u64, to: u64) {
        for offset in from..=to {
            let (ask, origin, member, payload) = (Ask(0), Origin::NOBODY, None, &b"{}"[..]);
            self.answer(nth, Message::RangeEvent { ask, offset, origin, member, payload });
        }
        self.answer(nth, Message::RangeEnd { ask: Ask(0), ok: true, upto: to });
    }
    fn asked(&self) -> Vec<&str> {
        self.asked.iter().map(|(_, question)| question.as_str()).collect()
    }
    /// What was said to a peer since the last time.
    fn said_to(&mut self, peer: Peer) -> Vec<String> {
        let (to, others) = self.said.drain(..).partition(|(whom, _)| *whom == peer);
        self.said = others;
        let to: Vec<(Peer, String)> = to;
        to.into_iter().map(|(_, message)| message).collect()
    }
    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.input(Input::Tick);
    }
    fn gauge(&self, name: &str) -> u64 {
        let mut report = Report::default();
        self.desk.report(&mut report);
        report.gauges.iter().find(|(gauge, _)| *gauge == name).expect("a gauge").1 as u64
    }
    fn counted(&self, what: Counter) -> u32 {
        self.counted.get(what.name()).copied().unwrap_or(0)
    }
}

/// The part of a message that the stories are about.
fn short(message: &Message<'_>) -> String {
    match message {
        Message::Post { user, channel, .. } => format!("Post {user} {channel}"),
        Message::Posted { ask, offset, .. } => format!("Posted {} {offset}", ask.0),
        Message::PostFailed { ask, reason } => format!("PostFailed {} {reason}", ask.0),
        Message::Redeem { ticket, .. } => format!("Redeem {ticket}"),
        Message::Boot { ask, user, .. } => format!("Boot {} {user}", ask.0),
        Message::Refused { ask, retry } => format!("Refused {} {retry}", ask.0),
        Message::Tip { name, .. } => format!("Tip {name}"),
        Message::TipIs { ask, tip, .. } => format!("TipIs {} {tip}", ask.0),
        Message::Range { name, from, to, .. } => format!("Range {name} {from}..={to}"),
        Message::RangeEvent { ask, offset, .. } => format!("RangeEvent {} {offset}", ask.0),
        Message::RangeEnd { ask, ok, upto } => format!("RangeEnd {} {ok} {upto}", ask.0),
        Message::PresenceQuery { ask, .. } => format!("PresenceQuery {}", ask.0),
        Message::PresenceIs { ask, online, .. } => format!("PresenceIs {} {online}", ask.0),
        Message::PresenceUnknown { ask } => format!("PresenceUnknown {}", ask.0),
        Message::Manual { away, .. } => format!("Manual {away}"),
        Message::Revoke { tokens } => {
            let tokens: Vec<u32> = tokens.iter::<(u32, &str)>().map(|(token, _)| token).collect();
            format!("Revoke {tokens:?}")
        }
        other => panic!("a desk has nothing to do with {}", other.name()),
    }
}

const TIP_IS: Message<'static> = Message::TipIs { ask: Ask(0), found: true, tip: 5 };

fn posted(offset: u64) -> Message<'static> {
    Message::Posted { ask: Ask(0), offset, ts: "1.000001", text: "hi" }
}

#[test]
fn answers_go_to_the_asker_under_the_asker_s_number() {
    let mut office = Office::open();
    office.post(70);
    office.redeem(71);
    office.tip(OWNER, 70, "C1");
    office.range(OWNER, 72, "C1", 3, 4);
    assert_eq!(office.asked(), ["Post U1 C1", "Redeem t", "Tip C1", "Range C1 3..=4"]);
    let numbers: std::collections::BTreeSet<Ask> =
        office.asked.iter().map(|(ask, _)| *ask).collect();
    assert_eq!(numbers.len(), 4, "our numbers are our own");
    office.answer(2, TIP_IS);
    office.answer_range(3, 3, 4);
    office.answer(0, posted(9));
    let mut none = Vec::new();
    let channels = Packed::pack(std::iter::empty::<(&str, u64)>(), &mut none);
    let (ask, user, team, epoch, flags, token) = (Ask(0), "U1", "T1", "e", 0, 7);
    office.answer(1, Message::Boot { ask, user, team, epoch, flags, token, channels });
    assert_eq!(office.said_to(GATEWAY), ["Posted 70 9", "Boot 71 U1"]);
    assert_eq!(
        office.said_to(OWNER),
        ["TipIs 70 5", "RangeEvent 72 3", "RangeEvent 72 4", "RangeEnd 72 true 4"]
    );
    assert_eq!(office.bulk[&OWNER], 3, "ranges are bulk, tips are not");
    assert_eq!(office.counted(Counter::TicketsRedeemed), 1);
}

#[test]
fn a_full_commit_queue_refuses_the_post_at_once() {
    let mut office = Office::open();
    for ask in 1..=3 {
        office.post(ask);
    }
    assert_eq!(office.said_to(GATEWAY), ["PostFailed 3 ratelimited"]);
    assert_eq!(office.counted(Counter::PostsShed), 1);
    office.answer(0, posted(1));
    office.post(4);
    assert_eq!(office.asked.len(), 3, "there is room again");
}

#[test]
fn of_a_post_that_is_said_again_nothing_is_said_that_may_be_wrong() {
    let mut office = Office::open();
    office.post(1);
    office.post(2);
    office.post_of(3, true);
    assert!(office.said_to(GATEWAY).is_empty(), "it may be stored: no refusal");
    office.answer(0, posted(1));
    office.post_of(4, true);
    assert_eq!(office.said_to(GATEWAY), ["Posted 1 1"]);
    assert_eq!(office.asked.len(), 3);
}

#[test]
fn posts_come_at_a_pace_but_those_said_again_were_paid_for() {
    let mut office = Office::open();
    let burst = Limits::DEFAULT.posts_burst;
    for nth in 0..burst {
        office.post(nth);
        office.answer(nth as usize, posted(u64::from(nth)));
    }
    office.said_to(GATEWAY);
    office.post(900);
    assert_eq!(office.said_to(GATEWAY), ["PostFailed 900 slow_down"]);
    office.post_of(901, true);
    office.answer(burst as usize, posted(7));
    assert_eq!(office.said_to(GATEWAY), ["Posted 901 7"]);
}

#[test]
fn what_was_set_by_hand_is_said_again_to_a_keeper_that_comes_back() {
    let mut office = Office::open();
    let http = Peer::control(ME, Role::Http);
    let keeper = Peer::new(ME, Role::Presence, 1);
    let (slot, user) = (Slot(5), Key([7; 12]));
    office.input(Input::Ring { ring: &Ring::new(&[(ME, 2)]) });
    office.up(keeper, 1);
    office.say(http, Message::Manual { slot, user, away: true });
    office.lost(keeper);
    office.say(http, Message::Manual { slot, user, away: false });
    assert_eq!(office.said_to(keeper), ["Manual true"]);
    office.up(keeper, 2);
    assert_eq!(office.said_to(keeper), ["Manual false"], "the latest word only");
}

#[test]
fn too_many_tickets_at_once_are_to_be_tried_again() {
    let mut office = Office::open();
    for ask in 1..=3 {
        office.redeem(ask);
    }
    assert_eq!(office.said_to(GATEWAY), ["Refused 3 true"]);
    office.answer(0, Message::Refused { ask: Ask(0), retry: false });
    assert_eq!(office.said_to(GATEWAY), ["Refused 1 false"]);
}

#[test]
fn reads_take_turns_and_posts_wait_for_none_of_them() {
    let mut office = Office::open();
    for (ask, name) in [(1, "C1"), (2, "C2"), (3, "C3")] {
        office.tip(OWNER, ask, name);
    }
    office.tip(OTHER, 1, "D1");
    assert_eq!(office.asked(), ["Tip C1", "Tip C2"], "so many at once");
    office.post(9);
    assert_eq!(office.asked().last(), Some(&"Post U1 C1"));
    office.answer(0, TIP_IS);
    assert_eq!(office.asked().last(), Some(&"Tip D1"), "the other asker's turn");
    office.answer(1, TIP_IS);
    assert_eq!(office.asked().last(), Some(&"Tip C3"));
    assert_eq!((office.gauge("desk_reads_open"), office.gauge("desk_reads_waiting")), (2, 0));
}

#[test]
fn equal_reads_that_wait_are_one_read() {
    let mut office = Office::open();
    office.tip(OWNER, 1, "C1");
    office.tip(OWNER, 2, "C1");
    assert_eq!(office.asked.len(), 2, "a read that has begun says nothing to who asks later");
    for ask in 3..=5 {
        office.tip(OWNER, ask, "C1");
    }
    office.range(OWNER, 6, "C1", 1, 2);
    office.range(OWNER, 7, "C1", 1, 2);
    assert_eq!(office.gauge("desk_reads_waiting"), 5);
    office.answer(0, TIP_IS);
    office.answer(1, TIP_IS);
    assert_eq!(office.asked()[2..], ["Tip C1", "Range C1 1..=2"]);
    office.said_to(OWNER);
    office.answer(2, TIP_IS);
    assert_eq!(office.said_to(OWNER), ["TipIs 3 5", "TipIs 4 5", "TipIs 5 5"]);
    office.answer_range(3, 1, 2);
    assert_eq!(office.said_to(OWNER).len(), 6);
}

#[test]
fn a_range_waits_until_its_answer_fits_into_the_mailbox() {
    let mut office = Office::open();
    office.range(OWNER, 1, "C1", 1, 9);
    assert_eq!(office.asked(), ["Range C1 1..=5"], "half a grant at most");
    office.range(OWNER, 2, "C1", 6, 9);
    office.answer_range(0, 1, 5);
    office.answer_range(1, 6, 9);
    office.range(OWNER, 3, "C2", 1, 3);
    assert_eq!(office.asked.len(), 2, "one message of room is left");
    office.tip(OWNER, 4, "C3");
    office.range(OTHER, 1, "D1", 1, 3);
    assert_eq!(office.asked()[2..], ["Tip C3", "Range D1 1..=3"], "nobody else waits for that");
    office.answer(2, TIP_IS);
    office.input(Input::PeerRoom { peer: OWNER });
    assert_eq!(office.asked().last(), Some(&"Range C2 1..=3"));
    assert!(office.bulk.values().all(|bulk| *bulk <= 12));
}

#[test]
fn room_that_an_answer_did_not_use_is_free_again() {
    let mut office = Office::open();
    for ask in 0..20 {
        office.range(OWNER, ask, "C1", 1, 5);
        office.answer(ask as usize, Message::RangeEnd { ask: Ask(0), ok: false, upto: 0 });
        if ask % 4 == 3 {
            office.input(Input::PeerRoom { peer: OWNER });
        }
    }
    assert_eq!(office.asked.len(), 20);
}

#[test]
fn a_full_line_is_refused_or_asked_again() {
    let mut office = Office::open();
    for ask in 1..=6 {
        office.range(OWNER, ask, "C1", u64::from(ask), 9);
    }
    assert_eq!(office.said_to(OWNER), ["RangeEnd 6 false 0"], "two have begun, three wait");
    let mut office = Office::open();
    for ask in 1..=9 {
        office.tip(OWNER, ask, &ask.to_string());
    }
    assert_eq!(office.counted(Counter::ReadsShed), 1, "two have begun, six wait");
    assert!(office.said.is_empty());
}

#[test]
fn what_a_lost_peer_asked_is_answered_to_nobody() {
    let mut office = Office::open();
    office.post(1);
    office.redeem(2);
    office.tip(OWNER, 1, "C1");
    office.range(OWNER, 2, "C1", 1, 2);
    office.tip(OWNER, 3, "C2");
    for peer in [GATEWAY, OWNER] {
        office.lost(peer);
        office.up(peer, 2);
    }
    office.answer(0, posted(1));
    office.answer(1, Message::Refused { ask: Ask(0), retry: false });
    office.answer(2, TIP_IS);
    office.answer_range(3, 1, 2);
    assert!(office.said.is_empty());
    assert_eq!(office.gauge("desk_reads_open"), 0);
    office.tip(OWNER, 1, "C1");
    assert_eq!(office.asked().last(), Some(&"Tip C1"), "a new life, a new question");
    office.answer(4, TIP_IS);
    assert_eq!(office.said_to(OWNER), ["TipIs 1 5"]);
}

#[test]
fn a_question_that_is_never_answered_holds_up_nobody_for_ever() {
    let mut office = Office::open();
    office.post(1);
    office.post(2);
    office.redeem(3);
    office.tip(OWNER, 1, "C1");
    office.range(OWNER, 2, "C1", 1, 2);
    office.tip(OWNER, 3, "C2");
    let wait = tiny().ask_timeout * 2;
    assert_eq!(office.desk.deadline(), Some(Mono(0) + wait));
    office.pass(wait);
    assert_eq!(office.said_to(GATEWAY), ["Refused 3 true"], "whether a post was stored who knows");
    assert_eq!(office.said_to(OWNER), ["RangeEnd 2 false 0"]);
    assert_eq!(office.asked().last(), Some(&"Tip C2"));
    assert_eq!((office.gauge("desk_posts_open"), office.gauge("desk_tickets_open")), (0, 0));
    office.answer(0, posted(1));
    assert!(office.said.is_empty(), "too late");
}

#[test]
fn http_handlers_are_answered_by_who_keeps_the_presence() {
    let mut office = Office::open();
    let http = Peer::control(ME, Role::Http);
    let keeper = Peer::new(ME, Role::Presence, 1);
    let (slot, user) = (Slot(5), Key([1; 12]));
    office.say(http, Message::PresenceQuery { ask: Ask(1), slot, user });
    assert_eq!(office.said_to(http), ["PresenceUnknown 1"]);
    office.input(Input::Ring { ring: &Ring::new(&[(ME, 2)]) });
    office.up(keeper, 1);
    office.say(http, Message::PresenceQuery { ask: Ask(2), slot, user });
    office.say(http, Message::Manual { slot, user, away: true });
    assert_eq!(office.said_to(keeper), ["PresenceQuery 2", "Manual true"]);
    let is = Message::PresenceIs {
        ask: Ask(2),
        active: false,
        online: true,
        auto_away: false,
        manual_away: true,
        connections: 1,
        idle_s: 0,
    };
    office.say(keeper, is);
    assert_eq!(office.said_to(http), ["PresenceIs 2 true"]);
    office.lost(keeper);
    office.say(http, Message::PresenceQuery { ask: Ask(3), slot, user });
    assert_eq!(office.said_to(http), ["PresenceUnknown 3"]);
}

#[test]
fn whatever_is_asked_and_lost_every_number_comes_back_and_no_mailbox_overflows() {
    for seed in 0..300u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut office = Office::open();
        let mut answered = 0;
        // What each owner may still be sent in bulk.
        let room = BTreeMap::from([(OWNER, 12), (OTHER, 12)]);
        for step in 0..300u32 {
            let peer = if below(2) == 0 { OWNER } else { OTHER };
            match below(12) {
                0 => office.post(step),
                1 => office.redeem(step),
                2 | 3 => office.tip(peer, step, if below(2) == 0 { "C1" } else { "C2" }),
                4..7 => office.range(peer, step, "C1", 1 + below(3), 1 + below(9)),
                7 => {
                    office.input(Input::PeerRoom { peer });
                    office.bulk.insert(peer, 0);
                }
                8 if below(4) == 0 => {
                    office.lost(peer);
                    office.up(peer, step + 2);
                    office.bulk.insert(peer, 0);
                }
                _ if answered < office.asked.len() => {
                    let question = office.asked[answered].1.clone();
                    let words: Vec<&str> = question.split(' ').collect();
                    match words[0] {
                        "Post" => office.answer(answered, posted(1)),
                        "Redeem" => {
                            let refused = Message::Refused { ask: Ask(0), retry: false };
                            office.answer(answered, refused);
                        }
                        "Tip" => office.answer(answered, TIP_IS),
                        _ => {
                            let (from, to) = words[2].split_once("..=").expect("a range");
                            let ends = (from.parse::<u64>(), to.parse::<u64>());
                            let (Ok(from), Ok(to)) = ends else { panic!("{question}") };
                            office.answer_range(answered, from, to);
                        }
                    }
                    answered += 1;
                }
                _ => {}
            }
            for (peer, room) in &room {
                let sent = office.bulk.get(peer).copied().unwrap_or(0);
                assert!(sent <= *room, "seed {seed}: {sent} in bulk to {peer:?}");
            }
            assert!(office.gauge("desk_reads_open") <= 2);
        }
        office.pass(tiny().ask_timeout * 2);
        for peer in [OWNER, OTHER] {
            office.input(Input::PeerRoom { peer });
        }
        for _ in 0..60 {
            office.pass(tiny().ask_timeout * 2);
            for peer in [OWNER, OTHER] {
                office.input(Input::PeerRoom { peer });
            }
        }
        for gauge in
            ["desk_posts_open", "desk_tickets_open", "desk_reads_open", "desk_reads_waiting"]
        {
            assert_eq!(office.gauge(gauge), 0, "seed {seed}: {gauge}");
        }
    }
}

impl Office {
    /// The database has committed that these tokens open nothing any more.
    fn revoke(&mut self, tokens: &[u32]) {
        let mut list = Vec::new();
        let tokens = Packed::pack(tokens.iter().map(|token| (*token, "U1")), &mut list);
        self.say(Peer::control(ME, Role::Http), Message::Revoke { tokens });
    }
    fn boot(&mut self, nth: usize, token: u32) {
        let channels = Packed::default();
        let (ask, user, team, epoch, flags) = (Ask(0), "U1", "T1", "e", 0);
        self.answer(nth, Message::Boot { ask, user, team, epoch, flags, token, channels });
    }
}

#[test]
fn gateways_hear_of_revoked_tokens_at_once_and_again_when_they_are_back() {
    let mut office = Office::open();
    office.revoke(&[7, 8]);
    assert_eq!(office.said_to(GATEWAY), ["Revoke [7, 8]"]);
    assert!(office.said_to(OWNER).is_empty(), "owners have no clients");
    // Nobody but the database says so.
    let mut list = Vec::new();
    let tokens = Packed::pack([(9u32, "U1")], &mut list);
    office.say(GATEWAY, Message::Revoke { tokens });
    assert_eq!(office.counted(Counter::WireBroken), 1);
    office.lost(GATEWAY);
    office.revoke(&[9, 8]);
    assert!(office.said_to(GATEWAY).is_empty());
    office.up(GATEWAY, 2);
    assert_eq!(office.said_to(GATEWAY), ["Revoke [7, 8, 9]"]);
    assert_eq!(office.gauge("desk_revocations"), 3);
    // No connection lives longer.
    office.pass(Limits::DEFAULT.revocation_kept());
    office.revoke(&[10]);
    assert_eq!((office.gauge("desk_revocations"), office.said_to(GATEWAY).len()), (1, 1));
}

#[test]
fn a_ticket_that_was_granted_before_its_token_was_revoked_is_refused_after() {
    let mut office = Office::open();
    office.redeem(1);
    office.redeem(2);
    office.boot(0, 7);
    office.redeem(3);
    office.revoke(&[7]);
    office.boot(1, 7);
    office.boot(2, 8);
    let said = office.said_to(GATEWAY);
    assert_eq!(said, ["Boot 1 U1", "Revoke [7]", "Refused 2 false", "Boot 3 U1"]);
}

#[test]
fn of_too_many_revoked_tokens_the_oldest_are_forgotten() {
    let mut office = Office::open();
    let count = Limits::DEFAULT.revocations_max;
    office.revoke(&(1..=count + 2).collect::<Vec<_>>());
    assert_eq!(office.gauge("desk_revocations"), u64::from(count));
    assert_eq!(office.counted(Counter::RevocationsEvicted), 2);
}

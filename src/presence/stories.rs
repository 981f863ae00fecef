//! Stories of the presence shard: gateway cores come, say who is there, are lost, and come back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::shard::Roster;
use crate::ids::{Ask, Handle, Key, NodeId, Peer, Role, Slot};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Counter, Effect, Effects, Input, Report, Shard};
use crate::time::{Mono, Now};
use crate::wire::{Hello, Message, UNKNOWN_SINCE};

const ME: NodeId = NodeId(0);
const ANN: u8 = 1;
const BOB: u8 = 2;
const H1: Handle = Handle(1);
const H2: Handle = Handle(2);

fn core(number: u8) -> Peer {
    Peer::new(ME, Role::Gateway, number)
}

fn key(user: u8) -> Key {
    Key([user; 12])
}

fn slot(user: u8) -> Slot {
    Slot(u16::from(user))
}

fn tiny() -> Limits {
    Limits {
        away_after: Duration::from_secs(60),
        presence_lease: Duration::from_secs(10),
        users_max: 8,
        ties_max: 16,
        ..Limits::DEFAULT
    }
}

/// Active, online, away by time, away by hand, connections, seconds of idleness.
type Known = (bool, bool, bool, bool, u32, u32);

/// A presence shard, what gateway cores were told last, and how often.
struct Town {
    roster: Roster,
    now: Now,
    lives: u32,
    dots: BTreeMap<(u8, Handle), bool>,
    told: usize,
    freed: Vec<Handle>,
    /// `None`: nobody knows.
    answers: Vec<Option<Known>>,
    counted: BTreeMap<&'static str, u32>,
    /// Links that were broken.
    reset: Vec<Peer>,
}

impl Town {
    fn new(limits: &Limits) -> Self {
        let roster = Roster::new(ME, 0, 1, limits);
        let now = Now { mono: Mono(1_000_000_000), ..Now::default() };
        Self {
            roster,
            now,
            lives: 0,
            dots: BTreeMap::new(),
            told: 0,
            freed: Vec::new(),
            answers: Vec::new(),
            counted: BTreeMap::new(),
            reset: Vec::new(),
        }
    }

    /// With two gateway cores up.
    fn open() -> Self {
        Self::with(&tiny())
    }

    /// With two gateway cores up that take four dots for each room.
    fn narrow() -> Self {
        Self::with(&Limits { bulk_messages_per_room: 4, ..tiny() })
    }

    fn with(limits: &Limits) -> Self {
        let mut town = Self::new(limits);
        town.up(0);
        town.up(1);
        town
    }

    fn input(&mut self, input: Input<'_>) {
        let mut out = Effects::default();
        self.roster.handle(self.now, input, &mut out);
        for effect in out.list() {
            match *effect {
                Effect::Send { peer, message, .. } => match Message::decode(out.bytes(message)) {
                    Ok(Message::Presence { handle, active }) => {
                        self.dots.insert((peer.core, handle), active);
                        self.told += 1;
                    }
                    Ok(Message::Unsuback { handle }) => self.freed.push(handle),
                    Ok(Message::PresenceIs {
                        active,
                        online,
                        auto_away,
                        manual_away,
                        connections,
                        idle_s,
                        ..
                    }) => {
                        let answer = (active, online, auto_away, manual_away, connections, idle_s);
                        self.answers.push(Some(answer));
                    }
                    Ok(Message::PresenceUnknown { .. }) => self.answers.push(None),
                    other => panic!("a presence shard does not say {other:?}"),
                },
                Effect::Count { what, by } => *self.counted.entry(what.name()).or_default() += by,
                Effect::Reset { peer } => self.reset.push(peer),
                other => panic!("a presence shard has no {other:?}"),
            }
        }
    }

    fn say(&mut self, from: u8, message: Message<'_>) {
        self.input(Input::Wire { peer: core(from), message });
    }
    fn up(&mut self, number: u8) {
        self.lives += 1;
        let (peer, life) = (core(number), self.lives);
        self.input(Input::PeerUp { peer, life, hello: Hello::default() });
    }
    fn lost(&mut self, number: u8) {
        self.input(Input::PeerLost { peer: core(number) });
    }
    fn room(&mut self, number: u8) {
        self.input(Input::PeerRoom { peer: core(number) });
    }
    fn online(&mut self, from: u8, user: u8, connections: u32) {
        self.join(from, user, connections, false, false);
    }
    fn join(&mut self, from: u8, user: u8, connections: u32, manual_away: bool, bot: bool) {
        let (slot, user) = (slot(user), key(user));
        self.say(from, Message::Online { slot, user, connections, manual_away, bot });
    }
    fn offline(&mut self, from: u8, user: u8) {
        self.say(from, Message::Offline { slot: slot(user), user: key(user) });
    }
    fn active(&mut self, from: u8, user: u8) {
        self.say(from, Message::Active { slot: slot(user), user: key(user) });
    }
    fn watch(&mut self, from: u8, user: u8, handle: Handle) {
        self.say(from, Message::Watch { slot: slot(user), user: key(user), handle });
    }
    fn unwatch(&mut self, from: u8, user: u8, handle: Handle) {
        self.say(from, Message::Unwatch { slot: slot(user), user: key(user), handle });
    }
    fn manual(&mut self, user: u8, away: bool) {
        let message = Message::Manual { slot: slot(user), user: key(user), away };
        self.input(Input::Wire { peer: Peer::control(ME, Role::Webapp), message });
    }
    fn query(&mut self, user: u8) -> Known {
        self.ask(user).expect("somebody knows")
    }
    fn ask(&mut self, user: u8) -> Option<Known> {
        let message = Message::PresenceQuery { ask: Ask(7), slot: slot(user), user: key(user) };
        self.input(Input::Wire { peer: Peer::control(ME, Role::Webapp), message });
        self.answers.pop().expect("a query is answered at once")
    }

    /// Time passes; every deadline on the way is kept.
    fn pass(&mut self, seconds: u64) {
        let end = self.now.mono + Duration::from_secs(seconds);
        while let Some(due) = self.roster.deadline().filter(|due| *due <= end) {
            self.now.mono = self.now.mono.max(due);
            self.input(Input::Tick);
        }
        self.now.mono = end;
    }
    fn dot(&self, at: u8, handle: Handle) -> bool {
        self.dots[&(at, handle)]
    }
    fn gauge(&self, name: &str) -> u64 {
        let mut report = Report::default();
        self.roster.report(&mut report);
        report.gauges.iter().find(|(gauge, _)| *gauge == name).expect("a gauge").1 as u64
    }
    fn counted(&self, what: Counter) -> u32 {
        self.counted.get(what.name()).copied().unwrap_or(0)
    }
}

#[test]
fn a_watcher_is_told_the_present_dot_and_then_changes_only() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    assert!(!town.dot(0, H1));
    town.online(1, ANN, 1);
    assert!(town.dot(0, H1));
    town.online(1, ANN, 2);
    town.active(1, ANN);
    assert_eq!(town.told, 2, "nothing changed");
    town.offline(1, ANN);
    assert!(!town.dot(0, H1));
    town.watch(0, ANN, H1);
    assert_eq!(town.told, 4, "who asks again is told again");
}

#[test]
fn online_as_long_as_one_gateway_core_has_a_connection() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.online(0, ANN, 2);
    town.online(1, ANN, 1);
    assert_eq!(town.query(ANN), (true, true, false, false, 3, 0));
    town.offline(0, ANN);
    assert!(town.dot(0, H1));
    town.offline(1, ANN);
    assert!(!town.dot(0, H1));
}

#[test]
fn a_lost_gateway_core_s_users_stay_until_the_lease_ends() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.online(1, ANN, 1);
    town.lost(1);
    town.pass(9);
    assert!(town.dot(0, H1));
    town.pass(2);
    assert!(!town.dot(0, H1));
    assert_eq!(town.gauge("presence_ties"), 1, "the watch");
}

#[test]
fn a_gateway_core_that_comes_back_in_time_changes_no_dot() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.watch(0, BOB, H2);
    town.online(1, ANN, 1);
    town.online(1, BOB, 1);
    town.lost(1);
    town.pass(5);
    town.up(1);
    town.online(1, ANN, 1);
    let told = town.told;
    town.pass(20);
    assert!(town.dot(0, H1), "said again");
    assert!(!town.dot(0, H2), "not said again");
    assert_eq!(town.told, told + 1, "and Ann's dot never moved");
}

#[test]
fn a_link_that_breaks_again_and_again_keeps_one_report() {
    let mut town = Town::open();
    for _ in 0..5_000 {
        town.online(1, ANN, 1);
        town.lost(1);
        town.up(1);
    }
    assert_eq!(town.query(ANN).4, 1, "connections");
    town.online(1, ANN, 1);
    town.pass(30);
    assert_eq!(town.query(ANN).4, 1, "connections");
    town.offline(1, ANN);
    assert_eq!((town.gauge("presence_users"), town.gauge("presence_ties")), (0, 0));
}

#[test]
fn away_after_a_time_without_activity_and_back_with_it() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.online(1, ANN, 1);
    town.pass(50);
    town.active(1, ANN);
    town.pass(50);
    assert!(town.dot(0, H1));
    town.pass(11);
    assert!(!town.dot(0, H1));
    assert_eq!(town.query(ANN), (false, true, true, false, 1, 61));
    town.active(1, ANN);
    assert!(town.dot(0, H1));
    town.pass(61);
    town.online(1, ANN, 1);
    assert!(!town.dot(0, H1), "the same connection, said again, is no activity");
    town.online(0, ANN, 1);
    assert!(town.dot(0, H1), "a new one is");
}

#[test]
fn a_bot_is_never_away_by_time() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.join(1, ANN, 1, false, true);
    town.pass(1_000);
    assert!(town.dot(0, H1));
    town.manual(ANN, true);
    assert!(!town.dot(0, H1));
}

#[test]
fn away_by_hand_holds_across_connections_and_activity() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.online(1, ANN, 1);
    town.manual(ANN, true);
    assert!(!town.dot(0, H1));
    town.active(1, ANN);
    town.online(0, ANN, 1);
    assert!(!town.dot(0, H1), "what a further connection says of the hand is older");
    town.offline(0, ANN);
    town.offline(1, ANN);
    town.online(1, ANN, 1);
    assert!(!town.dot(0, H1), "and so is what comes a moment later");
    town.manual(ANN, false);
    assert!(town.dot(0, H1));
}

#[test]
fn the_first_connection_brings_the_stored_hand() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.join(1, ANN, 1, true, false);
    assert!(!town.dot(0, H1));
    assert_eq!(town.query(ANN), (false, true, false, true, 1, 0));
    town.offline(1, ANN);
    town.online(1, ANN, 1);
    assert!(town.dot(0, H1));
}

#[test]
fn a_hand_set_just_before_the_first_connection_is_not_overruled_by_it() {
    let mut town = Town::open();
    town.manual(ANN, true);
    town.online(1, ANN, 1);
    assert_eq!(town.query(ANN), (false, true, false, true, 1, 0));
    town.offline(1, ANN);
    town.pass(61);
    assert_eq!(town.gauge("presence_users"), 0, "what nobody needs is forgotten");
}

#[test]
fn an_unwatched_handle_is_freed_and_never_used_after_that() {
    let mut town = Town::open();
    town.watch(0, ANN, H1);
    town.unwatch(0, ANN, H1);
    assert_eq!(town.freed, [H1]);
    let told = town.told;
    town.online(1, ANN, 1);
    assert_eq!(town.told, told);
    town.unwatch(0, BOB, H2);
    assert_eq!(town.freed, [H1, H2], "also of a user nobody knows");
}

#[test]
fn a_lost_watcher_is_told_nothing_and_its_watches_go_at_once() {
    let mut town = Town::open();
    town.watch(1, ANN, H1);
    town.lost(1);
    let told = town.told;
    town.online(0, ANN, 1);
    assert_eq!(town.told, told);
    town.pass(0);
    assert_eq!(town.gauge("presence_ties"), 1, "the report");
    town.up(1);
    town.watch(1, ANN, H1);
    assert!(town.dot(1, H1));
}

#[test]
fn dots_wait_for_room_and_then_say_what_is_true_then() {
    let mut town = Town::narrow();
    for handle in 1..=4 {
        town.watch(0, ANN, Handle(handle));
    }
    town.watch(0, BOB, Handle(5));
    assert_eq!(town.told, 4, "so many fit");
    town.online(1, ANN, 1);
    town.online(1, BOB, 1);
    town.offline(1, ANN);
    assert_eq!((town.told, town.gauge("presence_due")), (4, 1), "Ann's dot is as it was told");
    town.room(0);
    assert!(town.dot(0, Handle(5)));
    assert_eq!((town.told, town.gauge("presence_due")), (5, 0));
}

#[test]
fn a_waiting_dot_goes_with_its_watch() {
    let mut town = Town::narrow();
    for handle in 1..=6 {
        town.watch(0, ANN, Handle(handle));
    }
    assert_eq!(town.gauge("presence_due"), 2);
    town.unwatch(0, ANN, Handle(5));
    town.lost(0);
    town.pass(0);
    assert_eq!((town.gauge("presence_due"), town.gauge("presence_ties")), (0, 0));
    town.up(0);
    town.room(0);
    assert_eq!(town.told, 4);
}

#[test]
fn a_full_table_sheds_by_name_and_leaves_nobody_waiting() {
    let mut town = Town::open();
    for user in 1..=8 {
        town.online(1, user, 1);
    }
    town.online(1, 9, 1);
    assert_eq!(town.counted(Counter::PresenceShed), 1);
    town.watch(0, 9, H1);
    assert!(!town.dot(0, H1));
    for handle in 1..=9 {
        town.watch(0, ANN, Handle(handle));
    }
    assert_eq!(town.counted(Counter::PresenceShed), 3, "the seventeenth tie");
    assert!(!town.dot(0, Handle(9)));
    assert_eq!(town.gauge("presence_ties"), 16);
}

#[test]
fn many_users_of_a_lost_gateway_core_fall_piece_by_piece() {
    let limits = Limits { users_max: 2_000, ties_max: 4_000, ..tiny() };
    let mut town = Town::new(&limits);
    town.up(1);
    for user in 0..1_000u32 {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&user.to_le_bytes());
        let (slot, user) = (Slot(0), Key(key));
        let (connections, manual_away, bot) = (1, false, false);
        town.say(1, Message::Online { slot, user, connections, manual_away, bot });
    }
    town.lost(1);
    town.now.mono += Duration::from_secs(10);
    town.input(Input::Tick);
    assert_eq!(town.gauge("presence_users"), 744, "so many in one tick");
    assert!(town.roster.deadline().is_some_and(|due| due <= town.now.mono), "and at once again");
    town.pass(0);
    assert_eq!(town.gauge("presence_users"), 0);
}

#[test]
fn a_user_online_and_watched_costs_less_than_112_bytes() {
    let mut town = Town::new(&Limits::DEFAULT);
    town.up(0);
    for user in 0..100_000u32 {
        let secret = crate::ring::Secret([9; 16]);
        let (slot, key) = (Slot(0), secret.key_of(&user.to_string()));
        let (connections, manual_away, bot) = (1, false, false);
        town.say(0, Message::Online { slot, user: key, connections, manual_away, bot });
        town.say(0, Message::Watch { slot, user: key, handle: Handle(user) });
    }
    let each = town.gauge("presence_table_bytes") / 100_000;
    assert!(each < 112, "{each} bytes");
}

#[test]
fn users_of_somebody_elses_slots_are_not_kept() {
    let mut town = Town::open();
    town.online(1, 2, 1);
    town.online(1, 3, 1);
    town.input(Input::Ring { ring: &Ring::new(&[(ME, 2)]) });
    town.pass(0);
    assert_eq!(town.gauge("presence_users"), 1, "slot 3 is another core's");
    town.watch(0, 3, H1);
    assert_eq!((town.told, town.ask(3)), (0, None), "whoever keeps it knows");
    town.online(1, 5, 1);
    assert_eq!(town.gauge("presence_users"), 1);
    assert_eq!(town.counted(Counter::PresenceMisplaced), 3);
}

#[test]
fn who_knew_of_the_ring_before_its_keeper_says_everything_again() {
    let mut town = Town::open();
    let other = Ring::new(&[(NodeId(ME.0 + 1), 1)]);
    town.input(Input::Ring { ring: &other });
    town.online(1, ANN, 1);
    assert_eq!((town.gauge("presence_users"), town.reset.len()), (0, 0));
    let mut ours = Ring::new(&[(ME, 1)]);
    ours.ring_epoch = 2;
    town.input(Input::Ring { ring: &ours });
    assert_eq!(town.reset, [core(1)]);
    town.reset.clear();
    // Whom it heard by the same ring it keeps.
    town.online(0, ANN, 1);
    ours.ring_epoch = 3;
    town.input(Input::Ring { ring: &ours });
    assert_eq!((town.gauge("presence_users"), town.reset.len()), (1, 0));
    // What is left of an earlier time counts for nothing.
    town.input(Input::Ring { ring: &other });
    ours.ring_epoch = 5;
    town.input(Input::Ring { ring: &ours });
    assert_eq!(town.gauge("presence_users"), 0);
}

#[test]
fn who_knew_of_a_ring_two_before_its_keeper_says_everything_again_too() {
    let mut town = Town::open();
    let other = |epoch| {
        let mut ring = Ring::new(&[(NodeId(ME.0 + 1), 1)]);
        ring.ring_epoch = epoch;
        ring
    };
    town.input(Input::Ring { ring: &other(1) });
    town.online(1, ANN, 1);
    town.watch(0, ANN, H1);
    town.input(Input::Ring { ring: &other(2) });
    assert!(town.reset.is_empty(), "this one gives us nothing");
    let mut ours = Ring::new(&[(ME, 1)]);
    ours.ring_epoch = 3;
    town.input(Input::Ring { ring: &ours });
    assert_eq!(town.reset, [core(0), core(1)]);
}

#[test]
fn who_keeps_a_user_newly_calls_nobody_away_for_a_lease() {
    let mut town = Town::open();
    town.input(Input::Ring { ring: &Ring::new(&[(NodeId(ME.0 + 1), 1)]) });
    let mut ours = Ring::new(&[(ME, 1)]);
    ours.ring_epoch = 2;
    town.input(Input::Ring { ring: &ours });
    town.watch(0, ANN, H1);
    town.watch(0, BOB, H2);
    assert_eq!((town.told, town.ask(ANN)), (0, None));
    // Who is online is told of at once; of who goes it is not known whether another gateway core has a connection.
    town.online(1, BOB, 1);
    assert!(town.dot(0, H2) && town.query(BOB).1);
    town.offline(1, BOB);
    town.pass(9);
    assert_eq!((town.told, town.ask(BOB)), (1, None));
    town.online(1, 3, 1);
    town.pass(1);
    assert!(!town.dot(0, H1) && !town.dot(0, H2));
    assert_eq!(
        (town.told, town.query(ANN).1, town.query(3).1, town.query(4).1),
        (3, false, true, false)
    );
    assert_eq!(town.gauge("presence_users"), 3);
    // Another slot moves: what is known of the others stays known.
    ours.ring_epoch = 3;
    town.input(Input::Ring { ring: &ours });
    assert!(town.ask(ANN).is_some());
}

#[test]
fn the_first_process_of_a_seat_knows_that_nobody_is_online_and_a_later_one_does_not() {
    for (seat_epoch, known) in [(1, true), (2, false)] {
        let mut town = Town::open();
        let mut ring = Ring::new(&[(ME, 1)]);
        for seat in &mut ring.seats {
            seat.seat_epoch = seat_epoch;
        }
        town.input(Input::Ring { ring: &ring });
        town.watch(0, ANN, H1);
        assert_eq!((town.dots.contains_key(&(0, H1)), town.ask(BOB).is_some()), (known, known));
        town.pass(10);
        assert!(!town.dot(0, H1) && town.ask(BOB).is_some());
    }
}

#[test]
fn who_speaks_a_version_without_unknown_is_told_what_it_understands() {
    let mut town = Town::open();
    town.input(Input::Ring { ring: &Ring::new(&[(NodeId(ME.0 + 1), 1)]) });
    let webapp = Peer::control(ME, Role::Webapp);
    for version in [UNKNOWN_SINCE - 1, UNKNOWN_SINCE] {
        let hello = Hello { version, ..Hello::default() };
        town.input(Input::PeerUp { peer: webapp, life: 1, hello });
        assert_eq!(town.ask(ANN).is_some(), version < UNKNOWN_SINCE);
        town.input(Input::PeerLost { peer: webapp });
    }
}

#[test]
fn a_gateway_core_that_is_not_up_is_not_believed() {
    let mut town = Town::open();
    town.online(7, ANN, 1);
    assert_eq!(town.query(ANN), (false, false, false, false, 0, 0));
    assert_eq!(town.counted(Counter::PresenceMisplaced), 1);
    assert_eq!(town.gauge("presence_users"), 0);
}

/// The obvious version: what each gateway core said, and when.
#[derive(Default)]
struct Twin {
    up: [bool; 3],
    /// By (core, user): connections, and until when they hold if the core is lost.
    reports: BTreeMap<(u8, u8), (u32, Option<Mono>)>,
    last_active: BTreeMap<u8, Mono>,
    watches: BTreeSet<(u8, u8)>,
}

impl Twin {
    fn is_active(&self, user: u8, now: Mono, away_after: Duration) -> bool {
        let is_online = self.reports.iter().any(|((_, whose), (_, until))| {
            *whose == user && until.is_none_or(|until| now < until)
        });
        let last = self.last_active.get(&user).copied().unwrap_or(Mono(0));
        is_online && now < last + away_after
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn watchers_are_told_the_truth_whatever_happens(
        steps in proptest::collection::vec((0u8..9, 0u8..3, 0u8..4, 1u32..3, 0u64..40), 1..150),
    ) {
        let limits = Limits { ties_max: 100, bulk_messages_per_room: 2, ..tiny() };
        let mut town = Town::new(&limits);
        let mut twin = Twin::default();
        for (what, at, user, connections, seconds) in steps {
            let now = town.now.mono;
            match what {
                0 if !twin.up[usize::from(at)] => {
                    town.up(at);
                    twin.up[usize::from(at)] = true;
                }
                1 if twin.up[usize::from(at)] => {
                    town.lost(at);
                    twin.up[usize::from(at)] = false;
                    twin.watches.retain(|(watcher, _)| *watcher != at);
                    town.dots.retain(|(watcher, _), _| *watcher != at);
                    let until = now + limits.presence_lease;
                    for (_, report) in twin.reports.iter_mut().filter(|((of, _), _)| *of == at) {
                        report.1.get_or_insert(until);
                    }
                }
                2 | 3 if twin.up[usize::from(at)] => {
                    town.online(at, user, connections);
                    let before = twin.reports.insert((at, user), (connections, None));
                    let before = before
                        .filter(|(_, until)| until.is_none_or(|until| now < until))
                        .map_or(0, |(connections, _)| connections);
                    if connections > before {
                        twin.last_active.insert(user, now);
                    }
                }
                4 if twin.up[usize::from(at)] => {
                    town.offline(at, user);
                    twin.reports.remove(&(at, user));
                }
                5 if twin.up[usize::from(at)] => {
                    town.active(at, user);
                    let is_online = twin.reports.iter().any(|((_, whose), (_, until))| {
                        *whose == user && until.is_none_or(|until| now < until)
                    });
                    if is_online {
                        twin.last_active.insert(user, now);
                    }
                }
                6 if twin.up[usize::from(at)] => {
                    town.watch(at, user, Handle(u32::from(user)));
                    twin.watches.insert((at, user));
                }
                7 if twin.up[usize::from(at)] => {
                    town.unwatch(at, user, Handle(u32::from(user)));
                    twin.watches.remove(&(at, user));
                    town.dots.remove(&(at, Handle(u32::from(user))));
                }
                8 => town.pass(seconds),
                _ => {}
            }
            town.pass(0);
            for at in 0..3 {
                // As many rooms as all watches can need.
                for _ in 0..4 {
                    town.room(at);
                }
            }
            for (at, user) in &twin.watches {
                let truth = twin.is_active(*user, town.now.mono, limits.away_after);
                let told = town.dots.get(&(*at, Handle(u32::from(*user)))).copied();
                prop_assert_eq!(told, Some(truth), "user {} at core {}", user, at);
            }
        }
        for at in 0..3 {
            if twin.up[usize::from(at)] {
                town.lost(at);
            }
        }
        town.pass(100);
        prop_assert_eq!(town.gauge("presence_ties"), 0);
        prop_assert_eq!(town.gauge("presence_users"), 0);
    }
}

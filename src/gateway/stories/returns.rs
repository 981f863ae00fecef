//! Clients that come back: what they are given of the past, and by how many pages at once.

use super::*;
use crate::wire;
use crate::wire::message::boot;

/// From a question to its answer.
const TRIP: Duration = Duration::from_millis(300);
const TEXT: &[u8] = br#"{"type":"message","text":"m"}"#;

/// A page that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    ask: Ask,
    handle: Handle,
    after: u64,
    count_max: u32,
    bytes_max: u32,
}

impl Stage {
    /// A connection of alice's that follows so many channels, of which her ticket knew the first `floor` events, and the owners `tip`.
    fn return_to(&mut self, conn: Conn, channels: u32, tips: (u64, u64)) {
        let names: Vec<String> = (0..channels).map(|n| format!("C{n}")).collect();
        self.return_to_all(conn, &names, tips);
    }

    fn return_to_all(&mut self, conn: Conn, names: &[String], (floor, tip): (u64, u64)) {
        self.knock(conn, "/websocket/t1");
        let [Message::Redeem { ask, .. }] = self.heard(DESK)[..] else { panic!("a ticket") };
        let mut list = Vec::new();
        let channels = Packed::pack(names.iter().map(|name| (name.as_str(), floor)), &mut list);
        let (user, team, epoch, flags) = ("U1", "T1", "e1", boot::RESUME);
        let boot = Message::Boot { ask, user, team, epoch, flags, token: 7, channels };
        self.said.clear();
        self.hear(DESK, boot);
        for (_, handle) in self.subscribed() {
            self.hear(CORE, Message::Suback { handle, epoch: 0, tip });
        }
        self.said.clear();
        assert_eq!(self.kinds(conn), ["hello"]);
    }

    /// It says that it stands at the beginning of each.
    fn resume(&mut self, conn: Conn, channels: u32) {
        let positions: Vec<String> = (0..channels).map(|n| format!(r#""C{n}":0"#)).collect();
        let positions = positions.join(",");
        let last =
            format!(r#"{{"type":"resume","epoch":"e1","positions":{{{positions}}},"last":true}}"#);
        self.say(conn, &last);
    }

    /// What this core says to itself, it hears.
    fn hear_itself(&mut self) {
        while self.said.iter().any(|(peer, _)| *peer == CORE) {
            let said = std::mem::take(&mut self.said);
            for (peer, bytes) in said {
                if peer == CORE {
                    let message = Message::decode(&bytes).expect("it encodes");
                    self.input(Input::Wire { peer, message });
                } else {
                    self.said.push((peer, bytes));
                }
            }
        }
    }

    /// The pages that were asked for since the last look.
    fn asked(&mut self) -> Vec<Asked> {
        self.asked_of(CORE)
    }

    fn asked_of(&mut self, peer: Peer) -> Vec<Asked> {
        let fetch = |message: Message<'_>| match message {
            Message::Fetch { ask, handle, after, count_max, bytes_max, .. } => {
                Some(Asked { ask, handle, after, count_max, bytes_max })
            }
            _ => None,
        };
        let asked = self.heard(peer).into_iter().filter_map(fetch).collect();
        self.said.clear();
        asked
    }

    /// What an owner whose channels are at `tip` answers to a page.
    fn answer(&mut self, page: Asked, tip: u64, payload: &[u8]) {
        self.answer_by(CORE, page, tip, payload);
    }

    fn answer_by(&mut self, peer: Peer, page: Asked, tip: u64, payload: &[u8]) {
        let Asked { ask, handle, after, count_max, bytes_max } = page;
        let (mut upto, mut bytes) = (after, 0);
        while upto < tip && upto - after < u64::from(count_max) && bytes < bytes_max {
            upto += 1;
            bytes += payload.len() as u32;
            let (offset, origin, member) = (upto, Origin::NOBODY, None);
            self.hear(peer, Message::Past { ask, offset, origin, member, payload });
        }
        let complete = upto == tip;
        self.hear(peer, Message::PastEnd { ask, handle, upto, complete, missing: 0 });
    }

    /// Answers all that is asked, each a trip later, until nothing is: how many trips that took, and how many pages were under way at most.
    pub(super) fn trips(&mut self, tip: u64, payload: &[u8]) -> (u32, usize) {
        let (mut trips, mut most) = (0, 0);
        loop {
            let asked = self.asked();
            if asked.is_empty() && self.gauge("behind_connections") == 0.0 {
                return (trips, most);
            }
            (trips, most) = (trips + 1, most.max(asked.len()));
            assert!(trips < 1_000, "it comes to an end");
            self.pass(TRIP);
            for page in asked {
                self.answer(page, tip, payload);
            }
        }
    }

    /// The offsets that a client was told, by channel.
    fn offsets(&mut self, conn: Conn) -> BTreeMap<String, Vec<u64>> {
        let mut offsets: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for told in self.told(conn) {
            let Told::Json(value) = told else { panic!("events only: {told:?}") };
            let (Some(name), Some(seq)) = (value["seq_of"].as_str(), value["seq"].as_u64()) else {
                panic!("an event with its place: {value}")
            };
            offsets.entry(name.into()).or_default().push(seq);
        }
        offsets
    }
}

#[test]
fn twenty_channels_that_lack_something_take_three_round_trips() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.return_to(conn(0), 20, (5, 8));
    let began = stage.now.mono;
    stage.resume(conn(0), 20);
    assert_eq!(stage.trips(8, TEXT), (3, 8));
    assert_eq!(stage.now.mono, began + TRIP * 3);
    let told = stage.offsets(conn(0));
    assert_eq!(told.len(), 20);
    assert!(told.values().all(|offsets| *offsets == [1, 2, 3, 4, 5, 6, 7, 8]), "{told:?}");
}

#[test]
fn pages_on_their_way_hold_no_more_than_one_window_together() {
    let limits = Limits { catch_up_frames: 20, catch_up_bytes: 1_000, ..Limits::DEFAULT };
    let mut stage = Stage::new(&limits);
    stage.return_to(conn(0), 12, (0, 50));
    stage.resume(conn(0), 12);
    loop {
        let asked = stage.asked();
        let sum = |of: fn(&Asked) -> u32| asked.iter().map(of).sum::<u32>();
        assert!(sum(|page| page.count_max) <= 20 && sum(|page| page.bytes_max) <= 1_000);
        if asked.is_empty() && stage.gauge("behind_connections") == 0.0 {
            break;
        }
        stage.pass(TRIP);
        for page in asked {
            stage.answer(page, 50, TEXT);
        }
    }
    let told = stage.offsets(conn(0));
    assert!(told.values().all(|offsets| offsets.iter().copied().eq(1..=50)), "{told:?}");
    assert_eq!(told.len(), 12);
}

#[test]
fn who_lacks_something_in_one_channel_is_given_it_by_whole_windows() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.return_to(conn(0), 1, (0, 1_000));
    stage.resume(conn(0), 1);
    assert_eq!(stage.trips(1_000, TEXT), (4, 1), "256 at a time");
}

#[test]
fn large_events_of_several_pages_wait_until_the_client_has_read() {
    let limits = Limits {
        outbox_soft_bytes: 20_000,
        outbox_bytes_max: 40_000,
        catch_up_bytes: 8_000,
        publication_bytes_max: 10_000,
        ..Limits::DEFAULT
    };
    let large = format!(r#"{{"type":"message","text":"{}"}}"#, "m".repeat(9_000));
    let mut stage = Stage::new(&limits);
    stage.return_to(conn(0), 10, (0, 4));
    stage.stuck.push(conn(0));
    stage.resume(conn(0), 10);
    for _ in 0..5 {
        let asked = stage.asked();
        stage.pass(TRIP);
        for page in asked {
            stage.answer(page, 4, large.as_bytes());
        }
    }
    assert!(stage.counted(Counter::PagesCut) > 0);
    assert_eq!(stage.counted(Counter::SlowEvicted), 0);
    stage.stuck.clear();
    stage.settle();
    stage.trips(4, large.as_bytes());
    let told = stage.offsets(conn(0));
    assert!(told.values().all(|offsets| *offsets == [1, 2, 3, 4]), "{told:?}");
    assert_eq!((told.len(), stage.closed.len()), (10, 0));
}

#[test]
fn who_is_refused_asks_for_one_at_a_time_and_then_for_more() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.return_to(conn(0), 20, (0, 3));
    stage.resume(conn(0), 20);
    let asked = stage.asked();
    assert_eq!(asked.len(), 8);
    for Asked { ask, handle, .. } in &asked {
        stage.hear(CORE, Message::PastRefused { ask: *ask, handle: *handle });
    }
    assert!(stage.asked().is_empty(), "not at once");
    let mut counts = Vec::new();
    for _ in 0..4 {
        stage.pass(Limits::DEFAULT.catch_up_interval);
        let again = stage.asked();
        counts.push(again.len());
        let is_refused = |page: &Asked| asked.iter().any(|one| one.handle == page.handle);
        assert!(counts.len() > 3 || !again.iter().any(is_refused), "others come before them");
        for page in again {
            stage.answer(page, 3, TEXT);
        }
    }
    assert_eq!(counts, [1, 2, 4, 8]);
    stage.trips(3, TEXT);
    assert_eq!(stage.offsets(conn(0)).len(), 20);
}

#[test]
fn where_much_is_asked_a_connection_has_one_page_at_a_time() {
    let mut stage = Stage::new(&Limits { asks_max: 10, ..Limits::DEFAULT });
    for index in 0..2 {
        stage.return_to(conn(index), 9, (0, 3));
    }
    for index in 0..2 {
        stage.resume(conn(index), 9);
    }
    assert_eq!(stage.asked().len(), 6, "five, half of all, and one");
}

#[test]
fn what_is_replayed_at_once_stays_within_the_bounds_together() {
    let limits = Limits { replay_per_channel_max: 10, replay_per_conn_max: 25, ..Limits::DEFAULT };
    let mut stage = Stage::new(&limits);
    stage.return_to(conn(0), 5, (10, 10));
    stage.resume(conn(0), 5);
    let asked = stage.asked();
    assert_eq!(asked.iter().map(|page| page.after).collect::<Vec<_>>(), [0, 0, 5]);
    for page in asked {
        stage.answer(page, 10, TEXT);
    }
    let kinds = stage.kinds(conn(0));
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((count("message m"), count("gap")), (25, 3));
}

#[test]
fn pages_of_a_connection_that_ended_are_nobodys() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.return_to(conn(0), 9, (0, 3));
    stage.resume(conn(0), 9);
    let asked = stage.asked();
    stage.input(Input::Closed { conn: conn(0), why: Why::Ended });
    let later = Conn::new(0, 0, 2);
    stage.return_to(later, 9, (0, 4));
    stage.resume(later, 9);
    let again = stage.asked();
    assert_eq!((asked.len(), again.len()), (8, 8));
    for page in asked {
        stage.answer(page, 3, TEXT);
    }
    assert!(stage.offsets(later).is_empty() && stage.asked().is_empty());
    for page in again {
        stage.answer(page, 4, TEXT);
    }
    stage.trips(4, TEXT);
    let told = stage.offsets(later);
    assert!(told.values().all(|offsets| *offsets == [1, 2, 3, 4]) && told.len() == 9, "{told:?}");
}

#[test]
fn who_leaves_and_comes_back_meanwhile_is_not_given_what_was_asked_before() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    let names = ["C0".to_string(), "U1".to_string()];
    // One that has not said where it stands keeps the channel's place.
    for index in [1, 0] {
        stage.return_to_all(conn(index), &names, (0, 5));
    }
    stage.resume(conn(0), 1);
    let [old, own] = stage.asked()[..] else { panic!("both") };
    let member = |what, offset| wire::Member { what, user: "U1", channel: "C0", offset };
    let past = |page: Asked, offset: u64, member: Option<wire::Member<'static>>| {
        let (ask, origin, payload) = (page.ask, Origin::NOBODY, TEXT);
        Message::Past { ask, offset, origin, member, payload }
    };
    stage.hear(CORE, past(old, 1, None));
    stage.hear(CORE, past(old, 2, Some(member(wire::Membership::Left, 2))));
    stage.hear(CORE, past(own, 1, Some(member(wire::Membership::Joined, 3))));
    stage.answer(Asked { after: 1, ..own }, 5, TEXT);
    assert!(stage.asked().is_empty(), "the old answer would be taken for the new one");
    for offset in 3..=5 {
        stage.hear(CORE, past(old, offset, None));
    }
    let end = |page: Asked, upto: u64| {
        let Asked { ask, handle, .. } = page;
        Message::PastEnd { ask, handle, upto, complete: true, missing: 0 }
    };
    stage.hear(CORE, end(old, 5));
    let [new] = stage.asked()[..] else { panic!("what came after the return") };
    assert_eq!((new.handle, new.after), (old.handle, 3));
    stage.answer(new, 5, TEXT);
    let told = stage.offsets(conn(0));
    assert_eq!((&told["C0"][..], &told["U1"][..]), (&[1, 2, 4, 5][..], &[1, 2, 3, 4, 5][..]));
    assert!(stage.asked().is_empty());
}

#[test]
fn conversations_that_the_own_channel_tells_of_wait_until_it_has_told_all() {
    let mut stage = Stage::new(&Limits { catch_up_frames: 4, ..Limits::DEFAULT });
    stage.return_to_all(conn(0), &["U1".to_string()], (0, 8));
    stage.resume(conn(0), 0);
    let joined = |offset: u64| {
        let (what, user, channel) = (wire::Membership::Joined, "U1", "C9");
        Some(wire::Member { what, user, channel, offset })
    };
    let [first] = stage.asked()[..] else { panic!("the own channel") };
    for offset in 1..=4 {
        let member = joined(9).filter(|_| offset == 2);
        let (ask, origin) = (first.ask, Origin::NOBODY);
        stage.hear(CORE, Message::Past { ask, offset, origin, member, payload: TEXT });
    }
    let [(ref name, handle)] = stage.subscribed()[..] else { panic!("it is followed") };
    assert_eq!(name, "C9");
    stage.said.clear();
    stage.hear(CORE, Message::Suback { handle, epoch: 0, tip: 20 });
    assert!(stage.asked().is_empty(), "the user may have left and come back since");
    let (ask, upto) = (first.ask, 4);
    let handle = first.handle;
    stage.hear(CORE, Message::PastEnd { ask, handle, upto, complete: false, missing: 0 });
    stage.pass(Limits::DEFAULT.catch_up_interval);
    let [next] = stage.asked()[..] else { panic!("the own channel alone") };
    assert_eq!((next.handle, next.after), (first.handle, 4));
    let (ask, origin, member) = (next.ask, Origin::NOBODY, joined(11));
    stage.hear(CORE, Message::Past { ask, offset: 5, origin, member, payload: TEXT });
    stage.answer(Asked { after: 5, ..next }, 8, TEXT);
    stage.pass(Limits::DEFAULT.catch_up_interval);
    stage.trips(20, TEXT);
    let told = stage.offsets(conn(0));
    assert!(told["C9"].iter().copied().eq(10..=20), "from the first return on: {told:?}");
    assert!(told["U1"].iter().copied().eq(1..=8));
}

/// Clients that come back at once to one core, and each channel's page is asked of its owner: how long that takes.
fn together(clients: u32) -> Duration {
    let mut stage = Stage::new(&Limits::DEFAULT);
    for index in 0..clients {
        stage.knock(conn(index), "/websocket/t1");
        let ask = stage.heard(DESK).into_iter().find_map(|message| match message {
            Message::Redeem { ask, .. } => Some(ask),
            _ => None,
        });
        let names: Vec<String> = (0..20).map(|n| format!("C{n}")).collect();
        let mut list = Vec::new();
        let channels = Packed::pack(names.iter().map(|name| (name.as_str(), 5u64)), &mut list);
        let (user, team, epoch, flags) = ("U1", "T1", "e1", boot::RESUME);
        let ask = ask.expect("a ticket");
        stage.said.retain(|(peer, _)| *peer != DESK);
        stage.hear(DESK, Message::Boot { ask, user, team, epoch, flags, token: 7, channels });
    }
    stage.hear_itself();
    let subscribed = stage.heard(OWNER).into_iter().filter_map(|message| match message {
        Message::Subscribe { handle, .. } => Some(handle),
        _ => None,
    });
    for handle in subscribed.collect::<Vec<_>>() {
        stage.hear(OWNER, Message::Suback { handle, epoch: 0, tip: 8 });
    }
    stage.hear_itself();
    stage.said.clear();
    let began = stage.now.mono;
    for index in 0..clients {
        stage.resume(conn(index), 20);
    }
    let mut due: Vec<(Mono, Asked)> = Vec::new();
    while stage.gauge("behind_connections") > 0.0 {
        stage.hear_itself();
        let at = stage.now.mono + TRIP;
        due.extend(stage.asked_of(OWNER).into_iter().map(|page| (at, page)));
        stage.pass(Duration::from_millis(5));
        stage.input(Input::PeerRoom { peer: CORE });
        let now = stage.now.mono;
        for (_, page) in due.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            stage.answer_by(OWNER, page, 8, TEXT);
        }
        stage.hear_itself();
    }
    stage.now.mono.since(began)
}

#[test]
fn clients_that_come_back_at_once_do_not_wait_for_each_other() {
    let took: Vec<Duration> = [1, 10, 20].into_iter().map(together).collect();
    assert!(took[1] <= TRIP * 4 && took[2] <= TRIP * 8, "{took:?}");
}

#[test]
fn a_page_for_whose_large_event_there_is_no_room_ends_before_it() {
    let limits = Limits {
        publication_bytes_max: 10_000,
        catch_up_bytes: 8_000,
        mail_bytes_max: 18_010 * crate::limits::BULK_PARTS,
        ..Limits::DEFAULT
    };
    let mut stage = Stage::new(&limits);
    let name = "C0";
    let (slot, key) = (crate::ring::slot_of(name), Secret([7; 16]).key_of(name));
    let (seat_epoch, handle, namespace) = (0, Handle(3), 0);
    stage.hear(CORE, Message::Subscribe { slot, seat_epoch, key, handle, namespace, name });
    let [Message::Subscribe { handle: known, .. }] = stage.heard(OWNER)[..] else { panic!("one") };
    stage.hear(OWNER, Message::Suback { handle: known, epoch: 0, tip: 9 });
    stage.said.clear();
    for (ask, bytes_max) in [(1, 4_000), (2, 8_000)] {
        let (ask, after, count_max) = (Ask(ask), 0, 4);
        let fetch = Message::Fetch {
            slot,
            seat_epoch,
            key,
            handle,
            ask,
            after,
            count_max,
            bytes_max,
            name,
        };
        stage.hear(CORE, fetch);
    }
    let refusal = Message::PastRefused { ask: Ask(2), handle };
    assert_eq!(stage.heard(CORE), [refusal], "18,000 besides 4,000 are more than 18,010");
    let [page] = stage.asked_of(OWNER)[..] else { panic!("the first one") };
    let fetch = |ask: u32| Message::Fetch {
        slot,
        seat_epoch,
        key,
        handle,
        ask: Ask(ask),
        after: 0,
        count_max: 4,
        bytes_max: 7_000,
        name,
    };
    stage.hear(CORE, fetch(3));
    stage.hear(CORE, fetch(4));
    let [third, _] = stage.asked_of(OWNER)[..] else { panic!("both have room") };
    let origin = Origin::NOBODY;
    let past = |ask: Ask, offset: u64, payload: &'static [u8]| Message::Past {
        ask,
        offset,
        origin,
        member: None,
        payload,
    };
    let (small, large) = (&[b'x'; 1_000], &[b'x'; 9_000]);
    for (offset, payload) in [(1, &small[..]), (2, &large[..]), (3, &small[..])] {
        stage.hear(OWNER, past(page.ask, offset, payload));
    }
    stage.hear(OWNER, past(third.ask, 1, large));
    let end = |page: Asked| {
        let (ask, handle) = (page.ask, page.handle);
        Message::PastEnd { ask, handle, upto: 3, complete: true, missing: 0 }
    };
    stage.hear(OWNER, end(third));
    stage.hear(OWNER, end(page));
    let cut = Message::PastEnd { ask: Ask(1), handle, upto: 1, complete: false, missing: 0 };
    let refusal = Message::PastRefused { ask: Ask(3), handle };
    assert_eq!(stage.heard(CORE), [past(Ask(1), 1, small), refusal, cut]);
    assert_eq!(stage.counted(Counter::PagesCut), 2);
}

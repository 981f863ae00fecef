//! The hub against a map of maps.

use std::collections::BTreeMap;

use super::{Random, key_of, name_of, slot_of};
use crate::gateway::hub::{Hub, Joined, Left, State};
use crate::gateway::members::Member;
use crate::gateway::names::{Full, Names};

#[derive(Default)]
struct Follower {
    place: u32,
    state: Option<State>,
    tip: Option<u64>,
    members: BTreeMap<u32, u8>,
}

#[test]
fn the_hub_is_a_map_of_maps() {
    let (mut names, mut hub, mut random) = (Names::new(1_000), Hub::new(50), Random(2));
    let mut twin: BTreeMap<u32, Follower> = BTreeMap::new();
    let mut leaving: BTreeMap<u32, u32> = BTreeMap::new();
    let mut largest = 0;
    for step in 0..60_000u32 {
        // One channel that many join, and others.
        let n = if random.below(2) == 0 { 0 } else { random.below(70) };
        let conn = random.below(if n == 0 { 4_000 } else { n });
        let is_growing = step % 30_000 < 15_000;
        let is_full = twin.len() + leaving.len() == 50;
        let place = twin.get(&n).map(|one| one.place);
        match random.below(16) {
            0 => {
                if let Some((place, _)) = leaving.pop_first() {
                    assert!(hub.contains(place) && hub.count(place) == 0);
                    hub.free(&mut names, place);
                    assert!(!hub.contains(place));
                }
            }
            1 => {
                if let Some(one) = twin.get_mut(&n) {
                    hub.set_tip(one.place, u64::from(step) << 30);
                    hub.set_state(one.place, State::Live);
                    (one.tip, one.state) = (Some(u64::from(step) << 30), Some(State::Live));
                }
            }
            2 => {
                if let Some(one) = twin.get_mut(&n) {
                    let (flags, on) = (step as u8, step % 3 == 0);
                    let known = one.members.get_mut(&conn);
                    assert_eq!(hub.set_flags(one.place, conn, flags, on), known.is_some());
                    if let Some(now) = known {
                        *now = if on { *now | flags } else { *now & !flags };
                    }
                }
            }
            3..12 if !is_growing || step % 3 == 0 => {
                if let Some(place) = place {
                    let one = twin.get_mut(&n).expect("it has a place");
                    let expected = match one.members.remove(&conn) {
                        None => Left::Absent,
                        Some(_) if one.members.is_empty() => Left::Last,
                        Some(_) => Left::Others,
                    };
                    assert_eq!(hub.leave(place, conn), expected);
                    if expected == Left::Last {
                        leaving.insert(place, n);
                        twin.remove(&n);
                    }
                }
            }
            _ => {
                let member = Member::new(conn, step as u8);
                let joined = hub.join(&mut names, key_of(n), slot_of(n), &name_of(n), member);
                if place.is_none() && is_full {
                    assert_eq!(joined, Err(Full));
                    continue;
                }
                let Joined { place: at, is_new, was_added } = joined.expect("room");
                let one = twin.entry(n).or_default();
                assert_eq!(is_new, place.is_none());
                assert_eq!(was_added, !one.members.contains_key(&conn));
                one.members.entry(conn).or_insert(step as u8);
                one.place = at;
                one.state.get_or_insert(State::Subscribing);
            }
        }
        largest = largest.max(twin.get(&0).map_or(0, |one| one.members.len()));
        if step % 32 == 0 {
            check_hub(&hub, &names, &twin, &leaving);
        }
    }
    assert!(largest > 1_024, "{largest}: all forms were seen");
}

fn check_hub(
    hub: &Hub,
    names: &Names,
    twin: &BTreeMap<u32, Follower>,
    leaving: &BTreeMap<u32, u32>,
) {
    for n in 0..70 {
        assert_eq!(hub.find(key_of(n)), twin.get(&n).map(|one| one.place));
    }
    for (n, one) in twin {
        assert!(hub.contains(one.place));
        let members = hub.members(one.place).map(|member| (member.index(), member.flags()));
        assert!(members.eq(one.members.iter().map(|(conn, flags)| (*conn, *flags))));
        assert_eq!(hub.count(one.place) as usize, one.members.len());
        let conn = one.members.keys().next().copied().unwrap_or_default();
        let flags = hub.member(one.place, conn).map(Member::flags);
        assert_eq!(flags, one.members.get(&conn).copied());
        assert_eq!((Some(hub.state(one.place)), hub.tip(one.place)), (one.state, one.tip));
        assert_eq!((hub.key(one.place), hub.slot(one.place)), (key_of(*n), slot_of(*n)));
        assert_eq!(names.text(hub.name(one.place)), name_of(*n));
    }
    for (place, n) in leaving {
        assert_eq!(hub.state(*place), State::Leaving);
        assert_eq!(names.text(hub.name(*place)), name_of(*n));
    }
    assert_eq!(hub.channels() as usize, twin.len() + leaving.len());
    let subscriptions: usize = twin.values().map(|one| one.members.len()).sum();
    assert_eq!(hub.subscriptions() as usize, subscriptions);
    let (mut places, mut next) = (0, hub.next_place(0));
    while let Some(place) = next {
        (places, next) = (places + 1, hub.next_place(place + 1));
    }
    assert_eq!(places, hub.channels());
}

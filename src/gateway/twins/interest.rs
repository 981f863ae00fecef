//! The interest against a list of channels.

use std::collections::BTreeMap;

use super::{Random, key_of, name_of, slot_of};
use crate::gateway::interest::{Heard, Interest, Link, State, Subscribed, Unsubscribed, Wish};
use crate::gateway::names::Names;
use crate::ids::{Handle, Slot};

/// A channel of the interest, by its place.
#[derive(Clone, Debug)]
struct Wanted {
    n: u32,
    state: State,
    tip: u64,
    epoch: u32,
    links: BTreeMap<u8, u32>,
}

struct Wishes {
    names: Names,
    interest: Interest,
    twin: BTreeMap<u32, Wanted>,
}

impl Wishes {
    fn place(&self, n: u32) -> Option<u32> {
        let mut wanted = self.twin.iter().filter(|(_, one)| one.state != State::Leaving);
        wanted.find(|(_, one)| one.n == n).map(|(place, _)| *place)
    }

    fn subscribe(&mut self, n: u32, core: u8, handle: u32) {
        let (name, place) = (name_of(n), self.place(n));
        let wish = Wish { slot: slot_of(n), key: key_of(n), namespace: n as u16, name: &name };
        let said = self.interest.subscribe(&mut self.names, wish, core, Handle(handle));
        if let Some(one) = place.and_then(|place| self.twin.get_mut(&place)) {
            one.links.insert(core, handle);
            assert_eq!(
                said,
                match one.state {
                    State::Live => Subscribed::AckNow { tip: one.tip, epoch: one.epoch },
                    _ => Subscribed::Wait,
                }
            );
        } else if self.twin.len() == 40 {
            assert_eq!(said, Subscribed::Refused);
        } else {
            let Subscribed::Upstream { place } = said else { panic!("{said:?}") };
            let links = BTreeMap::from([(core, handle)]);
            let one = Wanted { n, state: State::Opening, tip: 0, epoch: 0, links };
            assert!(self.twin.insert(place, one).is_none(), "a place has one channel");
        }
    }

    fn unsubscribe(&mut self, n: u32, core: u8, handle: u32) {
        let (slot, key) = (slot_of(n), key_of(n));
        let place = self.place(n);
        let said = self.interest.unsubscribe(&mut self.names, slot, key, core, Handle(handle));
        let Some(place) = place else { return assert_eq!(said, Unsubscribed::Nothing) };
        let one = self.twin.get_mut(&place).expect("it has a place");
        if one.links.get(&core) == Some(&handle) {
            one.links.remove(&core);
        }
        if !one.links.is_empty() {
            assert_eq!(said, Unsubscribed::Nothing);
        } else if one.state == State::Waiting {
            assert_eq!(said, Unsubscribed::Gone);
            self.twin.remove(&place);
        } else {
            assert_eq!(said, Unsubscribed::Upstream { place });
            one.state = State::Leaving;
        }
    }

    fn core_lost(&mut self, core: u8) {
        let mut upstream = Vec::new();
        self.interest.core_lost(&mut self.names, core, |place, slot, key| {
            upstream.push((place, slot, key));
        });
        let mut expected = Vec::new();
        self.twin.retain(|place, one| {
            if one.links.remove(&core).is_none() || !one.links.is_empty() {
                return true;
            }
            let was_waiting = one.state == State::Waiting;
            one.state = State::Leaving;
            if !was_waiting {
                expected.push((*place, slot_of(one.n), key_of(one.n)));
            }
            !was_waiting
        });
        assert_eq!(upstream, expected);
    }

    fn owner_lost(&mut self, lost: Slot) {
        self.interest.owner_lost(|slot| slot == lost);
        self.twin.retain(|_, one| slot_of(one.n) != lost || one.state != State::Leaving);
        let of_owner = self.twin.values_mut().filter(|one| slot_of(one.n) == lost);
        of_owner.for_each(|one| one.state = State::Waiting);
    }

    fn moved(&mut self, slot: Slot) {
        let of_slot: Vec<u32> = self.twin.keys().copied().collect();
        let handles: Vec<Handle> =
            of_slot.iter().map(|place| self.interest.handle(*place)).collect();
        self.interest.moved(&[slot]);
        self.twin.retain(|_, one| slot_of(one.n) != slot || one.state != State::Leaving);
        for one in self.twin.values_mut().filter(|one| slot_of(one.n) == slot) {
            one.state = State::Waiting;
        }
        // What was asked of owners that stay is known to them by the same handles.
        for (place, handle) in of_slot.into_iter().zip(handles) {
            let stays = self.twin.get(&place).is_some_and(|one| one.state != State::Waiting);
            assert!(!stays || self.interest.place_of(handle) == Some(place));
        }
    }

    /// What the owner says of a place, known or not.
    fn heard(&mut self, place: u32, step: u32) {
        let one = self.twin.get_mut(&place);
        let state = one.as_ref().map(|one| one.state);
        match step % 5 {
            0 => {
                let (epoch, tip) = (step % 3, u64::from(step));
                // Who stands for owners says so again.
                let was_asked = self.interest.suback(place, epoch, tip);
                assert_eq!(was_asked, matches!(state, Some(State::Opening | State::Live)));
                if let (Some(one), true) = (one, was_asked) {
                    (one.state, one.tip, one.epoch) = (State::Live, tip, epoch);
                }
            }
            1 => {
                let was_leaving = self.interest.unsuback(place);
                assert_eq!(was_leaving, state == Some(State::Leaving));
                if was_leaving {
                    self.twin.remove(&place);
                }
            }
            2 => {
                let was_wanted = self.interest.postpone(place);
                assert_eq!(was_wanted, matches!(state, Some(State::Opening | State::Live)));
                if let (Some(one), true) = (one, was_wanted) {
                    one.state = State::Waiting;
                }
            }
            3 if step.is_multiple_of(4) => {
                let was_opening = self.interest.forget(&mut self.names, place);
                assert_eq!(was_opening, state == Some(State::Opening));
                if was_opening {
                    self.twin.remove(&place);
                }
            }
            _ => {
                let live = one.filter(|one| one.state == State::Live);
                let ahead = u64::from(step % 3);
                let offset = live.as_ref().map_or(7, |one| one.tip + ahead);
                let expected = match (&live, ahead) {
                    (None, _) => Heard::Unwanted,
                    (_, 0) => Heard::Old,
                    (_, 1) => Heard::Next,
                    (_, _) => Heard::Hole,
                };
                assert_eq!(self.interest.publication(place, offset), expected);
                if let (Some(one), Heard::Next) = (live, expected) {
                    one.tip = offset;
                }
            }
        }
    }

    fn next_waiting(&mut self) {
        let waits = self.twin.values().any(|one| one.state == State::Waiting);
        let next = self.interest.next_waiting(u32::MAX, |_| true);
        assert_eq!(next.is_some(), waits);
        let Some(wanted) = next else { return };
        let one = self.twin.get_mut(&wanted.place).expect("a known place");
        assert_eq!(one.state, State::Waiting);
        one.state = State::Opening;
        let said = (wanted.slot, wanted.key, wanted.namespace, self.names.text(wanted.name));
        assert_eq!(said, (slot_of(one.n), key_of(one.n), one.n as u16, &*name_of(one.n)));
    }

    fn check(&self) {
        let Self { names, interest, twin } = self;
        for (place, one) in twin {
            assert!(interest.contains(*place));
            let mut links: Vec<Link> = interest.links(*place).collect();
            links.sort_unstable_by_key(|link| link.core());
            let expected = one.links.iter().map(|(core, handle)| Link::new(*core, Handle(*handle)));
            assert!(links.into_iter().map(Some).eq(expected));
            let state = (interest.state(*place), interest.tip(*place), interest.epoch(*place));
            assert_eq!(state, (one.state, one.tip, one.epoch));
        }
        for n in 0..50 {
            assert_eq!(interest.find(slot_of(n), key_of(n)), self.place(n));
        }
        for slot in (0..3).map(slot_of) {
            let in_slot =
                |place: &u32| twin[place].state != State::Leaving && slot_of(twin[place].n) == slot;
            let mut places: Vec<u32> = interest.places_of(slot).collect();
            places.sort_unstable();
            assert_eq!(interest.channels_of(slot), places.len());
            assert!(places.into_iter().eq(twin.keys().copied().filter(in_slot)));
        }
        let held = twin.values().filter(|one| one.state != State::Leaving).count();
        assert_eq!((interest.channels(), names.count()), (twin.len() as u32, held as u32));
        let waiting = twin.values().filter(|one| one.state == State::Waiting).count();
        assert_eq!(interest.waiting() as usize, waiting);
    }
}

#[test]
fn the_interest_is_a_map_of_maps() {
    let (names, interest) = (Names::new(1_000), Interest::new(40));
    let mut wishes = Wishes { names, interest, twin: BTreeMap::new() };
    let mut random = Random(3);
    for step in 0..60_000 {
        let (n, core, handle) = (random.below(50), random.below(64) as u8, random.below(3));
        match random.below(200) {
            0 => wishes.core_lost(core),
            1 => wishes.owner_lost(slot_of(n)),
            2 => wishes.moved(slot_of(n)),
            3..10 => wishes.next_waiting(),
            10..60 => wishes.heard(random.below(45), random.below(1_000)),
            60..120 => wishes.unsubscribe(n, core % if n < 5 { 64 } else { 3 }, handle),
            _ => wishes.subscribe(n, core % if n < 5 { 64 } else { 3 }, handle),
        }
        if step % 4 == 0 {
            wishes.check();
        }
    }
}

#[test]
fn what_a_former_owner_says_is_of_nobody() {
    let (mut names, mut interest) = (Names::new(10), Interest::new(10));
    let wish = |n| Wish { slot: Slot(1), key: key_of(n), namespace: 0, name: "C" };
    let Subscribed::Upstream { place } = interest.subscribe(&mut names, wish(1), 0, Handle(7))
    else {
        panic!("new")
    };
    let former = interest.handle(place);
    assert_eq!(interest.place_of(former), Some(place));
    interest.moved(&[Slot(1)]);
    let again = interest.next_waiting(10, |_| true).expect("asked of the new owner");
    assert_eq!(again.place, place);
    assert_ne!(interest.handle(place), former);
    assert_eq!(interest.place_of(former), None);
    // Nor is its answer to a farewell, when the place is somebody else's.
    let leaving = interest.handle(place);
    let gone = interest.unsubscribe(&mut names, Slot(1), key_of(1), 0, Handle(7));
    assert_eq!(gone, Unsubscribed::Upstream { place });
    interest.moved(&[Slot(1)]);
    assert!(!interest.contains(place));
    let next = interest.subscribe(&mut names, wish(2), 0, Handle(8));
    assert_eq!(next, Subscribed::Upstream { place });
    assert_eq!(interest.place_of(leaving), None);
}

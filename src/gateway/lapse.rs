//! Hubs that lack something themselves: after a link was lost, its channels may have gone on without us.
//!
//! The hub fetches what it lacks and gives it to those who stood at its tip. Live events are passed over meanwhile: the answer
//! that says "complete" stands in the link's order before the next of them.

use rustc_hash::FxHashMap;

use super::asks::Pending;
use super::deliver::Event;
use super::hub::State;
use super::pages::End;
use super::shard::{Gateway, Turn};
use crate::ids::Handle;
use crate::shard::Counter;
use crate::wire::Message;

/// Places of the hub that are behind, and what they do about it. Per shard.
#[derive(Debug, Default)]
pub(super) struct Lapses(FxHashMap<u32, Does>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    Nothing,
    /// A page is on its way.
    Fetching,
    /// Waits for its time in `timers.lapses`.
    Pausing,
}

impl Lapses {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
    pub(super) fn forget(&mut self, place: u32) {
        self.0.remove(&place);
    }
    fn does(&mut self, place: u32, what: Does) {
        self.0.insert(place, what);
    }
}

impl Gateway {
    /// The channel is at `tip` or beyond, and the hub is not.
    pub(super) fn lapse(&mut self, turn: &mut Turn<'_>, place: u32, tip: u64) {
        turn.out.count(Counter::HubLapses);
        if self.hub.members(place).all(super::members::Member::is_behind) {
            // Nobody stands at our tip: each catches up by itself. The events on the link go on behind `tip`, or lapse again.
            self.hub.set_tip(place, tip);
            return self.wake_behind(turn, place);
        }
        self.hub.set_state(place, State::Behind);
        self.lapses.does(place, Does::Nothing);
        self.mend_lapse(turn, place);
    }

    /// Asks for the next page, if none is on its way.
    pub(super) fn mend_lapse(&mut self, turn: &mut Turn<'_>, place: u32) {
        match self.lapses.0.get(&place) {
            None | Some(Does::Fetching) => return,
            Some(Does::Nothing | Does::Pausing) => {}
        }
        let (slot, key, name) = (self.hub.slot(place), self.hub.key(place), self.hub.name(place));
        let core = self.interest_core(slot);
        let peer = self.neighbour(core);
        let len = self.names.text(name).len();
        if !self.may_ask(core, len) {
            return self.pause_lapse(turn, place);
        }
        let due = turn.now.mono + self.limits.ask_timeout;
        let Ok(ask) = self.asks.open(peer, due, Pending::Lapse { place }) else {
            return self.pause_lapse(turn, place);
        };
        self.lapses.does(place, Does::Fetching);
        turn.out.send_bulk(
            peer,
            &Message::Fetch {
                slot,
                seat_epoch: 0,
                key,
                handle: Handle(place),
                ask,
                after: self.hub.tip(place).expect("a hub that is behind has a tip"),
                count_max: self.limits.catch_up_frames,
                bytes_max: self.limits.catch_up_bytes,
                name: self.names.text(name),
            },
        );
    }

    /// One event of a page for the hub.
    pub(super) fn lapse_past(&mut self, turn: &mut Turn<'_>, place: u32, event: &Event<'_>) {
        let is_mine = self.lapses.0.get(&place) == Some(&Does::Fetching);
        if is_mine && self.hub.tip(place).is_some_and(|tip| event.offset == tip + 1) {
            self.fan_out(turn, place, event);
        }
    }

    pub(super) fn lapse_end(&mut self, turn: &mut Turn<'_>, place: u32, end: End) {
        if self.lapses.0.get(&place) != Some(&Does::Fetching) {
            return;
        }
        let tip = self.hub.tip(place).unwrap_or(0);
        if end.missing > tip {
            // Nobody has them any more: each who stood here is told.
            self.tell_gap_of(turn, place, tip + 1, end.missing);
            if self.hub.state(place) == State::Leaving {
                // All of them left for that.
                return;
            }
            self.hub.set_tip(place, end.missing);
        }
        if end.complete && self.hub.tip(place) == Some(end.upto) {
            self.lapses.forget(place);
            self.hub.set_state(place, State::Live);
            self.wake_behind(turn, place);
        } else {
            self.pause_lapse(turn, place);
        }
    }

    /// The page was refused, or its answer is lost.
    pub(super) fn lapse_refused(&mut self, turn: &mut Turn<'_>, place: u32) {
        if self.lapses.0.get(&place) == Some(&Does::Fetching) {
            self.pause_lapse(turn, place);
        }
    }

    fn pause_lapse(&mut self, turn: &mut Turn<'_>, place: u32) {
        self.lapses.does(place, Does::Pausing);
        self.timers.lapses.push(turn.now.mono + self.limits.catch_up_interval, place);
    }
}

//! Gateway cores as an owner sees them: each life of a link under a number of its own, and what bulk it takes.
//!
//! Interests name the number. So when a life ends, its interests are known by it, and the number is given to nobody else until a sweep
//! over all channels has taken them away.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::interest::{Interest, LINKS_MAX};
use super::past::{Fetch, Pages, Parked};
use crate::ids::{Handle, Key, Peer};
use crate::limits::{Limits, TALLIES_WRONG_MAX};
use crate::wire::room::{Credit, Room};
use crate::wire::tally::Tally;

/// A life of a link. Numbers are used again, lives are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) link: u16,
    life: u32,
}

#[derive(Debug)]
struct Link {
    peer: Peer,
    life: u32,
    state: State,
    /// Channels that it wants, as we know it.
    tally: Tally,
    /// What it said of them did not agree with that, so often in a row.
    strikes: u8,
    /// It was refused something since it said so last: maybe it did not know it then.
    was_refused: bool,
    /// Bulk that it takes now.
    credit: Credit,
    /// Fetches that wait until it takes more.
    parked: VecDeque<Parked>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Up,
    /// Its interests wait for the next sweep.
    Lost,
    /// The sweep takes its interests away.
    Leaving,
    Spare,
}

/// Per core.
#[derive(Debug)]
pub(super) struct Links {
    list: Vec<Link>,
    /// Everybody who is up, with a number once it is needed and there is one.
    by_peer: FxHashMap<Peer, Option<u16>>,
    spare: Vec<u16>,
    lives: u32,
    /// Links in `Lost`.
    lost: u32,
    sweep: Option<Sweep>,
    pages: Pages,
    numbers_max: usize,
    parked: usize,
    /// Links that were given room and have something parked.
    freed: Vec<u16>,
}

#[derive(Debug)]
struct Sweep {
    /// The next place to look at.
    place: u32,
    /// Interests of leaving links that are still there.
    left: u32,
}

impl Links {
    pub(super) fn new(limits: &Limits) -> Self {
        assert!(limits.links_max < LINKS_MAX, "a number is never taken for something else");
        Self {
            list: Vec::new(),
            by_peer: FxHashMap::default(),
            spare: Vec::new(),
            lives: 0,
            lost: 0,
            sweep: None,
            pages: Pages::new(limits),
            numbers_max: usize::from(limits.links_max),
            parked: 0,
            freed: Vec::new(),
        }
    }

    /// A new life of the link to a gateway core.
    pub(super) fn up(&mut self, peer: Peer) {
        self.lost(peer);
        self.by_peer.insert(peer, None);
    }

    /// The life is over, and what waited for it goes with it.
    pub(super) fn lost(&mut self, peer: Peer) {
        let Some(Some(number)) = self.by_peer.remove(&peer) else { return };
        let link = &mut self.list[usize::from(number)];
        self.parked -= std::mem::take(&mut link.parked).len();
        if link.tally.count == 0 {
            link.state = State::Spare;
            self.spare.push(number);
        } else {
            link.state = State::Lost;
            self.lost += 1;
        }
    }

    /// The number of a gateway core's link. `None`: it is not up, or all numbers are taken until a sweep is done.
    pub(super) fn number_of(&mut self, peer: Peer) -> Option<u16> {
        let known = self.by_peer.get_mut(&peer)?;
        if known.is_none() {
            self.lives = self.lives.wrapping_add(1);
            let link = Link {
                peer,
                life: self.lives,
                state: State::Up,
                tally: Tally::default(),
                strikes: 0,
                was_refused: false,
                credit: Credit::new(self.pages.grant),
                parked: VecDeque::new(),
            };
            if let Some(number) = self.spare.pop() {
                self.list[usize::from(number)] = link;
                *known = Some(number);
            } else if self.list.len() < self.numbers_max {
                *known = Some(self.list.len() as u16);
                self.list.push(link);
            }
        }
        *known
    }

    /// The link has one more interest in a channel, or another handle than that one for the one that it had.
    pub(super) fn added(&mut self, key: Key, new: Interest, old: Option<Handle>) {
        let tally = &mut self.list[usize::from(new.link)].tally;
        if let Some(old) = old {
            tally.remove(key, old);
        }
        tally.add(key, new.handle);
    }

    /// An interest of the link was taken out of a channel.
    pub(super) fn removed(&mut self, key: Key, one: Interest) {
        let link = &mut self.list[usize::from(one.link)];
        link.tally.remove(key, one.handle);
        if link.state == State::Leaving {
            self.sweep.as_mut().expect("links leave by a sweep").left -= 1;
        }
    }

    /// Whether an interest of the link stays; it is counted out if not.
    pub(super) fn keeps(&mut self, key: Key, one: Interest) -> bool {
        let is_up = self.list[usize::from(one.link)].state == State::Up;
        if !is_up {
            self.removed(key, one);
        }
        is_up
    }

    /// A subscription of it is refused, or given up.
    pub(super) fn refused(&mut self, peer: Peer) {
        if let Some(&Some(number)) = self.by_peer.get(&peer) {
            self.list[usize::from(number)].was_refused = true;
        }
    }

    /// Whether something was said of it yet.
    pub(super) fn has_number(&self, peer: Peer) -> bool {
        self.by_peer.get(&peer).is_some_and(Option::is_some)
    }

    /// What a gateway core says that it is subscribed to. `is_judged`: nothing is under way that it may not know of. True: it does not agree with
    /// what we know, again and again.
    pub(super) fn tallied(&mut self, number: u16, theirs: Tally, is_judged: bool) -> bool {
        let link = &mut self.list[usize::from(number)];
        let was_refused = std::mem::take(&mut link.was_refused);
        if !is_judged || was_refused || link.tally == theirs {
            link.strikes = 0;
            return false;
        }
        link.strikes += 1;
        link.strikes >= TALLIES_WRONG_MAX
    }

    /// Begins a sweep if one is needed, or goes on: from which place, if at all.
    pub(super) fn sweep(&mut self) -> Option<u32> {
        if self.sweep.is_none() && self.lost > 0 {
            let mut left = 0;
            for link in self.list.iter_mut().filter(|link| link.state == State::Lost) {
                link.state = State::Leaving;
                left += link.tally.count;
            }
            self.lost = 0;
            self.sweep = Some(Sweep { place: 0, left });
        }
        self.sweep.as_ref().map(|sweep| sweep.place)
    }

    /// The sweep has come so far, of so many places. At its end the numbers of those that left are spare.
    pub(super) fn swept(&mut self, to: u32, places: u32) {
        let Some(sweep) = &mut self.sweep else { return };
        sweep.place = to;
        if sweep.left > 0 && to < places {
            return;
        }
        assert!(sweep.left == 0, "what a link wants is in the channels");
        self.sweep = None;
        for (number, link) in self.list.iter_mut().enumerate() {
            if link.state == State::Leaving {
                assert!(link.tally.count == 0, "a number is spare when nothing has it");
                link.state = State::Spare;
                self.spare.push(number as u16);
            }
        }
    }

    /// A fetch waits for room on its link; the caller has seen that one more may wait.
    pub(super) fn park(&mut self, fetch: Fetch, name: &str) {
        let link = &mut self.list[usize::from(fetch.line.link)];
        link.parked.push_back(Parked { fetch, name: name.into() });
        self.parked += 1;
    }

    /// The link takes a whole grant again.
    pub(super) fn room(&mut self, peer: Peer) {
        let Some(&Some(number)) = self.by_peer.get(&peer) else { return };
        self.list[usize::from(number)].credit.renew(self.pages.grant);
        self.freed.push(number);
    }

    /// The next parked fetch that has room now.
    pub(super) fn unpark(&mut self) -> Option<Parked> {
        while let Some(&number) = self.freed.last() {
            let link = &mut self.list[usize::from(number)];
            let need = link.parked.front().map(|parked| self.pages.room(&parked.fetch));
            if need.is_some_and(|need| link.credit.holds(need)) {
                self.parked -= 1;
                return link.parked.pop_front();
            }
            self.freed.pop();
        }
        None
    }

    /// Keeps room for a page. False: none is there now.
    pub(super) fn reserve(&mut self, fetch: &Fetch) -> bool {
        let need = self.pages.room(fetch);
        let link = &mut self.list[usize::from(fetch.line.link)];
        link.life == fetch.line.life && link.credit.reserve(need)
    }

    /// Takes room for an answer of one message. False: none is there now.
    pub(super) fn spend(&mut self, fetch: &Fetch) -> bool {
        let link = &mut self.list[usize::from(fetch.line.link)];
        link.life == fetch.line.life && link.credit.spend(0)
    }

    /// The page is at its end, if somebody still waits for it.
    pub(super) fn settle(&mut self, fetch: &Fetch, used: Room) {
        if !self.is_alive(fetch.line) {
            return;
        }
        let link = &mut self.list[usize::from(fetch.line.link)];
        link.credit.settle(self.pages.room(fetch), used, self.pages.grant);
        if !link.parked.is_empty() {
            self.freed.push(fetch.line.link);
        }
    }

    pub(super) fn needs_sweep(&self) -> bool {
        self.sweep.is_some() || self.lost > 0
    }
    pub(super) fn line(&self, number: u16) -> Line {
        Line { link: number, life: self.list[usize::from(number)].life }
    }
    /// Whether it is still the life that it was.
    pub(super) fn is_alive(&self, line: Line) -> bool {
        let link = &self.list[usize::from(line.link)];
        link.life == line.life && link.state == State::Up
    }
    /// Whom to say something to; `None`: nobody is there any more.
    pub(super) fn peer(&self, number: u16) -> Option<Peer> {
        let link = &self.list[usize::from(number)];
        (link.state == State::Up).then_some(link.peer)
    }
    pub(super) fn pages(&self) -> Pages {
        self.pages
    }
    /// Fetches that wait.
    pub(super) fn parked(&self) -> usize {
        self.parked
    }
    /// Numbers that are not spare.
    pub(super) fn numbered(&self) -> usize {
        self.list.len() - self.spare.len()
    }
}

//! Ties between users and gateway cores: who reports a user, who watches it. 32 bytes each, in lists by user and by tenure.
//!
//! A *tenure* is one life of the link to a gateway core. A lost tenure's watches are void at once and its reports when the lease
//! ends, unless they were said again in a later tenure of the same core; both are taken down piece by piece.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::roster::Users;
use crate::ids::{Handle, Peer};
use crate::tables::slab::{Entry, NIL, Slab};
use crate::time::Mono;

/// One report or one watch. Per shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tie {
    pub(super) user: u32,
    /// A report: connections. A watch: the handle.
    value: u32,
    /// The next of the same user and kind.
    user_next: u32,
    /// Neighbours of the same tenure and kind.
    prev: u32,
    next: u32,
    /// Neighbours among the watches of the tenure that wait for room.
    due_prev: u32,
    due_next: u32,
    tenure: u16,
    kind: Kind,
    flags: u8,
}

const _: () = assert!(size_of::<Tie>() == 32, "memory is the product");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Report,
    Watch,
    Vacant,
}

/// What a watcher was told last; neither: nothing yet.
const TOLD_ACTIVE: u8 = 1;
const TOLD_AWAY: u8 = 2;
/// In the list of those that wait for room.
const DUE: u8 = 4;

impl Entry for Tie {
    fn vacant(next: u32) -> Self {
        Self {
            user: NIL,
            value: 0,
            user_next: NIL,
            prev: NIL,
            next,
            due_prev: NIL,
            due_next: NIL,
            tenure: 0,
            kind: Kind::Vacant,
            flags: 0,
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.kind == Kind::Vacant).then_some(self.next)
    }
}

/// One life of the link to a gateway core.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    peer: Peer,
    is_up: bool,
    /// Of a lost one: when its reports are void.
    lease_end: Mono,
    reports: u32,
    watches: u32,
    due_first: u32,
    due_last: u32,
    /// Messages that the gateway core takes now.
    room: u32,
}

/// A dot for one watcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Dot {
    pub(super) peer: Peer,
    pub(super) handle: Handle,
    pub(super) active: bool,
}

/// Why a tie was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// The table is full.
    Full,
    /// The link to the gateway core is not up.
    Stranger,
}

#[derive(Debug)]
pub(super) struct Ties {
    slab: Slab<Tie>,
    count_max: u32,
    tenures: Vec<Tenure>,
    vacant: Vec<u16>,
    up: FxHashMap<Peer, u16>,
    /// Lost tenures in the order in which their leases end.
    lost: VecDeque<u16>,
    /// Lost tenures whose watches are still to be taken down.
    unwatched: VecDeque<u16>,
    due: u32,
}

/// Lost tenures that are remembered at once; above that the oldest lease ends early.
pub(super) const LOST_MAX: usize = 1_024;

impl Ties {
    pub(super) fn new(count_max: u32) -> Self {
        Self {
            slab: Slab::new(),
            count_max,
            tenures: Vec::new(),
            vacant: Vec::new(),
            up: FxHashMap::default(),
            lost: VecDeque::new(),
            unwatched: VecDeque::new(),
            due: 0,
        }
    }

    /// A new tenure of a gateway core begins.
    pub(super) fn up(&mut self, peer: Peer, room: u32) {
        assert!(!self.up.contains_key(&peer), "a tenure ends before the next begins");
        let tenure = Tenure {
            peer,
            is_up: true,
            lease_end: Mono(0),
            reports: NIL,
            watches: NIL,
            due_first: NIL,
            due_last: NIL,
            room,
        };
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.tenures.push(tenure);
            u16::try_from(self.tenures.len() - 1).expect("fewer gateway cores than that")
        });
        self.tenures[usize::from(number)] = tenure;
        self.up.insert(peer, number);
    }

    /// The tenure of a gateway core ends, if there is one; its reports hold until `lease_end`.
    pub(super) fn lost(&mut self, peer: Peer, lease_end: Mono) {
        let Some(number) = self.up.remove(&peer) else { return };
        let tenure = &mut self.tenures[usize::from(number)];
        tenure.is_up = false;
        tenure.lease_end = lease_end;
        self.lost.push_back(number);
        self.unwatched.push_back(number);
        if self.lost.len() > LOST_MAX {
            let oldest = self.lost[0];
            self.tenures[usize::from(oldest)].lease_end = Mono(0);
        }
    }

    pub(super) fn is_up(&self, peer: Peer) -> bool {
        self.up.contains_key(&peer)
    }
    /// All who are up.
    pub(super) fn up_peers(&self) -> impl Iterator<Item = Peer> {
        self.up.keys().copied()
    }

    /// Notes that a gateway core has connections of a user. True: more than it had.
    pub(super) fn report(
        &mut self,
        users: &mut Users,
        user: u32,
        peer: Peer,
        connections: u32,
    ) -> Result<bool, Refused> {
        let Some(&number) = self.up.get(&peer) else { return Err(Refused::Stranger) };
        let is_same = |tie: &Tie, tenures: &[Tenure]| tenures[usize::from(tie.tenure)].peer == peer;
        if let Some(place) = self.seek(users[user].reports, is_same) {
            // Said again in a later tenure: it is that one's now.
            self.unlink(place);
            self.slab[place].tenure = number;
            self.link(place);
            let before = std::mem::replace(&mut self.slab[place].value, connections);
            return Ok(connections > before);
        }
        self.tie(users, user, Kind::Report, number, connections).map(|_| true)
    }

    /// The gateway core has no connection of the user any more.
    pub(super) fn unreport(&mut self, users: &mut Users, user: u32, peer: Peer) {
        let is_same = |tie: &Tie, tenures: &[Tenure]| tenures[usize::from(tie.tenure)].peer == peer;
        if let Some(place) = self.seek(users[user].reports, is_same) {
            self.untie(users, place);
        }
    }

    /// A gateway core wants to know: it is told the present dot when that is known, and each change. A repeated watch is told again.
    pub(super) fn watch(
        &mut self,
        users: &mut Users,
        user: u32,
        peer: Peer,
        handle: Handle,
    ) -> Result<Option<Dot>, Refused> {
        let Some(&number) = self.up.get(&peer) else { return Err(Refused::Stranger) };
        let place = match self.find_watch(users, user, number, handle) {
            Some(place) => place,
            None => self.tie(users, user, Kind::Watch, number, handle.0)?,
        };
        self.slab[place].flags &= !(TOLD_ACTIVE | TOLD_AWAY);
        Ok(self.tell_one(place, users[user].dot()))
    }

    pub(super) fn unwatch(&mut self, users: &mut Users, user: u32, peer: Peer, handle: Handle) {
        let Some(&number) = self.up.get(&peer) else { return };
        if let Some(place) = self.find_watch(users, user, number, handle) {
            self.untie(users, place);
        }
    }

    /// All ties of a user end.
    pub(super) fn untie_all(&mut self, users: &mut Users, user: u32) {
        while users[user].reports != NIL {
            self.untie(users, users[user].reports);
        }
        while users[user].watches != NIL {
            self.untie(users, users[user].watches);
        }
    }

    /// Gives `say` the dots of those watchers of a user who were told something else; who has no room is told later.
    pub(super) fn tell(&mut self, users: &Users, user: u32, mut say: impl FnMut(Dot)) {
        let dot = users[user].dot();
        let mut place = users[user].watches;
        while place != NIL {
            let next = self.slab[place].user_next;
            if let Some(dot) = self.tell_one(place, dot) {
                say(dot);
            }
            place = next;
        }
    }

    /// `dot`: what is true, where that is known; what is not known is not told.
    fn tell_one(&mut self, place: u32, dot: Option<bool>) -> Option<Dot> {
        let Some(active) = dot else {
            self.undue(place);
            return None;
        };
        let Tie { flags, tenure, .. } = self.slab[place];
        let tenure = &self.tenures[usize::from(tenure)];
        let (is_told, is_due) = (flags & told(active) != 0, flags & DUE != 0);
        if is_told {
            self.undue(place);
        } else if !is_due && tenure.is_up {
            if tenure.room > 0 && tenure.due_first == NIL {
                return Some(self.say(place, active));
            }
            self.set_due(place);
        }
        None
    }

    /// The gateway core takes so many more: those who waited are told what is true now.
    pub(super) fn room(&mut self, users: &Users, peer: Peer, room: u32, mut say: impl FnMut(Dot)) {
        let Some(&number) = self.up.get(&peer) else { return };
        self.tenures[usize::from(number)].room = room;
        loop {
            let Tenure { due_first, room, .. } = self.tenures[usize::from(number)];
            if due_first == NIL || room == 0 {
                return;
            }
            self.undue(due_first);
            if let Some(active) = users[self.slab[due_first].user].dot() {
                say(self.say(due_first, active));
            }
        }
    }

    /// Takes down one tie of a lost tenure that is void now. `Some(user)`: the user had it.
    pub(super) fn void(&mut self, users: &mut Users, now: Mono) -> Option<u32> {
        while let Some(&number) = self.unwatched.front() {
            match self.tenures[usize::from(number)].watches {
                NIL => self.unwatched.pop_front(),
                place => {
                    let user = self.slab[place].user;
                    self.untie(users, place);
                    return Some(user);
                }
            };
        }
        while let Some(&number) = self.lost.front() {
            let tenure = self.tenures[usize::from(number)];
            if tenure.lease_end > now {
                return None;
            }
            match tenure.reports {
                NIL => {
                    self.lost.pop_front();
                    self.vacant.push(number);
                }
                place => {
                    let user = self.slab[place].user;
                    self.untie(users, place);
                    return Some(user);
                }
            }
        }
        None
    }

    /// When `void` has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        if !self.unwatched.is_empty() {
            return Some(Mono(0));
        }
        self.lost.front().map(|number| self.tenures[usize::from(*number)].lease_end)
    }

    /// Connections of a user on all gateway cores that report it.
    pub(super) fn connections(&self, users: &Users, user: u32) -> u32 {
        let mut sum = 0u32;
        let mut place = users[user].reports;
        while place != NIL {
            sum = sum.saturating_add(self.slab[place].value);
            place = self.slab[place].user_next;
        }
        sum
    }
    pub(super) fn count(&self) -> u32 {
        self.slab.count()
    }
    /// Watchers that wait for room.
    pub(super) fn due(&self) -> u32 {
        self.due
    }
    pub(super) fn bytes(&self) -> usize {
        self.slab.bytes()
    }

    fn seek(&self, first: u32, is_it: impl Fn(&Tie, &[Tenure]) -> bool) -> Option<u32> {
        let mut place = first;
        while place != NIL {
            let tie = &self.slab[place];
            if is_it(tie, &self.tenures) {
                return Some(place);
            }
            place = tie.user_next;
        }
        None
    }

    fn find_watch(&self, users: &Users, user: u32, number: u16, handle: Handle) -> Option<u32> {
        self.seek(users[user].watches, |tie, _| tie.tenure == number && tie.value == handle.0)
    }

    fn tie(
        &mut self,
        users: &mut Users,
        user: u32,
        kind: Kind,
        tenure: u16,
        value: u32,
    ) -> Result<u32, Refused> {
        if self.slab.count() >= self.count_max {
            return Err(Refused::Full);
        }
        let first = head(users, user, kind);
        let tie = Tie { user, value, user_next: *first, tenure, kind, ..Tie::vacant(NIL) };
        let place = self.slab.insert(tie);
        *first = place;
        self.link(place);
        Ok(place)
    }

    fn untie(&mut self, users: &mut Users, place: u32) {
        self.undue(place);
        self.unlink(place);
        let tie = self.slab.remove(place);
        let first = head(users, tie.user, tie.kind);
        if *first == place {
            *first = tie.user_next;
            return;
        }
        let mut before = *first;
        while self.slab[before].user_next != place {
            before = self.slab[before].user_next;
        }
        self.slab[before].user_next = tie.user_next;
    }

    /// Into the list of its tenure and kind.
    fn link(&mut self, place: u32) {
        let tie = self.slab[place];
        let first = self.first_of(tie.tenure, tie.kind);
        let next = std::mem::replace(first, place);
        if next != NIL {
            self.slab[next].prev = place;
        }
        let tie = &mut self.slab[place];
        (tie.prev, tie.next) = (NIL, next);
    }

    fn unlink(&mut self, place: u32) {
        let Tie { prev, next, tenure, kind, .. } = self.slab[place];
        match prev {
            NIL => *self.first_of(tenure, kind) = next,
            prev => self.slab[prev].next = next,
        }
        if next != NIL {
            self.slab[next].prev = prev;
        }
    }

    fn first_of(&mut self, tenure: u16, kind: Kind) -> &mut u32 {
        let tenure = &mut self.tenures[usize::from(tenure)];
        if kind == Kind::Report { &mut tenure.reports } else { &mut tenure.watches }
    }

    fn say(&mut self, place: u32, active: bool) -> Dot {
        let tie = &mut self.slab[place];
        tie.flags = tie.flags & !(TOLD_ACTIVE | TOLD_AWAY) | told(active);
        let tenure = &mut self.tenures[usize::from(tie.tenure)];
        tenure.room -= 1;
        Dot { peer: tenure.peer, handle: Handle(tie.value), active }
    }

    fn set_due(&mut self, place: u32) {
        let number = usize::from(self.slab[place].tenure);
        let last = std::mem::replace(&mut self.tenures[number].due_last, place);
        match last {
            NIL => self.tenures[number].due_first = place,
            last => self.slab[last].due_next = place,
        }
        let tie = &mut self.slab[place];
        (tie.due_prev, tie.due_next) = (last, NIL);
        tie.flags |= DUE;
        self.due += 1;
    }

    fn undue(&mut self, place: u32) {
        let tie = &mut self.slab[place];
        if tie.flags & DUE == 0 {
            return;
        }
        tie.flags &= !DUE;
        let (prev, next, number) = (tie.due_prev, tie.due_next, usize::from(tie.tenure));
        match prev {
            NIL => self.tenures[number].due_first = next,
            prev => self.slab[prev].due_next = next,
        }
        match next {
            NIL => self.tenures[number].due_last = prev,
            next => self.slab[next].due_prev = prev,
        }
        self.due -= 1;
    }
}

fn head(users: &mut Users, user: u32, kind: Kind) -> &mut u32 {
    let user = &mut users[user];
    if kind == Kind::Report { &mut user.reports } else { &mut user.watches }
}

fn told(active: bool) -> u8 {
    if active { TOLD_ACTIVE } else { TOLD_AWAY }
}

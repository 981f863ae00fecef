//! Cores of other gateways of our region, for which we stand for the owners (`upstream` tells the other side of it): what they want is wanted
//! as our own cores want something, under numbers that follow those.

use super::relay::{CORE_SHIFT, joined};
use super::shard::Gateway;
use crate::ids::{Ask, Peer};
use crate::limits::SUBSCRIBERS_CORES_MAX;
use crate::wire::room::{Credit, Room};

/// One core of another gateway.
#[derive(Debug)]
struct Downstream {
    peer: Peer,
    /// For what it is sent of the past.
    answers: Credit,
}

/// Those that want something, by their number less our own cores. Per shard.
#[derive(Debug, Default)]
pub(super) struct Downstreams {
    list: Vec<Option<Downstream>>,
    /// Questions so far, of all of them: who has a number of somebody who is gone is not given answers to what that one asked.
    asks: u32,
}

impl Downstreams {
    fn find(&self, peer: Peer) -> Option<usize> {
        self.list.iter().position(|one| one.as_ref().is_some_and(|one| one.peer == peer))
    }

    pub(super) fn count(&self) -> usize {
        self.list.iter().flatten().count()
    }

    fn add(&mut self, peer: Peer, grant: Room, count_max: usize) -> Option<usize> {
        let new = Some(Downstream { peer, answers: Credit::new(grant) });
        if let Some(at) = self.list.iter().position(Option::is_none) {
            self.list[at] = new;
            return Some(at);
        }
        (self.list.len() < count_max).then(|| {
            self.list.push(new);
            self.list.len() - 1
        })
    }
}

impl Gateway {
    /// The number of whoever asks, one of our cores or another gateway's. `None`: he has none.
    pub(super) fn number_of(&self, peer: Peer) -> Option<u8> {
        let far = || self.downstreams.find(peer).map(|at| self.cores + at as u8);
        self.core_of(peer).or_else(far)
    }

    /// The same, and a new number for whoever has none. `None`: there is none left.
    pub(super) fn number_for(&mut self, peer: Peer) -> Option<u8> {
        self.number_of(peer).or_else(|| {
            let count_max = usize::from(SUBSCRIBERS_CORES_MAX.saturating_sub(self.cores));
            let at = self.downstreams.add(peer, self.grant, count_max)?;
            Some(self.cores + at as u8)
        })
    }

    /// Who has a number.
    pub(super) fn subscriber(&self, number: u8) -> Peer {
        match number.checked_sub(self.cores) {
            None => self.neighbour(number),
            Some(at) => {
                let one = self.downstreams.list.get(usize::from(at)).and_then(Option::as_ref);
                one.expect("numbers are of somebody as long as something is wanted").peer
            }
        }
    }

    /// What somebody may still be sent of the past; `None`: he is not there.
    pub(super) fn answers_to(&mut self, number: u8) -> Option<&mut Credit> {
        match number.checked_sub(self.cores) {
            None => self.neighbours.answers(number),
            Some(at) => {
                let one = self.downstreams.list.get_mut(usize::from(at))?.as_mut()?;
                Some(&mut one.answers)
            }
        }
    }

    /// By which number we ask what another core asked: of our own cores it is theirs, with the core in the top bits.
    pub(super) fn ask_for(&mut self, number: u8, asked: Ask) -> Ask {
        if number < self.cores {
            return joined(number, asked);
        }
        loop {
            self.downstreams.asks = (self.downstreams.asks + 1) % (1 << CORE_SHIFT);
            let ask = joined(number, Ask(self.downstreams.asks));
            if !self.relay.has_asked(ask) {
                return ask;
            }
        }
    }

    pub(super) fn downstream_room(&mut self, peer: Peer) {
        let grant = self.grant;
        if let Some(at) = self.downstreams.find(peer) {
            let one = self.downstreams.list[at].as_mut().expect("just found");
            one.answers.renew(grant);
        }
    }

    /// Its number goes to somebody else when nothing is wanted by it.
    pub(super) fn downstream_gone(&mut self, peer: Peer) {
        if let Some(at) = self.downstreams.find(peer) {
            self.downstreams.list[at] = None;
        }
    }
}

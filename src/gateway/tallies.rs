//! What owners are told of what we are subscribed to, now and then: so that a subscription which one side has lost is noticed, and not silent.
//!
//! Both count what is said on their link, in its order, so that they agree whenever nothing is under way; `channel::links` compares.

use super::shard::{Gateway, Turn};
use crate::ids::{Peer, Slot};
use crate::ring::Ring;
use crate::time::Mono;
use crate::wire::Message;

impl Gateway {
    /// When owners are told; never while there is nothing to tell.
    pub(super) fn tallies_due(&self) -> Option<Mono> {
        self.relay.tallies_at
    }

    /// Tells each owner, if it is time.
    pub(super) fn tell_tallies(&mut self, turn: &mut Turn<'_>) {
        if self.relay.tallies_at.is_none_or(|at| at > turn.now.mono) {
            return;
        }
        let ring_epoch = self.ring.as_ref().map_or(0, |ring| ring.ring_epoch);
        let told = self.relay.tallies();
        self.relay.tallies_at =
            (!told.is_empty()).then_some(turn.now.mono + self.limits.tally_interval);
        for (peer, tally) in told {
            let (count, sum) = (tally.count, tally.sum);
            turn.out.send_transient(peer, &Message::Tally { ring_epoch, count, sum });
        }
    }

    /// A slot has another owner: the former one forgets by itself what we were subscribed to there.
    pub(super) fn forgotten_by_former(&mut self, former: &Ring, slot: Slot) {
        let owner = former.channel_shard(slot);
        let places: Vec<u32> = self.interest.places_of(slot).collect();
        for place in places {
            self.given_up_by(owner, place);
        }
    }

    /// An owner gives up a subscription, or did not take it.
    pub(super) fn given_up_by(&mut self, owner: Peer, place: u32) {
        if self.interest.is_asked(place) {
            let (key, handle) = (self.interest.wanted(place).key, self.interest.handle(place));
            self.relay.untally(owner, key, handle);
        }
    }
}

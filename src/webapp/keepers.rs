//! The way to those who keep presence: questions of HTTP handlers, and what users set by hand.
//!
//! A word that is lost with a link would leave a wrong dot until the user comes anew. So what was set by hand lately is said again to a
//! keeper whose link comes up, and to a new one: it is the latest word, and twice is as good as once.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::{Key, NodeId, Peer, Role, Slot};
use crate::ring::Ring;
use crate::shard::Effects;
use crate::time::Mono;
use crate::wire::Message;

/// Changes by hand that are said again; older ones were heard, or wait for the user's next connection.
const BY_HAND_MAX: usize = 1_024;
/// Longer than a link is down, and short against a day's changes.
const BY_HAND_FOR: Duration = Duration::from_secs(120);

/// Per node.
#[derive(Debug, Default)]
pub(super) struct Keepers {
    by_hand: VecDeque<(Mono, Slot, Key, bool)>,
}

impl Keepers {
    /// Passes on what an HTTP handler says. `keeper`: if its link is up.
    pub(super) fn pass(
        &mut self,
        now: Mono,
        node: NodeId,
        keeper: Option<Peer>,
        message: &Message<'_>,
        out: &mut Effects,
    ) {
        if let Message::Manual { slot, user, away } = *message {
            self.note(now, slot, user, away);
        }
        match (keeper, message) {
            (Some(keeper), message) => out.send(keeper, message),
            (None, Message::PresenceQuery { ask, .. }) => {
                let unknown = Message::PresenceUnknown { ask: *ask };
                out.send(Peer::control(node, Role::Http), &unknown);
            }
            (None, _) => {}
        }
    }

    /// The link to a keeper is up.
    pub(super) fn up(&mut self, now: Mono, peer: Peer, ring: &Ring, out: &mut Effects) {
        self.forget(now);
        for &(_, slot, user, away) in &self.by_hand {
            if ring.presence_shard(slot) == peer {
                out.send(peer, &Message::Manual { slot, user, away });
            }
        }
    }

    /// Another ring: who keeps a user from now on is told.
    pub(super) fn moved(&mut self, now: Mono, was: &Ring, is: &Ring, out: &mut Effects) {
        self.forget(now);
        for &(_, slot, user, away) in &self.by_hand {
            if !is.keeps_users(was, slot) {
                out.send(is.presence_shard(slot), &Message::Manual { slot, user, away });
            }
        }
    }

    fn note(&mut self, now: Mono, slot: Slot, user: Key, away: bool) {
        self.forget(now);
        self.by_hand.retain(|(_, _, other, _)| *other != user);
        if self.by_hand.len() >= BY_HAND_MAX {
            self.by_hand.pop_front();
        }
        self.by_hand.push_back((now, slot, user, away));
    }

    fn forget(&mut self, now: Mono) {
        while self.by_hand.front().is_some_and(|(said, ..)| *said + BY_HAND_FOR <= now) {
            self.by_hand.pop_front();
        }
    }
}

//! What a manager says of a newer ring, to every node that beats with it: the nodes need not wait for the store. It says what it was told
//! itself, and so nothing that is not committed. One per manager.

use std::collections::BTreeMap;

use crate::ids::{Ask, NodeId, Peer};
use crate::limits::RING_WANT_AGAIN;
use crate::shard::{Counter, Effects};
use crate::time::Mono;
use crate::wire::Message;

/// The news of the newest ring, as far as they are made, and who has it.
#[derive(Debug, Default)]
pub(super) struct Push {
    ring_epoch: u64,
    /// The ring that we had before; 0: none.
    since: u64,
    /// What makes ours of that one.
    news: Option<Vec<u8>>,
    /// All of ours, once somebody wanted it; and when the driver was asked for it.
    whole: Option<Vec<u8>>,
    asked_at: Option<Mono>,
    /// Who waits for a part of it: from where, and how much.
    waiting: BTreeMap<Peer, (u32, u32)>,
    /// By node: the ring that it said it has.
    known: BTreeMap<NodeId, u64>,
}

impl Push {
    pub(super) fn ring_epoch(&self) -> u64 {
        self.ring_epoch
    }

    /// A ring was told to us. The one before, if there is something to be made of it: `RingSince`.
    pub(super) fn ring(&mut self, ring_epoch: u64) -> Option<u64> {
        if ring_epoch <= self.ring_epoch {
            return None;
        }
        let (since, known) = (self.ring_epoch, std::mem::take(&mut self.known));
        *self = Self { ring_epoch, since, known, ..Self::default() };
        (since > 0).then_some(since)
    }

    /// A node says which ring it has.
    pub(super) fn heard(&mut self, node: NodeId, ring_epoch: u64) {
        self.known.insert(node, ring_epoch);
    }

    /// Nodes that said that they have an older ring than ours.
    pub(super) fn behind(&self) -> usize {
        self.known.values().filter(|known| **known < self.ring_epoch).count()
    }

    /// The driver made what we asked for: it goes to whoever needs it, of `nodes`.
    pub(super) fn made(
        &mut self,
        (since, ring_epoch): (u64, u64),
        news: &[u8],
        nodes: impl Iterator<Item = Peer>,
        out: &mut Effects,
    ) {
        // Of the ring before, or already of the next: that one is told to us, too.
        if ring_epoch != self.ring_epoch {
            return;
        }
        if since == 0 {
            self.whole = Some(news.to_vec());
            for (peer, (at, bytes_max)) in std::mem::take(&mut self.waiting) {
                self.part(peer, at, bytes_max, out);
            }
            return;
        }
        self.news = Some(news.to_vec());
        let has_it = |node: NodeId| self.known.get(&node).is_some_and(|known| *known >= ring_epoch);
        for peer in nodes.filter(|peer| !has_it(peer.node)) {
            out.send_transient(peer, &Message::RingNews { since, ring_epoch, news });
            out.count(Counter::RingsPushed);
        }
    }

    /// A node wants ours. True: the driver is to be asked for the whole.
    pub(super) fn wanted(
        &mut self,
        now: Mono,
        peer: Peer,
        (since, ring_epoch): (u64, u64),
        (at, bytes_max): (u32, u32),
        out: &mut Effects,
    ) -> bool {
        if let Some(news) = self.news.as_ref().filter(|_| since != 0 && since == self.since) {
            let ring_epoch = self.ring_epoch;
            out.send_transient(peer, &Message::RingNews { since, ring_epoch, news });
            out.count(Counter::RingsPushed);
            return false;
        }
        // The whole that it has a part of is another than ours now.
        let at = if ring_epoch == self.ring_epoch { at } else { 0 };
        if self.whole.is_some() {
            self.part(peer, at, bytes_max, out);
            return false;
        }
        self.waiting.insert(peer, (at, bytes_max));
        let is_asked = self.asked_at.is_some_and(|asked| now.since(asked) < RING_WANT_AGAIN);
        if !is_asked {
            self.asked_at = Some(now);
        }
        !is_asked
    }

    pub(super) fn lost(&mut self, peer: Peer) {
        self.waiting.remove(&peer);
        self.known.remove(&peer.node);
    }

    fn part(&self, peer: Peer, at: u32, bytes_max: u32, out: &mut Effects) {
        let whole = self.whole.as_deref().unwrap_or_default();
        let rest = whole.get(at as usize..).unwrap_or_default();
        let part = &rest[..rest.len().min(bytes_max as usize)];
        let (ring_epoch, all) = (self.ring_epoch, whole.len() as u32);
        out.send_transient(peer, &Message::RingPart { ring_epoch, at, all, part });
        if at == 0 {
            out.count(Counter::RingsGiven);
        }
    }
}

/// The question for what `made` takes.
pub(super) fn ask(ask: Ask, since: u64, out: &mut Effects) {
    out.ask(ask, &Message::RingSince { since });
}

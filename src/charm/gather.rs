//! How a node comes to a ring that managers have and it has not: it is given the news, or asks for them, or for the whole in parts. One per
//! node; what it has together goes to the driver, which knows the ring before and takes no older one.

use std::time::Duration;

use crate::ids::{Ask, Peer};
use crate::limits::{RING_BYTES_MAX, RING_PART_BYTES, RING_WANT_AGAIN};
use crate::shard::{Counter, Effects};
use crate::time::Mono;
use crate::wire::Message;

#[derive(Debug)]
pub(super) struct Gather {
    /// The ring that we have.
    ring_epoch: u64,
    /// The newest that the driver was given.
    offered: u64,
    /// Bytes of a whole ring, as far as they came: from whom, of which ring.
    parts: Option<(Peer, u64, Vec<u8>)>,
    /// Since when we know that we are behind: nothing is asked before.
    not_before: Option<Mono>,
    /// How often we asked for a ring after ours.
    tries: u32,
    /// What is asked for at once: less after each silence, for a manager may have less room for it on its links than we have.
    part_bytes: u32,
    asks: u32,
}

/// What was pushed to us comes with the beat that says so, or soon after.
const GRACE: Duration = Duration::from_millis(50);
/// Below this it is not what is asked for that is too much.
const PART_BYTES_MIN: u32 = 1 << 10;

impl Gather {
    /// `mail_bytes_max`: of the links.
    pub(super) fn new(mail_bytes_max: u32) -> Self {
        Self {
            ring_epoch: 0,
            offered: 0,
            parts: None,
            not_before: None,
            tries: 0,
            part_bytes: RING_PART_BYTES.min(mail_bytes_max / 4),
            asks: 0,
        }
    }

    pub(super) fn ring_epoch(&self) -> u64 {
        self.ring_epoch
    }

    /// Our ring is this one now.
    pub(super) fn ring(&mut self, ring_epoch: u64) {
        self.ring_epoch = ring_epoch;
        (self.not_before, self.tries) = (None, 0);
        if self.parts.as_ref().is_some_and(|(_, epoch, _)| *epoch <= ring_epoch) {
            self.parts = None;
        }
    }

    /// The newest ring that a manager has, as its beats say: asks for it, if it does not come by itself.
    pub(super) fn look(&mut self, now: Mono, newest: Option<(Peer, u64)>, out: &mut Effects) {
        let Some((manager, _)) = newest.filter(|(_, epoch)| *epoch > self.ring_epoch) else {
            return;
        };
        match self.not_before {
            None => self.not_before = Some(now + GRACE),
            Some(due) if due > now => {}
            Some(_) => {
                if self.tries > 1 {
                    let half = (self.part_bytes / 2).max(PART_BYTES_MIN);
                    self.part_bytes = half.min(self.part_bytes);
                }
                self.want(now, manager, out);
            }
        }
    }

    fn want(&mut self, now: Mono, manager: Peer, out: &mut Effects) {
        self.not_before = Some(now + RING_WANT_AGAIN);
        // News that did not make a ring of ours never will.
        let since = if self.tries == 0 { self.ring_epoch } else { 0 };
        self.tries += 1;
        let (ring_epoch, at) = match &self.parts {
            Some((from, epoch, bytes)) if *from == manager => (*epoch, bytes.len() as u32),
            _ => (0, 0),
        };
        let bytes_max = self.part_bytes;
        out.send_transient(manager, &Message::RingWanted { since, ring_epoch, at, bytes_max });
    }

    /// A manager says what is new.
    pub(super) fn news(
        &mut self,
        now: Mono,
        (manager, since, ring_epoch): (Peer, u64, u64),
        news: &[u8],
        out: &mut Effects,
    ) {
        // The driver may have it already, from another manager.
        let waits = self.not_before.is_some_and(|due| due > now);
        if ring_epoch <= self.ring_epoch || ring_epoch <= self.offered && waits {
            return;
        }
        if since == self.ring_epoch {
            self.offer(now, (since, ring_epoch), news, out);
        } else if self.parts.is_none() {
            // It begins at a ring that we have not.
            self.tries = self.tries.max(1);
            self.want(now, manager, out);
        }
    }

    /// A manager gives a part of the whole.
    pub(super) fn part(
        &mut self,
        now: Mono,
        (manager, ring_epoch): (Peer, u64),
        (at, all): (u32, u32),
        part: &[u8],
        out: &mut Effects,
    ) {
        if ring_epoch <= self.ring_epoch || all > RING_BYTES_MAX || part.is_empty() {
            return;
        }
        if at == 0 {
            self.parts = Some((manager, ring_epoch, Vec::new()));
        }
        let Some((from, epoch, bytes)) = &mut self.parts else { return };
        let is_next = (*from, *epoch, bytes.len()) == (manager, ring_epoch, at as usize);
        if !is_next || bytes.len() + part.len() > all as usize {
            return;
        }
        bytes.extend_from_slice(part);
        if bytes.len() < all as usize {
            self.tries = self.tries.max(1);
            return self.want(now, manager, out);
        }
        let (.., whole) = self.parts.take().expect("just filled");
        self.offer(now, (0, ring_epoch), &whole, out);
    }

    fn offer(
        &mut self,
        now: Mono,
        (since, ring_epoch): (u64, u64),
        news: &[u8],
        out: &mut Effects,
    ) {
        self.asks = self.asks.wrapping_add(1);
        out.ask(Ask(self.asks), &Message::RingNews { since, ring_epoch, news });
        out.count(Counter::RingsOffered);
        (self.offered, self.not_before) = (ring_epoch, Some(now + RING_WANT_AGAIN));
    }
}

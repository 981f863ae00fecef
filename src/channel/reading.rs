//! Reads: where a channel stands and what its backlog has, in one answer, for somebody who need not follow it.

use super::backlog::Stored;
use super::shard::{Owner, Target};
use super::table::Is;
use crate::ids::{Ask, Peer};
use crate::shard::{Counter, Effects};
use crate::time::Now;
use crate::wire::message::namespace::DURABLE;
use crate::wire::{Message, Packed};

/// Which part of a channel's backlog.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) after: u64,
    pub(super) count_max: u32,
    pub(super) bytes_max: u32,
}

/// Not now.
pub(super) fn unread(ask: Ask) -> Message<'static> {
    Message::ReadIs { ask, ok: false, epoch: 0, tip: 0, publications: Packed(&[]) }
}

impl Owner {
    /// Answers now: what the backlog lost of a memory channel, nobody has.
    pub(super) fn read(
        &mut self,
        now: Now,
        peer: Peer,
        ask: Ask,
        target: Target<'_>,
        page: Page,
        out: &mut Effects,
    ) {
        let Target { slot, key, namespace, name } = target;
        let is_memory = namespace != DURABLE;
        let is_name = name.len() <= self.limits.name_bytes_max as usize;
        let known = self.table.find(slot, key);
        let place = match known {
            None if is_memory && is_name => self.enter(slot, key, true, 0, out),
            known => known,
        };
        let place = place.filter(|place| {
            let channel = &self.table[*place];
            channel.is(Is::Verified) && channel.is(Is::Memory) == is_memory
        });
        let Some(place) = place else {
            out.count(Counter::FetchesRefused);
            return out.send(peer, &unread(ask));
        };
        let tip = self.table[place].tip();
        let epoch = if is_memory { self.table.epoch(slot) } else { 0 };
        let next = page.after.saturating_add(1);
        let mut list = Vec::new();
        let oldest =
            if next <= tip { self.backlog.oldest(key, tip, now.mono.seconds()) } else { None };
        if let Some(oldest) = oldest
            && page.count_max > 0
        {
            out.count(Counter::FetchesFromBacklog);
            let from = next.max(oldest);
            let last = tip.min(from.saturating_add(u64::from(page.count_max) - 1));
            let bytes_max = page.bytes_max.min(self.limits.mail_bytes_max / 16) as usize;
            let span = self.backlog.span(key, from, last);
            let mut bytes = 0;
            let events =
                span.into_iter().map(|position| self.backlog.at(position)).take_while(|stored| {
                    let is_room = bytes < bytes_max;
                    bytes += stored.payload.len();
                    is_room
                });
            Packed::pack(events.map(|Stored { offset, payload, .. }| (offset, payload)), &mut list);
        }
        let publications = Packed(&list);
        out.send(peer, &Message::ReadIs { ask, ok: true, epoch, tip, publications });
    }
}

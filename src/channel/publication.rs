//! Publications in: each in its place, or held until the one before it is there; out to every link that wants them.
//!
//! I13: a link is sent `tip + 1`, `tip + 2` …: never a hole, never twice.

use super::backlog::Stored;
use super::interest::Interest;
use super::shard::{Owner, Target};
use super::source::Question;
use super::table::{Is, OFFSET_MAX};
use crate::ids::{Ask, Key, Origin, Slot};
use crate::shard::{Counter, Effects};
use crate::time::Now;
use crate::wire::message::namespace::{DURABLE, PASSING};
use crate::wire::message::{event, nack};
use crate::wire::{Message, Terms};

/// Bytes of one answer that fills a hole: what is filled is sent on to every link at once.
const FILL_BYTES: u32 = 256 << 10;

impl Owner {
    /// The offset at which it stands, or why it was not taken.
    pub(super) fn publish(
        &mut self,
        now: Now,
        target: Target<'_>,
        terms: Terms,
        stored: Stored<'_>,
        out: &mut Effects,
    ) -> Result<u64, u8> {
        let Target { slot, key, namespace, name } = target;
        let is_memory = namespace != DURABLE;
        let known = self.table.find(slot, key);
        if is_memory != (stored.offset == 0)
            || stored.offset > OFFSET_MAX
            || name.len() > self.limits.name_bytes_max as usize
            || known.is_some_and(|place| self.table[place].is(Is::Memory) != is_memory)
        {
            out.count(Counter::WireBroken);
            return Err(nack::UNKNOWN);
        }
        if is_memory && let Some(told) = self.onces.known(now.mono, terms.once) {
            out.count(Counter::PublicationsDuplicate);
            return Ok(told);
        }
        if is_memory && terms.once != Key::default() && self.onces.is_full() {
            return Err(nack::FULL);
        }
        if namespace == PASSING {
            self.pass_by(slot, key, stored.payload, out);
            self.onces.note(now.mono, terms.once, (slot, 0));
            return Ok(0);
        }
        let before = stored.offset.saturating_sub(1);
        let Some(place) = known.or_else(|| self.enter(slot, key, is_memory, before, out)) else {
            // Nobody wants a durable one here, and the source has it.
            return if is_memory { Err(nack::FULL) } else { Ok(stored.offset) };
        };
        let channel = &mut self.table[place];
        let tip = channel.tip();
        if is_memory && tip == OFFSET_MAX {
            return Err(nack::FULL);
        }
        if is_memory && !self.versions.is_newer(key, slot, terms, out) {
            out.count(Counter::PublicationsDuplicate);
            return Ok(tip);
        }
        let stored = Stored { offset: if is_memory { tip + 1 } else { stored.offset }, ..stored };
        let offset = stored.offset;
        if offset <= tip {
            out.count(Counter::PublicationsDuplicate);
            return Ok(offset);
        }
        if offset > tip + 1 && channel.is(Is::Verified) && !channel.interests().is_empty() {
            return match self.holes.hold(now.mono, (slot, key), name, &stored) {
                Ok(is_new) => {
                    channel.set(Is::Holed, true);
                    if is_new {
                        out.count(Counter::PublicationsHeld);
                    }
                    Ok(offset)
                }
                Err(super::holes::Full) => Err(nack::FULL),
            };
        }
        if offset > tip + 1 {
            // Nobody follows it live: from here on the tip is only the newest that we heard of.
            channel.set(Is::Verified, false);
        }
        let mut until_s = 0;
        if is_memory && terms.kept_s > 0 {
            let now_s = now.mono.seconds();
            self.backlog.end(key, now_s);
            // This second has begun already.
            until_s = now_s.saturating_add(terms.kept_s).saturating_add(1);
        }
        self.accept(key, place, (&stored, until_s), out);
        self.release(key, place, out);
        if is_memory {
            self.onces.note(now.mono, terms.once, (slot, offset));
        }
        Ok(offset)
    }

    /// A publication that takes no place.
    fn pass_by(&self, slot: Slot, key: Key, payload: &[u8], out: &mut Effects) {
        let mut event = Vec::with_capacity(payload.len() + 1);
        event.push(event::PASSING);
        event.extend_from_slice(payload);
        self.emit(slot, key, Origin::NOBODY, &event, out);
    }

    /// Appends and fans out the publication that is next.
    fn accept(
        &mut self,
        key: Key,
        place: u32,
        (stored, until_s): (&Stored<'_>, u32),
        out: &mut Effects,
    ) {
        let channel = &mut self.table[place];
        channel.set_tip(stored.offset);
        out.count(Counter::PublicationsAccepted);
        let Stored { offset, origin, member, payload } = *stored;
        // Before it is verified, nobody who wants it knows where it stands.
        if channel.is(Is::Verified) {
            for Interest { link, handle } in channel.interests().iter(&self.lists) {
                let Some(peer) = self.links.peer(link) else { continue };
                let one = Message::Publication { handle, offset, origin, member, payload };
                out.send(peer, &one);
            }
        }
        let evicted = self.backlog.append(key, stored, until_s);
        if evicted > 0 {
            out.count_by(Counter::BacklogEvicted, evicted);
        }
    }

    /// Accepts what was held, as far as nothing is missing. After each change of the tip: the first that is held is never the next.
    pub(super) fn release(&mut self, key: Key, place: u32, out: &mut Effects) {
        if !self.table[place].is(Is::Holed) {
            return;
        }
        while let Some((offset, held)) = self.holes.take(key, self.table[place].tip()) {
            self.accept(key, place, (&held.stored(offset), 0), out);
        }
        self.table[place].set(Is::Holed, self.holes.contains(key));
    }

    /// Asks for what is missing before the held; the source takes a question.
    pub(super) fn ask_fill(&mut self, now: Now, slot: Slot, key: Key, out: &mut Effects) {
        let place = self.table.find(slot, key).expect("a channel with a hole is in the table");
        let (name, first) = self.holes.first(key).expect("just seen");
        let tip = self.table[place].tip();
        let ask = self.source.ask(now.mono, Question::Fill { slot, key, tip }, name);
        let ask = ask.expect("the source takes a question");
        let (from, to, bytes_max) = (tip + 1, first - 1, FILL_BYTES);
        out.send_bulk(self.source.peer(), &Message::Range { ask, name, from, to, bytes_max });
        self.holes.asked(key, ask);
    }

    /// One event from the source, for a hole.
    pub(super) fn fill(
        &mut self,
        (slot, key): (Slot, Key),
        stored: &Stored<'_>,
        out: &mut Effects,
    ) {
        let Some(place) = self.table.find(slot, key) else { return };
        // Others are known: they came by themselves in the meantime.
        let is_next = stored.offset == self.table[place].tip() + 1;
        if is_next && stored.offset <= OFFSET_MAX && !self.table[place].is(Is::Memory) {
            self.accept(key, place, (stored, 0), out);
            self.release(key, place, out);
        }
    }

    /// The end of an answer for a hole that was asked about when the tip was `tip`.
    pub(super) fn filled(&mut self, now: Now, ask: Ask, (slot, key): (Slot, Key), tip: u64) {
        let Some(place) = self.table.find(slot, key) else { return };
        self.holes.answered(now.mono, key, ask, self.table[place].tip() > tip);
    }

    /// A transient event for everybody who follows the channel.
    pub(super) fn emit(
        &self,
        slot: Slot,
        key: Key,
        origin: Origin,
        payload: &[u8],
        out: &mut Effects,
    ) {
        let Some(place) = self.table.find(slot, key) else { return };
        let channel = &self.table[place];
        if !channel.is(Is::Verified) {
            return;
        }
        out.count(Counter::TransientsEmitted);
        for Interest { link, handle } in channel.interests().iter(&self.lists) {
            let Some(peer) = self.links.peer(link) else { continue };
            out.send_transient(peer, &Message::Event { handle, origin, payload });
        }
    }
}

//! Subscriptions: an interest is noted at once, and answered when the channel's tip is known.
//!
//! I14: the first answer to a subscriber of a durable channel follows a read of the source's tip. Until then its interests are in the channel
//! like all others, so that an unsubscription, a lost link or a sweep finds them there; nothing is sent to them.

use rustc_hash::FxHashMap;

use super::interest::Interest;
use super::shard::{Owner, Target};
use super::source::{Question, Source};
use super::table::{Is, OFFSET_MAX};
use crate::ids::{Ask, Handle, Key, Slot};
use crate::shard::{Counter, Effects};
use crate::time::Now;
use crate::wire::Message;
use crate::wire::message::nack;
use crate::wire::message::namespace::DURABLE;

/// Channels whose tip is to be asked of the source, or asked.
#[derive(Debug, Default)]
pub(super) struct Openings {
    by_key: FxHashMap<Key, Opening>,
}

#[derive(Debug)]
struct Opening {
    slot: Slot,
    name: Box<str>,
    /// An answer to another question may be older than the ring that made us the owner.
    ask: Option<Ask>,
}

impl Openings {
    /// The question was not answered. True: it is still wanted.
    pub(super) fn unanswered(&mut self, key: Key, ask: Ask) -> bool {
        let opening = self.by_key.get_mut(&key).filter(|opening| opening.ask == Some(ask));
        opening.is_some_and(|opening| opening.ask.take().is_some())
    }
    pub(super) fn retain(&mut self, is_kept: impl Fn(Slot) -> bool) {
        self.by_key.retain(|_, opening| is_kept(opening.slot));
    }
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}

impl Owner {
    pub(super) fn subscribe(&mut self, interest: Interest, target: Target<'_>, out: &mut Effects) {
        let Interest { link, handle } = interest;
        let Some(peer) = self.links.peer(link) else { return };
        match self.join(interest, target, out) {
            Ok(Some((epoch, tip))) => out.send(peer, &Message::Suback { handle, epoch, tip }),
            Ok(None) => {}
            Err(why) => {
                out.count(Counter::SubscribesShed);
                self.links.refused(peer);
                out.send(peer, &Message::Subnack { handle, why });
            }
        }
    }

    /// Notes an interest. Where it stands, or nothing if that is still to be asked.
    fn join(
        &mut self,
        interest: Interest,
        target: Target<'_>,
        out: &mut Effects,
    ) -> Result<Option<(u32, u64)>, u8> {
        let Target { slot, key, namespace, name } = target;
        let is_memory = namespace != DURABLE;
        let known = self.table.find(slot, key);
        let is_open = known.map_or(is_memory, |place| {
            self.table[place].is(Is::Verified) || self.table[place].is(Is::Opening)
        });
        if name.len() > self.limits.name_bytes_max as usize
            || known.is_some_and(|place| self.table[place].is(Is::Memory) != is_memory)
        {
            return Err(nack::UNKNOWN);
        }
        if !is_open && self.openings.len() >= self.limits.openings_max as usize {
            return Err(nack::RETRY);
        }
        let place = match known {
            Some(place) => place,
            None => self.enter(slot, key, is_memory, 0, out).ok_or(nack::FULL)?,
        };
        let channel = &mut self.table[place];
        let old = channel.interests_mut().add(interest, &mut self.lists);
        self.links.added(key, interest, old);
        if is_memory && self.handoff.is_arriving(slot) {
            // It is on its way from another owner: who subscribes early waits for it.
            channel.set(Is::Verified, false);
            channel.set(Is::Opening, true);
            return Ok(None);
        }
        if channel.is(Is::Verified) {
            let epoch = if is_memory { self.table.epoch(slot) } else { 0 };
            return Ok(Some((epoch, self.table[place].tip())));
        }
        if !is_open {
            channel.set(Is::Opening, true);
            self.openings.by_key.insert(key, Opening { slot, name: name.into(), ask: None });
            self.source.want(slot, key);
        }
        Ok(None)
    }

    /// A new channel, durable ones unverified. `None`: the table is full.
    pub(super) fn enter(
        &mut self,
        slot: Slot,
        key: Key,
        is_memory: bool,
        tip: u64,
        out: &mut Effects,
    ) -> Option<u32> {
        if self.table.count() >= self.limits.channels_max {
            if !self.table.forget_one() {
                return None;
            }
            out.count(Counter::ChannelsForgotten);
        }
        let tip = if is_memory { self.table.floor(slot) } else { tip };
        let place = self.table.insert(slot, key, tip);
        self.table[place].set(Is::Memory, is_memory);
        self.table[place].set(Is::Verified, is_memory);
        Some(place)
    }

    /// The handle is free after this, whatever it was.
    pub(super) fn unsubscribe(&mut self, interest: Interest, slot: Slot, key: Key) {
        let Some(place) = self.table.find(slot, key) else { return };
        let links = &mut self.links;
        self.table[place].interests_mut().retain(&mut self.lists, |one| {
            let is_gone = one == interest;
            if is_gone {
                links.removed(key, one);
            }
            !is_gone
        });
    }

    /// Asks how far a channel is; the source takes a question.
    pub(super) fn ask_tip(&mut self, now: Now, slot: Slot, key: Key, out: &mut Effects) {
        let opening = self.openings.by_key.get_mut(&key).expect("a tip is wanted for an opening");
        let place = self.table.find(slot, key).expect("what is being opened is in the table");
        if self.table[place].interests().is_empty() {
            // Who wanted it is gone.
            self.openings.by_key.remove(&key);
            self.table[place].set(Is::Opening, false);
            if self.table[place].tip() == 0 {
                self.table.remove(slot, place);
            }
            return;
        }
        let ask = self.source.ask(now.mono, Question::Tip { slot, key }, &opening.name);
        let ask = ask.expect("the source takes a question");
        opening.ask = Some(ask);
        out.send_bulk(self.source.peer(), &Message::Tip { ask, name: &opening.name });
    }

    /// The source told the tip of a channel: who waited for it is subscribed from there on.
    pub(super) fn opened(&mut self, ask: Ask, found: bool, tip: u64, out: &mut Effects) {
        let (slot, key) = match self.source.close(ask) {
            Some(Question::Tip { slot, key }) => (slot, key),
            Some(other) => {
                // Not the answer to what was asked.
                out.count(Counter::WireBroken);
                return self.unanswered(ask, other, Source::want, out);
            }
            None => return,
        };
        if self.openings.by_key.get(&key).is_none_or(|opening| opening.ask != Some(ask)) {
            return;
        }
        self.openings.by_key.remove(&key);
        let place = self.table.find(slot, key).expect("what is being opened is in the table");
        let channel = &mut self.table[place];
        channel.set(Is::Opening, false);
        // A publication may have overtaken the answer.
        let refused = match channel.tip() {
            _ if tip > OFFSET_MAX => Some(nack::RETRY),
            0 if !found => Some(nack::UNKNOWN),
            heard => {
                channel.set_tip(tip.max(heard));
                channel.set(Is::Verified, true);
                None
            }
        };
        let (tip, interests) = (channel.tip(), *channel.interests());
        for Interest { link, handle } in interests.iter(&self.lists) {
            let Some(peer) = self.links.peer(link) else { continue };
            if refused.is_some() {
                self.links.refused(peer);
            }
            out.send(peer, &answer(handle, tip, refused));
        }
        if refused.is_none() {
            self.release(key, place, out);
        } else {
            self.dismiss(place);
            if tip == 0 {
                self.table.remove(slot, place);
            }
        }
    }

    /// Takes all interests out of a channel.
    fn dismiss(&mut self, place: u32) {
        let links = &mut self.links;
        let channel = &mut self.table[place];
        let key = channel.key();
        channel.interests_mut().retain(&mut self.lists, |one| {
            links.removed(key, one);
            false
        });
        debug_assert!(channel.interests().is_empty());
    }
}

fn answer(handle: Handle, tip: u64, refused: Option<u8>) -> Message<'static> {
    match refused {
        Some(why) => Message::Subnack { handle, why },
        None => Message::Suback { handle, epoch: 0, tip },
    }
}

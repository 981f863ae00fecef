//! One core's share of the channels: what comes in, what goes out.
//!
//! A durable channel's owner is a cache that can prove what it lacks (`reliability.md` 3.3). Invariants: I12 (epochs are checked
//! before anything changes), I13 (each link is sent `tip + 1`, `tip + 2` …), I14 (the first answer to a subscriber follows a read of the
//! source's tip), I15 (an interest goes with its link or by its own wish).

use rustc_hash::FxHashMap;

use super::backlog::{Backlog, Stored};
use super::interest::{Interest, LINKS_MAX, Lists};
use super::pending::{Fetch, Held, Hole, Opening, OwnedMember, Question, Questions};
use super::table::{Channel, Table};
use crate::ids::{Ask, Key, NodeId, Peer, Role, Slot};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Budget, Counter, Effects, Input, Report, Shard};
use crate::time::{Mono, Now, sooner};
use crate::wire::Message;
use crate::wire::message::nack;
use crate::wire::room::{Credit, Room};

/// The owner of the channels of this core's slots.
#[derive(Debug)]
pub struct Owner {
    me: Peer,
    source: Peer,
    limits: Limits,
    ring: Option<Ring>,
    /// Life of the memory channels whose offsets this process assigns.
    epoch: u32,
    table: Table,
    lists: Lists,
    backlog: Backlog,
    links: Vec<Link>,
    by_peer: FxHashMap<Peer, u16>,
    openings: FxHashMap<Key, Opening>,
    holes: FxHashMap<Key, Hole>,
    questions: Questions,
    /// Fetches that wait until their link takes bulk again.
    waiting: Vec<Fetch>,
    source_is_up: bool,
    /// Links that are gone, and how far their interests were swept.
    sweep: Option<usize>,
}

/// A gateway core as seen from here.
#[derive(Debug)]
struct Link {
    peer: Peer,
    is_up: bool,
    /// Bulk that it takes now.
    credit: Credit,
}

/// A channel as a message names it.
#[derive(Clone, Copy)]
struct Target<'a> {
    slot: Slot,
    key: Key,
    namespace: u16,
    name: &'a str,
}

/// The namespace of the workspace: durable channels.
const DURABLE: u16 = 0;

impl Owner {
    /// `seed` is drawn anew at each start of the process.
    pub fn new(node: NodeId, core: u8, seed: u64, limits: &Limits) -> Self {
        Self {
            me: Peer::new(node, Role::Channel, core),
            source: Peer::control(node, Role::Webapp),
            limits: limits.clone(),
            ring: None,
            epoch: (seed >> 32) as u32 | 1,
            table: Table::new(1),
            lists: Lists::default(),
            backlog: Backlog::new(limits.backlog_bytes as usize),
            links: Vec::new(),
            by_peer: FxHashMap::default(),
            openings: FxHashMap::default(),
            holes: FxHashMap::default(),
            questions: Questions::default(),
            waiting: Vec::new(),
            source_is_up: false,
            sweep: None,
        }
    }

    fn wire(&mut self, now: Now, peer: Peer, message: Message<'_>, out: &mut Effects) {
        match message {
            Message::Subscribe { slot, seat_epoch, key, handle, namespace, name } => {
                let Some(link) = self.link_of(peer) else { return };
                if let Err(why) = self.owns(slot, seat_epoch) {
                    return out.send(peer, &Message::Subnack { handle, why });
                }
                let target = Target { slot, key, namespace, name };
                self.subscribe(now, Interest { link, handle }, target, out);
            }
            Message::Unsubscribe { slot, key, handle } => {
                let Some(link) = self.link_of(peer) else { return };
                if let Some(opening) = self.openings.get_mut(&key) {
                    opening.waiting.retain(|waiting| *waiting != (link, handle));
                }
                if let Some(channel) = self.table.find_mut(slot, key) {
                    channel
                        .interests_mut()
                        .retain(&mut self.lists, |one| one.link != link || one.handle != handle);
                }
                out.send(peer, &Message::Unsuback { handle });
            }
            Message::Fetch {
                slot,
                seat_epoch,
                key,
                handle,
                ask,
                after,
                count_max,
                bytes_max,
                name,
            } => {
                let Some(link) = self.link_of(peer) else { return };
                let fetch = Fetch {
                    link,
                    ask,
                    handle,
                    slot,
                    key,
                    after,
                    count_max,
                    bytes_max,
                    name: name.into(),
                };
                if self.owns(slot, seat_epoch).is_err() {
                    return self.refuse(&fetch, out);
                }
                self.fetch(now, fetch, out);
            }
            Message::Emit { slot, key, origin, payload } => {
                let Some(channel) = self.table.find(slot, key) else { return };
                out.count(Counter::TransientsEmitted);
                for one in channel.interests().iter(&self.lists) {
                    let link = &self.links[usize::from(one.link)];
                    if link.is_up {
                        out.send(
                            link.peer,
                            &Message::Event { handle: one.handle, origin, payload },
                        );
                    }
                }
            }
            Message::Publish {
                slot,
                seat_epoch,
                key,
                ask,
                namespace,
                offset,
                origin,
                member,
                name,
                payload,
            } => {
                let stored = Stored { offset, origin, member, payload };
                let target = Target { slot, key, namespace, name };
                let result = self
                    .owns(slot, seat_epoch)
                    .and_then(|()| self.publish(now, target, stored, out));
                let (accepted, why, offset) = match result {
                    Ok(offset) => (true, 0, offset),
                    Err(why) => (false, why, offset),
                };
                if !accepted {
                    out.count(Counter::PublicationsRefused);
                }
                let seat_epoch = self.ring.as_ref().map_or(0, |ring| ring.channel_owner(slot).2);
                out.send(peer, &Message::Published { ask, accepted, why, seat_epoch, offset });
            }
            Message::TipIs { ask, found, tip } => self.opened(now, ask, found, tip, out),
            Message::RangeEvent { ask, offset, origin, member, payload } => {
                self.filled(ask, &Stored { offset, origin, member, payload }, out);
            }
            Message::RangeEnd { ask, ok, upto } => self.fill_ended(now, ask, ok, upto, out),
            _ => out.count(Counter::WireBroken),
        }
    }

    /// I12: only the owner by the same ring answers for a slot.
    fn owns(&self, slot: Slot, seat_epoch: u32) -> Result<(), u8> {
        let Some(ring) = &self.ring else { return Err(nack::RETRY) };
        let (node, core, epoch) = ring.channel_owner(slot);
        if (node, core) != (self.me.node, self.me.core) {
            return Err(nack::MOVED);
        }
        match seat_epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => Err(nack::STALE),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(nack::RETRY),
        }
    }

    // ---- subscriptions

    fn subscribe(&mut self, now: Now, interest: Interest, target: Target<'_>, out: &mut Effects) {
        let Target { slot, key, namespace, name } = target;
        let peer = self.links[usize::from(interest.link)].peer;
        let is_known = self.table.find(slot, key).is_some();
        let has_room = self.table.len() < self.limits.channels_max as usize;
        let is_here = is_known || (has_room && self.table.insert(slot, key, 0).is_some());
        if !is_here {
            return out.send(peer, &Message::Subnack { handle: interest.handle, why: nack::FULL });
        }
        let channel = self.table.find_mut(slot, key).expect("just seen or made");
        if namespace != DURABLE {
            channel.set_verified(true);
        }
        if channel.is_verified() {
            channel.interests_mut().add(interest, &mut self.lists);
            let epoch = if namespace == DURABLE { 0 } else { self.epoch };
            let tip = channel.tip();
            return out.send(peer, &Message::Suback { handle: interest.handle, epoch, tip });
        }
        if let Some(opening) = self.openings.get_mut(&key) {
            opening.waiting.retain(|(link, _)| *link != interest.link);
            opening.waiting.push((interest.link, interest.handle));
            return;
        }
        let waiting = vec![(interest.link, interest.handle)];
        self.openings.insert(key, Opening { name: name.into(), waiting });
        self.ask_tip(now, slot, key, out);
    }

    fn ask_tip(&mut self, now: Now, slot: Slot, key: Key, out: &mut Effects) {
        let Some(opening) = self.openings.get(&key) else { return };
        let ask =
            self.questions.open(Question::Tip { slot, key }, now.mono + self.limits.ask_timeout);
        if self.source_is_up {
            out.send(self.source, &Message::Tip { ask, name: &opening.name });
        }
    }

    /// The source told the tip of a channel: who waited for it is subscribed from there on.
    fn opened(&mut self, now: Now, ask: Ask, found: bool, tip: u64, out: &mut Effects) {
        let Some(Question::Tip { slot, key }) = self.questions.peek(ask).cloned() else { return };
        self.questions.close(ask);
        let Some(opening) = self.openings.remove(&key) else { return };
        let Some(channel) = self.table.find_mut(slot, key) else {
            self.openings.insert(key, opening);
            return self.ask_tip(now, slot, key, out);
        };
        if !found && channel.tip() == 0 {
            self.table.remove(slot, key);
            for (link, handle) in opening.waiting {
                self.tell(link, &Message::Subnack { handle, why: nack::UNKNOWN }, out);
            }
            return;
        }
        // A publication may have overtaken the answer.
        let tip = tip.max(channel.tip());
        channel.set_tip(tip);
        channel.set_verified(true);
        for (link, handle) in opening.waiting {
            if self.links[usize::from(link)].is_up {
                channel.interests_mut().add(Interest { link, handle }, &mut self.lists);
                out.send(
                    self.links[usize::from(link)].peer,
                    &Message::Suback { handle, epoch: 0, tip },
                );
            }
        }
    }

    // ---- publications

    /// The offset at which it stands, or why it was not taken.
    fn publish(
        &mut self,
        now: Now,
        target: Target<'_>,
        stored: Stored<'_>,
        out: &mut Effects,
    ) -> Result<u64, u8> {
        let Target { slot, key, namespace, name } = target;
        let is_new = self.table.find(slot, key).is_none();
        if is_new {
            if self.table.len() >= self.limits.channels_max as usize {
                // Nobody wants it here, and the source has it.
                return if namespace == DURABLE { Ok(stored.offset) } else { Err(nack::FULL) };
            }
            let first = if namespace == DURABLE { stored.offset.saturating_sub(1) } else { 0 };
            let channel = self.table.insert(slot, key, first).ok_or(nack::FULL)?;
            channel.set_verified(namespace != DURABLE);
        }
        let channel = self.table.find_mut(slot, key).expect("just seen or made");
        let tip = channel.tip();
        let offset = if stored.offset == 0 { tip + 1 } else { stored.offset };
        if offset <= tip {
            out.count(Counter::PublicationsDuplicate);
            return Ok(offset);
        }
        if offset > tip + 1 {
            if channel.is_verified() && !channel.interests().is_empty() {
                return self
                    .hold(now, slot, key, name, &Stored { offset, ..stored }, out)
                    .map(|()| offset);
            }
            // Nobody follows it live: from here on the tip is only the newest that we heard of.
            channel.set_verified(false);
            self.backlog.forget(key);
        }
        self.accept(slot, key, &Stored { offset, ..stored }, out);
        self.release(slot, key, out);
        Ok(offset)
    }

    /// Appends and fans out the publication that is next.
    fn accept(&mut self, slot: Slot, key: Key, stored: &Stored<'_>, out: &mut Effects) {
        let channel =
            self.table.find_mut(slot, key).expect("only called for channels that are there");
        channel.set_tip(stored.offset);
        out.count(Counter::PublicationsAccepted);
        let Stored { offset, origin, member, payload } = *stored;
        for Interest { link, handle } in channel.interests().iter(&self.lists) {
            let link = &self.links[usize::from(link)];
            if link.is_up {
                out.send(
                    link.peer,
                    &Message::Publication { handle, offset, origin, member, payload },
                );
            }
        }
        let evicted = self.backlog.append(key, stored);
        if evicted > 0 {
            out.count_by(Counter::BacklogEvicted, evicted);
        }
    }

    fn hold(
        &mut self,
        now: Now,
        slot: Slot,
        key: Key,
        name: &str,
        stored: &Stored<'_>,
        out: &mut Effects,
    ) -> Result<(), u8> {
        let hole = self.holes.entry(key).or_insert_with(|| Hole {
            name: name.into(),
            slot,
            since: now.mono,
            is_asked: false,
            held: std::collections::BTreeMap::new(),
        });
        if hole.held.contains_key(&stored.offset) {
            return Ok(());
        }
        if hole.held.len() >= self.limits.held_per_channel_max as usize {
            return Err(nack::FULL);
        }
        out.count(Counter::PublicationsHeld);
        let member = stored.member.as_ref().map(OwnedMember::new);
        hole.held.insert(
            stored.offset,
            Held { origin: stored.origin, member, payload: stored.payload.into() },
        );
        Ok(())
    }

    /// Accepts what was held, as far as there is no hole.
    fn release(&mut self, slot: Slot, key: Key, out: &mut Effects) {
        let Some(mut hole) = self.holes.remove(&key) else { return };
        while let Some((offset, held)) = hole.held.pop_first() {
            let tip = self.table.find(slot, key).map_or(0, Channel::tip);
            if offset <= tip {
                continue;
            }
            if offset > tip + 1 {
                hole.held.insert(offset, held);
                self.holes.insert(key, hole);
                return;
            }
            let member = held.member.as_ref().map(OwnedMember::as_member);
            self.accept(
                slot,
                key,
                &Stored { offset, origin: held.origin, member, payload: &held.payload },
                out,
            );
        }
    }

    /// Asks the source for what is missing before the held.
    fn ask_fill(&mut self, now: Now, key: Key, out: &mut Effects) {
        let Some(hole) = self.holes.get_mut(&key) else { return };
        let slot = hole.slot;
        let (Some(channel), Some((&first, _))) =
            (self.table.find(slot, key), hole.held.first_key_value())
        else {
            self.holes.remove(&key);
            return;
        };
        hole.is_asked = true;
        let ask =
            self.questions.open(Question::Fill { slot, key }, now.mono + self.limits.ask_timeout);
        if self.source_is_up {
            let (from, to) = (channel.tip() + 1, first - 1);
            out.send(
                self.source,
                &Message::Range { ask, name: &hole.name, from, to, bytes_max: 1 << 20 },
            );
        }
    }

    // ---- catching up

    fn fetch(&mut self, now: Now, fetch: Fetch, out: &mut Effects) {
        let Some(channel) =
            self.table.find(fetch.slot, fetch.key).filter(|channel| channel.is_verified())
        else {
            return self.refuse(&fetch, out);
        };
        let tip = channel.tip();
        if fetch.after >= tip {
            let Fetch { ask, handle, link, .. } = fetch;
            let end = Message::PastEnd { ask, handle, upto: tip, complete: true, missing: 0 };
            return self.tell(link, &end, out);
        }
        // A page is sent as a whole, so there must be room for it as a whole.
        let need = self.page_of(&fetch);
        if !self.links[usize::from(fetch.link)].credit.reserve(need) {
            if self.waiting.len() >= self.limits.fetches_max as usize {
                return self.refuse(&fetch, out);
            }
            self.waiting.push(fetch);
            return;
        }
        match self.backlog.since(fetch.key, fetch.after, tip, need.messages as usize - 1) {
            Some(positions) => self.page(&fetch, tip, &positions, out),
            None => self.fetch_from_source(now, fetch, tip, out),
        }
    }

    /// What the answer to a fetch takes at most: its events, the one that reaches the bound of bytes whole, and the end.
    fn page_of(&self, fetch: &Fetch) -> Room {
        let grant = Room::grant(&self.limits);
        let bytes = u64::from(fetch.bytes_max) + u64::from(self.limits.publication_bytes_max);
        let messages = fetch.count_max.max(1).saturating_add(1);
        Room { messages, bytes }.min(grant)
    }

    fn page(&mut self, fetch: &Fetch, tip: u64, positions: &[u64], out: &mut Effects) {
        out.count(Counter::FetchesFromBacklog);
        let peer = self.links[usize::from(fetch.link)].peer;
        let (mut upto, mut used) = (fetch.after, Room { messages: 1, bytes: 0 });
        for position in positions {
            if used.bytes >= u64::from(fetch.bytes_max) {
                break;
            }
            let Stored { offset, origin, member, payload } = self.backlog.at(*position);
            used.add(Room { messages: 1, bytes: payload.len() as u64 });
            upto = offset;
            out.send_bulk(peer, &Message::Past { ask: fetch.ask, offset, origin, member, payload });
        }
        let Fetch { ask, handle, .. } = *fetch;
        let complete = upto == tip;
        out.send_bulk(peer, &Message::PastEnd { ask, handle, upto, complete, missing: 0 });
        self.settle(fetch, used);
    }

    /// The answer to a fetch used this much of what was reserved for it.
    fn settle(&mut self, fetch: &Fetch, used: Room) {
        let (need, grant) = (self.page_of(fetch), Room::grant(&self.limits));
        self.links[usize::from(fetch.link)].credit.settle(need, used, grant);
    }

    fn fetch_from_source(&mut self, now: Now, fetch: Fetch, tip: u64, out: &mut Effects) {
        if !self.source_is_up || self.questions.len() >= self.limits.fetches_max as usize {
            self.settle(&fetch, Room::default());
            return self.refuse(&fetch, out);
        }
        out.count(Counter::FetchesFromSource);
        let page = self.page_of(&fetch).messages - 1;
        let (from, to) = (fetch.after + 1, tip.min(fetch.after + u64::from(page)));
        let (name, bytes_max) = (fetch.name.clone(), fetch.bytes_max);
        let ask = self.questions.open(
            Question::Fetch { fetch, used: Room::default() },
            now.mono + self.limits.ask_timeout,
        );
        out.send(self.source, &Message::Range { ask, name: &name, from, to, bytes_max });
    }

    /// One event of the past, from the source.
    fn filled(&mut self, ask: Ask, stored: &Stored<'_>, out: &mut Effects) {
        match self.questions.peek_mut(ask) {
            Some(&mut Question::Fill { slot, key }) => {
                let tip = self.table.find(slot, key).map_or(u64::MAX, Channel::tip);
                if stored.offset == tip + 1 {
                    self.accept(slot, key, stored, out);
                }
            }
            Some(Question::Fetch { fetch, used }) => {
                let link = &self.links[usize::from(fetch.link)];
                if link.is_up {
                    let Stored { offset, origin, member, payload } = *stored;
                    used.add(Room { messages: 1, bytes: payload.len() as u64 });
                    out.send_bulk(
                        link.peer,
                        &Message::Past { ask: fetch.ask, offset, origin, member, payload },
                    );
                }
            }
            _ => {}
        }
    }

    fn fill_ended(&mut self, now: Now, ask: Ask, ok: bool, upto: u64, out: &mut Effects) {
        match self.questions.close(ask) {
            Some(Question::Fill { slot, key }) => {
                self.release(slot, key, out);
                if let Some(hole) = self.holes.get_mut(&key) {
                    hole.is_asked = false;
                    hole.since = now.mono;
                }
            }
            Some(Question::Fetch { fetch, used }) if ok && upto > fetch.after => {
                self.settle(&fetch, used);
                let tip = self.table.find(fetch.slot, fetch.key).map_or(0, Channel::tip);
                let Fetch { ask, handle, link, .. } = fetch;
                let complete = upto == tip;
                self.tell(link, &Message::PastEnd { ask, handle, upto, complete, missing: 0 }, out);
            }
            Some(Question::Fetch { fetch, used }) => {
                self.settle(&fetch, used);
                self.refuse(&fetch, out);
            }
            _ => {}
        }
    }

    fn refuse(&self, fetch: &Fetch, out: &mut Effects) {
        out.count(Counter::FetchesRefused);
        self.tell(fetch.link, &Message::PastRefused { ask: fetch.ask, handle: fetch.handle }, out);
    }

    // ---- links

    fn tell(&self, link: u16, message: &Message<'_>, out: &mut Effects) {
        let link = &self.links[usize::from(link)];
        if link.is_up {
            out.send(link.peer, message);
        }
    }

    fn link_of(&self, peer: Peer) -> Option<u16> {
        self.by_peer.get(&peer).copied().filter(|link| self.links[usize::from(*link)].is_up)
    }

    /// Each life of a link has a number of its own, so that what the last life left behind is known by it.
    fn peer_up(&mut self, now: Now, peer: Peer, out: &mut Effects) {
        if peer == self.source {
            self.source_is_up = true;
            // What was asked of the last life is asked again.
            for question in self.questions.drain() {
                self.ask_again(now, question, out);
            }
            return;
        }
        if peer.role != Role::Gateway {
            return;
        }
        self.peer_lost(peer);
        let fresh = Link { peer, is_up: true, credit: Credit::new(Room::grant(&self.limits)) };
        let swept = self.sweep.is_none();
        let spare = self.links.iter().position(|link| swept && !link.is_up);
        let at = spare.unwrap_or(self.links.len());
        if at == self.links.len() {
            assert!(at < usize::from(LINKS_MAX), "lives of links are swept faster than they end");
            self.links.push(fresh);
        } else {
            self.links[at] = fresh;
        }
        self.by_peer.insert(peer, at as u16);
    }

    fn peer_lost(&mut self, peer: Peer) {
        if peer == self.source {
            self.source_is_up = false;
            return;
        }
        if let Some(link) = self.by_peer.remove(&peer) {
            self.links[usize::from(link)].is_up = false;
            self.waiting.retain(|fetch| fetch.link != link);
            for opening in self.openings.values_mut() {
                opening.waiting.retain(|(waiting, _)| *waiting != link);
            }
            self.sweep = Some(0);
        }
    }

    fn ask_again(&mut self, now: Now, question: Question, out: &mut Effects) {
        match question {
            Question::Tip { slot, key } => self.ask_tip(now, slot, key, out),
            Question::Fill { key, .. } => self.ask_fill(now, key, out),
            Question::Fetch { fetch, used } => {
                self.settle(&fetch, used);
                self.refuse(&fetch, out);
            }
        }
    }

    fn room(&mut self, now: Now, peer: Peer, out: &mut Effects) {
        let Some(link) = self.link_of(peer) else { return };
        self.links[usize::from(link)].credit.renew(Room::grant(&self.limits));
        let (mine, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(|fetch| fetch.link == link);
        self.waiting = others;
        let mine: Vec<Fetch> = mine;
        for fetch in mine {
            self.fetch(now, fetch, out);
        }
    }

    fn tick(&mut self, now: Now, out: &mut Effects) {
        while let Some(question) = self.questions.overdue(now.mono) {
            self.ask_again(now, question, out);
        }
        let patience = self.limits.gap_timeout;
        let mut due: Vec<Key> = self
            .holes
            .iter()
            .filter(|(_, hole)| !hole.is_asked && hole.since + patience <= now.mono)
            .map(|(key, _)| *key)
            .collect();
        due.sort_unstable();
        for key in due {
            self.ask_fill(now, key, out);
        }
    }

    /// Removes the interests of links that are gone, slot by slot.
    fn sweep(&mut self, units: u32) -> bool {
        let Some(from) = self.sweep else { return false };
        for nth in from..from + units as usize * 16 {
            let Some(channels) = self.table.of_slot(nth) else {
                self.sweep = None;
                return false;
            };
            for channel in channels.iter_mut().filter(|channel| !channel.interests().is_empty()) {
                let links = &self.links;
                channel
                    .interests_mut()
                    .retain(&mut self.lists, |one| links[usize::from(one.link)].is_up);
            }
        }
        self.sweep = Some(from + units as usize * 16);
        true
    }
}

impl Shard for Owner {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::Wire { peer, message } => self.wire(now, peer, message, out),
            Input::PeerUp { peer, .. } => self.peer_up(now, peer, out),
            Input::PeerRoom { peer } => self.room(now, peer, out),
            Input::PeerLost { peer } => self.peer_lost(peer),
            Input::Ring { ring } => {
                if self.ring.is_none() {
                    let cores = ring
                        .seats
                        .iter()
                        .find(|row| row.node == self.me.node)
                        .map_or(1, |row| row.cores);
                    self.table = Table::new(cores);
                }
                self.ring = Some(ring.clone());
            }
            Input::Tick => self.tick(now, out),
            _ => {}
        }
    }

    fn advance(&mut self, _now: Now, budget: Budget, _out: &mut Effects) -> bool {
        self.sweep(budget.units)
    }

    fn deadline(&self) -> Option<Mono> {
        let holes = self
            .holes
            .values()
            .filter(|hole| !hole.is_asked)
            .map(|hole| hole.since + self.limits.gap_timeout)
            .min();
        sooner(self.questions.deadline(), holes)
    }

    fn report(&self, into: &mut Report) {
        into.gauge("channels", self.table.len() as f64);
        into.gauge("channel_table_bytes", self.table.bytes() as f64);
        into.gauge("backlog_bytes", self.backlog.used_bytes() as f64);
        into.gauge("backlog_channels", self.backlog.channels() as f64);
        into.gauge("source_questions", self.questions.len() as f64);
    }
}

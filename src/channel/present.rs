//! Who is in a channel: its Centrifuge subscribers, as their gateway cores report them. Not the users' presence.
//!
//! A report stands as long as its link does, and a lease longer: a gateway core that comes back says everything again, without new
//! joins, and what it does not say again has left.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use super::shard::Owner;
use crate::ids::{Conn, Key, Origin, Peer, Slot};
use crate::limits::Limits;
use crate::shard::{Counter, Effects};
use crate::time::{Mono, Now};
use crate::wire::message::event;
use crate::wire::{Message, Packed};

/// Per core.
#[derive(Debug)]
pub(super) struct Present {
    by_key: FxHashMap<Key, Channel>,
    /// Clients in all channels.
    count: usize,
    count_max: usize,
    /// Counts links that were lost: what was reported before is known by it.
    age: u64,
    /// Links that were lost, when their lease ends, and the age of what ends with it.
    leases: VecDeque<(Mono, Peer, u64)>,
}

#[derive(Debug)]
struct Channel {
    slot: Slot,
    clients: BTreeMap<(Peer, Conn), Client>,
}

#[derive(Debug)]
struct Client {
    user: Key,
    age: u64,
    /// Whether others are told of its coming and going.
    is_told: bool,
    /// What others are told of it: opaque here.
    info: Box<[u8]>,
}

/// One report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entering<'a> {
    pub(super) conn: Conn,
    pub(super) user: Key,
    pub(super) is_new: bool,
    pub(super) is_told: bool,
    pub(super) info: &'a [u8],
}

/// Bytes of one answer: more clients than that are not listed.
const BYTES_MAX: usize = 512 << 10;

impl Present {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            by_key: FxHashMap::default(),
            count: 0,
            count_max: limits.present_max as usize,
            age: 0,
            leases: VecDeque::new(),
        }
    }

    /// The link to a gateway core is gone.
    pub(super) fn lost(&mut self, now: Now, peer: Peer, limits: &Limits) {
        if self.count > 0 {
            self.leases.push_back((now.mono + limits.presence_lease, peer, self.age));
            self.age += 1;
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.leases.front().map(|(due, ..)| *due)
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(Slot) -> bool) {
        self.by_key.retain(|_, channel| is_kept(channel.slot));
        self.count = self.by_key.values().map(|channel| channel.clients.len()).sum();
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }
    pub(super) fn channels(&self) -> usize {
        self.by_key.len()
    }
}

impl Owner {
    /// A client is in a channel. False: there is no room to note it.
    pub(super) fn enters(
        &mut self,
        peer: Peer,
        (slot, key): (Slot, Key),
        entering: Entering<'_>,
        out: &mut Effects,
    ) -> bool {
        let Entering { conn, user, is_new, is_told, info } = entering;
        let present = &mut self.present;
        let is_known = present
            .by_key
            .get(&key)
            .is_some_and(|channel| channel.clients.contains_key(&(peer, conn)));
        if !is_known && present.count >= present.count_max {
            out.count(Counter::PresenceShed);
            return false;
        }
        let new = || Channel { slot, clients: BTreeMap::new() };
        let channel = present.by_key.entry(key).or_insert_with(new);
        let client = Client { user, age: present.age, is_told, info: info.into() };
        channel.clients.insert((peer, conn), client);
        present.count += usize::from(!is_known);
        if is_new && is_told && !is_known {
            self.tell(slot, key, event::JOIN, info, out);
        }
        true
    }

    /// A client has left a channel.
    pub(super) fn exits(&mut self, peer: Peer, key: Key, conn: Conn, out: &mut Effects) {
        let Some(channel) = self.present.by_key.get_mut(&key) else { return };
        let Some(client) = channel.clients.remove(&(peer, conn)) else { return };
        let slot = channel.slot;
        if channel.clients.is_empty() {
            self.present.by_key.remove(&key);
        }
        self.present.count -= 1;
        if client.is_told {
            self.tell(slot, key, event::LEAVE, &client.info, out);
        }
    }

    fn tell(&self, slot: Slot, key: Key, what: u8, info: &[u8], out: &mut Effects) {
        let mut payload = Vec::with_capacity(info.len() + 1);
        payload.push(what);
        payload.extend_from_slice(info);
        self.emit(slot, key, Origin::NOBODY, &payload, out);
    }

    /// Leases that are over: what was not said again has left.
    pub(super) fn end_leases(&mut self, now: Now, out: &mut Effects) {
        while let Some(&(due, peer, age)) = self.present.leases.front() {
            if due > now.mono {
                return;
            }
            self.present.leases.pop_front();
            let mut gone: Vec<(Key, Conn)> = Vec::new();
            for (key, channel) in &self.present.by_key {
                let all = (peer, Conn(0))..=(peer, Conn(u64::MAX));
                let old = channel.clients.range(all).filter(|(_, client)| client.age <= age);
                gone.extend(old.map(|((_, conn), _)| (*key, *conn)));
            }
            gone.sort_unstable_by_key(|(key, conn)| (key.0, *conn));
            for (key, conn) in gone {
                self.exits(peer, key, conn, out);
            }
        }
    }

    /// Who is in a channel, or how many.
    pub(super) fn present_is(
        &self,
        key: Key,
        ask: crate::ids::Ask,
        is_listed: bool,
        peer: Peer,
        out: &mut Effects,
    ) {
        let empty = BTreeMap::new();
        let clients = self.present.by_key.get(&key).map_or(&empty, |channel| &channel.clients);
        let users: FxHashSet<Key> = clients.values().map(|client| client.user).collect();
        let mut list = Vec::new();
        let infos = clients.values().map(|client| &*client.info).filter(|_| is_listed);
        let ok = infos.clone().map(<[u8]>::len).sum::<usize>() <= BYTES_MAX;
        let infos = Packed::pack(infos.filter(|_| ok), &mut list);
        let (clients, users) = (clients.len() as u32, users.len() as u32);
        out.send(peer, &Message::PresentIs { ask, ok, clients, users, infos });
    }
}

//! Guests: clients that speak Centrifuge. They are nobody's dot, and follow what they subscribe to.
//!
//! - `commands`: what they say, and what answers it
//! - `connect`: who they are, and what they are subscribed to from the start
//! - `alive`: pings, and the end of tokens
//! - `join`: subscribe and unsubscribe; `recover`: what a subscription lacks, until it is live
//! - `deltas`: publications by their difference from the one before
//! - `conversation`: the workspace's channels
//! - `call`: methods of the operator's back end
//! - `orders`: what a back end wants of them
//! - `presence`: who is in a channel, and who comes and goes
//! - `publish`: a publication, on its way to the owner and back
//! - `history`: the past of a channel, page by page
//! - `passing`: publications that take no place; `filters`: who is given only some of them
//! - `census`: who is here, for the API

mod alive;
mod call;
mod census;
mod commands;
mod connect;
pub(super) mod conversation;
pub(super) mod deltas;
pub(super) mod filters;
pub(super) mod history;
pub(super) mod join;
mod orders;
mod passing;
pub(super) mod presence;
mod publish;
mod recover;

use rustc_hash::FxHashMap;

use super::lists::ListRef;
use super::names::NameRef;
use super::slab::{Entry, NIL, Slab};
use crate::ids::{Conn, Key};

/// What is known of one, besides its session.
#[derive(Debug)]
pub(super) struct Guest {
    /// Its user; the empty name: anonymous.
    user: NameRef,
    /// Whether `next` is the next vacant one.
    is_vacant: bool,
    next: u32,
    /// When its token expires, in seconds since 1970; 0: never.
    expires_s: u32,
    /// What others are told about it: JSON, or empty.
    info: Box<[u8]>,
}

const _: () = assert!(size_of::<Guest>() <= 32, "memory is the product");

impl Entry for Guest {
    fn vacant(next: u32) -> Self {
        Self { user: NameRef(NIL), is_vacant: true, next, expires_s: 0, info: Box::default() }
    }
    fn next_vacant(&self) -> Option<u32> {
        self.is_vacant.then_some(self.next)
    }
}

/// Per shard.
#[derive(Debug)]
pub(super) struct Guests {
    all: Slab<Guest>,
    /// Their connections, by the key of their user.
    by_user: FxHashMap<Key, ListRef>,
    /// Those whose `connect` waits for subscriptions, by the index of their connection.
    connecting: FxHashMap<u32, connect::Connecting>,
    /// Those of them for whom there is nothing more to wait for.
    ready: Vec<u32>,
    /// Whose admission to a conversation is asked for, by connection and channel; and the number of the command.
    admissions: FxHashMap<(u32, Key), (Conn, u32)>,
    pub(super) joins: join::Joins,
    pub(super) reads: history::Reads,
    pub(super) deltas: deltas::Deltas,
    pub(super) filters: filters::Filters,
    /// Subscriptions in JSON to a channel in which something else was published: ended at the end of a call.
    unfit: Vec<(u32, u32)>,
    /// Subscriptions with a token that ends.
    expiries: alive::Expiries,
    /// What others are told about a guest in one channel, where that is something: by connection and place in the hub.
    infos: FxHashMap<(u32, u32), Box<[u8]>>,
}

impl Guests {
    pub(super) fn new() -> Self {
        Self {
            all: Slab::new(),
            by_user: FxHashMap::default(),
            connecting: FxHashMap::default(),
            admissions: FxHashMap::default(),
            ready: Vec::new(),
            joins: join::Joins::default(),
            reads: history::Reads::default(),
            deltas: deltas::Deltas::default(),
            filters: filters::Filters::default(),
            unfit: Vec::new(),
            expiries: alive::Expiries::default(),
            infos: FxHashMap::default(),
        }
    }

    /// The connections of a user.
    fn of_user(&self, user: Key) -> Option<&ListRef> {
        self.by_user.get(&user)
    }

    /// A connection has left a channel: what was kept for both goes.
    pub(super) fn forget(&mut self, index: u32, place: u32) {
        self.joins.forget(index, place);
        self.expiries.forget(index, place);
        self.deltas.forget(index, place);
        self.filters.forget(index, place);
        if !self.infos.is_empty() {
            self.infos.remove(&(index, place));
        }
    }

    /// Users with a connection here.
    fn users(&self) -> u32 {
        self.by_user.len() as u32
    }
    pub(super) fn count(&self) -> u32 {
        self.all.count()
    }
    /// The next end of a subscription's token.
    pub(super) fn deadline(&self) -> Option<crate::time::Mono> {
        self.expiries.deadline()
    }
}

//! Guests: clients that speak Centrifuge. They are nobody's dot, and follow what they subscribe to.
//!
//! - `commands`: what they say, and what answers it
//! - `connect`: who they are, and the end of their connection
//! - `join`: subscribe, recover, go live; unsubscribe
//! - `publish`: a publication, on its way to the owner and back
//! - `history`: the past of a channel, page by page

mod commands;
mod connect;
pub(super) mod history;
pub(super) mod join;
mod publish;

use super::names::NameRef;
use super::slab::{Entry, NIL, Slab};

/// What is known of one, besides its session.
#[derive(Debug)]
pub(super) struct Guest {
    /// Its user; the empty name: anonymous.
    user: NameRef,
    /// Whether `next` is the next vacant one.
    is_vacant: bool,
    next: u32,
    /// What others are told about it: JSON, or empty.
    info: Box<[u8]>,
}

const _: () = assert!(size_of::<Guest>() <= 32, "memory is the product");

impl Entry for Guest {
    fn vacant(next: u32) -> Self {
        Self { user: NameRef(NIL), is_vacant: true, next, info: Box::default() }
    }
    fn next_vacant(&self) -> Option<u32> {
        self.is_vacant.then_some(self.next)
    }
}

/// Per shard.
#[derive(Debug)]
pub(super) struct Guests {
    all: Slab<Guest>,
    pub(super) joins: join::Joins,
    pub(super) reads: history::Reads,
}

impl Guests {
    pub(super) fn new() -> Self {
        Self { all: Slab::new(), joins: join::Joins::default(), reads: history::Reads::default() }
    }
    pub(super) fn count(&self) -> u32 {
        self.all.count()
    }
}

//! Tokens that were revoked lately: gateways are told at once, and those whose link comes up are told again, because a word may be lost with a
//! link and a gateway keeps its connections while it is cut off.
//!
//! A ticket that is being redeemed may be granted by the database just before its token is revoked, and the answer may come here just after.
//! Such a boot is refused here, so that in each link's order it stands before the revocation or not at all.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashSet;

use crate::ids::Peer;
use crate::limits::Limits;
use crate::shard::{Counter, Effects};
use crate::time::Mono;
use crate::wire::{Message, Packed};

/// Per node.
#[derive(Debug)]
pub(super) struct Revoked {
    /// Oldest first: when it was heard, the token's number, its user's id.
    list: VecDeque<(Mono, u32, Box<str>)>,
    numbers: FxHashSet<u32>,
    count_max: usize,
    kept: Duration,
}

impl Revoked {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            list: VecDeque::new(),
            numbers: FxHashSet::default(),
            count_max: limits.revocations_max as usize,
            kept: limits.revocation_kept(),
        }
    }

    /// The database has committed this.
    pub(super) fn note(&mut self, now: Mono, tokens: Packed<'_>, out: &mut Effects) {
        while self.list.front().is_some_and(|(heard, ..)| *heard + self.kept <= now) {
            self.forget();
        }
        for (number, user) in tokens.iter::<(u32, &str)>() {
            if !self.numbers.insert(number) {
                continue;
            }
            self.list.push_back((now, number, user.into()));
            if self.list.len() > self.count_max {
                out.count(Counter::RevocationsEvicted);
                self.forget();
            }
        }
    }

    fn forget(&mut self) {
        if let Some((_, number, _)) = self.list.pop_front() {
            self.numbers.remove(&number);
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }

    /// The link to a gateway core is up.
    pub(super) fn up(&self, peer: Peer, out: &mut Effects) {
        if self.list.is_empty() {
            return;
        }
        let mut list = Vec::new();
        let pairs = self.list.iter().map(|(_, number, user)| (*number, &**user));
        let tokens = Packed::pack(pairs, &mut list);
        out.send(peer, &Message::Revoke { tokens });
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

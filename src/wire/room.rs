//! How much bulk a mailbox still takes, so that catch-up and resubscription never overflow one.
//!
//! Every sender of bulk (one shard towards one peer) has a grant, renewed by `PeerRoom`. Answers that come in pieces reserve their
//! room before they are asked for. Live messages need no room: when they do not fit, the link breaks.

use crate::limits::{BULK_PARTS, Limits};

/// Messages and bytes: what an answer takes, or a mailbox gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    pub messages: u32,
    pub bytes: u64,
}

impl Room {
    /// What one sender of bulk may send for each `PeerRoom`.
    pub fn grant(limits: &Limits) -> Self {
        Self {
            messages: limits.bulk_messages_per_room,
            bytes: u64::from(limits.mail_bytes_max / BULK_PARTS),
        }
    }
    /// Unanswered posts of a core, which are said again all at once when its link to the desk comes back: a quarter of a mailbox.
    pub fn posts(limits: &Limits) -> Self {
        Self { messages: limits.mail_messages_max / 4, bytes: u64::from(limits.mail_bytes_max / 4) }
    }
    pub fn holds(self, need: Self) -> bool {
        need.messages <= self.messages && need.bytes <= self.bytes
    }
    pub fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }
    /// Down to nothing at most.
    pub fn take(&mut self, less: Self) {
        self.messages = self.messages.saturating_sub(less.messages);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
    pub fn times(self, count: usize) -> Self {
        Self { messages: self.messages * count as u32, bytes: self.bytes * count as u64 }
    }
    /// The smaller of each.
    pub fn min(self, other: Self) -> Self {
        Self { messages: self.messages.min(other.messages), bytes: self.bytes.min(other.bytes) }
    }
}

/// What one sender of bulk has left towards one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credit {
    left: Room,
    reserved: Room,
}

impl Credit {
    /// The link is up.
    pub fn new(grant: Room) -> Self {
        Self { left: grant, reserved: Room::default() }
    }
    /// `PeerRoom`: the mailbox takes a whole grant again, less what is reserved.
    pub fn renew(&mut self, grant: Room) {
        self.left = grant;
        self.left.take(self.reserved);
    }
    pub fn holds(&self, need: Room) -> bool {
        self.left.holds(need)
    }
    /// Takes room for one message that is sent now. False, and nothing taken: wait for `PeerRoom`.
    pub fn spend(&mut self, bytes: usize) -> bool {
        let need = Room { messages: 1, bytes: bytes as u64 };
        let holds = self.left.holds(need);
        if holds {
            self.left.take(need);
        }
        holds
    }
    /// Keeps room for an answer whose pieces come later. False, and nothing kept: wait for `PeerRoom`.
    pub fn reserve(&mut self, need: Room) -> bool {
        let holds = self.left.holds(need);
        if holds {
            self.left.take(need);
            self.reserved.add(need);
        }
        holds
    }
    /// The answer is at its end and used this much: the rest of what was reserved is free again.
    pub fn settle(&mut self, reserved: Room, used: Room, grant: Room) {
        self.reserved.take(reserved);
        let mut unused = reserved;
        unused.take(used);
        self.left.add(unused);
        self.left = self.left.min(grant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Room = Room { messages: 4, bytes: 100 };

    #[test]
    fn what_is_reserved_survives_a_renewal_and_comes_back_unused() {
        let mut credit = Credit::new(GRANT);
        let page = Room { messages: 3, bytes: 80 };
        assert!(credit.reserve(page) && !credit.reserve(page));
        assert!(credit.spend(20) && !credit.spend(1));
        credit.renew(GRANT);
        assert!(!credit.holds(page), "three of four are still reserved");
        assert!(credit.spend(20));
        credit.settle(page, Room { messages: 1, bytes: 10 }, GRANT);
        assert!(credit.holds(Room { messages: 2, bytes: 70 }));
        credit.settle(Room::default(), Room::default(), GRANT);
        credit.renew(GRANT);
        assert!(credit.holds(GRANT), "never more than a grant");
    }
}

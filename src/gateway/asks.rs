//! Questions of this core to other shards that are not answered yet. Bounded; each has a deadline.
//!
//! Posts are said again when the link to the desk was lost, all at once: so they have a bound of their own, which fits its mailbox.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::guests::history::Reading;
use super::guests::presence::Report;
use super::pages::Page;
use crate::centrifuge::message::SubscribeRequest;
use crate::ids::{Ask, Conn, Peer};
use crate::time::Mono;
use crate::wire::room::Room;

/// What was asked, and for whom.
#[derive(Debug)]
pub(super) enum Pending {
    /// A ticket. `Boot` or `Refused`.
    Redeem { conn: Conn },
    /// A post: what the client called it, and the encoded `Post`, to be said again when the link was lost.
    Post { conn: Conn, reply_to: Box<[u8]>, message: Box<[u8]> },
    /// One page of a connection's catch-up.
    Page(Page),
    /// One page for a hub that lacks something itself.
    Lapse { place: u32 },
    /// The tip of a channel in which a client claims to stand above what we know.
    Tip { conn: Conn, place: u32 },
    /// Somebody's presence, once.
    Query { conn: Conn, user: Box<str> },
    /// A publication of a Centrifuge client, by the number of its command.
    Publish { conn: Conn, id: u32 },
    /// One page of a channel's history, for a Centrifuge client.
    Read { conn: Conn, reading: Box<Reading> },
    /// Who is in a channel, for the command of a Centrifuge client with this number.
    Present { conn: Conn, id: u32, is_listed: bool },
    /// Whether a Centrifuge client may follow a conversation.
    Admit { conn: Conn, id: u32, request: Box<SubscribeRequest> },
    /// A message of a Centrifuge client. `Posted` or `PostFailed`.
    Say { conn: Conn, id: u32 },
    /// A call of a Centrifuge client to the operator's back end.
    Call { conn: Conn, id: u32 },
    /// What the owner of a channel is to note.
    Report { report: Report },
    /// A ticket for the next connection of a client whose connection ends soon.
    Renew { conn: Conn },
}

/// Per shard.
#[derive(Debug)]
pub(super) struct Asks {
    open: FxHashMap<u32, (Peer, Pending)>,
    due: VecDeque<(Mono, u32)>,
    next: u32,
    count_max: u32,
    /// Posts among them, and how much those may be.
    posts: Room,
    posts_max: Room,
}

/// The interest of a core puts the core above these bits.
pub(super) const ASK_BITS: u32 = 24;

/// Too many are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

impl Asks {
    pub(super) fn new(count_max: u32, posts_max: Room) -> Self {
        // Numbers are given again only after all others were.
        assert!(count_max < 1 << (ASK_BITS - 1), "numbers of questions have 24 bits");
        let posts = Room::default();
        let (open, due) = (FxHashMap::default(), VecDeque::new());
        Self { open, due, next: 0, count_max, posts, posts_max }
    }

    /// Whether so much is asked that nobody asks more than one thing at a time which can wait.
    pub(super) fn is_busy(&self) -> bool {
        self.open.len() >= self.count_max as usize / 2
    }

    /// Whether nothing more can be asked now.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= self.count_max as usize
    }

    /// Notes a question to `peer` that fails at `due`, which is not before that of the last one.
    pub(super) fn open(&mut self, peer: Peer, due: Mono, pending: Pending) -> Result<Ask, Full> {
        if self.is_full() {
            return Err(Full);
        }
        if matches!(pending, Pending::Post { .. }) {
            let mut posts = self.posts;
            posts.add(Room { messages: 1, bytes: 0 });
            if !self.posts_max.holds(posts) {
                return Err(Full);
            }
            self.posts = posts;
        }
        loop {
            self.next = (self.next + 1) % (1 << ASK_BITS);
            if !self.open.contains_key(&self.next) {
                break;
            }
        }
        self.open.insert(self.next, (peer, pending));
        // Answered ones are passed over here, so that the queue is as long as a few of its contents.
        while self.due.front().is_some_and(|(_, ask)| !self.open.contains_key(ask)) {
            self.due.pop_front();
        }
        self.due.push_back((due, self.next));
        Ok(Ask(self.next))
    }

    /// What a post says, which is known only with its number.
    pub(super) fn keep(&mut self, ask: Ask, bytes: Box<[u8]>) {
        if let Some((_, Pending::Post { message, .. })) = self.open.get_mut(&ask.0) {
            self.posts.add(Room { messages: 0, bytes: bytes.len() as u64 });
            *message = bytes;
        }
    }

    fn forget(&mut self, ask: u32) -> Option<Pending> {
        let (_, pending) = self.open.remove(&ask)?;
        if let Pending::Post { message, .. } = &pending {
            self.posts.take(Room { messages: 1, bytes: message.len() as u64 });
        }
        Some(pending)
    }

    /// The question to which `peer` says something, if it was asked that.
    pub(super) fn peek(&self, peer: Peer, ask: Ask) -> Option<&Pending> {
        self.open.get(&ask.0).filter(|(asked, _)| *asked == peer).map(|(_, pending)| pending)
    }

    /// The page that `peer` gives a part of.
    pub(super) fn page_mut(&mut self, peer: Peer, ask: Ask) -> Option<&mut Page> {
        match self.open.get_mut(&ask.0) {
            Some((asked, Pending::Page(page))) if *asked == peer => Some(page),
            _ => None,
        }
    }

    /// The last word to a question.
    pub(super) fn close(&mut self, peer: Peer, ask: Ask) -> Option<Pending> {
        self.peek(peer, ask)?;
        self.forget(ask.0)
    }

    /// A question whose time is over.
    pub(super) fn overdue(&mut self, now: Mono) -> Option<Pending> {
        while let Some(&(due, ask)) = self.due.front() {
            if due > now {
                return None;
            }
            self.due.pop_front();
            if let Some(pending) = self.forget(ask) {
                return Some(pending);
            }
        }
        None
    }

    /// The questions to a peer that is lost, but for posts: those wait for it, or for their deadline.
    pub(super) fn lost(&mut self, peer: Peer) -> Vec<Pending> {
        let is_lost = |_: &u32, (asked, pending): &mut (Peer, Pending)| {
            *asked == peer && !matches!(pending, Pending::Post { .. })
        };
        let mut lost: Vec<(u32, (Peer, Pending))> = self.open.extract_if(is_lost).collect();
        // In the order in which they were asked, as nearly as the numbers say.
        lost.sort_unstable_by_key(|(ask, _)| *ask);
        lost.into_iter().map(|(_, (_, pending))| pending).collect()
    }

    /// The posts that `peer` did not answer, oldest first.
    pub(super) fn posts(&self, peer: Peer) -> impl Iterator<Item = &[u8]> {
        self.due.iter().filter_map(move |(_, ask)| match self.open.get(ask) {
            Some((asked, Pending::Post { message, .. })) if *asked == peer => Some(&**message),
            _ => None,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NodeId, Role};

    const DESK: Peer = Peer { node: NodeId(0), role: Role::Webapp, core: Peer::CONTROL_CORE };
    const OTHER: Peer = Peer { node: NodeId(0), role: Role::Gateway, core: 1 };

    const ROOM: Room = Room { messages: 2, bytes: 7 };

    #[test]
    fn only_who_was_asked_may_answer_and_only_once() {
        let mut asks = Asks::new(2, ROOM);
        let ask = asks.open(DESK, Mono(9), Pending::Lapse { place: 1 }).expect("room");
        assert!(asks.close(OTHER, ask).is_none());
        assert!(asks.close(DESK, ask).is_some() && asks.close(DESK, ask).is_none());
        for place in 0..2 {
            asks.open(DESK, Mono(9), Pending::Lapse { place }).expect("room");
        }
        assert_eq!(asks.open(DESK, Mono(9), Pending::Lapse { place: 3 }).err(), Some(Full));
    }

    #[test]
    fn a_lost_peer_loses_its_questions_but_posts_wait_for_it() {
        let mut asks = Asks::new(9, ROOM);
        let conn = Conn::new(0, 1, 1);
        let post = |name: &[u8]| Pending::Post { conn, reply_to: [].into(), message: name.into() };
        asks.open(DESK, Mono(1), post(b"one")).expect("room");
        asks.open(DESK, Mono(2), Pending::Redeem { conn }).expect("room");
        asks.open(DESK, Mono(3), post(b"two")).expect("room");
        asks.open(OTHER, Mono(3), Pending::Lapse { place: 1 }).expect("room");
        assert!(matches!(asks.lost(DESK)[..], [Pending::Redeem { .. }]));
        assert_eq!(asks.posts(DESK).collect::<Vec<_>>(), [b"one", b"two"]);
        assert!(asks.overdue(Mono(0)).is_none());
        assert!(matches!(asks.overdue(Mono(2)), Some(Pending::Post { .. })));
        assert!(asks.overdue(Mono(2)).is_none());
        assert_eq!((asks.count(), asks.deadline()), (2, Some(Mono(3))));
    }

    #[test]
    fn posts_that_would_not_fit_the_mailbox_again_are_not_taken() {
        let mut asks = Asks::new(9, ROOM);
        let conn = Conn::new(0, 1, 1);
        let post = || Pending::Post { conn, reply_to: [].into(), message: Box::default() };
        let one = asks.open(DESK, Mono(1), post()).expect("room");
        asks.keep(one, b"1234567".as_slice().into());
        let two = asks.open(DESK, Mono(1), post()).expect("within both bounds");
        assert_eq!(asks.open(DESK, Mono(1), post()).err(), Some(Full), "too many");
        asks.open(DESK, Mono(1), Pending::Redeem { conn }).expect("others have room");
        asks.keep(two, b"8".as_slice().into());
        asks.close(DESK, one).expect("open");
        asks.open(DESK, Mono(2), post()).expect("one byte is open");
        asks.close(DESK, two).expect("open");
        let three = asks.open(DESK, Mono(2), post()).expect("room");
        asks.keep(three, b"12345678".as_slice().into());
        assert!(matches!(asks.overdue(Mono(1)), Some(Pending::Redeem { .. })));
        assert!(matches!(asks.overdue(Mono(2)), Some(Pending::Post { .. })));
        assert_eq!(asks.open(DESK, Mono(3), post()).err(), Some(Full), "too long");
        assert!(matches!(asks.overdue(Mono(2)), Some(Pending::Post { .. })));
        assert!(asks.open(DESK, Mono(3), post()).is_ok());
    }
}

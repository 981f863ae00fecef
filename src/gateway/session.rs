//! What is known of one client while it is connected: 64 bytes, by the index of its connection.

use super::lists::ListRef;
use super::slab::{CHUNK, NIL};
use crate::centrifuge::framing::Framing;
use crate::ids::Conn;
use crate::websocket::Reader;

/// How a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(super) enum Dialect {
    #[default]
    Rtm,
    Json,
    Protobuf,
}

impl Dialect {
    pub(super) const ALL: [Self; 3] = [Self::Rtm, Self::Json, Self::Protobuf];

    /// `None`: it is not Centrifuge.
    pub(super) fn framing(self) -> Option<Framing> {
        match self {
            Self::Rtm => None,
            Self::Json => Some(Framing::Json),
            Self::Protobuf => Some(Framing::Protobuf),
        }
    }
}

impl From<Framing> for Dialect {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Json => Self::Json,
            Framing::Protobuf => Self::Protobuf,
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(super) enum State {
    /// No connection has this index now.
    #[default]
    Vacant,
    /// Its request is arriving.
    Upgrading,
    /// It speaks Centrifuge, and is to say `connect`.
    Connecting,
    /// Its ticket is being redeemed: it may ping, but not speak.
    Redeeming,
    /// It was greeted and is to say where it stands, before anything durable comes.
    Positioning,
    Active,
    /// `/dev/echo`: says back what it hears.
    Echo,
    /// Its last words wait to be written: nothing is heard or said any more.
    Closing,
}

/// What else is true of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Is {
    /// It takes presence changes with `users`.
    BatchAware = 1,
    /// A ping was sent, and nothing was heard since.
    Pinged = 2,
    /// Goodbye was said.
    Leaving = 4,
    /// A message has begun and not ended.
    Partial = 8,
    /// It took no byte, and is looked at again later.
    Stalled = 16,
    /// It is not read while its outbox is full.
    Paused = 32,
    /// A `presence_query` of it is open.
    Querying = 64,
    /// Something transient was dropped in front of it: its dots may be old.
    Dotless = 128,
}

/// One connection. Per shard.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) reader: Reader,
    /// Places in the hub of the channels that it follows.
    pub(super) channels: ListRef,
    /// Places of the people whose presence it watches.
    pub(super) watches: ListRef,
    generation: u32,
    /// The place of its user among the people; `NIL` before the ticket is redeemed.
    pub(super) person: u32,
    /// Of a Centrifuge client, where is what else is known of it; of any other, the number of the token that its ticket came of. `NIL`: it
    /// is not known yet.
    comes_by: u32,
    /// Where its catch-up stands; `NIL`: it has none.
    pub(super) catching: u32,
    /// Seconds on the driver's clock.
    pub(super) born_s: u32,
    pub(super) heard_s: u32,
    /// Neighbours in the wheel.
    pub(super) wheel_prev: u32,
    pub(super) wheel_next: u32,
    pub(super) state: State,
    pub(super) dialect: Dialect,
    flags: u8,
    /// Questions that are open.
    pub(super) asks: u8,
    /// Control frames: how many of the burst are spent, and as of which second.
    controls: u8,
    controls_s: u8,
}

const _: () = assert!(size_of::<Session>() <= 64, "a million of them");

impl Default for Session {
    fn default() -> Self {
        Self {
            reader: Reader::default(),
            channels: ListRef::EMPTY,
            watches: ListRef::EMPTY,
            generation: 0,
            person: NIL,
            comes_by: NIL,
            catching: NIL,
            born_s: 0,
            heard_s: 0,
            wheel_prev: NIL,
            wheel_next: NIL,
            state: State::Vacant,
            dialect: Dialect::Rtm,
            flags: 0,
            asks: 0,
            controls: 0,
            controls_s: 0,
        }
    }
}

impl Session {
    pub(super) fn is(&self, what: Is) -> bool {
        self.flags & what as u8 != 0
    }
    pub(super) fn set(&mut self, what: Is, to: bool) {
        self.flags = if to { self.flags | what as u8 } else { self.flags & !(what as u8) };
    }

    /// What else is known of a Centrifuge client; `NIL`: it is none, or did not connect yet.
    pub(super) fn guest(&self) -> u32 {
        if self.dialect == Dialect::Rtm { NIL } else { self.comes_by }
    }
    pub(super) fn set_guest(&mut self, guest: u32) {
        assert!(self.dialect != Dialect::Rtm, "it speaks Centrifuge");
        self.comes_by = guest;
    }
    /// The number of the token that its ticket came of; 0: none.
    pub(super) fn token(&self) -> u32 {
        let is_known = self.dialect == Dialect::Rtm && self.comes_by != NIL;
        if is_known { self.comes_by } else { 0 }
    }
    pub(super) fn set_token(&mut self, token: u32) {
        assert!(self.dialect == Dialect::Rtm, "Centrifuge clients come by tokens of their own");
        self.comes_by = token;
    }

    /// Whether it may be told events.
    pub(super) fn is_greeted(&self) -> bool {
        matches!(self.state, State::Positioning | State::Active)
    }

    /// Counts a control frame. False: more than it may send.
    pub(super) fn may_control(&mut self, second: u32, per_second: u32, burst: u32) -> bool {
        let second = second as u8;
        let since = u32::from(second.wrapping_sub(self.controls_s));
        self.controls_s = second;
        let spent = u32::from(self.controls).saturating_sub(since * per_second) + 1;
        self.controls = spent.min(255) as u8;
        spent <= burst
    }
}

/// The sessions of a core, in chunks by the index of their connection.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    chunks: Vec<Box<[Session]>>,
    count: u32,
}

impl Sessions {
    /// A new connection.
    ///
    /// # Panics
    /// When the index is in use: the driver gives it again only after `Closed`.
    pub(super) fn open(&mut self, conn: Conn) -> &mut Session {
        let index = conn.index() as usize;
        while self.chunks.len() <= index / CHUNK {
            self.chunks.push((0..CHUNK).map(|_| Session::default()).collect());
        }
        self.count += 1;
        let session = self.at(conn.index());
        assert!(session.state == State::Vacant, "an index has one connection");
        session.generation = conn.generation();
        session.state = State::Upgrading;
        session
    }

    /// The connection is gone.
    pub(super) fn close(&mut self, index: u32) {
        let session = self.at(index);
        assert!(session.channels.is_empty() && session.watches.is_empty(), "everything was left");
        *session = Session::default();
        self.count -= 1;
    }

    /// The session with this index, which must be in use or known to be vacant.
    pub(super) fn at(&mut self, index: u32) -> &mut Session {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    pub(super) fn of(&self, index: u32) -> &Session {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// The session of a connection, unless that is gone.
    pub(super) fn find(&mut self, conn: Conn) -> Option<&mut Session> {
        self.is_live(conn).then(|| self.at(conn.index()))
    }

    pub(super) fn is_live(&self, conn: Conn) -> bool {
        let index = conn.index() as usize;
        self.chunks.get(index / CHUNK).is_some_and(|chunk| {
            let session = &chunk[index % CHUNK];
            session.state != State::Vacant && session.generation == conn.generation()
        })
    }

    /// The connection that has an index now.
    pub(super) fn conn(&self, core: u8, index: u32) -> Conn {
        Conn::new(core, index, self.of(index).generation)
    }

    /// Connections.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
    /// One above the highest index that was ever used.
    pub(super) fn indexes(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }
    /// Bytes that the table takes.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Session>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_connection_with_the_same_index_is_another_one() {
        let mut sessions = Sessions::default();
        let (first, second) = (Conn::new(1, 7, 1), Conn::new(1, 7, 2));
        sessions.open(first).heard_s = 9;
        assert!(sessions.find(first).is_some() && sessions.find(second).is_none());
        assert_eq!(sessions.conn(1, 7), first);
        sessions.close(7);
        assert!(sessions.find(first).is_none());
        assert_eq!(sessions.open(second).heard_s, 0);
        assert!(sessions.find(first).is_none() && sessions.find(second).is_some());
        assert_eq!(sessions.count(), 1);
        assert!(!sessions.is_live(Conn::new(1, 70_000, 1)));
    }

    #[test]
    fn control_frames_have_a_burst_and_a_pace() {
        let mut session = Session::default();
        assert_eq!((0..30).filter(|_| session.may_control(7, 10, 20)).count(), 20);
        assert!(!session.may_control(8, 10, 20), "what was refused counts too");
        assert_eq!((0..30).filter(|_| session.may_control(300, 10, 20)).count(), 20);
    }
}

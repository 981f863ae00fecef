//! What a guest says: messages to commands, commands to what is done about them.

use crate::centrifuge::code::{Disconnect, Fault};
use crate::centrifuge::message::{Command, Error, Reply};
use crate::gateway::asks::Pending;
use crate::gateway::outbox::Kind;
use crate::gateway::session::{Is, State};
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::{Ask, Conn};
use crate::shard::Counter;

impl Gateway {
    /// One websocket message of a guest.
    pub(in crate::gateway) fn guest_message(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        bytes: &[u8],
    ) {
        let index = conn.index();
        turn.out.count(Counter::MessagesReceived);
        let framing = self.sessions.of(index).dialect.framing().expect("a guest has a framing");
        let Ok(commands) = framing.commands(bytes) else {
            return self.disconnect(turn, index, Disconnect::BadRequest);
        };
        let was_refused = self.sessions.of(index).is(Is::Leaving);
        for command in &commands {
            let session = self.sessions.of(index);
            let is_refused = session.is(Is::Leaving);
            match session.state {
                // Its connect was refused just now: what it said behind that is void.
                State::Connecting if is_refused && !was_refused => return,
                State::Connecting => match &command.connect {
                    Some(request) if command.id != 0 && !is_refused => {
                        self.connect(turn, index, command.id, request);
                    }
                    _ => self.disconnect(turn, index, Disconnect::BadRequest),
                },
                State::Active => self.guest_command(turn, index, command),
                _ => return,
            }
        }
    }

    pub(super) fn guest_command(&mut self, turn: &mut Turn<'_>, index: u32, command: &Command) {
        if self.keep(turn, index, command) {
            return;
        }
        let id = command.id;
        let outcome = match command {
            Command { subscribe: Some(request), .. } if id != 0 => {
                self.subscribe(turn, index, id, request)
            }
            Command { unsubscribe: Some(request), .. } if id != 0 => {
                self.unsubscribe(turn, index, id, &request.channel)
            }
            Command { publish: Some(request), .. } if id != 0 => {
                self.publish(turn, index, id, request)
            }
            Command { history: Some(request), .. } if id != 0 => {
                self.history(turn, index, id, request)
            }
            Command { presence: Some(request), .. } if id != 0 => {
                self.presence(turn, index, id, &request.channel, true)
            }
            Command { presence_stats: Some(request), .. } if id != 0 => {
                self.presence(turn, index, id, &request.channel, false)
            }
            Command { refresh: Some(request), .. } if id != 0 => {
                self.refresh(turn, index, id, &request.token)
            }
            Command { sub_refresh: Some(request), .. } if id != 0 => {
                self.sub_refresh(turn, index, id, request)
            }
            Command { rpc: Some(request), .. } if id != 0 => self.call(turn, index, id, request),
            Command { send: Some(_), .. } => Err(Wrong::Disconnect(Disconnect::NotAvailable)),
            other if *other == Command::default() => self.pong_heard(index),
            // No kind, a kind that is not served, a second connect, or no number.
            _ => Err(Wrong::Disconnect(Disconnect::BadRequest)),
        };
        match outcome {
            Ok(()) => {}
            Err(Wrong::Fault(fault)) => self.fail(turn, index, id, fault),
            Err(Wrong::Disconnect(why)) => self.disconnect(turn, index, why),
        }
    }

    fn pong_heard(&mut self, index: u32) -> Result<(), Wrong> {
        let session = self.sessions.at(index);
        if !session.is(Is::Pinged) {
            return Err(Wrong::Disconnect(Disconnect::BadRequest));
        }
        session.set(Is::Pinged, false);
        Ok(())
    }

    /// Says one reply to one guest.
    pub(super) fn answer(&mut self, turn: &mut Turn<'_>, index: u32, reply: Reply) {
        let framing = self.sessions.of(index).dialect.framing().expect("a guest has a framing");
        let frame = self.frame_in(framing.into(), |into| framing.write(&reply, into));
        self.append(turn, index, &frame, Kind::Durable);
        self.outboxes.release(frame);
    }

    /// Refuses a command.
    pub(super) fn fail(&mut self, turn: &mut Turn<'_>, index: u32, id: u32, fault: Fault) {
        let error = Error {
            code: fault.code(),
            message: fault.text().into(),
            temporary: fault.is_temporary(),
        };
        self.answer(turn, index, Reply { id, error: Some(error), ..Reply::default() });
    }

    /// Notes that a guest waits for an answer of the owner of a channel, behind the interest of `core`. What is asked has `bytes`.
    pub(super) fn open_to_owner(
        &mut self,
        turn: &Turn<'_>,
        index: u32,
        (core, bytes): (u8, usize),
        pending: impl FnOnce(Conn) -> Pending,
    ) -> Result<Ask, Wrong> {
        self.may_wait(index)?;
        let conn = self.sessions.conn(self.me.core, index);
        let (peer, due) = (self.neighbour(core), turn.now.mono + self.limits.ask_timeout);
        let may = self.may_ask(core, bytes);
        let ask = if may { self.asks.open(peer, due, pending(conn)).ok() } else { None };
        ask.ok_or_else(|| self.not_asked(conn))
    }

    /// The same for the back end.
    pub(super) fn open_to_desk(
        &mut self,
        turn: &Turn<'_>,
        index: u32,
        pending: impl FnOnce(Conn) -> Pending,
    ) -> Result<Ask, Wrong> {
        if !self.desk_is_up {
            return Err(Fault::Internal.into());
        }
        self.may_wait(index)?;
        let conn = self.sessions.conn(self.me.core, index);
        let due = turn.now.mono + self.limits.ask_timeout;
        self.asks.open(self.desk, due, pending(conn)).map_err(|_| self.not_asked(conn))
    }

    fn not_asked(&mut self, conn: Conn) -> Wrong {
        self.waited(conn);
        Fault::Internal.into()
    }

    /// Takes one of the questions that a connection may have open.
    pub(super) fn may_wait(&mut self, index: u32) -> Result<(), Wrong> {
        let session = self.sessions.at(index);
        if u32::from(session.asks) >= self.limits.asks_per_conn_max {
            return Err(Wrong::Fault(Fault::TooManyRequests));
        }
        session.asks += 1;
        Ok(())
    }

    /// The guest whose question is answered, if it is still there.
    pub(super) fn waited(&mut self, conn: Conn) -> Option<u32> {
        let session = self.sessions.find(conn)?;
        session.asks = session.asks.saturating_sub(1);
        (session.state == State::Active).then(|| conn.index())
    }
}

/// What comes of a command that is not done.
pub(super) enum Wrong {
    Fault(Fault),
    Disconnect(Disconnect),
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Disconnect> for Wrong {
    fn from(why: Disconnect) -> Self {
        Self::Disconnect(why)
    }
}

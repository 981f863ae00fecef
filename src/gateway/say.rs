//! Saying something to one client: frames into its outbox, and what follows when that is full.

use super::frames::Frame;
use super::outbox::{Appended, Kind, Rest};
use super::session::{Dialect, Is, State};
use super::shard::{Gateway, Turn};
use crate::centrifuge::code::Disconnect;
use crate::centrifuge::framing::Framing;
use crate::ids::Conn;
use crate::rtm::{Fault, event};
use crate::shard::{Class, Counter, Effect};
use crate::websocket::writer;

/// Room for the longest header of a frame, in front of a payload whose length is not known yet.
const HEADER_BYTES: usize = 10;
/// slack_sdk does not bear a ping without a payload.
const PING_WORD: &[u8] = b"campanile";
/// A connection that echoes is not read while more than this waits for it.
const ECHO_PAUSE_BYTES: u32 = 1 << 20;

impl Gateway {
    /// Keeps a text frame whose payload `write` appends: for many, or for one.
    pub(super) fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Frame {
        self.frame_in(Dialect::Rtm, write)
    }

    /// The same for any dialect.
    pub(super) fn frame_in(&mut self, dialect: Dialect, write: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let opcode = if dialect == Dialect::Protobuf { writer::BINARY } else { writer::TEXT };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.resize(HEADER_BYTES, 0);
        write(&mut scratch);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        writer::header(opcode, scratch.len() - HEADER_BYTES, &mut header);
        let start = HEADER_BYTES - header.len();
        scratch[start..HEADER_BYTES].copy_from_slice(&header);
        let frame = self.outboxes.put(&scratch[start..]);
        self.scratch = scratch;
        frame
    }

    /// Says one JSON text to one client.
    pub(super) fn say(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        kind: Kind,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let frame = self.frame(write);
        self.append(turn, index, &frame, kind);
        self.outboxes.release(frame);
    }

    pub(super) fn say_fault(&mut self, turn: &mut Turn<'_>, index: u32, fault: Fault) {
        self.say(turn, index, Kind::Durable, |into| event::error(fault, into));
    }

    /// Refuses a numbered frame; without a number it is an error that answers nothing.
    pub(super) fn say_refusal(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        reply_to: &[u8],
        fault: Fault,
    ) {
        self.say(turn, index, Kind::Durable, |into| {
            if reply_to.is_empty() {
                event::error(fault, into);
            } else {
                event::refusal(reply_to, fault, into);
            }
        });
    }

    /// Appends a frame that others may share.
    pub(super) fn append(&mut self, turn: &mut Turn<'_>, index: u32, frame: &Frame, kind: Kind) {
        if self.guests.is_connecting(index) {
            let bytes = self.outboxes.frames().bytes_of(frame.0);
            return self.guests.hold(index, bytes, kind, &self.limits, &mut self.evictions);
        }
        let dropped = self.outboxes.transients_dropped();
        let appended = self.outboxes.append(index, frame, kind, self.bounds_of(index));
        self.appended(turn, index, appended);
        let dropped = self.outboxes.transients_dropped() - dropped;
        if dropped > 0 {
            turn.out.count_by(Counter::TransientsDropped, dropped as u32);
            // Among them may be dots, which are state: they are told again once the client has read on.
            self.sessions.at(index).set(Is::Dotless, true);
        }
    }

    /// Appends the bytes of a frame or of an HTTP answer to one connection.
    pub(super) fn append_bytes(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        bytes: &[u8],
        kind: Kind,
    ) {
        let appended = self.outboxes.append_bytes(index, bytes, kind, self.bounds_of(index));
        self.appended(turn, index, appended);
    }

    fn appended(&mut self, turn: &mut Turn<'_>, index: u32, appended: Appended) {
        match appended {
            Appended::First => {
                let conn = self.sessions.conn(self.me.core, index);
                turn.out.push(Effect::Dirty { conn, class: Class::Small });
            }
            Appended::Queued | Appended::Dropped => {}
            Appended::Overflow => self.evictions.push(index),
        }
    }

    pub(super) fn pong(&mut self, turn: &mut Turn<'_>, index: u32, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(payload.len() + 2);
        writer::frame(writer::PONG, payload, &mut bytes);
        self.append_bytes(turn, index, &bytes, Kind::Control);
    }

    pub(super) fn ping(&mut self, turn: &mut Turn<'_>, index: u32) {
        let mut bytes = Vec::with_capacity(PING_WORD.len() + 2);
        match self.sessions.of(index).dialect.framing() {
            None => writer::frame(writer::PING, PING_WORD, &mut bytes),
            Some(framing @ Framing::Json) => {
                writer::frame(writer::TEXT, framing.ping(), &mut bytes);
            }
            Some(framing @ Framing::Protobuf) => {
                writer::frame(writer::BINARY, framing.ping(), &mut bytes);
            }
        }
        self.append_bytes(turn, index, &bytes, Kind::Control);
    }

    /// Says back what was heard. A client that does not read its echo is not heard for a while.
    pub(super) fn echo(&mut self, turn: &mut Turn<'_>, index: u32, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(payload.len() + HEADER_BYTES);
        writer::frame(opcode, payload, &mut bytes);
        self.append_bytes(turn, index, &bytes, Kind::Durable);
        if self.outboxes.waiting_bytes(index) > ECHO_PAUSE_BYTES {
            let conn = self.sessions.conn(self.me.core, index);
            let session = self.sessions.at(index);
            if !session.is(Is::Paused) {
                session.set(Is::Paused, true);
                turn.out.push(Effect::Pause { conn });
            }
        }
    }

    /// The kernel took bytes of a connection.
    pub(super) fn sent(&mut self, turn: &mut Turn<'_>, conn: Conn, bytes: usize) {
        if !self.sessions.is_live(conn) {
            return;
        }
        let index = conn.index();
        let rest = self.outboxes.sent(index, bytes);
        let waiting = self.outboxes.waiting_bytes(index);
        let session = self.sessions.at(index);
        if session.is(Is::Paused) && waiting <= ECHO_PAUSE_BYTES / 2 {
            session.set(Is::Paused, false);
            turn.out.push(Effect::Resume { conn });
        }
        if rest == Rest::Drained {
            if session.is(Is::Dotless) {
                session.set(Is::Dotless, false);
                if session.state == State::Active {
                    self.tell_dots_again(turn, index);
                }
            }
        } else if !session.is(Is::Stalled) {
            session.set(Is::Stalled, true);
            self.watch_stall(turn, conn);
        }
    }

    fn watch_stall(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        if let Some(progress) = self.outboxes.progress(conn.index()) {
            let due = turn.now.mono + self.limits.stall_timeout;
            self.timers.stalls.push(due, (conn, progress));
        }
    }

    /// Some time ago bytes waited: whether any was taken since.
    pub(super) fn check_stall(&mut self, turn: &mut Turn<'_>, conn: Conn, before: u32) {
        if !self.sessions.is_live(conn) {
            return;
        }
        let index = conn.index();
        match self.outboxes.progress(index) {
            None => self.sessions.at(index).set(Is::Stalled, false),
            Some(now) if now == before => self.evictions.push(index),
            Some(_) => self.watch_stall(turn, conn),
        }
    }

    /// Lets those go who are too slow, and the slowest when all together hold too much.
    pub(super) fn evict(&mut self, turn: &mut Turn<'_>) {
        while self.outboxes.frames().bytes() > self.limits.outboxes_bytes_max
            && let Some(index) = self.outboxes.largest()
        {
            let before = self.outboxes.bytes();
            self.evictions.push(index);
            self.let_go_of_the_slow(turn);
            if self.outboxes.bytes() == before {
                break;
            }
        }
        self.let_go_of_the_slow(turn);
    }

    fn let_go_of_the_slow(&mut self, turn: &mut Turn<'_>) {
        while let Some(index) = self.evictions.pop() {
            if self.sessions.of(index).state == State::Vacant {
                continue;
            }
            if self.sessions.of(index).state == State::Closing {
                // Even its last words do not go out.
                self.cut_off(turn, index);
                continue;
            }
            turn.out.count(Counter::SlowEvicted);
            self.outboxes.cut(index);
            if self.sessions.of(index).dialect == Dialect::Rtm {
                let code = crate::websocket::close::TOO_SLOW;
                self.hang_up(turn, index, code, "come back and resume");
            } else {
                self.disconnect(turn, index, Disconnect::Slow);
            }
        }
    }
}

//! What clients send: bytes to frames, frames to commands, commands to what is done about them.

use super::asks::Pending;
use super::guests::conversation::Admitted;
use super::outbox::Kind;
use super::session::{Dialect, Is, State};
use super::shard::{Gateway, Turn};
use crate::ids::{Conn, Origin};
use crate::ring::slot_of;
use crate::rtm::{Command, Fault, Wrong, event};
use crate::shard::Counter;
use crate::time::Mono;
use crate::websocket::{Bounds, Event, close, writer};
use crate::wire::Message;

impl Gateway {
    pub(super) fn received(&mut self, turn: &mut Turn<'_>, conn: Conn, bytes: &mut [u8]) {
        let second = turn.second();
        let Some(session) = self.sessions.find(conn) else { return };
        // A guest is pinged by the clock, and only its own pong is an answer.
        if session.dialect == Dialect::Rtm {
            session.heard_s = second;
            session.set(Is::Pinged, false);
        }
        match session.state {
            State::Vacant | State::Closing => {}
            State::Upgrading => self.upgrade(turn, conn, bytes),
            _ => self.frames(turn, conn, bytes),
        }
    }

    /// Bytes behind the request.
    pub(super) fn frames(&mut self, turn: &mut Turn<'_>, conn: Conn, bytes: &mut [u8]) {
        let index = conn.index();
        let bounds = if self.sessions.of(index).state == State::Echo {
            Bounds {
                message_bytes_max: self.limits.echo_bytes_max as usize,
                fragments_max: self.limits.echo_fragments_max,
            }
        } else if self.sessions.of(index).dialect != Dialect::Rtm {
            Bounds {
                message_bytes_max: self.limits.guest_message_bytes_max as usize,
                fragments_max: self.limits.fragments_max,
            }
        } else {
            Bounds {
                message_bytes_max: self.limits.message_bytes_max as usize,
                fragments_max: self.limits.fragments_max,
            }
        };
        let mut reader = std::mem::take(&mut self.sessions.at(index).reader);
        let mut at = 0;
        while self.sessions.of(index).state != State::Closing {
            match reader.next(bytes, &mut at, &bounds) {
                Ok(None) => {
                    self.note_partial(turn, conn, reader.is_partial());
                    self.sessions.at(index).reader = reader;
                    return;
                }
                Ok(Some(event)) => self.frame_event(turn, conn, event),
                Err(violation) => {
                    turn.out.count(Counter::ProtocolErrors);
                    return self.hang_up(turn, index, violation.code, violation.reason);
                }
            }
        }
    }

    fn frame_event(&mut self, turn: &mut Turn<'_>, conn: Conn, event: Event<'_>) {
        let index = conn.index();
        let state = self.sessions.of(index).state;
        match event {
            Event::Text(text) if state == State::Echo => {
                self.echo(turn, index, writer::TEXT, text);
            }
            Event::Binary(bytes) if state == State::Echo => {
                self.echo(turn, index, writer::BINARY, bytes);
            }
            // What kind of message it is in says nothing: the framing was agreed upon before.
            Event::Text(bytes) | Event::Binary(bytes)
                if self.sessions.of(index).dialect != Dialect::Rtm =>
            {
                self.guest_message(turn, conn, bytes);
            }
            Event::Text(text) => {
                turn.out.count(Counter::MessagesReceived);
                self.command(turn, conn, text);
            }
            Event::Binary(_) => {
                turn.out.count(Counter::ProtocolErrors);
                self.hang_up(turn, index, close::UNSUPPORTED, "text only");
            }
            Event::Ping(payload) => {
                if self.may_control(turn, index) {
                    self.pong(turn, index, payload);
                }
            }
            Event::Pong => {
                self.may_control(turn, index);
            }
            Event::Close(code) => self.close_back(turn, index, code),
        }
    }

    fn may_control(&mut self, turn: &mut Turn<'_>, index: u32) -> bool {
        let (per_second, burst) = (self.limits.control_per_second, self.limits.control_burst);
        let may = self.sessions.at(index).may_control(turn.second(), per_second, burst);
        if !may {
            turn.out.count(Counter::ProtocolErrors);
            self.hang_up(turn, index, close::POLICY, "too many control frames");
        }
        may
    }

    /// A message that has begun is to be whole in time.
    fn note_partial(&mut self, turn: &mut Turn<'_>, conn: Conn, is_partial: bool) {
        let index = conn.index();
        let session = self.sessions.at(index);
        if session.is(Is::Partial) == is_partial {
            return;
        }
        session.set(Is::Partial, is_partial);
        if is_partial {
            let now = turn.now.mono;
            self.partials.insert(index, now);
            let sessions = &self.sessions;
            self.timers.partials.trim(|conn| !sessions.is_live(*conn));
            self.timers.partials.push(now + self.limits.fragments_timeout, conn);
        } else {
            self.partials.remove(&index);
        }
    }

    pub(super) fn check_partial(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        let index = conn.index();
        let since: Option<Mono> = self.partials.get(&index).copied();
        let is_late =
            since.is_some_and(|since| since + self.limits.fragments_timeout <= turn.now.mono);
        if is_late && self.sessions.is_live(conn) {
            turn.out.count(Counter::ProtocolErrors);
            self.hang_up(turn, index, close::POLICY, "a message without end");
        }
    }

    fn command(&mut self, turn: &mut Turn<'_>, conn: Conn, text: &mut [u8]) {
        let index = conn.index();
        let mut parser = std::mem::take(&mut self.parser);
        match parser.parse(text, self.limits.watch_max as usize) {
            Ok(command) => self.obey(turn, conn, &command),
            Err(Wrong { id, fault }) => {
                self.say_refusal(turn, index, &event::reply_to(id), fault);
            }
        }
        self.parser = parser;
    }

    fn obey(&mut self, turn: &mut Turn<'_>, conn: Conn, command: &Command<'_>) {
        let index = conn.index();
        let state = self.sessions.of(index).state;
        if state == State::Redeeming {
            return self.say_fault(turn, index, Fault::NotReady);
        }
        match *command {
            Command::Ping { id, ref fields } => {
                let reply_to = event::reply_to(id);
                self.say(turn, index, Kind::Durable, |into| event::pong(&reply_to, fields, into));
            }
            Command::Message { id, .. } => {
                let reply_to = event::reply_to(id);
                if let Err(fault) = self.post(turn, conn, &reply_to, command) {
                    self.say_refusal(turn, index, &reply_to, fault);
                }
                self.note_activity(turn, index);
            }
            Command::Typing { id, channel, thread_ts } => {
                if let Err(fault) = self.typing(turn, conn, channel, thread_ts) {
                    self.say_refusal(turn, index, &event::reply_to(id), fault);
                }
                self.note_activity(turn, index);
            }
            Command::PresenceSub { id, ref ids } => {
                if let Err(fault) = self.presence_sub(turn, index, ids) {
                    self.say_refusal(turn, index, &event::reply_to(id), fault);
                }
            }
            Command::PresenceQuery { id, ref ids } => {
                if let Err(fault) = self.presence_query(turn, conn, ids) {
                    self.say_refusal(turn, index, &event::reply_to(id), fault);
                }
            }
            Command::Resume { id, epoch, ref positions, last } => {
                if state == State::Positioning {
                    self.resume(turn, index, epoch, positions, last);
                } else {
                    let fault = Fault::ResumeUnexpected;
                    self.say_refusal(turn, index, &event::reply_to(id), fault);
                }
            }
            Command::Tickle => self.note_activity(turn, index),
            Command::Unknown { id } => {
                self.say_refusal(turn, index, &event::reply_to(id), Fault::TypeUnknown);
            }
        }
    }

    /// The same as chat.postMessage: acknowledged after the commit.
    fn post(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        reply_to: &[u8],
        command: &Command<'_>,
    ) -> Result<(), Fault> {
        let Command::Message { channel, text, thread_ts, client_msg_id, .. } = *command else {
            return Ok(());
        };
        if text.is_empty() {
            return Err(Fault::TextMissing);
        }
        // Bytes are never fewer than characters.
        let chars_max = self.limits.text_chars_max as usize;
        if text.len() > chars_max && text.chars().count() > chars_max {
            return Err(Fault::TextTooLong);
        }
        if !self.desk_is_up {
            return Err(Fault::Unavailable);
        }
        let session = self.sessions.of(conn.index());
        // Who does not wait for acks is told what the pace says: it would refuse these as well.
        if u32::from(session.asks) >= self.limits.asks_per_conn_max {
            return Err(Fault::TooFast);
        }
        let user: Box<str> = self.names.text(self.people[session.person].name()).into();
        self.posts = self.posts.wrapping_add(1);
        let (nth, due) = (self.posts, turn.now.mono + self.limits.ask_timeout);
        let pending = Pending::Post { conn, reply_to: reply_to.into(), message: Box::default() };
        let ask = self.asks.open(self.desk, due, pending).map_err(|_| Fault::Unavailable)?;
        self.sessions.at(conn.index()).asks += 1;
        let origin = Origin { life: self.life, conn };
        let post = Message::Post {
            ask,
            user: &user,
            channel,
            text,
            thread_ts,
            client_msg_id,
            origin,
            nth,
            again: false,
        };
        let mut bytes = Vec::new();
        post.encode(&mut bytes);
        self.asks.keep(ask, bytes.into_boxed_slice());
        turn.out.send(self.desk, &post);
        Ok(())
    }

    /// The desk is there again: what it did not answer is said again, and it knows what it did already.
    pub(super) fn desk_up(&mut self, turn: &mut Turn<'_>) {
        self.desk_is_up = true;
        for bytes in self.asks.posts(self.desk) {
            if let Ok(mut post) = Message::decode(bytes) {
                if let Message::Post { again, .. } = &mut post {
                    *again = true;
                }
                turn.out.send(self.desk, &post);
            }
        }
    }

    fn posted(&mut self, turn: &mut Turn<'_>, pending: Pending, message: &Message<'_>) {
        let Pending::Post { conn, reply_to, .. } = pending else { return };
        let Some(session) = self.sessions.find(conn) else { return };
        session.asks = session.asks.saturating_sub(1);
        if !session.is_greeted() {
            return;
        }
        let index = conn.index();
        match *message {
            Message::Posted { offset, ts, text, .. } => {
                self.say(turn, index, Kind::Durable, |into| {
                    event::ack(&reply_to, ts, text, offset, into);
                });
            }
            Message::PostFailed { reason, .. } => {
                self.say(turn, index, Kind::Durable, |into| {
                    event::post_refusal(&reply_to, reason, into);
                });
            }
            _ => turn.out.count(Counter::WireBroken),
        }
    }

    /// Whether a post was stored is not known. Its event may have been passed over already, so the client comes back and resumes.
    pub(super) fn post_unknown(&mut self, turn: &mut Turn<'_>, conn: Conn, reply_to: &[u8]) {
        if self.sessions.find(conn).is_some_and(|session| session.is_greeted()) {
            self.say_refusal(turn, conn.index(), reply_to, Fault::Unknown);
            self.hang_up(turn, conn.index(), close::TOO_SLOW, "come back and resume");
        }
    }

    fn typing(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        channel: &str,
        thread_ts: &str,
    ) -> Result<(), Fault> {
        let (index, key, slot) = (conn.index(), self.secret.key_of(channel), slot_of(channel));
        let place = self.hub.find(key).filter(|place| self.hub.member(*place, index).is_some());
        let place = place.ok_or(Fault::NotInChannel)?;
        if !self.typists.may(turn.now.mono, (index, place), self.limits.typing_interval) {
            return Ok(());
        }
        let person = self.sessions.of(index).person;
        let mut payload = Vec::new();
        let user = self.names.text(self.people[person].name());
        event::user_typing(channel, user, thread_ts, &mut payload);
        let origin = Origin { life: self.life, conn };
        let peer = self.neighbour(self.interest_core(slot));
        let emit = Message::Emit { slot, key, origin, payload: &payload };
        turn.out.send_transient(peer, &emit);
        Ok(())
    }

    /// What the webapp says.
    pub(super) fn hear_desk(&mut self, turn: &mut Turn<'_>, message: &Message<'_>) {
        if let Message::Revoke { tokens } = *message {
            return self.revoked(turn, tokens);
        }
        let (Message::Boot { ask, .. }
        | Message::Refused { ask, .. }
        | Message::Ticketed { ask, .. }
        | Message::Admitted { ask, .. }
        | Message::Called { ask, .. }
        | Message::Posted { ask, .. }
        | Message::PostFailed { ask, .. }
        | Message::TipIs { ask, .. }) = *message
        else {
            return turn.out.count(Counter::WireBroken);
        };
        let Some(pending) = self.asks.close(self.desk, ask) else { return };
        match (pending, message) {
            (Pending::Redeem { conn }, Message::Boot { .. }) => {
                if let Some(boot) = super::door::Boot::of(message) {
                    self.boot(turn, conn, boot);
                }
            }
            (Pending::Redeem { conn }, Message::Refused { retry, .. }) => {
                self.not_redeemed(turn, conn, *retry);
            }
            (Pending::Renew { conn }, Message::Ticketed { path, .. }) => {
                self.renewed(turn, conn, path);
            }
            (Pending::Renew { conn }, _) => self.goodbye_without_url(turn, conn),
            (Pending::Tip { conn, place }, Message::TipIs { tip, .. }) => {
                self.tip_is(turn, conn, place, *tip);
            }
            (
                Pending::Admit { conn, id, request },
                Message::Admitted { is_member, offset, epoch, .. },
            ) => {
                let yes = Admitted::Yes { offset: *offset, epoch };
                let admitted = if *is_member { yes } else { Admitted::No };
                self.admitted(turn, (conn, id), &request, admitted);
            }
            (Pending::Admit { conn, id, request }, Message::Refused { .. }) => {
                self.admitted(turn, (conn, id), &request, Admitted::Unknown);
            }
            (Pending::Say { conn, id }, message) => {
                self.said(turn, (conn, id), Some(message));
            }
            (Pending::Call { conn, id }, message) => {
                self.called(turn, (conn, id), Some(message));
            }
            (pending @ Pending::Post { .. }, message) => self.posted(turn, pending, message),
            _ => turn.out.count(Counter::WireBroken),
        }
    }
}

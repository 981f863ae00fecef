//! Who is in a channel, and who comes and goes: reports to the channel's owner, its answers, and the pushes that it causes.
//!
//! A report that was not noted is made again, and is looked at again first: who left meanwhile is not reported to be there.

use prost::Message as _;

use super::commands::Wrong;
use crate::centrifuge::code::Fault;
use crate::centrifuge::message::{ClientInfo, Presence, PresenceStats, Reply};
use crate::centrifuge::push;
use crate::centrifuge::rules::{Asker, Rules};
use crate::gateway::asks::Pending;
use crate::gateway::hub::State as HubState;
use crate::gateway::members::Member;
use crate::gateway::outbox::Kind;
use crate::gateway::session::Dialect;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::{Conn, Key, Slot};
use crate::ring::slot_of;
use crate::shard::Counter;
use crate::wire::message::event;
use crate::wire::{Message, Packed};

/// What an owner is to note.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Report {
    conn: Conn,
    slot: Slot,
    key: Key,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// It is in the channel; `is_new`: since now.
    Enter {
        is_new: bool,
    },
    Exit,
}

impl Gateway {
    /// A guest's subscription stands: its owner is told, if anybody can ask for it.
    pub(super) fn entered(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        let member = self.hub.member(place, index);
        if member.is_some_and(|member| member.flags() & Member::IS_REPORTED != 0) {
            let (slot, key) = (self.hub.slot(place), self.hub.key(place));
            let conn = self.sessions.conn(self.me.core, index);
            self.report_of(turn, Report { conn, slot, key, what: What::Enter { is_new: true } });
        }
    }

    /// A connection leaves a channel; it is still in it.
    pub(in crate::gateway) fn exits(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        let member = self.hub.member(place, index);
        if member.is_some_and(|member| member.flags() & Member::IS_REPORTED != 0) {
            let (slot, key) = (self.hub.slot(place), self.hub.key(place));
            let conn = self.sessions.conn(self.me.core, index);
            self.hub.set_flags(place, index, Member::IS_REPORTED, false);
            self.report_of(turn, Report { conn, slot, key, what: What::Exit });
        }
    }

    /// The owner may be another, or have forgotten: all of a channel's reports are made again.
    pub(in crate::gateway) fn report_again(&mut self, turn: &mut Turn<'_>, place: u32) {
        let reported: Vec<u32> = self
            .hub
            .members(place)
            .filter(|member| member.flags() & Member::IS_REPORTED != 0 && !member.is_behind())
            .map(Member::index)
            .collect();
        let (slot, key) = (self.hub.slot(place), self.hub.key(place));
        for index in reported {
            let conn = self.sessions.conn(self.me.core, index);
            self.report_of(turn, Report { conn, slot, key, what: What::Enter { is_new: false } });
        }
    }

    /// Makes a report, if it is still true.
    pub(in crate::gateway) fn report_of(&mut self, turn: &mut Turn<'_>, report: Report) {
        let Report { conn, slot, key, what } = report;
        let index = conn.index();
        let place = self.hub.find(key).filter(|_| self.sessions.is_live(conn));
        let flags = |place: u32| self.hub.member(place, index).map_or(0, Member::flags);
        let place = place.filter(|place| flags(*place) & Member::IS_REPORTED != 0);
        if place.is_some() == (what == What::Exit) {
            return;
        }
        let core = self.interest_core(slot);
        let peer = self.neighbour(core);
        let (mut info, mut is_told, mut user) = (Vec::new(), false, Key::default());
        if let Some(place) = place {
            info = self.client_info(index, Some(place)).encode_to_vec();
            is_told = flags(place) & Member::IS_TOLD != 0;
            user = self.secret.key_of(self.guest_user(index));
        }
        let due = turn.now.mono + self.limits.ask_timeout;
        if !self.may_ask(core, info.len()) {
            return self.unreported(turn, report);
        }
        let Ok(ask) = self.asks.open(peer, due, Pending::Report { report }) else {
            return self.unreported(turn, report);
        };
        let message = match what {
            What::Enter { is_new } => Message::Enter {
                slot,
                seat_epoch: 0,
                key,
                ask,
                conn,
                user,
                is_new,
                is_told,
                info: &info,
            },
            What::Exit => Message::Exit { slot, seat_epoch: 0, key, ask, conn },
        };
        turn.out.send_bulk(peer, &message);
    }

    /// It was not noted, or nobody says so: it is made again after a pause.
    pub(in crate::gateway) fn unreported(&mut self, turn: &mut Turn<'_>, report: Report) {
        self.timers.reports.push(turn.now.mono + self.limits.catch_up_interval, report);
    }

    /// What others are told about a guest, in the channel at a place of the hub.
    pub(super) fn client_info(&self, index: u32, place: Option<u32>) -> ClientInfo {
        let info = place.and_then(|place| self.guests.infos.get(&(index, place)));
        ClientInfo {
            user: self.guest_user(index).into(),
            client: self.client_id(index),
            conn_info: self.guest_info(index).to_vec(),
            chan_info: info.map_or_else(Vec::new, |info| info.to_vec()),
        }
    }

    /// A guest asks who is in a channel, or how many.
    pub(super) fn presence(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        channel: &str,
        is_listed: bool,
    ) -> Result<(), Wrong> {
        let (name, options) = self.channel_of(channel)?;
        if !options.presence {
            return Err(Fault::NotAvailable.into());
        }
        let is_subscribed = self.place_of(index, name.whole).is_some();
        let asker = Asker { user: self.guest_user(index), is_subscribed };
        if !self.rules.allows(options.show_presence, asker) {
            return Err(Fault::PermissionDenied.into());
        }
        let inside = Rules::inside(name.whole);
        let (key, slot) = (self.secret.key_of(&inside), slot_of(&inside));
        let core = self.interest_core(slot);
        let pending = |conn| Pending::Present { conn, id, is_listed };
        let ask = self.open_to_owner(turn, index, (core, 0), pending)?;
        let present = Message::Present { slot, seat_epoch: 0, key, ask, is_listed };
        turn.out.send_bulk(self.neighbour(core), &present);
        Ok(())
    }

    /// The owner's answer: how many, and who, if that was asked.
    pub(in crate::gateway) fn present_is(
        &mut self,
        turn: &mut Turn<'_>,
        (conn, id): (Conn, u32),
        answer: Option<(PresenceStats, Option<Packed<'_>>)>,
    ) {
        let Some(index) = self.waited(conn) else { return };
        let reply = match answer {
            None => return self.fail(turn, index, id, Fault::Internal),
            Some((stats, None)) => Reply { id, presence_stats: Some(stats), ..Reply::default() },
            Some((_, Some(infos))) => {
                Reply { id, presence: Some(Presence::of(infos.iter())), ..Reply::default() }
            }
        };
        self.answer(turn, index, reply);
    }

    /// Somebody came or went: told to those who hear of it. Who comes hears of it behind its own reply, who goes does not.
    pub(in crate::gateway) fn coming(&mut self, turn: &mut Turn<'_>, place: u32, payload: &[u8]) {
        let Some((what, info)) = payload.split_first() else { return };
        if self.hub.state(place) == HubState::Leaving {
            return;
        }
        if *what == event::PASSING {
            return self.pass(turn, place, info);
        }
        let members: Vec<Member> = self
            .hub
            .members(place)
            .filter(|member| member.flags() & Member::HEARS_JOINS != 0 && !member.is_behind())
            .collect();
        let inside = self.names.text(self.hub.name(place));
        let outside: Box<str> = Rules::outside(inside).into();
        for dialect in Dialect::ALL {
            let Some(framing) = dialect.framing() else { continue };
            let mut members =
                members.iter().filter(|member| member.dialect() == dialect).peekable();
            if members.peek().is_none() {
                continue;
            }
            turn.out.count(Counter::FramesEncoded);
            let is_join = *what == event::JOIN;
            let frame = self.frame_in(dialect, |into| {
                push::coming(framing, &outside, is_join, info, into);
            });
            for member in members {
                self.append(turn, member.index(), &frame, Kind::Transient);
            }
            self.outboxes.release(frame);
        }
    }
}

//! The past of a channel for a guest, page by page. Only so many pages of a core are on their way at once; others wait their turn.

use std::collections::VecDeque;

use super::commands::Wrong;
use crate::centrifuge::code::Fault;
use crate::centrifuge::message::{HistoryRequest, HistoryResult, Publication, Reply};
use crate::centrifuge::rules::{Asker, Rules};
use crate::centrifuge::{history, payload, push};
use crate::gateway::asks::Pending;
use crate::gateway::session::Dialect;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::Conn;
use crate::ring::slot_of;
use crate::wire::message::namespace;
use crate::wire::{Message, Packed};

/// What a guest asked for, and what of it is here.
#[derive(Debug)]
pub(in crate::gateway) struct Reading {
    id: u32,
    channel: Box<str>,
    request: HistoryRequest,
    /// How many publications the channel promises to have.
    promised: u32,
    epoch: u32,
    tip: u64,
    /// What is read: `after < offset <= upto`; nothing is decided while the tip is unknown.
    after: u64,
    upto: Option<u64>,
    publications: Vec<Publication>,
    bytes: usize,
    /// An answer fits an outbox, and what clients take for one frame.
    bytes_max: usize,
    is_json: bool,
    /// Something in it is no JSON, and the client speaks JSON.
    is_unfit: bool,
}

/// Pages on their way, and readings that wait. Per shard.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Reads {
    open: u32,
    waiting: VecDeque<(Conn, Box<Reading>)>,
}

/// Pages of one core on their way at once, and bytes of each: together far less than a mailbox.
const OPEN_MAX: u32 = 4;
const PAGE_BYTES: u32 = 64 << 10;

impl Gateway {
    pub(super) fn history(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        request: &HistoryRequest,
    ) -> Result<(), Wrong> {
        let (name, options) = self.channel_of(&request.channel)?;
        let is_subscribed = self.place_of(index, name.whole).is_some();
        let asker = Asker { user: self.guest_user(index), is_subscribed };
        if !options.has_stream() || name.conversation().is_some() {
            return Err(Fault::NotAvailable.into());
        }
        if !self.rules.allows(options.history, asker) {
            return Err(Fault::PermissionDenied.into());
        }
        history::check(request)?;
        let reading = Reading {
            id,
            channel: Rules::inside(name.whole).into(),
            request: request.clone(),
            promised: options.history_count,
            epoch: 0,
            tip: 0,
            after: 0,
            upto: None,
            publications: Vec::new(),
            bytes: 0,
            bytes_max: self.limits.guest_outbox_bytes_max as usize / 2,
            is_json: self.sessions.of(index).dialect == Dialect::Json,
            is_unfit: false,
        };
        if self.guests.reads.waiting.len() >= self.limits.asks_max as usize {
            return Err(Fault::TooManyRequests.into());
        }
        self.may_wait(index)?;
        let conn = self.sessions.conn(self.me.core, index);
        self.guests.reads.waiting.push_back((conn, Box::new(reading)));
        self.read_on(turn);
        Ok(())
    }

    /// Asks for the next pages, as many as may be on their way.
    fn read_on(&mut self, turn: &mut Turn<'_>) {
        while self.guests.reads.open < OPEN_MAX
            && let Some((conn, reading)) = self.guests.reads.waiting.pop_front()
        {
            if !self.sessions.is_live(conn) {
                continue;
            }
            let (key, slot) = (self.secret.key_of(&reading.channel), slot_of(&reading.channel));
            let core = self.interest_core(slot);
            let peer = self.neighbour(core);
            let name = reading.channel.clone();
            let (after, id) = (reading.after, reading.id);
            let count_max = reading.upto.map_or(0, |upto| (upto - after) as u32);
            let due = turn.now.mono + self.limits.ask_timeout;
            let may = self.may_ask(core, name.len());
            let pending = Pending::Read { conn, reading };
            let ask = if may { self.asks.open(peer, due, pending).ok() } else { None };
            let Some(ask) = ask else {
                if let Some(index) = self.waited(conn) {
                    self.fail(turn, index, id, Fault::Internal);
                }
                continue;
            };
            self.guests.reads.open += 1;
            turn.out.send_bulk(
                peer,
                &Message::Read {
                    slot,
                    seat_epoch: 0,
                    key,
                    ask,
                    namespace: namespace::MEMORY,
                    after,
                    count_max,
                    bytes_max: PAGE_BYTES,
                    name: &name,
                },
            );
        }
    }

    /// A page, or where the channel stands.
    pub(in crate::gateway) fn read_is(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        mut reading: Box<Reading>,
        (epoch, tip): (u32, u64),
        publications: Packed<'_>,
    ) {
        self.guests.reads.open -= 1;
        let more = match reading.upto {
            None => reading.decide(epoch, tip),
            Some(upto) => Ok(reading.take(epoch, publications) && reading.after < upto),
        };
        let outcome = match more {
            Ok(true) => {
                self.guests.reads.waiting.push_back((conn, reading));
                return self.read_on(turn);
            }
            Ok(false) if reading.is_unfit => Err(Fault::NotAvailable),
            Ok(false) => Ok(()),
            Err(fault) => Err(fault),
        };
        if let Some(index) = self.waited(conn) {
            match outcome {
                Ok(()) => self.answer(turn, index, reading.reply()),
                Err(fault) => self.fail(turn, index, reading.id, fault),
            }
        }
        self.read_on(turn);
    }

    /// A page was refused, or its answer is lost.
    pub(in crate::gateway) fn unread(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        reading: &Reading,
    ) {
        self.guests.reads.open -= 1;
        if let Some(index) = self.waited(conn) {
            self.fail(turn, index, reading.id, Fault::Internal);
        }
        self.read_on(turn);
    }
}

impl Reading {
    /// The tip is known: what is to be read. False: nothing is.
    fn decide(&mut self, epoch: u32, tip: u64) -> Result<bool, Fault> {
        (self.epoch, self.tip) = (epoch, tip);
        let span = history::span(&self.request, self.promised, epoch, tip)?;
        (self.after, self.upto) = (span.start, Some(span.end));
        Ok(!span.is_empty())
    }

    /// A page. False: there are no more.
    fn take(&mut self, epoch: u32, publications: Packed<'_>) -> bool {
        let upto = self.upto.unwrap_or(0);
        let mut is_any = false;
        for (offset, payload) in publications.iter::<(u64, &[u8])>() {
            if offset > upto || epoch != self.epoch {
                return false;
            }
            (self.after, is_any) = (offset, true);
            self.bytes += payload.len();
            if self.bytes > self.bytes_max {
                return false;
            }
            match payload::read(payload, offset, self.is_json) {
                Some(publication) => self.publications.push(publication),
                None => self.is_unfit = true,
            }
        }
        is_any
    }

    fn reply(mut self) -> Reply {
        if self.request.reverse {
            self.publications.reverse();
        }
        let (publications, epoch) = (self.publications, push::epoch(self.epoch));
        let result = HistoryResult { publications, epoch, offset: self.tip };
        Reply { id: self.id, history: Some(result), ..Reply::default() }
    }
}

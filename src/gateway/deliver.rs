//! Live events: from a channel's interest to everybody on this core who follows it.
//!
//! A frame is encoded once and shared. A connection that caused an event is passed over: its ack says the same. Who is behind is passed
//! over too; who is ahead is given what it lacks, until the hub has come that far.

use super::frames::Frame;
use super::guests::deltas::Variant;
use super::hub::State;
use super::members::Member;
use super::outbox::Kind;
use super::session::Dialect;
use super::shard::{Gateway, Turn};
use super::slab::NIL;
use crate::centrifuge::code::Unsubscribed;
use crate::centrifuge::rules::Rules;
use crate::centrifuge::{payload, push};
use crate::ids::Origin;
use crate::rtm::event;
use crate::shard::Counter;
use crate::wire;

/// A durable event with its place.
#[derive(Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) offset: u64,
    pub(super) origin: Origin,
    pub(super) member: Option<wire::Member<'a>>,
    pub(super) payload: &'a [u8],
}

impl Gateway {
    /// The index of the connection that caused something, if it is one of this core's.
    pub(super) fn causer(&self, origin: Origin) -> Option<u32> {
        let conn = origin.conn;
        let is_ours = origin.life == self.life && conn.core() == self.me.core;
        (is_ours && self.sessions.is_live(conn)).then(|| conn.index())
    }

    /// The interest answers a subscription, or says it again after its own link to the owner was new.
    pub(super) fn subscribed(&mut self, turn: &mut Turn<'_>, place: u32, epoch: u32, tip: u64) {
        if self.hub.state(place) == State::Leaving {
            return;
        }
        if self.hub.epoch(place) != epoch {
            self.new_life(turn, place, epoch);
        }
        // Only who is in a memory channel is reported.
        if epoch != 0 {
            self.report_again(turn, place);
        }
        match (self.hub.state(place), self.hub.tip(place)) {
            // Nobody was left for the new life.
            (State::Leaving, _) => {}
            (State::Subscribing, _) | (_, None) => {
                self.hub.set_tip(place, tip);
                self.hub.set_state(place, State::Live);
                self.wake_behind(turn, place);
            }
            (State::Live, Some(known)) if known < tip => self.lapse(turn, place, tip),
            (State::Behind, Some(_)) => self.mend_lapse(turn, place),
            // Below what we hold: the interest will come that far, and what we know is passed over until then.
            (State::Live, Some(_)) => {}
        }
    }

    /// The channel is another than the one that we knew by this name: nobody's place means anything any more. Who is subscribing begins
    /// anew; everybody else is told.
    fn new_life(&mut self, turn: &mut Turn<'_>, place: u32, epoch: u32) {
        let members: Vec<Member> = self.hub.members(place).collect();
        self.hub.set_epoch(place, epoch);
        self.lapses.forget(place);
        self.hub.set_state(place, State::Subscribing);
        for member in members.iter().filter(|member| member.dialect() != Dialect::Rtm) {
            if !self.begin_anew(member.index(), place) {
                let why = Unsubscribed::InsufficientState;
                self.push_unsubscribed(turn, member.index(), place, why);
            }
        }
    }

    /// The next event of a channel.
    pub(super) fn published(&mut self, turn: &mut Turn<'_>, place: u32, event: &Event<'_>) {
        if self.hub.state(place) != State::Live {
            return;
        }
        let tip = self.hub.tip(place).expect("a live channel has a tip");
        match event.offset.checked_sub(tip) {
            None | Some(0) => {}
            Some(1) => self.fan_out(turn, place, event),
            Some(_) => self.lapse(turn, place, event.offset),
        }
    }

    /// Gives the hub's next event to all who stand at its tip.
    pub(super) fn fan_out(&mut self, turn: &mut Turn<'_>, place: u32, event: &Event<'_>) {
        let offset = event.offset;
        self.hub.set_tip(place, offset);
        let causer = self.causer(event.origin).unwrap_or(NIL);
        let mut frames: [Option<Frame>; Dialect::ALL.len() * Variant::COUNT] = [const { None }; _];
        let has_deltas = self.guests.deltas.begin(place, event);
        let tags = self.guests.filters.tags_of(place, event.payload);
        let is_binary = Rules::is_memory(self.names.text(self.hub.name(place)))
            && payload::split(event.payload).0.is_binary;
        let mut scratch = std::mem::take(&mut self.members_scratch);
        scratch.clear();
        scratch.extend(self.hub.members(place));
        let mut deliveries = 0;
        for member in &scratch {
            let index = member.index();
            if member.is_behind() && !member.is_ahead() {
                continue;
            }
            let lacks = !member.is_behind() || self.comes_near(index, place, offset);
            let is_gathered = lacks && member.is_behind() && self.gather(index, place, event);
            if lacks && !is_gathered && index != causer {
                let dialect = member.dialect();
                if !self.guests.filters.passes(tags.as_ref(), index) {
                    continue;
                }
                if is_binary && dialect == Dialect::Json {
                    self.note_unfit(index, place);
                    continue;
                }
                let variant = if has_deltas {
                    self.guests.deltas.variant(index, place)
                } else {
                    Variant::Plain
                };
                let frame = match &mut frames[dialect as usize * Variant::COUNT + variant as usize]
                {
                    Some(frame) => frame,
                    none => none.insert(self.event_frame(turn, (dialect, variant), place, event)),
                };
                self.append(turn, index, frame, Kind::Durable);
                deliveries += 1;
            }
            if member.is_behind() {
                self.came_near(turn, index, place, event);
            }
        }
        for frame in frames.into_iter().flatten() {
            self.outboxes.release(frame);
        }
        self.guests.deltas.end(place, offset);
        turn.out.count(Counter::PublicationsFannedOut);
        if deliveries > 0 {
            turn.out.count_by(Counter::Deliveries, deliveries);
        }
        self.members_scratch = scratch;
        if let Some(moved) = &event.member {
            self.moved_all(turn, place, moved);
            self.guests_moved(turn, place, moved);
        }
    }

    /// Somebody came or went: all connections of that user here that stood at the hub's tip.
    fn moved_all(&mut self, turn: &mut Turn<'_>, place: u32, member: &wire::Member<'_>) {
        let Some(person) = self.people.find(self.secret.key_of(member.user)) else { return };
        let conns = self.lists.as_slice(&self.people[person].conns).to_vec();
        for index in conns {
            if self.hub.member(place, index).is_some_and(|member| !member.is_behind()) {
                self.moved(turn, index, place, member);
            }
        }
    }

    /// The frame of an event with its place, the same for everybody who speaks a dialect.
    pub(super) fn event_frame(
        &mut self,
        turn: &mut Turn<'_>,
        (dialect, variant): (Dialect, Variant),
        place: u32,
        event: &Event<'_>,
    ) -> Frame {
        turn.out.count(Counter::FramesEncoded);
        let name: Box<str> = self.names.text(self.hub.name(place)).into();
        let Some(framing) = dialect.framing() else {
            return self.frame(|into| event::durable(event.payload, event.offset, &name, into));
        };
        let outside = &*Rules::outside(&name);
        let offset = self.shown_offset(outside, event.offset);
        let of_event;
        let encoded = if Rules::is_memory(&name) {
            payload::split(event.payload).1
        } else {
            of_event = payload::of_event(event.payload);
            &of_event
        };
        let patch = match variant {
            Variant::Plain => {
                return self.frame_in(dialect, |into| {
                    push::publication(framing, outside, offset, encoded, into);
                });
            }
            Variant::Whole => None,
            Variant::Patch => self.guests.deltas.patch(place).map(<[u8]>::to_vec),
        };
        self.frame_in(dialect, |into| {
            push::delta(framing, outside, offset, (encoded, patch.as_deref()), into);
        })
    }

    /// Something transient, for everybody but its causer.
    pub(super) fn emitted(
        &mut self,
        turn: &mut Turn<'_>,
        place: u32,
        origin: Origin,
        payload: &[u8],
    ) {
        if self.hub.count(place) == 0 {
            return;
        }
        if Rules::is_memory(self.names.text(self.hub.name(place))) {
            return self.coming(turn, place, payload);
        }
        let causer = self.causer(origin).unwrap_or(NIL);
        let frame = self.frame(|into| into.extend_from_slice(payload));
        turn.out.count(Counter::FramesEncoded);
        let mut scratch = std::mem::take(&mut self.members_scratch);
        scratch.clear();
        scratch.extend(self.hub.members(place));
        for member in &scratch {
            let index = member.index();
            // Who is to say where it stands is told nothing before; guests know no such events.
            if member.dialect() != Dialect::Rtm {
                continue;
            }
            if index != causer && self.sessions.of(index).is_greeted() {
                self.append(turn, index, &frame, Kind::Transient);
            }
        }
        self.members_scratch = scratch;
        self.outboxes.release(frame);
    }
}

/// What the hub keeps of a member that stands above the tip.
impl Member {
    pub(super) const AHEAD: u8 = 2;

    pub(super) fn dialect(self) -> Dialect {
        match self.flags() & (Self::JSON | Self::PROTOBUF) {
            0 => Dialect::Rtm,
            Self::JSON => Dialect::Json,
            _ => Dialect::Protobuf,
        }
    }

    pub(super) fn is_ahead(self) -> bool {
        self.flags() & Self::AHEAD != 0
    }
}

//! Errands: questions of a guest's core to the owner of a channel, carried by the interest. Each has one answer, which is one message.

use rustc_hash::FxHashMap;

use super::relay::{CORE_SHIFT, joined, split};
use super::shard::{Gateway, Turn};
use crate::ids::{Ask, Peer, Slot};
use crate::shard::Counter;
use crate::wire::message::nack;
use crate::wire::{Message, Packed};

/// Those that are on their way: whom was asked, and what, by the number with the asking core in its top bits. Per shard.
#[derive(Debug, Default)]
pub(super) struct Errands(FxHashMap<u32, (Peer, Errand)>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Errand {
    Publish,
    Read,
    Report,
    Present,
}

/// What of a message decides its way.
struct Carried {
    errand: Errand,
    slot: Slot,
    ask: Ask,
    /// Of its long parts.
    bytes: usize,
}

impl Carried {
    fn of(message: &Message<'_>) -> Option<Self> {
        let (errand, slot, ask, bytes) = match *message {
            Message::Publish { slot, ask, name, payload, .. } => {
                (Errand::Publish, slot, ask, name.len() + payload.len())
            }
            Message::Read { slot, ask, name, .. } => (Errand::Read, slot, ask, name.len()),
            Message::Enter { slot, ask, info, .. } => (Errand::Report, slot, ask, info.len()),
            Message::Exit { slot, ask, .. } => (Errand::Report, slot, ask, 0),
            Message::Present { slot, ask, .. } => (Errand::Present, slot, ask, 0),
            _ => return None,
        };
        Some(Self { errand, slot, ask, bytes })
    }
}

impl Errand {
    /// The answer when there is none.
    fn refusal(self, ask: Ask) -> Message<'static> {
        match self {
            Self::Publish => {
                let (accepted, why) = (false, nack::RETRY);
                Message::Published { ask, accepted, why, seat_epoch: 0, epoch: 0, offset: 0 }
            }
            Self::Read => {
                let publications = Packed(&[]);
                Message::ReadIs { ask, ok: false, epoch: 0, tip: 0, publications }
            }
            Self::Report => Message::Noted { ask, ok: false },
            Self::Present => {
                let infos = Packed(&[]);
                Message::PresentIs { ask, ok: false, clients: 0, users: 0, infos }
            }
        }
    }
}

impl Errands {
    /// A core is lost, and with it all that it asked.
    pub(super) fn forget(&mut self, core: u8) {
        self.0.retain(|number, _| split(Ask(*number)).0 != core);
    }
}

impl Gateway {
    /// Passed on when the owner has room for it.
    pub(super) fn relay_errand(&mut self, turn: &mut Turn<'_>, core: u8, message: &Message<'_>) {
        let Some(Carried { errand, slot, ask: asked, bytes }) = Carried::of(message) else {
            return turn.out.count(Counter::WireBroken);
        };
        let may = asked.0 >> CORE_SHIFT == 0;
        let way = self.owner_of(slot).filter(|(owner, _)| may && self.relay.spend(*owner, bytes));
        let Some((owner, epoch)) = way else {
            return turn.out.send(self.neighbour(core), &errand.refusal(asked));
        };
        let number = joined(core, asked);
        let mut passed = *message;
        if let Message::Publish { seat_epoch, ask, .. }
        | Message::Read { seat_epoch, ask, .. }
        | Message::Enter { seat_epoch, ask, .. }
        | Message::Exit { seat_epoch, ask, .. }
        | Message::Present { seat_epoch, ask, .. } = &mut passed
        {
            (*seat_epoch, *ask) = (epoch, number);
        }
        self.relay.errands.0.insert(number.0, (owner, errand));
        turn.out.send_bulk(owner, &passed);
    }

    /// The answer to an errand.
    pub(super) fn relay_answer(&mut self, turn: &mut Turn<'_>, peer: Peer, answer: Message<'_>) {
        let mut passed = answer;
        let (Message::Published { ask, .. }
        | Message::ReadIs { ask, .. }
        | Message::Noted { ask, .. }
        | Message::PresentIs { ask, .. }) = &mut passed
        else {
            return turn.out.count(Counter::WireBroken);
        };
        if self.relay.errands.0.get(&ask.0).is_none_or(|(owner, _)| *owner != peer) {
            return;
        }
        self.relay.errands.0.remove(&ask.0);
        let (core, asked) = split(*ask);
        *ask = asked;
        turn.out.send(self.neighbour(core), &passed);
    }

    /// An owner is lost: what was asked there has no answer.
    pub(super) fn errands_lost(&mut self, turn: &mut Turn<'_>, owner: Peer) {
        let is_lost = |_: &u32, (asked, _): &mut (Peer, Errand)| *asked == owner;
        let lost = self.relay.errands.0.extract_if(is_lost);
        let mut lost: Vec<(u32, Errand)> =
            lost.map(|(number, (_, errand))| (number, errand)).collect();
        lost.sort_unstable_by_key(|(number, _)| *number);
        for (number, errand) in lost {
            let (core, ask) = split(Ask(number));
            turn.out.send(self.neighbour(core), &errand.refusal(ask));
        }
    }
}

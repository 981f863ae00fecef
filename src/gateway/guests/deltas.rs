//! Patches: who is given a publication by its difference from the one before it.
//!
//! A subscription's first push is always whole; from then on it has each publication's predecessor, which the hub keeps once per channel.

use prost::Message as _;
use rustc_hash::FxHashMap;

use crate::centrifuge::message::Publication;
use crate::centrifuge::{delta, payload};
use crate::gateway::deliver::Event;

/// In which form a subscription is given a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum Variant {
    Plain,
    /// Whole, for somebody who takes patches: in JSON as a text.
    Whole,
    Patch,
}

impl Variant {
    pub(in crate::gateway) const COUNT: usize = 3;
}

/// Channels with subscribers who take patches, by place in the hub. Per shard.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Deltas(FxHashMap<u32, Chain>);

#[derive(Debug, Default)]
struct Chain {
    /// The newest publication that was given to all, by offset.
    last: Option<(u64, Vec<u8>)>,
    /// The publication that is being given: its data, and the patch to it if that is shorter.
    next: Option<(Vec<u8>, Option<Vec<u8>>)>,
    /// Who takes patches, and whether it has `last`.
    members: FxHashMap<u32, bool>,
}

impl Deltas {
    pub(super) fn join(&mut self, index: u32, place: u32) {
        self.0.entry(place).or_default().members.insert(index, false);
    }

    pub(super) fn forget(&mut self, index: u32, place: u32) {
        if self.0.is_empty() {
            return;
        }
        if let Some(chain) = self.0.get_mut(&place) {
            chain.members.remove(&index);
            if chain.members.is_empty() {
                self.0.remove(&place);
            }
        }
    }

    /// A publication is given to the subscribers of a channel. False: none of them takes patches.
    pub(in crate::gateway) fn begin(&mut self, place: u32, event: &Event<'_>) -> bool {
        let Some(chain) = self.0.get_mut(&place) else { return false };
        let (marks, publication) = payload::split(event.payload);
        let data = Publication::decode(publication).map(|one| one.data).unwrap_or_default();
        let is_chained =
            |(offset, _): &&(u64, Vec<u8>)| marks.is_delta && offset + 1 == event.offset;
        let last = chain.last.as_ref().filter(is_chained);
        let patch = last.and_then(|(_, last)| delta::between(last, &data));
        chain.next = Some((data, patch));
        true
    }

    /// How one of them is given it.
    pub(in crate::gateway) fn variant(&mut self, index: u32, place: u32) -> Variant {
        let Some(chain) = self.0.get_mut(&place) else { return Variant::Plain };
        let has_patch = chain.next.as_ref().is_some_and(|(_, patch)| patch.is_some());
        let Some(has_last) = chain.members.get_mut(&index) else { return Variant::Plain };
        let had_last = std::mem::replace(has_last, true);
        if had_last && has_patch { Variant::Patch } else { Variant::Whole }
    }

    /// Something that takes no place comes between: how one of them is given that. The next one is whole again.
    pub(super) fn break_chain(&mut self, index: u32, place: u32) -> Variant {
        let has_last = self.0.get_mut(&place).and_then(|chain| chain.members.get_mut(&index));
        let Some(has_last) = has_last else { return Variant::Plain };
        *has_last = false;
        Variant::Whole
    }

    /// The patch that `begin` made.
    pub(in crate::gateway) fn patch(&self, place: u32) -> Option<&[u8]> {
        self.0.get(&place)?.next.as_ref()?.1.as_deref()
    }

    /// It was given to all.
    pub(in crate::gateway) fn end(&mut self, place: u32, offset: u64) {
        if let Some(chain) = self.0.get_mut(&place)
            && let Some((data, _)) = chain.next.take()
        {
            chain.last = Some((offset, data));
        }
    }
}

//! Who is given only what its filter lets through. What it is not given it has seen all the same: places go on.

use std::collections::BTreeMap;

use prost::Message as _;
use rustc_hash::FxHashMap;

use crate::centrifuge::filter::Filter;
use crate::centrifuge::message::Publication;
use crate::centrifuge::payload;

/// Filters of subscriptions, by place in the hub and connection. Per shard.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Filters(FxHashMap<u32, FxHashMap<u32, Filter>>);

/// A publication's tags, where somebody in its channel looks at them.
#[derive(Debug)]
pub(in crate::gateway) struct Tags {
    place: u32,
    tags: BTreeMap<String, String>,
}

impl Filters {
    pub(super) fn join(&mut self, index: u32, place: u32, filter: Filter) {
        self.0.entry(place).or_default().insert(index, filter);
    }

    pub(super) fn forget(&mut self, index: u32, place: u32) {
        if self.0.is_empty() {
            return;
        }
        if let Some(members) = self.0.get_mut(&place) {
            members.remove(&index);
            if members.is_empty() {
                self.0.remove(&place);
            }
        }
    }

    /// `None`: nobody in this channel has a filter.
    pub(in crate::gateway) fn tags_of(&self, place: u32, payload: &[u8]) -> Option<Tags> {
        if self.0.is_empty() || !self.0.contains_key(&place) {
            return None;
        }
        let publication = Publication::decode(payload::split(payload).1).unwrap_or_default();
        Some(Tags { place, tags: publication.tags })
    }

    /// Whether a publication is for somebody.
    pub(in crate::gateway) fn passes(&self, tags: Option<&Tags>, index: u32) -> bool {
        tags.is_none_or(|Tags { place, tags }| {
            let filter = self.0.get(place).and_then(|members| members.get(&index));
            filter.is_none_or(|filter| filter.passes(tags))
        })
    }

    pub(super) fn contains(&self, index: u32, place: u32) -> bool {
        self.0.get(&place).is_some_and(|members| members.contains_key(&index))
    }
}

//! Which gateways want a channel: up to two inline, more in a list.

use crate::ids::Handle;

/// One gateway's standing wish: by which link, and how the gateway calls the channel there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Interest {
    pub(super) link: u16,
    pub(super) handle: Handle,
}

/// Twelve bytes inside a channel's entry, and a count.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Interests {
    /// The inline ones; with more than two, `handles[0]` names the list.
    handles: [u32; 2],
    links: [u16; 2],
}

/// A link that is nobody's.
const NONE: u16 = u16::MAX;
/// In `links[0]`: the interests are in a list.
const LISTED: u16 = u16::MAX - 1;
/// Links that have a number of their own.
pub(super) const LINKS_MAX: u16 = LISTED;

/// Lists of channels that more than two gateways want.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: Vec<Vec<Interest>>,
    free: Vec<u32>,
}

impl Interests {
    pub(super) fn none() -> Self {
        Self { handles: [0; 2], links: [NONE; 2] }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.links[0] == NONE
    }
    /// All of them, in no order that means anything.
    pub(super) fn iter<'a>(&self, lists: &'a Lists) -> impl Iterator<Item = Interest> + use<'a> {
        let Self { handles, links } = *self;
        let listed: &[Interest] =
            if links[0] == LISTED { &lists.lists[handles[0] as usize] } else { &[] };
        let inline =
            if links[0] == LISTED { 0 } else { links.iter().filter(|link| **link != NONE).count() };
        let first =
            (0..inline).map(move |at| Interest { link: links[at], handle: Handle(handles[at]) });
        first.chain(listed.iter().copied())
    }
    /// Adds one, or gives the link's old one its new handle.
    pub(super) fn add(&mut self, new: Interest, lists: &mut Lists) {
        if self.links[0] == LISTED {
            let list = &mut lists.lists[self.handles[0] as usize];
            match list.iter_mut().find(|old| old.link == new.link) {
                Some(old) => *old = new,
                None => list.push(new),
            }
            return;
        }
        for at in 0..2 {
            if self.links[at] == new.link || self.links[at] == NONE {
                self.links[at] = new.link;
                self.handles[at] = new.handle.0;
                return;
            }
        }
        let mut list: Vec<Interest> = self.iter(lists).collect();
        list.push(new);
        let at = lists.put(list);
        *self = Self { handles: [at, 0], links: [LISTED, NONE] };
    }
    /// Removes those that `is_gone` names.
    pub(super) fn retain(&mut self, lists: &mut Lists, is_kept: impl Fn(Interest) -> bool) {
        let kept: Vec<Interest> = self.iter(lists).filter(|one| is_kept(*one)).collect();
        if self.links[0] == LISTED {
            lists.take(self.handles[0]);
        }
        *self = Self::none();
        for one in kept {
            self.add(one, lists);
        }
    }
}

impl Lists {
    fn put(&mut self, list: Vec<Interest>) -> u32 {
        if let Some(at) = self.free.pop() {
            self.lists[at as usize] = list;
            return at;
        }
        self.lists.push(list);
        self.lists.len() as u32 - 1
    }
    fn take(&mut self, at: u32) {
        self.lists[at as usize] = Vec::new();
        self.free.push(at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_agrees_with_a_plain_map_from_none_to_many() {
        let (mut lists, mut random) = (Lists::default(), 7u64);
        let mut interests = Interests::none();
        let mut twin = BTreeMap::new();
        for step in 0..5_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let link = (random >> 40) as u16 % 6;
            if random >> 63 == 0 {
                interests.add(Interest { link, handle: Handle(step) }, &mut lists);
                twin.insert(link, step);
            } else {
                interests.retain(&mut lists, |one| one.link != link);
                twin.remove(&link);
            }
            let mut all: Vec<(u16, u32)> =
                interests.iter(&lists).map(|one| (one.link, one.handle.0)).collect();
            all.sort_unstable();
            assert_eq!(all, twin.iter().map(|(link, handle)| (*link, *handle)).collect::<Vec<_>>());
            assert_eq!(interests.is_empty(), twin.is_empty());
        }
        assert_eq!(
            lists.lists.iter().filter(|list| !list.is_empty()).count(),
            usize::from(twin.len() > 2)
        );
    }
}

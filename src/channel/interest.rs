//! Which gateway cores want a channel: up to two inline, more in a list.

use super::lists::{List, Lists};
use crate::ids::Handle;

/// One gateway core's standing wish: by which life of which link, and how the gateway calls the channel there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Interest {
    pub(super) link: u16,
    pub(super) handle: Handle,
}

/// Twelve bytes inside a channel's entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Interests {
    /// The inline ones; with more than two, `handles[0]` names the list.
    handles: [u32; 2],
    /// With more than two, `links[1]` is how many.
    links: [u16; 2],
}

/// A link that is nobody's.
const NONE: u16 = u16::MAX;
/// In `links[0]`: the interests are in a list.
const LISTED: u16 = u16::MAX - 1;
/// Numbers of links are below.
pub(super) const LINKS_MAX: u16 = LISTED;

impl Interests {
    pub(super) fn none() -> Self {
        Self { handles: [0; 2], links: [NONE; 2] }
    }

    /// Adds one, or gives the link's old one its new handle: the old handle. `None`: there is one more.
    pub(super) fn add(&mut self, new: Interest, lists: &mut Lists) -> Option<Handle> {
        if let Some((list, len)) = self.list() {
            let old = lists.of(list, len).enumerate().find(|(_, old)| old.link == new.link);
            match old {
                Some((at, _)) => lists.set(list, at as u16, new),
                None => self.handles[0] = lists.push(list, len, new).0,
            }
            self.links[1] += u16::from(old.is_none());
            return old.map(|(_, old)| old.handle);
        }
        for at in 0..2 {
            if self.links[at] == new.link || self.links[at] == NONE {
                let old = (self.links[at] != NONE).then_some(Handle(self.handles[at]));
                self.links[at] = new.link;
                self.handles[at] = new.handle.0;
                return old;
            }
        }
        let list = lists.make(&[self.inline(0), self.inline(1), new]);
        *self = Self { handles: [list.0, 0], links: [LISTED, 3] };
        None
    }

    /// Removes those for which `is_kept` does not say so.
    pub(super) fn retain(&mut self, lists: &mut Lists, mut is_kept: impl FnMut(Interest) -> bool) {
        if let Some((list, len)) = self.list() {
            let (list, len) = lists.retain(list, len, is_kept);
            self.handles[0] = list.0;
            self.links[1] = len;
            if len <= 2 {
                let left: Vec<Interest> = lists.of(list, len).collect();
                lists.drop(list);
                self.set_inline(&left);
            }
            return;
        }
        let (mut left, mut count) = ([Interest::default(); 2], 0);
        for at in 0..self.inline_count() {
            let one = self.inline(at);
            if is_kept(one) {
                left[count] = one;
                count += 1;
            }
        }
        self.set_inline(&left[..count]);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links[0] == NONE
    }

    pub(super) fn len(&self) -> usize {
        match self.list() {
            Some((_, len)) => usize::from(len),
            None => self.inline_count(),
        }
    }

    /// All of them, in no order that means anything.
    pub(super) fn iter<'a>(&self, lists: &'a Lists) -> impl Iterator<Item = Interest> + use<'a> {
        let (one, inline) = (*self, self.inline_count());
        let listed = self.list().map(|(list, len)| lists.of(list, len));
        (0..inline).map(move |at| one.inline(at)).chain(listed.into_iter().flatten())
    }

    fn list(&self) -> Option<(List, u16)> {
        (self.links[0] == LISTED).then(|| (List(self.handles[0]), self.links[1]))
    }

    fn inline_count(&self) -> usize {
        if self.links[0] == LISTED {
            0
        } else {
            self.links.iter().filter(|link| **link != NONE).count()
        }
    }

    fn inline(&self, at: usize) -> Interest {
        Interest { link: self.links[at], handle: Handle(self.handles[at]) }
    }

    fn set_inline(&mut self, to: &[Interest]) {
        *self = Self::none();
        for (at, one) in to.iter().enumerate() {
            self.links[at] = one.link;
            self.handles[at] = one.handle.0;
        }
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
        for step in 0..20_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let link = (random >> 40) as u16 % 12;
            if random >> 63 == 0 || step % 100 > 90 {
                let old = interests.add(Interest { link, handle: Handle(step) }, &mut lists);
                assert_eq!(old.map(|old| old.0), twin.insert(link, step));
            } else {
                interests.retain(&mut lists, |one| one.link != link);
                twin.remove(&link);
            }
            let mut all: Vec<(u16, u32)> =
                interests.iter(&lists).map(|one| (one.link, one.handle.0)).collect();
            all.sort_unstable();
            assert_eq!(all, twin.iter().map(|(link, handle)| (*link, *handle)).collect::<Vec<_>>());
            assert_eq!((interests.is_empty(), interests.len()), (twin.is_empty(), twin.len()));
            assert_eq!(lists.count(), u32::from(twin.len() > 2));
        }
    }
}

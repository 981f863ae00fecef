//! What a back end says twice: keys of publications that count once, and versions of the state that they describe. Memory channels only.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::ids::{Key, Slot};
use crate::limits::Limits;
use crate::shard::{Counter, Effects};
use crate::time::Mono;
use crate::wire::Terms;

/// Publications that are not to be published again. Per core. Full: nothing with a key is taken (*shed*).
#[derive(Debug)]
pub(super) struct Onces {
    /// Where each stands; 0: nowhere.
    known: FxHashMap<Key, (Slot, u64)>,
    due: VecDeque<(Mono, Key)>,
    count_max: usize,
    kept: Duration,
}

impl Onces {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            known: FxHashMap::default(),
            due: VecDeque::new(),
            count_max: limits.onces_max as usize,
            kept: limits.once_kept,
        }
    }

    /// What was told about the same before. The default key is nobody's.
    pub(super) fn known(&mut self, now: Mono, once: Key) -> Option<u64> {
        while let Some(&(due, old)) = self.due.front()
            && due <= now
        {
            self.due.pop_front();
            self.known.remove(&old);
        }
        self.known.get(&once).map(|(_, offset)| *offset)
    }

    pub(super) fn is_full(&self) -> bool {
        self.due.len() >= self.count_max
    }

    pub(super) fn note(&mut self, now: Mono, once: Key, told: (Slot, u64)) {
        if once != Key::default() && self.known.insert(once, told).is_none() {
            self.due.push_back((now + self.kept, once));
        }
    }

    /// What was told of a channel that is somebody else's now, or has a new life, means nothing.
    pub(super) fn retain(&mut self, is_kept: impl Fn(Slot) -> bool) {
        self.known.retain(|_, (slot, _)| is_kept(*slot));
    }

    /// Takes out what was told of channels that go to somebody else: slot, key, and where it stands.
    pub(super) fn part(&mut self, is_kept: impl Fn(Slot) -> bool) -> Vec<(Slot, Key, u64)> {
        let parted = self.known.extract_if(|_, (slot, _)| !is_kept(*slot));
        parted.map(|(once, (slot, offset))| (slot, once, offset)).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}

/// The newest version of each channel that has versions. Per core. Full: the one that came first is forgotten (*evict*).
#[derive(Debug)]
pub(super) struct Versions {
    newest: FxHashMap<Key, (Slot, u64, Key)>,
    order: VecDeque<Key>,
    count_max: usize,
}

impl Versions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            newest: FxHashMap::default(),
            order: VecDeque::new(),
            count_max: limits.versions_max as usize,
        }
    }

    /// Whether a publication on these terms is news in its channel; then it is the newest.
    pub(super) fn is_newer(
        &mut self,
        key: Key,
        slot: Slot,
        terms: Terms,
        out: &mut Effects,
    ) -> bool {
        let Terms { version, era, .. } = terms;
        if version == 0 {
            return true;
        }
        self.is_put(key, slot, (version, era), out)
    }

    /// The newest version of a channel that comes from elsewhere, if it has one.
    pub(super) fn put(
        &mut self,
        key: Key,
        slot: Slot,
        (version, era): (u64, Key),
        out: &mut Effects,
    ) {
        if version != 0 {
            self.is_put(key, slot, (version, era), out);
        }
    }

    fn is_put(
        &mut self,
        key: Key,
        slot: Slot,
        (version, era): (u64, Key),
        out: &mut Effects,
    ) -> bool {
        match self.newest.insert(key, (slot, version, era)) {
            Some(old @ (_, newest, of)) if of == era && version <= newest => {
                self.newest.insert(key, old);
                return false;
            }
            Some(_) => {}
            None => self.order.push_back(key),
        }
        if self.order.len() > self.count_max
            && let Some(first) = self.order.pop_front()
        {
            self.newest.remove(&first);
            out.count(Counter::VersionsEvicted);
        }
        true
    }

    /// See [`Onces::retain`].
    pub(super) fn retain(&mut self, is_kept: impl Fn(Slot) -> bool) {
        self.newest.retain(|_, (slot, ..)| is_kept(*slot));
        let newest = &self.newest;
        self.order.retain(|key| newest.contains_key(key));
    }

    /// Takes out those of channels that go to somebody else: slot, channel, version and era.
    pub(super) fn part(&mut self, is_kept: impl Fn(Slot) -> bool) -> Vec<(Slot, Key, (u64, Key))> {
        let parted = self.newest.extract_if(|_, (slot, ..)| !is_kept(*slot));
        let parted =
            parted.map(|(key, (slot, version, era))| (slot, key, (version, era))).collect();
        let newest = &self.newest;
        self.order.retain(|key| newest.contains_key(key));
        parted
    }

    pub(super) fn count(&self) -> usize {
        self.newest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot(1);

    fn key(n: u8) -> Key {
        Key([n; 12])
    }

    fn limits() -> Limits {
        Limits {
            onces_max: 2,
            versions_max: 2,
            once_kept: Duration::from_nanos(10),
            ..Limits::DEFAULT
        }
    }

    #[test]
    fn what_was_said_is_known_for_a_while() {
        let mut onces = Onces::new(&limits());
        onces.note(Mono(0), Key::default(), (SLOT, 1));
        assert_eq!((onces.known(Mono(0), Key::default()), onces.count()), (None, 0));
        onces.note(Mono(0), key(1), (SLOT, 7));
        onces.note(Mono(5), key(2), (Slot(2), 8));
        assert!(onces.is_full());
        assert_eq!(
            (onces.known(Mono(9), key(1)), onces.known(Mono(9), key(2))),
            (Some(7), Some(8))
        );
        onces.retain(|slot| slot == SLOT);
        assert_eq!((onces.known(Mono(9), key(1)), onces.known(Mono(9), key(2))), (Some(7), None));
        assert_eq!(onces.known(Mono(10), key(1)), None);
        assert!(!onces.is_full());
    }

    #[test]
    fn an_old_version_is_no_news() {
        let (mut versions, mut out) = (Versions::new(&limits()), Effects::default());
        let mut is_newer = |channel, version, era| {
            let terms = Terms { version, era: key(era), ..Terms::default() };
            versions.is_newer(key(channel), SLOT, terms, &mut out)
        };
        assert!(is_newer(1, 0, 0) && is_newer(1, 0, 0), "what has no version is always news");
        assert!(is_newer(1, 5, 1) && !is_newer(1, 5, 1) && !is_newer(1, 4, 1) && is_newer(1, 6, 1));
        assert!(is_newer(1, 1, 2), "another era");
        assert!(is_newer(2, 1, 1) && is_newer(3, 1, 1));
        assert!(is_newer(1, 1, 2), "forgotten");
        assert_eq!(versions.count(), 2);
        assert!(!out.list().is_empty(), "and counted");
    }
}

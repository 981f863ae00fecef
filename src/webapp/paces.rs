//! How often each user may post by websocket: so many in a time, and a burst. Pure.
//!
//! A bucket is one instant: when it will be full again. A full bucket says no more than none, so full ones are forgotten, up to two with
//! each post: the table shrinks by itself and nobody waits for a long look through it. When it is full of others all the same, the one nearest
//! to full is forgotten (*evict*): its user is given what was missing, and nobody loses anything.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::limits::Limits;
use crate::time::Mono;

/// All buckets. Per node: the posts of one user come from several gateway cores.
#[derive(Debug)]
pub(super) struct Paces {
    /// When each is full.
    buckets: HashMap<Arc<str>, Mono>,
    /// The same users, by when their bucket is full.
    by_time: BTreeSet<(Mono, Arc<str>)>,
    /// What one post takes, and what a full bucket holds.
    interval: Duration,
    burst: Duration,
    users_max: usize,
}

/// What became of a post.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Paced {
    Granted,
    /// Granted, and another user's bucket was forgotten for want of room.
    Evicted,
    TooFast,
}

impl Paces {
    pub(super) fn new(limits: &Limits) -> Self {
        let interval = Duration::from_secs(1_000) / limits.posts_per_1000_seconds.max(1);
        Self {
            buckets: HashMap::new(),
            by_time: BTreeSet::new(),
            interval,
            burst: interval * limits.posts_burst.max(1),
            users_max: limits.paces_max.max(1) as usize,
        }
    }

    /// Takes one from the bucket of a user.
    pub(super) fn take(&mut self, now: Mono, user: &str) -> Paced {
        self.forget_full(now);
        let known = self.buckets.get(user).copied();
        let full_at = known.map_or(now, |full_at| full_at.max(now)) + self.interval;
        if full_at.since(now) > self.burst {
            return Paced::TooFast;
        }
        let mut paced = Paced::Granted;
        let name = match known {
            Some(old) => {
                let (name, _) = self.buckets.remove_entry(user).expect("just seen");
                self.by_time.remove(&(old, Arc::clone(&name)));
                name
            }
            None => {
                if self.buckets.len() >= self.users_max {
                    self.forget_first();
                    paced = Paced::Evicted;
                }
                user.into()
            }
        };
        self.by_time.insert((full_at, Arc::clone(&name)));
        self.buckets.insert(name, full_at);
        paced
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    fn forget_full(&mut self, now: Mono) {
        for _ in 0..2 {
            if self.by_time.first().is_none_or(|(full_at, _)| *full_at > now) {
                return;
            }
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, user)) = self.by_time.pop_first() {
            self.buckets.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(users: u32) -> Limits {
        Limits {
            posts_per_1000_seconds: 1_000,
            posts_burst: 3,
            paces_max: users,
            ..Limits::DEFAULT
        }
    }
    fn take(paces: &mut Paces, now: Mono, user: &str) -> Paced {
        paces.take(now, user)
    }

    #[test]
    fn after_a_burst_a_user_goes_on_at_the_pace() {
        let (mut paces, now) = (Paces::new(&limits(9)), Mono(7));
        for _ in 0..3 {
            assert_eq!(take(&mut paces, now, "U1"), Paced::Granted);
        }
        assert_eq!(take(&mut paces, now, "U1"), Paced::TooFast);
        assert_eq!(take(&mut paces, now, "U2"), Paced::Granted, "others are not held up");
        assert_eq!(take(&mut paces, now + SECOND - Duration::from_nanos(1), "U1"), Paced::TooFast);
        assert_eq!(take(&mut paces, now + SECOND, "U1"), Paced::Granted);
        assert_eq!(take(&mut paces, now + SECOND, "U1"), Paced::TooFast);
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let (mut paces, now) = (Paces::new(&limits(9)), Mono(0));
        for _ in 0..50 {
            take(&mut paces, now, "U1");
        }
        assert_eq!(take(&mut paces, now + SECOND, "U1"), Paced::Granted);
    }

    #[test]
    fn full_buckets_are_forgotten_a_few_at_a_time() {
        let (mut paces, now) = (Paces::new(&limits(100)), Mono(0));
        for user in 0..50 {
            take(&mut paces, now, &user.to_string());
        }
        assert_eq!(paces.len(), 50);
        take(&mut paces, now + SECOND, "U1");
        assert_eq!(paces.len(), 49, "two gone, one come");
        for _ in 0..3 {
            take(&mut paces, now + SECOND, "U1");
        }
        assert_eq!(paces.len(), 43, "a refusal clears up, too");
    }

    #[test]
    fn in_a_full_table_the_bucket_nearest_to_full_goes() {
        let (mut paces, now) = (Paces::new(&limits(2)), Mono(0));
        for user in ["U1", "U1", "U1", "U2"] {
            take(&mut paces, now, user);
        }
        assert_eq!(take(&mut paces, now, "U3"), Paced::Evicted);
        assert_eq!(take(&mut paces, now, "U1"), Paced::TooFast, "the empty bucket is still known");
        assert_eq!(paces.len(), 2);
    }

    /// The naive twin keeps the tokens of every user for ever.
    #[test]
    fn it_decides_as_token_buckets_that_never_forget() {
        let mut random = 7u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        let mut paces = Paces::new(&limits(100));
        let mut tokens = [(3.0f64, 0u64); 6];
        let mut now = 0u64;
        let mut refused = 0;
        for _ in 0..20_000 {
            now += below(400);
            let user = below(6) as usize;
            let (left, at) = tokens[user];
            let left = (left + (now - at) as f64 / 1_000.0).min(3.0);
            let may = left >= 1.0;
            tokens[user] = (left - f64::from(u8::from(may)), now);
            let paced = take(&mut paces, Mono(now * 1_000_000), &user.to_string());
            // At the very edge the twin's arithmetic rounds.
            if (left - 1.0).abs() > 1e-6 {
                assert_eq!(paced == Paced::Granted, may, "at {now} ms, {left} left");
            } else if may != (paced == Paced::Granted) {
                tokens[user] = (left - f64::from(u8::from(!may)), now);
            }
            refused += u32::from(paced == Paced::TooFast);
            assert!(paces.len() <= 6 && paces.len() == paces.by_time.len());
        }
        assert!(refused > 1_000, "{refused}");
    }
}

//! The clocks of one node: none begins where another does, some go wrong, and the hands of the wall clock are moved.
//!
//! The world has one time, which nobody can read.

use std::time::Duration;

use campanile::time::{Mono, Now, Wall};

use crate::agenda::BEGIN;
use crate::random::Random;

/// Where wall clocks begin, in microseconds.
const WALL: i64 = 1_700_000_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// What the monotonic clock showed when the world began: nanoseconds.
    base: u64,
    /// How much too fast it is: millionths.
    drift: i64,
    /// By how much the wall clock is ahead: microseconds.
    ahead: i64,
    /// It stands still since this time of the world.
    stands: Option<Mono>,
}

impl Clock {
    /// One in three is right, but for its beginning; others are wrong by up to one in a hundred, and up to ten seconds ahead or behind.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let base = random.between(1_000_000_000_000, 1_000_000_000_000_000);
        let (drift, ahead) = if random.chance(333) {
            (0, 0)
        } else {
            (
                random.between(0, 20_000) as i64 - 10_000,
                random.between(0, 20_000_000) as i64 - 10_000_000,
            )
        };
        Self { base, drift, ahead, stands: None }
    }

    /// What the node reads.
    pub(crate) fn now(&self, world: Mono) -> Now {
        let seen = self.stands.unwrap_or(world);
        let wall = WALL + (seen.since(BEGIN).as_micros() as i64) + self.ahead;
        Now { mono: self.mono(world), wall: Wall(wall as u64) }
    }

    /// What its monotonic clock shows.
    pub(crate) fn mono(&self, world: Mono) -> Mono {
        let gone = world.since(BEGIN).as_nanos() as i128;
        let shown = gone * i128::from(1_000_000 + self.drift) / 1_000_000;
        Mono(self.base + shown as u64)
    }

    /// When it will show that.
    pub(crate) fn when(&self, shown: Mono) -> Mono {
        let gone = i128::from(shown.0.saturating_sub(self.base));
        let rate = i128::from(1_000_000 + self.drift);
        let nanos = (gone * 1_000_000 + rate - 1) / rate;
        BEGIN + Duration::from_nanos(nanos as u64)
    }

    /// Somebody moves the hands of the wall clock, or they stand still from now on.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.ahead += by_ms * 1_000;
    }
    pub(crate) fn stop(&mut self, world: Mono) {
        self.stands.get_or_insert(world);
    }
    /// They go on, from where they stood.
    pub(crate) fn go_on(&mut self, world: Mono) {
        if let Some(since) = self.stands.take() {
            self.ahead -= world.since(since).as_micros() as i64;
        }
    }
}

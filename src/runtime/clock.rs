//! The clocks, read once per turn. The one place on the data plane where time comes from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Mono, Now, Wall};

/// A process's clock: all drivers of a node share the origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        // Never zero: some tables take zero for "never".
        Self {
            origin: Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: self.mono(), wall: Self::wall() }
    }

    pub(super) fn wall() -> Wall {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(wall.as_micros() as u64)
    }

    pub(super) fn mono(&self) -> Mono {
        Mono(self.origin.elapsed().as_nanos() as u64)
    }
}

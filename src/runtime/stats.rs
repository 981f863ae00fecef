//! What a core counts, and what it tells of itself when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::Role;
use crate::shard::Counter;

/// Counters of one place: written by its thread, read by anybody. Per place.
#[derive(Clone, Debug)]
pub(super) struct Stats(Arc<[AtomicU64]>);

impl Stats {
    pub(super) fn new() -> Self {
        Self(Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
    pub(super) fn count(&self, what: Counter, by: u32) {
        self.0[what as usize].fetch_add(u64::from(by), Ordering::Relaxed);
    }
    pub(super) fn of(&self, what: Counter) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }
}

/// Gauges of one place at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges(pub(super) Vec<(Role, &'static str, f64)>);

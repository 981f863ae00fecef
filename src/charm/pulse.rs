//! Beats between two that watch each other. Each carries a number and the last number heard: no echo is silence, because TCP may go on
//! delivering one way only.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{BEAT, DEAD_AFTER, LOST_AFTER, SUSPECT_AFTER};
use crate::time::Mono;

/// Numbers of our own beats, and when they were sent: those that can still be echoed in time.
#[derive(Debug, Default)]
pub(super) struct Beats {
    number: u32,
    sent: VecDeque<(u32, Mono)>,
    due: Option<Mono>,
}

/// An echo that is older than this proves nothing that counts.
const KEPT: usize = 16;

impl Beats {
    /// The next beat's number, when it is due.
    pub(super) fn next(&mut self, now: Mono) -> Option<u32> {
        if self.due.is_some_and(|due| due > now) {
            return None;
        }
        self.due = Some(now + BEAT);
        self.number = self.number.wrapping_add(1);
        self.sent.push_back((self.number, now));
        if self.sent.len() > KEPT {
            self.sent.pop_front();
        }
        Some(self.number)
    }

    pub(super) fn deadline(&self) -> Mono {
        self.due.unwrap_or_default()
    }

    /// When the beat was sent that somebody echoes.
    fn sent_at(&self, echo: u32) -> Option<Mono> {
        self.sent.iter().find(|(number, _)| *number == echo).map(|(_, at)| *at)
    }
}

/// What is heard of one other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    /// Drawn at the start of its process.
    pub(super) incarnation: u64,
    /// The number of its last beat: our next one echoes it.
    pub(super) heard: u32,
    heard_at: Mono,
    /// When this process was met first.
    pub(super) met_at: Mono,
    /// When the newest beat was sent that it echoed.
    echoed_at: Mono,
    is_connected: bool,
}

/// What one observer thinks of another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Verdict {
    Alive,
    Suspect,
    Dead,
}

impl Pulse {
    /// A link to it is up. Whoever was not heard yet has from now on as long as everybody.
    pub(super) fn new(incarnation: u64, now: Mono) -> Self {
        Self {
            incarnation,
            heard: 0,
            heard_at: now,
            met_at: now,
            echoed_at: now,
            is_connected: true,
        }
    }

    /// The link is up again; an older silence is not forgotten before it speaks.
    pub(super) fn connected(&mut self, incarnation: u64, now: Mono) {
        if incarnation == self.incarnation {
            self.is_connected = true;
        } else {
            *self = Self::new(incarnation, now);
        }
    }

    pub(super) fn lost(&mut self) {
        self.is_connected = false;
    }

    pub(super) fn hear(&mut self, now: Mono, beats: &Beats, number: u32, echo: u32) {
        self.heard = number;
        self.heard_at = now;
        if let Some(sent_at) = beats.sent_at(echo) {
            self.echoed_at = self.echoed_at.max(sent_at);
        }
    }

    /// How long nothing went both ways.
    pub(super) fn silence(&self, now: Mono) -> Duration {
        now.since(self.heard_at.min(self.echoed_at))
    }

    pub(super) fn verdict(&self, now: Mono) -> Verdict {
        let silence = self.silence(now);
        // A broken connection is known at once, and tried again a few times before it counts.
        let dead_after = if self.is_connected { DEAD_AFTER } else { LOST_AFTER };
        if silence >= dead_after {
            Verdict::Dead
        } else if silence >= SUSPECT_AFTER.min(dead_after) {
            Verdict::Suspect
        } else {
            Verdict::Alive
        }
    }
}

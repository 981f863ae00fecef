//! Faults of the product that are put in on purpose: a run that does not notice them is worth nothing.

use crate::frames::{CLOSE, Frame, TEXT};
use crate::random::Random;

/// What is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Canary {
    /// One frame in so many does not reach its client, comes twice, or changes places with the next.
    DropFrame(u64),
    RepeatFrame(u64),
    SwapFrames(u64),
    /// The database passes over one offset in so many.
    SkipOffset(u64),
    /// So many in a thousand tips that the source tells are one too low.
    LieAboutTip(u64),
    /// One row in so many leaves the outbox without having been sent.
    ForgetRow(u64),
    /// One byte that somebody said is another.
    OtherByte,
}

/// Each must be noticed within so many seeds.
pub(crate) const CANARIES: &[(Canary, u64)] = &[
    (Canary::DropFrame(10_000), 60),
    (Canary::RepeatFrame(10_000), 60),
    (Canary::SwapFrames(10_000), 200),
    (Canary::SkipOffset(60), 10),
    (Canary::LieAboutTip(200), 40),
    (Canary::ForgetRow(100), 60),
];

/// Somebody between the server and one client.
#[derive(Clone, Debug)]
pub(crate) struct Tamper {
    canary: Canary,
    random: Random,
    kept: Option<Frame>,
}

impl Tamper {
    /// `None`: this canary leaves frames alone.
    pub(crate) fn new(canary: Canary, random: Random) -> Option<Self> {
        let is_one =
            matches!(canary, Canary::DropFrame(_) | Canary::RepeatFrame(_) | Canary::SwapFrames(_));
        is_one.then_some(Self { canary, random, kept: None })
    }

    /// What reaches the client instead of a frame.
    pub(crate) fn frames(&mut self, frame: Frame) -> Vec<Frame> {
        if let Some(kept) = self.kept.take() {
            return vec![frame, kept];
        }
        let (Canary::DropFrame(every) | Canary::RepeatFrame(every) | Canary::SwapFrames(every)) =
            self.canary
        else {
            return vec![frame];
        };
        if self.random.below(every) > 0 || frame.opcode == CLOSE {
            return vec![frame];
        }
        match self.canary {
            Canary::RepeatFrame(_) => vec![frame.clone(), frame],
            Canary::SwapFrames(_) if frame.opcode == TEXT => {
                self.kept = Some(frame);
                Vec::new()
            }
            Canary::SwapFrames(_) => vec![frame],
            _ => Vec::new(),
        }
    }
}

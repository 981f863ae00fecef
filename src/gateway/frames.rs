//! Encoded frames, shared by reference: one copy for all connections of the core that wait for it.

use super::slab::{Entry, NIL, Slab};

/// A frame that its maker holds. Not `Copy`: whoever made it gives it back to [`Frames::release`] after the last append.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is not released stays in memory"]
pub struct Frame(pub(super) u32);

/// Per shard: all frames of which at least one byte waits somewhere.
#[derive(Debug, Default)]
pub struct Frames {
    slab: Slab<Shared>,
    bytes: u64,
}

/// `refs` 0: vacant, and `next` is the next vacant one.
#[derive(Debug)]
struct Shared {
    bytes: Box<[u8]>,
    refs: u32,
    next: u32,
}

const _: () = assert!(size_of::<Shared>() == 24);

impl Entry for Shared {
    fn vacant(next: u32) -> Self {
        Self { bytes: Box::default(), refs: 0, next }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.refs == 0).then_some(self.next)
    }
}

impl Frames {
    /// Keeps a copy of `bytes` until it is released and no outbox holds it.
    pub fn put(&mut self, bytes: &[u8]) -> Frame {
        assert!(!bytes.is_empty(), "an empty frame would never be sent");
        self.bytes += bytes.len() as u64;
        Frame(self.slab.insert(Shared { bytes: bytes.into(), refs: 1, next: NIL }))
    }

    /// The maker lets go.
    pub fn release(&mut self, frame: Frame) {
        self.let_go(frame.0);
    }

    pub(super) fn hold(&mut self, frame: u32) {
        self.slab[frame].refs += 1;
    }

    pub(super) fn let_go(&mut self, frame: u32) {
        let shared = &mut self.slab[frame];
        shared.refs = shared.refs.checked_sub(1).expect("a vacant frame has no holder");
        if shared.refs == 0 {
            self.bytes -= shared.bytes.len() as u64;
            shared.refs = 1;
            self.slab.remove(frame);
        }
    }

    pub(super) fn bytes_of(&self, frame: u32) -> &[u8] {
        &self.slab[frame].bytes
    }

    /// Frames that are held.
    pub fn count(&self) -> u32 {
        self.slab.count()
    }

    /// Bytes of all held frames, each once.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

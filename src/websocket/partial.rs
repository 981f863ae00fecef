//! What is kept of a message between two reads: exists only while something is partial.

use super::utf8::Utf8;

/// What one connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a message, all fragments.
    pub message_bytes_max: usize,
    pub fragments_max: u32,
}

/// The state of a reader in the middle of a frame or of a fragmented message.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// Bytes of a header that is not whole.
    pub(super) header: [u8; 14],
    pub(super) header_len: u8,
    /// The frame whose payload is arriving.
    pub(super) frame: Option<Frame>,
    /// Payload of a data message so far: fragments before, and the present one.
    pub(super) message: Vec<u8>,
    /// The message's opcode; 0 when there is none.
    pub(super) opcode: u8,
    pub(super) fragments: u32,
    pub(super) utf8: Utf8,
    /// Payload of a control frame that is arriving.
    pub(super) control: Vec<u8>,
}

impl Partial {
    pub(super) fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.opcode == 0
    }
}

/// A frame whose header is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) is_final: bool,
    pub(super) opcode: u8,
    pub(super) mask: [u8; 4],
    pub(super) len: usize,
    /// Payload bytes that were taken already.
    pub(super) taken: usize,
}

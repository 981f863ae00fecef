//! Close codes: which a peer may send, and which we do.

/// RFC 6455 §7.4.1.
pub const NORMAL: u16 = 1000;
pub const GOING_AWAY: u16 = 1001;
pub const PROTOCOL_ERROR: u16 = 1002;
pub const UNSUPPORTED: u16 = 1003;
pub const INVALID_PAYLOAD: u16 = 1007;
pub const POLICY: u16 = 1008;
pub const TOO_BIG: u16 = 1009;
pub const TRY_AGAIN: u16 = 1013;
/// Ours, in the private range: you are too slow; come back and resume.
pub const TOO_SLOW: u16 = 4002;

/// Whether a peer may put the code into a Close frame (RFC 6455 §7.4.2: 1005, 1006 and 1015 never travel).
pub fn may_travel(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

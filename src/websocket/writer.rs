//! Server frames: never masked, never fragmented (slack_sdk dies of both).

/// RFC 6455 §5.2.
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Appends the header of a final frame with a payload of `len` bytes.
pub fn header(opcode: u8, len: usize, into: &mut Vec<u8>) {
    into.push(0x80 | opcode);
    match len {
        0..=125 => into.push(len as u8),
        126..=65_535 => {
            into.push(126);
            into.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            into.push(127);
            into.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends a whole frame.
pub fn frame(opcode: u8, payload: &[u8], into: &mut Vec<u8>) {
    header(opcode, payload.len(), into);
    into.extend_from_slice(payload);
}

/// Appends a Close frame. `reason` at most 123 bytes.
pub fn close(code: u16, reason: &str, into: &mut Vec<u8>) {
    let reason = &reason.as_bytes()[..reason.len().min(123)];
    header(CLOSE, 2 + reason.len(), into);
    into.extend_from_slice(&code.to_be_bytes());
    into.extend_from_slice(reason);
}

/// Appends a client's frame, for tests and load.
pub fn masked(opcode: u8, payload: &[u8], mask: [u8; 4], into: &mut Vec<u8>) {
    let start = into.len();
    header(opcode, payload.len(), into);
    into[start + 1] |= 0x80;
    into.extend_from_slice(&mask);
    let body = into.len();
    into.extend_from_slice(payload);
    super::mask::apply(&mut into[body..], mask, 0);
}

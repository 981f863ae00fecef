//! The client's websocket: a naive one of its own, so that a fault of the product's codec is not mirrored here.

use crate::checker::Violation;
use crate::random::Random;

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// What a server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// Bytes received, not parsed yet.
#[derive(Default, Debug)]
pub(crate) struct Stream {
    bytes: Vec<u8>,
    at: usize,
}

impl Stream {
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.at > 0 && self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The head of the HTTP answer, once it is whole.
    pub(crate) fn head(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.at..];
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = rest[..end].to_vec();
        self.at += end;
        Some(head)
    }

    /// The next frame. A server masks nothing, uses no extension, and (for the sake of some clients) fragments nothing.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Violation> {
        let rest = &self.bytes[self.at..];
        let Some(&[first, second]) = rest.first_chunk() else { return Ok(None) };
        if first & 0xf0 != 0x80 || second & 0x80 != 0 {
            return Err(Violation(format!(
                "RFC 6455: a server's frame begins {first:02x} {second:02x}"
            )));
        }
        let opcode = first & 0x0f;
        let (head, len) = match second {
            126 => match rest.get(2..4) {
                Some(two) => (4, u64::from(u16::from_be_bytes([two[0], two[1]]))),
                None => return Ok(None),
            },
            127 => match rest.get(2..10) {
                Some(eight) => (10, u64::from_be_bytes(eight.try_into().expect("eight bytes"))),
                None => return Ok(None),
            },
            len => (2, u64::from(len)),
        };
        let is_known = matches!(opcode, TEXT | CLOSE | PING | PONG);
        let is_minimal = match second {
            126 => len >= 126,
            127 => len > 0xffff,
            _ => true,
        };
        if !is_known || !is_minimal || len > 1 << 20 || (opcode >= CLOSE && len > 125) {
            return Err(Violation(format!("RFC 6455: opcode {opcode} with {len} bytes")));
        }
        let end = head + len as usize;
        if rest.len() < end {
            return Ok(None);
        }
        let payload = rest[head..end].to_vec();
        self.at += end;
        Ok(Some(Frame { opcode, payload }))
    }
}

/// A ping between the pieces of a text.
pub(crate) const BETWEEN: &[u8] = b"between";

/// A client's frame, masked; a text is in pieces now and then. True: with a ping between them.
pub(crate) fn write(opcode: u8, payload: &[u8], random: &mut Random, into: &mut Vec<u8>) -> bool {
    if opcode != TEXT || !random.chance(50) {
        piece(0x80 | opcode, payload, random, into);
        return false;
    }
    let cut = random.between(0, payload.len() as u64) as usize;
    let has_ping = random.chance(300);
    piece(opcode, &payload[..cut], random, into);
    if has_ping {
        piece(0x80 | PING, BETWEEN, random, into);
    }
    piece(0x80, &payload[cut..], random, into);
    has_ping
}

fn piece(first: u8, payload: &[u8], random: &mut Random, into: &mut Vec<u8>) {
    into.push(first);
    if payload.len() < 126 {
        into.push(0x80 | payload.len() as u8);
    } else {
        into.push(0x80 | 0x7e);
        into.extend((payload.len() as u16).to_be_bytes());
    }
    let mask = (random.next() as u32).to_be_bytes();
    into.extend(mask);
    into.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
}

//! Client bytes to events: RFC 6455 §5, server side.
//!
//! An idle connection costs one pointer. A whole single-frame message is given as a slice of the bytes that came in, unmasked in
//! place; only what is cut off is copied. Every rule is checked at the first byte that breaks it.

use super::close;
use super::mask;
use super::partial::{Bounds, Frame, Partial};

/// What a client said. Text is valid UTF-8; slices may be changed (a JSON parser works in place).
#[derive(PartialEq, Eq, Debug)]
pub enum Event<'a> {
    Text(&'a mut [u8]),
    Binary(&'a mut [u8]),
    Ping(&'a [u8]),
    Pong,
    /// The code, if there was one.
    Close(Option<u16>),
}

/// The client broke the protocol: close with this code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    pub code: u16,
    pub reason: &'static str,
}

const fn violation(code: u16, reason: &'static str) -> Violation {
    Violation { code, reason }
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The reading half of one connection.
#[derive(Debug, Default)]
pub struct Reader {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Reader>() == 8, "an idle connection costs one pointer");

impl Reader {
    /// Reads on in `bytes` from `*at`, which it moves; gives each event to be handled before the next call. `None`: all bytes are
    /// taken. After a violation or a Close the reader must not be used again.
    pub fn next<'a>(
        &'a mut self,
        bytes: &'a mut [u8],
        at: &mut usize,
        bounds: &Bounds,
    ) -> Result<Option<Event<'a>>, Violation> {
        if let Some(partial) = &mut self.partial {
            // What the last event borrowed.
            if partial.frame.is_none() && partial.opcode == 0 {
                partial.message = Vec::new();
            }
            if partial.frame.is_none() {
                partial.control.clear();
            }
            if partial.is_idle() {
                self.partial = None;
            }
        }
        loop {
            if self.partial.as_ref().is_none_or(|partial| partial.frame.is_none()) {
                let Some(frame) = self.header(bytes, at, bounds)? else { return Ok(None) };
                let is_alone = self.partial.as_ref().is_none_or(|partial| partial.opcode == 0);
                let is_data = frame.opcode < CLOSE;
                let is_here = bytes.len() - *at >= frame.len;
                if is_here && (!is_data || (is_alone && frame.is_final)) {
                    let start = *at;
                    *at += frame.len;
                    return whole(frame, &mut bytes[start..start + frame.len]).map(Some);
                }
                self.begin(frame, bounds)?;
            }
            let partial = self.partial.as_mut().expect("a frame is arriving");
            if !partial.payload(bytes, at)? {
                return Ok(None);
            }
            let frame = partial.frame.take().expect("it arrived");
            if frame.opcode >= CLOSE {
                let partial = self.partial.as_mut().expect("still there");
                return control(frame.opcode, &partial.control).map(Some);
            }
            if frame.is_final {
                let partial = self.partial.as_mut().expect("still there");
                let opcode = std::mem::take(&mut partial.opcode);
                partial.fragments = 0;
                if opcode == TEXT && !partial.utf8.is_whole() {
                    return Err(violation(close::INVALID_PAYLOAD, "text is not UTF-8"));
                }
                return Ok(Some(data(opcode, &mut partial.message)));
            }
        }
    }

    /// Whether a message or a frame has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| !partial.is_idle())
    }

    /// The next frame's header, if it is whole. Its rules are checked with its first two bytes.
    fn header(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        bounds: &Bounds,
    ) -> Result<Option<Frame>, Violation> {
        if *at == bytes.len() {
            return Ok(None);
        }
        let kept = self.partial.as_ref().map_or(0, |partial| usize::from(partial.header_len));
        let mut header = [0; 14];
        if let Some(partial) = &self.partial {
            header[..kept].copy_from_slice(&partial.header[..kept]);
        }
        let more = (bytes.len() - *at).min(14 - kept);
        header[kept..kept + more].copy_from_slice(&bytes[*at..*at + more]);
        let have = kept + more;
        let (in_message, so_far) = self
            .partial
            .as_ref()
            .map_or((false, 0), |partial| (partial.opcode != 0, partial.message.len()));
        match parse(&header[..have], in_message, so_far, bounds)? {
            Some((frame, len)) => {
                *at += len - kept;
                if let Some(partial) = &mut self.partial {
                    partial.header_len = 0;
                }
                Ok(Some(frame))
            }
            None => {
                *at += more;
                let partial = self.partial.get_or_insert_default();
                partial.header[..have].copy_from_slice(&header[..have]);
                partial.header_len = have as u8;
                Ok(None)
            }
        }
    }

    fn begin(&mut self, frame: Frame, bounds: &Bounds) -> Result<(), Violation> {
        let partial = self.partial.get_or_insert_default();
        if frame.opcode < CLOSE {
            partial.fragments += 1;
            if partial.fragments > bounds.fragments_max {
                return Err(violation(close::POLICY, "too many fragments"));
            }
            if frame.opcode != CONTINUATION {
                partial.opcode = frame.opcode;
            }
        }
        partial.frame = Some(frame);
        Ok(())
    }
}

impl Partial {
    /// Takes what is there of the present frame's payload. True: all of it.
    fn payload(&mut self, bytes: &mut [u8], at: &mut usize) -> Result<bool, Violation> {
        let frame = self.frame.as_mut().expect("a frame is arriving");
        let take = (frame.len - frame.taken).min(bytes.len() - *at);
        let piece = &mut bytes[*at..*at + take];
        mask::apply(piece, frame.mask, frame.taken);
        frame.taken += take;
        *at += take;
        let is_whole = frame.taken == frame.len;
        if frame.opcode >= CLOSE {
            self.control.extend_from_slice(piece);
        } else {
            if self.opcode == TEXT && self.utf8.push(piece).is_err() {
                return Err(violation(close::INVALID_PAYLOAD, "text is not UTF-8"));
            }
            self.message.extend_from_slice(piece);
        }
        Ok(is_whole)
    }
}

/// A header of at most 14 bytes: the frame, and the header's length. `so_far`: bytes of the message before this frame.
fn parse(
    header: &[u8],
    in_message: bool,
    so_far: usize,
    bounds: &Bounds,
) -> Result<Option<(Frame, usize)>, Violation> {
    const fn broken(reason: &'static str) -> Violation {
        violation(close::PROTOCOL_ERROR, reason)
    }
    let Some(&first) = header.first() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(broken("a reserved bit is set"));
    }
    let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
    match opcode {
        CONTINUATION if !in_message => return Err(broken("a continuation of nothing")),
        TEXT | BINARY if in_message => return Err(broken("a new message inside another")),
        CONTINUATION | TEXT | BINARY => {}
        CLOSE | PING | PONG if !is_final => return Err(broken("a fragmented control frame")),
        CLOSE | PING | PONG => {}
        _ => return Err(broken("a reserved opcode")),
    }
    let Some(&second) = header.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(broken("a frame without a mask"));
    }
    let short = usize::from(second & 0x7f);
    if opcode >= CLOSE && short > 125 {
        return Err(broken("a control frame above 125 bytes"));
    }
    let (len, head) = match short {
        126 => match header.get(2..4) {
            Some(two) => (u64::from(u16::from_be_bytes([two[0], two[1]])), 4),
            None => return Ok(None),
        },
        127 => match header.get(2..10) {
            Some(eight) => (u64::from_be_bytes(eight.try_into().expect("eight bytes")), 10),
            None => return Ok(None),
        },
        short => (short as u64, 2),
    };
    if len >> 63 != 0 {
        return Err(broken("a length with the high bit set"));
    }
    if (head == 4 && len < 126) || (head == 10 && len < 65_536) {
        return Err(broken("a length in more bytes than it needs"));
    }
    let is_over = |len: u64| len.saturating_add(so_far as u64) > bounds.message_bytes_max as u64;
    if opcode < CLOSE && is_over(len) {
        return Err(violation(close::TOO_BIG, "the message is too big"));
    }
    let Some(mask) = header.get(head..head + 4) else { return Ok(None) };
    let mask = mask.try_into().expect("four bytes");
    Ok(Some((Frame { is_final, opcode, mask, len: len as usize, taken: 0 }, head + 4)))
}

/// A frame that is all here and alone.
fn whole(frame: Frame, payload: &mut [u8]) -> Result<Event<'_>, Violation> {
    mask::apply(payload, frame.mask, 0);
    if frame.opcode >= CLOSE {
        return control(frame.opcode, payload);
    }
    if frame.opcode == TEXT && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(violation(close::INVALID_PAYLOAD, "text is not UTF-8"));
    }
    Ok(data(frame.opcode, payload))
}

fn data(opcode: u8, payload: &mut [u8]) -> Event<'_> {
    if opcode == TEXT { Event::Text(payload) } else { Event::Binary(payload) }
}

fn control(opcode: u8, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match opcode {
        PING => Ok(Event::Ping(payload)),
        PONG => Ok(Event::Pong),
        _ => match payload {
            [] => Ok(Event::Close(None)),
            [_] => Err(violation(close::PROTOCOL_ERROR, "a close code of one byte")),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !close::may_travel(code) {
                    return Err(violation(
                        close::PROTOCOL_ERROR,
                        "a close code that may not travel",
                    ));
                }
                if simdutf8::basic::from_utf8(reason).is_err() {
                    return Err(violation(
                        close::INVALID_PAYLOAD,
                        "a close reason that is not UTF-8",
                    ));
                }
                Ok(Event::Close(Some(code)))
            }
        },
    }
}

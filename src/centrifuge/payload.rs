//! A memory channel's publication on the wire: a byte that says what it is, then an encoded `Publication` without its place.
//!
//! So a Protobuf client is given it as it is: fields may stand in any order, and the offset comes last.

use prost::Message;

use super::message::Publication;
use super::rules::one_line;

/// What the first byte says, bit by bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// The data are no JSON: clients that speak JSON cannot be given it (T22).
    pub is_binary: bool,
    /// Whoever takes patches may be given one.
    pub is_delta: bool,
}

const BINARY: u8 = 1;
const DELTA: u8 = 2;

impl Marks {
    /// Data as they are kept, JSON in one line, and what they are.
    pub fn of(data: Vec<u8>, is_delta: bool) -> (Self, Vec<u8>) {
        let line = one_line(&data);
        (Self { is_binary: line.is_none(), is_delta }, line.unwrap_or(data))
    }
    pub fn write(self, publication: &Publication) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(publication.encoded_len() + 1);
        bytes.push((u8::from(self.is_binary) * BINARY) | (u8::from(self.is_delta) * DELTA));
        publication.encode(&mut bytes).expect("a vector grows");
        bytes
    }
}

/// The two parts of a payload. An empty one is a publication of nothing.
pub fn split(payload: &[u8]) -> (Marks, &[u8]) {
    let Some((marks, publication)) = payload.split_first() else {
        return (Marks::default(), &[]);
    };
    (Marks { is_binary: marks & BINARY != 0, is_delta: marks & DELTA != 0 }, publication)
}

/// A publication of the back end, of which the payload is JSON: as `split` gives one.
pub fn of_event(event: &[u8]) -> Vec<u8> {
    Publication { data: event.to_vec(), ..Publication::default() }.encode_to_vec()
}

/// The publication with its place; `None`: not for JSON, or broken.
pub fn read(payload: &[u8], offset: u64, is_json: bool) -> Option<Publication> {
    let (marks, publication) = split(payload);
    if marks.is_binary && is_json {
        return None;
    }
    Some(Publication { offset, ..Publication::decode(publication).ok()? })
}

//! Frames that all subscribers of a channel share: nothing in them is per connection.
//!
//! A memory channel's payload on the wire is an encoded `Publication` without its place, so that a Protobuf client is given it as it
//! is: fields may stand in any order, and the offset comes last. For JSON it is written anew, once per core.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::framing::Framing;
use super::message::{Publication, Push, Reply};

/// The push of a publication. `offset` 0: the channel has no stream. `payload`: see the head of this file; what does not decode is
/// a publication without data, which no client is given.
pub fn publication(
    framing: Framing,
    channel: &str,
    offset: u64,
    payload: &[u8],
    into: &mut Vec<u8>,
) {
    match framing {
        Framing::Json => {
            let Ok(mut publication) = Publication::decode(payload) else { return };
            publication.offset = offset;
            let publication = Some(publication);
            let push = Push { channel: channel.into(), publication, ..Push::default() };
            framing.write(&Reply { push: Some(push), ..Reply::default() }, into);
        }
        Framing::Protobuf => {
            let place = if offset == 0 { 0 } else { key_len(OFFSET) + encoded_len_varint(offset) };
            let body = payload.len() + place;
            let push = field_len(CHANNEL, channel.len()) + field_len(PUB, body);
            encode_varint(field_len(PUSH, push) as u64, into);
            head(PUSH, push, into);
            head(CHANNEL, channel.len(), into);
            into.extend_from_slice(channel.as_bytes());
            head(PUB, body, into);
            into.extend_from_slice(payload);
            if offset != 0 {
                encode_key(OFFSET, WireType::Varint, into);
                encode_varint(offset, into);
            }
        }
    }
}

/// How clients are told which life of a channel a place is of. Never empty (T19).
pub fn epoch(epoch: u32) -> String {
    format!("{epoch:08x}")
}

// Tags of `Reply.push`, `Push.channel`, `Push.pub`, `Publication.offset`.
const PUSH: u32 = 4;
const CHANNEL: u32 = 2;
const PUB: u32 = 4;
const OFFSET: u32 = 6;

fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

fn head(tag: u32, len: usize, into: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(len as u64, into);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centrifuge::message::ClientInfo;

    fn pushed(framing: Framing, offset: u64, publication: &Publication) -> Vec<u8> {
        let mut bytes = Vec::new();
        super::publication(framing, "news:1", offset, &publication.encode_to_vec(), &mut bytes);
        bytes
    }

    #[test]
    fn a_publication_in_json_is_as_the_paper_shows_it() {
        let one = Publication { data: b"{\"x\":1}".to_vec(), ..Publication::default() };
        assert_eq!(
            pushed(Framing::Json, 8, &one),
            br#"{"push":{"channel":"news:1","pub":{"data":{"x":1},"offset":8}}}"#
        );
        assert_eq!(
            pushed(Framing::Json, 0, &one),
            br#"{"push":{"channel":"news:1","pub":{"data":{"x":1}}}}"#
        );
    }

    #[test]
    fn sizes_are_those_of_the_paper() {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(200 - 8));
        let info = ClientInfo {
            user: "42".into(),
            client: "3f0f43ba-4c9b-4b5c-a2b6-7a4a0cbb7d5a".into(),
            ..ClientInfo::default()
        };
        let plain = Publication { data: text.into_bytes(), ..Publication::default() };
        let said = Publication { info: Some(info), ..plain.clone() };
        for (offset, one, json, protobuf) in
            [(0, &plain, 245, 219), (12_345, &plain, 260, 222), (12_345, &said, 329, 266)]
        {
            assert_eq!(pushed(Framing::Json, offset, one).len(), json);
            assert_eq!(pushed(Framing::Protobuf, offset, one).len(), protobuf);
        }
    }

    #[test]
    fn protobuf_reads_back() {
        let one = Publication {
            data: b"[1]".to_vec(),
            tags: [("k".to_string(), "v".to_string())].into(),
            ..Publication::default()
        };
        let bytes = pushed(Framing::Protobuf, 7, &one);
        let reply = Reply::decode_length_delimited(&*bytes).expect("a reply");
        let push = reply.push.expect("a push");
        assert_eq!(push.channel, "news:1");
        assert_eq!(push.publication, Some(Publication { offset: 7, ..one }));
    }
}

//! Frames that all subscribers of a channel share: nothing in them is per connection.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::framing::Framing;
use super::message::{ClientInfo, Coming, Publication, Push, Reply};

/// The push of a publication, from its encoding without a place. `offset` 0: the channel has no stream. What does not decode no client
/// is given.
pub fn publication(
    framing: Framing,
    channel: &str,
    offset: u64,
    encoded: &[u8],
    into: &mut Vec<u8>,
) {
    match framing {
        Framing::Json => {
            let Ok(mut publication) = Publication::decode(encoded) else { return };
            publication.offset = offset;
            of_value(framing, channel, publication, into);
        }
        Framing::Protobuf => {
            let place = if offset == 0 { 0 } else { key_len(OFFSET) + encoded_len_varint(offset) };
            let body = encoded.len() + place;
            let push = field_len(CHANNEL, channel.len()) + field_len(PUB, body);
            encode_varint(field_len(PUSH, push) as u64, into);
            head(PUSH, push, into);
            head(CHANNEL, channel.len(), into);
            into.extend_from_slice(channel.as_bytes());
            head(PUB, body, into);
            into.extend_from_slice(encoded);
            if offset != 0 {
                encode_key(OFFSET, WireType::Varint, into);
                encode_varint(offset, into);
            }
        }
    }
}

/// The same for those who take patches: whole, or as a `patch` to what they have. In JSON both are texts (T7).
pub fn delta(
    framing: Framing,
    channel: &str,
    offset: u64,
    (encoded, patch): (&[u8], Option<&[u8]>),
    into: &mut Vec<u8>,
) {
    let Ok(whole) = Publication::decode(encoded) else { return };
    let publication = match patch {
        Some(patch) => Publication { data: patch.to_vec(), delta: true, offset, ..whole },
        None => Publication { offset, ..whole },
    };
    of_value(framing, channel, as_text(framing, publication), into);
}

/// A publication for somebody who takes patches.
pub fn as_text(framing: Framing, publication: Publication) -> Publication {
    if framing == Framing::Protobuf {
        return publication;
    }
    // What is no text is never a patch for JSON, nor a publication for it.
    let text = String::from_utf8_lossy(&publication.data);
    let data = serde_json::to_vec(&text).expect("a text is JSON");
    Publication { data, ..publication }
}

fn of_value(framing: Framing, channel: &str, publication: Publication, into: &mut Vec<u8>) {
    let publication = Some(publication);
    let push = Push { channel: channel.into(), publication, ..Push::default() };
    framing.write(&Reply { push: Some(push), ..Reply::default() }, into);
}

/// The push of somebody's coming or going. `info`: an encoded `ClientInfo`; what does not decode is nobody.
pub fn coming(framing: Framing, channel: &str, is_join: bool, info: &[u8], into: &mut Vec<u8>) {
    let Ok(info) = ClientInfo::decode(info) else { return };
    let coming = Some(Coming { info });
    let (join, leave) = if is_join { (coming, None) } else { (None, coming) };
    let push = Push { channel: channel.into(), join, leave, ..Push::default() };
    framing.write(&Reply { push: Some(push), ..Reply::default() }, into);
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

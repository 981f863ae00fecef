//! Fossil deltas: a text from the one before it (<https://fossil-scm.org/home/doc/tip/www/delta_format.wiki>).
//!
//! A patch is the target's length, then copies of the source (`len@offset,`) and texts (`len:bytes`), then a checksum. Counts are bytes.

use rustc_hash::FxHashMap;

/// Blocks of the source that are looked for in the target.
const BLOCK: usize = 16;
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// What makes `target` of `source`. Of a text whose characters are whole the patch's are whole too, so that it can stand in JSON.
/// `None`: it would not be shorter than the target.
pub fn between(source: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut patch = Vec::with_capacity(target.len());
    number(target.len(), &mut patch);
    patch.push(b'\n');
    let blocks: FxHashMap<u128, usize> = source
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .enumerate()
        .rev()
        .map(|(nth, block)| (u128::from_le_bytes(*block), nth * BLOCK))
        .collect();
    // Everything of the target before `done` is in the patch.
    let (mut done, mut at) = (0, 0);
    while let Some(window) = target.get(at..at + BLOCK) {
        let window = u128::from_le_bytes(window.try_into().expect("a block"));
        let Some(&found) = blocks.get(&window) else {
            at += 1;
            continue;
        };
        let before = source[..found].iter().rev().zip(target[done..at].iter().rev());
        let before = before.take_while(|(a, b)| a == b).count();
        let after = source[found..].iter().zip(&target[at..]).take_while(|(a, b)| a == b).count();
        let (mut start, mut end) = (at - before, at + after);
        while start < end && is_within_character(target, start) {
            start += 1;
        }
        while end > start && is_within_character(target, end) {
            end -= 1;
        }
        if end - start >= BLOCK / 2 {
            text(&target[done..start], &mut patch);
            number(end - start, &mut patch);
            patch.push(b'@');
            number(found + start - at, &mut patch);
            patch.push(b',');
            done = end;
        }
        at = (at + after).max(at + 1);
        if patch.len() >= target.len() {
            return None;
        }
    }
    text(&target[done..], &mut patch);
    number(checksum(target) as usize, &mut patch);
    patch.push(b';');
    (patch.len() < target.len()).then_some(patch)
}

/// Whether a cut at this place would be within a character of UTF-8.
fn is_within_character(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80)
}

fn text(bytes: &[u8], into: &mut Vec<u8>) {
    if !bytes.is_empty() {
        number(bytes.len(), into);
        into.push(b':');
        into.extend_from_slice(bytes);
    }
}

fn number(number: usize, into: &mut Vec<u8>) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(6).max(1);
    for digit in (0..digits).rev() {
        into.push(DIGITS[number >> (6 * digit) & 63]);
    }
}

/// The sum of big-endian words, the last one filled up with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]).map(|word| u32::from_be_bytes(*word));
    words.fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The target, as a client makes it.
    fn apply(source: &[u8], patch: &[u8]) -> Option<Vec<u8>> {
        let mut at = 0;
        let read = |at: &mut usize| {
            let mut number = 0;
            while let Some(digit) = DIGITS.iter().position(|digit| patch.get(*at) == Some(digit)) {
                number = number << 6 | digit;
                *at += 1;
            }
            *at += 1;
            (number, patch[*at - 1])
        };
        let (len, end) = read(&mut at);
        assert_eq!(end, b'\n');
        let mut target = Vec::new();
        loop {
            match read(&mut at) {
                (count, b'@') => {
                    let (from, comma) = read(&mut at);
                    assert_eq!(comma, b',');
                    target.extend_from_slice(source.get(from..from + count)?);
                }
                (count, b':') => {
                    target.extend_from_slice(patch.get(at..at + count)?);
                    at += count;
                }
                (sum, b';') => {
                    assert_eq!((sum, target.len()), (checksum(&target) as usize, len));
                    return Some(target);
                }
                (_, other) => panic!("{other} is no operation"),
            }
        }
    }

    #[test]
    fn a_small_change_is_a_small_patch() {
        let source =
            br#"{"players":[{"name":"alice","score":1200},{"name":"bob","score":900}],"round":7}"#;
        let target =
            br#"{"players":[{"name":"alice","score":1200},{"name":"bob","score":950}],"round":8}"#;
        let patch = between(source, target).expect("shorter");
        assert!(patch.len() < target.len() / 2, "{}", String::from_utf8_lossy(&patch));
        assert_eq!(apply(source, &patch).as_deref(), Some(&target[..]));
        let same = between(source, source).expect("shorter");
        assert_eq!(same, b"1G\n1G@0,2z9P3G;");
        assert_eq!(between(b"", target), None);
        assert_eq!(between(source, b""), None);
    }

    proptest! {
        #[test]
        fn what_is_patched_is_the_target(
            source in ".{0,300}",
            cuts in prop::collection::vec((0usize..300, 0usize..300, ".{0,9}"), 0..6),
        ) {
            let mut target = source.clone();
            for (from, len, text) in cuts {
                let border = |at: usize| {
                    (0..=at.min(target.len())).rev().find(|at| target.is_char_boundary(*at))
                };
                let (from, to) = (border(from).unwrap_or(0), border(from + len).unwrap_or(0));
                target.replace_range(from..to.max(from), &text);
            }
            if let Some(patch) = between(source.as_bytes(), target.as_bytes()) {
                prop_assert!(String::from_utf8(patch.clone()).is_ok());
                let made = apply(source.as_bytes(), &patch);
                prop_assert_eq!(made.as_deref(), Some(target.as_bytes()));
            }
        }

        #[test]
        fn any_bytes_are_patched(
            source in prop::collection::vec(0u8..4, 0..400),
            target in prop::collection::vec(0u8..4, 0..400),
        ) {
            if let Some(patch) = between(&source, &target) {
                prop_assert_eq!(apply(&source, &patch), Some(target));
            }
        }
    }
}

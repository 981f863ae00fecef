//! Masking: RFC 6455 §5.3, eight bytes at a time.

/// Applies `mask` to `bytes`, the first of which is byte number `at` of its frame's payload.
pub(super) fn apply(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    let turned = [mask[at % 4], mask[(at + 1) % 4], mask[(at + 2) % 4], mask[(at + 3) % 4]];
    let four = u32::from_ne_bytes(turned);
    let eight = u64::from(four) << 32 | u64::from(four);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("chunks of eight")) ^ eight;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(turned.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_and_length_agrees_with_the_plain_loop() {
        let mask = [1, 2, 4, 8];
        for at in 0..9 {
            for len in 0..40 {
                let mut fast: Vec<u8> = (0..len).collect();
                let plain: Vec<u8> =
                    fast.iter().enumerate().map(|(n, byte)| byte ^ mask[(at + n) % 4]).collect();
                apply(&mut fast, mask, at);
                assert_eq!(fast, plain, "at {at}, {len} bytes");
            }
        }
    }
}

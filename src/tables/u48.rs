//! Offsets in six bytes, for entries that are counted by the million.

/// A number below 2^48, without alignment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct U48([u8; 6]);

impl U48 {
    /// # Panics
    /// When the number has more bits.
    pub fn new(number: u64) -> Self {
        let [bytes @ .., 0, 0] = number.to_le_bytes() else { panic!("an offset has 48 bits") };
        Self(bytes)
    }
    /// The number, or the largest that fits.
    pub fn at_most(number: u64) -> Self {
        Self::new(number.min((1 << 48) - 1))
    }
    pub fn get(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_eight_bits_come_back() {
        for number in [0, 1, 0x0102_0304_0506, (1 << 48) - 1] {
            assert_eq!(U48::new(number).get(), number);
        }
        assert_eq!(size_of::<U48>(), 6);
    }

    #[test]
    fn what_does_not_fit_is_the_largest() {
        assert_eq!(U48::at_most(u64::MAX).get(), (1 << 48) - 1);
        assert_eq!(U48::at_most(7).get(), 7);
    }

    #[test]
    #[should_panic(expected = "48 bits")]
    fn a_forty_ninth_bit_is_refused() {
        let _ = U48::new(1 << 48);
    }
}

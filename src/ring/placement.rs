//! From a name to its slot and its key. The placement hash is a wire format: golden vectors are in the tests.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::ids::{Key, Slot};

/// The name of [`placement_hash`] in a ring document; a node that does not know the name refuses to start.
pub const HASH_NAME: &str = "xxh3_64/0";

/// XXH3-64 with seed 0 over the canonical bytes of a name. Public, so it only ever chooses a slot.
pub fn placement_hash(name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name)
}

/// The top 16 bits of the placement hash (`architecture.md` 3).
pub fn slot_of(name: &str) -> Slot {
    Slot((placement_hash(name.as_bytes()) >> 48) as u16)
}

/// The cell's secret: makes keys that nobody outside can choose to collide.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 16]);

impl Secret {
    /// The first 96 bits of SipHash-2-4-128.
    pub fn key_of(&self, name: &str) -> Key {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(name.as_bytes());
        let bytes = hasher.finish128().as_bytes();
        Key(bytes[..12].try_into().expect("12 of 16 bytes"))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placement_hash_is_the_published_one() {
        for (name, hash) in [
            (&b""[..], 0x2d06_8005_38d3_94c2_u64),
            (b"C024BE91L", 0x81c9_9419_c75a_3057),
            (b"T024BE7LD/C024BE91L", 0x5e6b_1d96_614c_3ea4),
            (&0u64.to_le_bytes(), 0xc77b_3abb_6f87_acd9),
            (&1u64.to_le_bytes(), 0x2fbc_5935_64db_792e),
            (&0x0123_4567_89ab_cdef_u64.to_le_bytes(), 0xb78d_f414_2842_77a6),
        ] {
            assert_eq!(placement_hash(name), hash, "{name:?}");
        }
        assert_eq!(slot_of("C024BE91L"), Slot(0x81c9));
    }

    #[test]
    fn keys_depend_on_the_secret() {
        let (a, b) = (Secret([1; 16]), Secret([2; 16]));
        assert_eq!(a.key_of("C1"), a.key_of("C1"));
        assert_ne!(a.key_of("C1"), b.key_of("C1"));
        assert_ne!(a.key_of("C1"), a.key_of("C2"));
    }
}

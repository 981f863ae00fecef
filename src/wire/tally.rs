//! How many subscriptions a gateway core has at an owner, and which: each of the two keeps count for itself, and now and then they compare.

use crate::ids::{Handle, Key};

/// Of one gateway core at one owner. The sum is of a mix of each channel's key and handle, so that two that differ are told apart although they
/// are as many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub count: u32,
    pub sum: u64,
}

impl Tally {
    pub fn add(&mut self, key: Key, handle: Handle) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(mix(key, handle));
    }

    /// What was added before.
    pub fn remove(&mut self, key: Key, handle: Handle) {
        self.count -= 1;
        self.sum = self.sum.wrapping_sub(mix(key, handle));
    }
}

/// Keys are as good as random; the handle only has to change all of them.
fn mix(key: Key, handle: Handle) -> u64 {
    let key = u64::from_le_bytes(*key.0.first_chunk().expect("twelve bytes"));
    (key ^ u64::from(handle.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_for_the_same_in_any_order_and_another_for_anything_else() {
        let key = |n: u8| Key([n; 12]);
        let (mut one, mut other) = (Tally::default(), Tally::default());
        for n in 0..50 {
            one.add(key(n), Handle(n.into()));
            other.add(key(49 - n), Handle(u32::from(49 - n)));
        }
        assert_eq!(one, other);
        other.remove(key(7), Handle(7));
        other.add(key(7), Handle(8));
        assert_eq!(one.count, other.count);
        assert_ne!(one, other);
        for n in 0..50 {
            one.remove(key(n), Handle(n.into()));
        }
        assert_eq!(one, Tally::default());
    }
}

//! The epochs of memory channels, beside the table of all channels: durable ones, whose epoch is 0, cost nothing here.

/// Places of one chunk: 4 KiB.
const CHUNK: usize = 1_024;

/// Per shard, by place.
#[derive(Debug)]
pub(super) struct Epochs {
    /// Made as a whole with the first epoch, so that it never grows.
    chunks: Vec<Option<Box<[u32; CHUNK]>>>,
    places_max: u32,
}

impl Epochs {
    /// For places below `places_max`.
    pub(super) fn new(places_max: u32) -> Self {
        Self { chunks: Vec::new(), places_max }
    }

    pub(super) fn set(&mut self, place: u32, epoch: u32) {
        if epoch == self.of(place) {
            return;
        }
        if self.chunks.is_empty() {
            self.chunks = vec![None; (self.places_max as usize).div_ceil(CHUNK)];
        }
        let chunk = &mut self.chunks[place as usize / CHUNK];
        chunk.get_or_insert_with(|| Box::new([0; CHUNK]))[place as usize % CHUNK] = epoch;
    }

    /// 0 when none was set.
    pub(super) fn of(&self, place: u32) -> u32 {
        let chunk = self.chunks.get(place as usize / CHUNK).and_then(Option::as_ref);
        chunk.map_or(0, |chunk| chunk[place as usize % CHUNK])
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Option<Box<[u32; CHUNK]>>>()
            + self.chunks.iter().flatten().count() * size_of::<[u32; CHUNK]>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_channels_cost_something() {
        let mut epochs = Epochs::new(5_000);
        epochs.set(4_999, 0);
        assert_eq!((epochs.bytes(), epochs.of(4_999)), (0, 0));
        epochs.set(4_999, 7);
        epochs.set(0, 3);
        assert_eq!((epochs.of(4_999), epochs.of(0), epochs.of(1), epochs.of(3_000)), (7, 3, 0, 0));
        epochs.set(4_999, 0);
        assert_eq!(epochs.of(4_999), 0);
        assert_eq!(epochs.bytes(), 5 * 8 + 2 * 4_096);
    }
}

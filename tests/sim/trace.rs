//! Everything that happened, as one hash (I30); and as lines, for whoever looks at one seed.

use campanile::time::Mono;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    is_told: bool,
}

impl Trace {
    /// `is_told`: print lines.
    pub(crate) fn new(is_told: bool) -> Self {
        Self { hash: 0, is_told }
    }

    /// Something happened: what kind of thing, with which numbers, with which bytes.
    pub(crate) fn note(&mut self, now: Mono, kind: u8, numbers: [u64; 2], bytes: &[u8]) {
        let mut head = [0; 25];
        head[..8].copy_from_slice(&now.0.to_le_bytes());
        head[8..16].copy_from_slice(&numbers[0].to_le_bytes());
        head[16..24].copy_from_slice(&numbers[1].to_le_bytes());
        head[24] = kind;
        self.hash = xxh3_64_with_seed(&head, self.hash);
        if !bytes.is_empty() {
            self.hash = xxh3_64_with_seed(bytes, self.hash);
        }
    }

    /// A line for a reader; not part of the hash.
    pub(crate) fn tell(&self, now: Mono, line: impl FnOnce() -> String) {
        if self.is_told {
            self::line(now, &line());
        }
    }

    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

/// A line of a story that is told.
pub(crate) fn line(now: Mono, text: &str) {
    println!("{:>12.6} {text}", now.0 as f64 / 1e9 - 1_000.0);
}

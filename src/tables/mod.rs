//! Tables that every shard may stand on: no growth ever copies a whole table, nothing is allocated per entry.
//!
//! - `slab`: equal entries under dense places
//! - `index`: from a key to the place of its entry

pub mod index;
pub mod slab;

//! Tables that every shard may stand on: no growth ever copies a whole table, nothing is allocated per entry.
//!
//! - `slab`: equal entries under dense places
//! - `index`: from a key to the place of its entry
//! - `slots`: such an index for each slot
//! - `runs`: lists of numbers, a few for each of many owners, in `pages` of one size of run
//! - `u48`: offsets in six bytes

pub mod index;
pub mod pages;
pub mod runs;
pub mod slab;
pub mod slots;
pub mod u48;

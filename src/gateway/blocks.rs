//! The subscribers of one very large channel: sorted blocks, so that who comes or goes moves a block and not the channel.
//!
//! The directory is a list: the count, then two numbers for each block, `first connection (24 bits), length - 1 (8)` and where it is. With
//! a million subscribers it has 64 KiB at most, and that is the most that one call moves.

use super::members::Member;
use crate::tables::runs::{Run, Runs};

/// Subscribers of a block.
const BLOCK_MAX: u32 = 256;
/// Neighbours with so many together become one.
const MERGE_MAX: u32 = 192;

/// Per shard: the memory of all channels of this form. A channel itself is the [`Run`] of its directory.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    runs: Runs,
}

impl Blocks {
    /// Cuts sorted members, at least one, into blocks.
    pub(super) fn build(&mut self, members: &[u32]) -> Run {
        let mut directory = Run::EMPTY;
        self.runs.push(&mut directory, members.len() as u32);
        for (number, part) in members.chunks(MERGE_MAX as usize).enumerate() {
            let mut block = Run::EMPTY;
            self.runs.append(&mut block, part);
            self.add_block(&mut directory, number, block);
        }
        directory
    }

    /// False: the connection is in it already, and nothing changed.
    pub(super) fn insert(&mut self, directory: &mut Run, member: Member) -> bool {
        let number = self.locate(*directory, member.index());
        if self.block(*directory, number).len == BLOCK_MAX {
            self.split(directory, number, member.index());
        }
        let number = self.locate(*directory, member.index());
        let mut block = self.block(*directory, number);
        let Err(at) = find(self.runs.as_slice(block), member.index()) else { return false };
        self.runs.insert(&mut block, at, member.0);
        self.set_block(*directory, number, block);
        self.runs.as_mut_slice(*directory)[0] += 1;
        true
    }

    /// False: the connection is not in it.
    pub(super) fn remove(&mut self, directory: &mut Run, index: u32) -> bool {
        let number = self.locate(*directory, index);
        let mut block = self.block(*directory, number);
        let Ok(at) = find(self.runs.as_slice(block), index) else { return false };
        self.runs.as_mut_slice(*directory)[0] -= 1;
        self.runs.remove(&mut block, at);
        if block.len == 0 {
            self.remove_block(directory, number);
            return true;
        }
        self.set_block(*directory, number, block);
        self.merge(directory, number);
        if number > 0 {
            self.merge(directory, number - 1);
        }
        true
    }

    /// The entry of a connection.
    pub(super) fn find_mut(&mut self, directory: Run, index: u32) -> Option<&mut u32> {
        let number = self.locate(directory, index);
        let block = self.block(directory, number);
        let members = self.runs.as_mut_slice(block);
        find(members, index).ok().map(|at| &mut members[at])
    }

    pub(super) fn find(&self, directory: Run, index: u32) -> Option<Member> {
        let number = self.locate(directory, index);
        let members = self.runs.as_slice(self.block(directory, number));
        find(members, index).ok().map(|at| Member(members[at]))
    }

    /// Frees all.
    pub(super) fn clear(&mut self, directory: &mut Run) {
        for number in 0..self.pairs(*directory).len() {
            self.runs.clear(&mut self.block(*directory, number));
        }
        self.runs.clear(directory);
    }

    /// Subscribers of the channel.
    pub(super) fn count(&self, directory: Run) -> u32 {
        self.runs.as_slice(directory)[0]
    }

    /// The subscribers, sorted, a block at a time.
    pub(super) fn slices(&self, directory: Run) -> impl Iterator<Item = &[u32]> + Clone {
        self.pairs(directory).iter().map(|pair| self.runs.as_slice(block_of(*pair)))
    }

    pub(super) fn bytes(&self) -> usize {
        self.runs.bytes()
    }

    /// The block where a connection is, if it is in the channel.
    fn locate(&self, directory: Run, index: u32) -> usize {
        let behind = self.pairs(directory).partition_point(|[head, _]| head >> 8 <= index);
        behind.saturating_sub(1)
    }

    fn pairs(&self, directory: Run) -> &[[u32; 2]] {
        self.runs.as_slice(directory)[1..].as_chunks().0
    }

    fn block(&self, directory: Run, number: usize) -> Run {
        block_of(self.pairs(directory)[number])
    }

    fn set_block(&mut self, directory: Run, number: usize, block: Run) {
        let first = self.runs.as_slice(block)[0];
        let pairs = self.runs.as_mut_slice(directory)[1..].as_chunks_mut().0;
        pairs[number] = [first & !0xff | (block.len - 1), block.at];
    }

    fn add_block(&mut self, directory: &mut Run, number: usize, block: Run) {
        self.runs.insert(directory, 1 + 2 * number, 0);
        self.runs.insert(directory, 1 + 2 * number, 0);
        self.set_block(*directory, number, block);
    }

    fn remove_block(&mut self, directory: &mut Run, number: usize) {
        self.runs.remove(directory, 1 + 2 * number);
        self.runs.remove(directory, 1 + 2 * number);
    }

    /// Makes two of a full block, before a connection comes to it.
    fn split(&mut self, directory: &mut Run, number: usize, index: u32) {
        let (mut lower, mut upper) = (self.block(*directory, number), Run::EMPTY);
        let mut members = [0; BLOCK_MAX as usize];
        members.copy_from_slice(self.runs.as_slice(lower));
        // Connections often come with ascending numbers: then what is full stays full.
        let last = members[BLOCK_MAX as usize - 1];
        let keep = if index > last >> 8 { BLOCK_MAX - 1 } else { BLOCK_MAX / 2 };
        self.runs.append(&mut upper, &members[keep as usize..]);
        self.runs.truncate(&mut lower, keep);
        self.set_block(*directory, number, lower);
        self.add_block(directory, number + 1, upper);
    }

    /// Makes one of a block and the next, if that is small enough.
    fn merge(&mut self, directory: &mut Run, number: usize) {
        let Some(&[lower, upper]) =
            self.pairs(*directory).get(number..).and_then(<[_]>::first_chunk)
        else {
            return;
        };
        let (mut lower, mut upper) = (block_of(lower), block_of(upper));
        if lower.len + upper.len > MERGE_MAX {
            return;
        }
        let mut members = [0; MERGE_MAX as usize];
        let members = &mut members[..upper.len as usize];
        members.copy_from_slice(self.runs.as_slice(upper));
        self.runs.append(&mut lower, members);
        self.runs.clear(&mut upper);
        self.set_block(*directory, number, lower);
        self.remove_block(directory, number + 1);
    }
}

fn block_of([head, at]: [u32; 2]) -> Run {
    Run { at, len: (head & 0xff) + 1 }
}

/// Where a connection is among sorted members, or where it would be.
pub(super) fn find(members: &[u32], index: u32) -> Result<usize, usize> {
    members.binary_search_by_key(&index, |member| member >> 8)
}

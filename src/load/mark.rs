//! What a publication says about itself: which run, which channel, its number there, and when it was due.

/// Stands in the text of a publication, in every dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// Drawn for each run: what was left by another is not ours.
    pub(super) run: u32,
    pub(super) channel: u32,
    /// Of the channel: 1, 2, 3 …
    pub(super) number: u32,
    /// Nanoseconds since the start of the run.
    pub(super) due_ns: u64,
}

pub(super) const WORD: &[u8] = b"@load:";
/// Of the word and the four numbers, in hexadecimal digits.
pub(super) const BYTES: usize = WORD.len() + 8 + 8 + 8 + 12;

impl Mark {
    /// Appends the mark.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        use std::io::Write as _;
        into.extend_from_slice(WORD);
        let Self { run, channel, number, due_ns } = self;
        let due_ns = due_ns & 0xffff_ffff_ffff;
        write!(into, "{run:08x}{channel:08x}{number:08x}{due_ns:012x}").expect("a vector grows");
    }

    /// The mark whose word begins at the start of `bytes`; `None`: cut off, or none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.get(WORD.len()..BYTES)?;
        let number = |from: usize, to: usize| {
            digits[from..to].iter().try_fold(0u64, |sum, byte| {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    _ => return None,
                };
                Some(sum << 4 | u64::from(digit))
            })
        };
        Some(Self {
            run: number(0, 8)? as u32,
            channel: number(8, 16)? as u32,
            number: number(16, 24)? as u32,
            due_ns: number(24, 36)?,
        })
    }
}

/// A publication's text: the mark, and filled up to `bytes`.
pub(super) fn text(mark: Mark, bytes: usize, into: &mut Vec<u8>) {
    let start = into.len();
    mark.write(into);
    into.resize(start + bytes.max(BYTES), b'.');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { run: 0xdead_beef, channel: 7, number: u32::MAX, due_ns: 123_456_789 };
        let mut bytes = Vec::new();
        text(mark, 100, &mut bytes);
        assert_eq!((bytes.len(), Mark::read(&bytes)), (100, Some(mark)));
        assert_eq!(Mark::read(&bytes[..BYTES - 1]), None);
        bytes[10] = b'x';
        assert_eq!(Mark::read(&bytes), None);
    }
}

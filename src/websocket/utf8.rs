//! UTF-8 that arrives in pieces: fails at the first byte that cannot be mended, remembers a character cut in two.

/// The bytes of a character that is not whole yet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Utf8 {
    start: [u8; 3],
    len: u8,
}

/// The text is not UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Invalid;

impl Utf8 {
    /// Takes the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            let mut whole = [0; 4];
            let len = usize::from(self.len);
            whole[..len].copy_from_slice(&self.start[..len]);
            whole[len] = byte;
            self.len = 0;
            self.keep(&whole[..=len])?;
        }
        match simdutf8::basic::from_utf8(piece) {
            Ok(_) => Ok(()),
            Err(_) => self.keep(piece),
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(self) -> bool {
        self.len == 0
    }

    /// Checks up to a character that is cut off, and keeps that one.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Invalid> {
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        let cut = &bytes[error.valid_up_to()..];
        self.start[..cut.len()].copy_from_slice(cut);
        self.len = cut.len() as u8;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_gives_the_same_verdict() {
        let cases: [(&[u8], bool); 6] = [
            ("κόσμε 𝄞 ok".as_bytes(), true),
            (b"\xed\xa0\x80", false),
            (b"\xf4\x90\x80\x80", false),
            (b"a\xc0\xaf", false),
            (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", false),
            (b"", true),
        ];
        for (text, valid) in cases {
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let mut utf8 = Utf8::default();
                    let verdict = [&text[..first], &text[first..second], &text[second..]]
                        .into_iter()
                        .try_for_each(|piece| utf8.push(piece));
                    assert_eq!(
                        verdict.is_ok() && utf8.is_whole(),
                        valid,
                        "{text:x?} {first} {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_hopeless_character_fails_at_its_first_wrong_byte() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"\xf4"), Ok(()));
        assert_eq!(utf8.push(b"\x90"), Err(Invalid));
    }
}

//! How a field becomes bytes: little-endian integers, lengths before bytes, nothing aligned, nothing optional.
//!
//! Decoding borrows from the input, allocates nothing, and never trusts a length.

use crate::ids::{Ask, Conn, Handle, Key, NodeId, Origin, Position, Slot};

/// The bytes are not a message of this version: the sender is broken, its link is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// Bytes not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Broken)?;
        self.rest = rest;
        Ok(head)
    }
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Broken)?;
        self.rest = rest;
        Ok(*head)
    }
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// All that is not read yet.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// A value with a place in a message.
pub trait Field<'a>: Sized {
    fn write(&self, to: &mut Vec<u8>);
    fn read(from: &mut Reader<'a>) -> Result<Self, Broken>;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Field<'_> for $t {
            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, Broken> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i32);

impl Field<'_> for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Broken> {
        match u8::read(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Broken),
        }
    }
}

/// Bytes of a payload: a `u32` length, then the bytes.
impl<'a> Field<'a> for &'a [u8] {
    fn write(&self, to: &mut Vec<u8>) {
        u32::try_from(self.len()).expect("limits keep payloads below 4 GiB").write(to);
        to.extend_from_slice(self);
    }
    fn read(from: &mut Reader<'a>) -> Result<Self, Broken> {
        let len = u32::read(from)?;
        from.take(len as usize)
    }
}

impl<'a> Field<'a> for &'a str {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_bytes().write(to);
    }
    fn read(from: &mut Reader<'a>) -> Result<Self, Broken> {
        std::str::from_utf8(<&[u8]>::read(from)?).map_err(|_| Broken)
    }
}

impl Field<'_> for Key {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.0);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(Self(from.array()?))
    }
}

macro_rules! newtypes {
    ($($t:ident),*) => {$(
        impl Field<'_> for $t {
            fn write(&self, to: &mut Vec<u8>) {
                self.0.write(to);
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, Broken> {
                Ok(Self(Field::read(from)?))
            }
        }
    )*};
}
newtypes!(Slot, Handle, Ask, Conn, NodeId);

impl Field<'_> for Origin {
    fn write(&self, to: &mut Vec<u8>) {
        self.life.write(to);
        self.conn.write(to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(Self { life: Field::read(from)?, conn: Field::read(from)? })
    }
}

impl Field<'_> for Position {
    fn write(&self, to: &mut Vec<u8>) {
        self.epoch.write(to);
        self.offset.write(to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(Self { epoch: Field::read(from)?, offset: Field::read(from)? })
    }
}

/// A pair, for lists.
impl<'a, A: Field<'a>, B: Field<'a>> Field<'a> for (A, B) {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }
    fn read(from: &mut Reader<'a>) -> Result<Self, Broken> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

/// A list whose items are decoded one at a time, where they are wanted.
///
/// Built by [`Packed::pack`] into a buffer of the caller's; read by [`Packed::iter`], which stops at a broken item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Packed<'a>(pub &'a [u8]);

impl<'a> Packed<'a> {
    pub fn pack<'i, T: Field<'i>>(
        items: impl IntoIterator<Item = T>,
        into: &'a mut Vec<u8>,
    ) -> Self {
        for one in items {
            one.write(into);
        }
        Self(into)
    }
    pub fn iter<T: Field<'a>>(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || if reader.is_empty() { None } else { T::read(&mut reader).ok() })
    }
}

impl<'a> Field<'a> for Packed<'a> {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }
    fn read(from: &mut Reader<'a>) -> Result<Self, Broken> {
        Ok(Self(Field::read(from)?))
    }
}

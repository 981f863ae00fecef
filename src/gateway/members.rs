//! The subscribers of one channel on this core.

/// A connection in a channel: its index (24 bits) and flags (8 bits) that the hub keeps for the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member(pub(super) u32);

const _: () = assert!(size_of::<Member>() == 4);

impl Member {
    /// Fan-out skips this one: it is catching up, and gets live publications only once it has all before them.
    pub const BEHIND: u8 = 1;
    /// It speaks Centrifuge in JSON, or in Protobuf; neither: RTM.
    pub const JSON: u8 = 4;
    pub const PROTOBUF: u8 = 8;
    /// It is told who comes and goes.
    pub const HEARS_JOINS: u8 = 16;
    /// The owner knows that it is in the channel.
    pub const IS_REPORTED: u8 = 32;
    /// We subscribed it, by its token or for a back end.
    pub const BY_SERVER: u8 = 64;
    /// Others are told of its coming and going.
    pub const IS_TOLD: u8 = 128;

    /// `index` is a connection's, below 2^24.
    pub fn new(index: u32, flags: u8) -> Self {
        assert!(index < 1 << 24, "a connection's index has 24 bits");
        Self(index << 8 | u32::from(flags))
    }
    /// The connection's index.
    pub fn index(self) -> u32 {
        self.0 >> 8
    }
    pub fn flags(self) -> u8 {
        self.0 as u8
    }
    pub fn is_behind(self) -> bool {
        self.flags() & Self::BEHIND != 0
    }
}

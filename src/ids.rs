//! Identities: small, `Copy`, without meaning beyond the one that each doc names.
//!
//! External names (channel ids, user ids) become a [`Key`] and a [`Slot`] once, at the door; everything behind it is a
//! dense number that we assigned.

use std::fmt;

/// One process of a cluster. 0 is the only node of `campanile dev`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u16);

/// One of 65,536 parts of the hash space (`architecture.md` 3): `xxh3_64(name) >> 48`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Slot(pub u16);

/// A logical member of the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seat(pub u16);

/// What a channel or a user *is*: 96 bits of SipHash-128 of its name under the cell's secret. Never a placement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub [u8; 12]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The number by which the two ends of one subscription name a channel on their link: chosen by the subscriber, echoed
/// in every publication, used again only after `Unsuback`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Handle(pub u32);

/// A pending question: chosen by the asker, echoed in the answer, meaningless to anybody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ask(pub u32);

/// One client connection, made by the driver: generation (32 bits), core (8), index (24).
///
/// `index` is dense per core and used again after the connection's `Closed` was handled; the generation tells the
/// holders apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Conn(pub u64);

impl Conn {
    /// `index` below 2^24.
    pub fn new(core: u8, index: u32, generation: u32) -> Self {
        assert!(index < 1 << 24, "an index has 24 bits");
        Self(u64::from(generation) << 32 | u64::from(core) << 24 | u64::from(index))
    }
    pub fn index(self) -> u32 {
        self.0 as u32 & 0x00ff_ffff
    }
    pub fn core(self) -> u8 {
        (self.0 >> 24) as u8
    }
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Which connection caused a publication: it is skipped there, because its ack says the same. `life` is drawn anew by
/// each start of a node, so that a later holder of the same connection number misses nothing. All zero: nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Origin {
    pub life: u64,
    pub conn: Conn,
}

impl Origin {
    pub const NOBODY: Self = Self { life: 0, conn: Conn(0) };
}

/// Where a reader stands in a channel: which life of the channel, and the last offset that it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Position {
    pub epoch: u32,
    pub offset: u64,
}

/// What a shard does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    Gateway = 0,
    Channel = 1,
    Presence = 2,
    Admin = 3,
    Webapp = 4,
    /// The HTTP handlers of a node: not a shard, but somebody to whom shards answer.
    Http = 5,
    /// A ring manager.
    Ring = 6,
    /// What a node tells ring managers of itself and of others.
    Health = 7,
}

impl Role {
    pub const ALL: [Self; 8] = [
        Self::Gateway,
        Self::Channel,
        Self::Presence,
        Self::Admin,
        Self::Webapp,
        Self::Http,
        Self::Ring,
        Self::Health,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Channel => "channel",
            Self::Presence => "presence",
            Self::Admin => "admin",
            Self::Webapp => "webapp",
            Self::Http => "http",
            Self::Ring => "ring",
            Self::Health => "health",
        }
    }
}

/// Some of the roles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Roles(pub u8);

impl Roles {
    pub const NONE: Self = Self(0);
    /// Of nodes that hold seats: channel servers, presence servers, or both at once.
    pub const SEATED: Self = Self::of(&[Role::Channel, Role::Presence]);

    pub const fn of(list: &[Role]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < list.len() {
            bits |= 1 << list[at] as u8;
            at += 1;
        }
        Self(bits)
    }
    pub fn contains(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

/// Letters, digits, `-`, `_` and `.`: what a cell, a node of a certificate or a region may be called, so that nothing has to be escaped in a URI,
/// a path or a list.
pub fn is_word(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

/// The address of a shard: node, role, core. Shards of the control plane are on [`Peer::CONTROL_CORE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer {
    pub node: NodeId,
    pub role: Role,
    pub core: u8,
}

impl Peer {
    /// The one "core" of the control plane in mail addresses.
    pub const CONTROL_CORE: u8 = 255;

    pub fn new(node: NodeId, role: Role, core: u8) -> Self {
        Self { node, role, core }
    }
    pub fn control(node: NodeId, role: Role) -> Self {
        Self { node, role, core: Self::CONTROL_CORE }
    }
}

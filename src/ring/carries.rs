//! Which of a cell's two tables a node has slots of: it is a channel server, a presence server, or both at once.

use serde::{Deserialize, Serialize};

use super::assign::Kind;
use crate::ids::{Role, Roles};

/// Of a node; of each of its seats as well, as a seat is its node's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carries {
    #[default]
    Both,
    Channels,
    Users,
}

impl Carries {
    /// What a process of these roles does. `None`: it owns nothing.
    pub fn of(roles: Roles) -> Option<Self> {
        match (roles.contains(Role::Channel), roles.contains(Role::Presence)) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Channels),
            (false, true) => Some(Self::Users),
            (false, false) => None,
        }
    }

    /// As operators write it, in the words of `--roles`.
    pub fn parse(text: &str) -> Option<Self> {
        let roles = text.split('+').try_fold(Roles::NONE, |all, word| match word {
            "channel" => Some(Roles(all.0 | Roles::of(&[Role::Channel]).0)),
            "presence" => Some(Roles(all.0 | Roles::of(&[Role::Presence]).0)),
            _ => None,
        });
        Self::of(roles?)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "channel+presence",
            Self::Channels => "channel",
            Self::Users => "presence",
        }
    }

    pub fn has(self, kind: Kind) -> bool {
        self == Self::Both
            || self
                == match kind {
                    Kind::Channels => Self::Channels,
                    Kind::Users => Self::Users,
                }
    }

    /// Whether it has all that the other has.
    pub fn covers(self, other: Self) -> bool {
        self == Self::Both || self == other
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
    pub(super) fn is_both(&self) -> bool {
        *self == Self::Both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood_in_any_order() {
        for one in [Carries::Both, Carries::Channels, Carries::Users] {
            assert_eq!(Carries::parse(one.as_str()), Some(one));
            assert!(Carries::Both.covers(one) && one.covers(one));
            assert_eq!(one.covers(Carries::Both), one == Carries::Both);
        }
        assert_eq!(Carries::parse("presence+channel"), Some(Carries::Both));
        assert!(!Carries::Channels.covers(Carries::Users) && !Carries::Channels.has(Kind::Users));
        for wrong in ["", "+", "channel+", "both", "channel,presence", "gateway"] {
            assert_eq!(Carries::parse(wrong), None, "{wrong}");
        }
    }
}

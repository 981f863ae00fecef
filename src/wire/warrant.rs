//! What a certificate says of a node: its name in its cell, the roles that it may have, and its number where no ring gives it one.
//!
//! Each right is a URI of its own among the certificate's alternative names: `campanile://CELL/NAME/ROLE`, and
//! `campanile://CELL/NAME/number/N` for a node outside of the ring. So whoever issues certificates grants or withholds a role by the
//! patterns that such programs have (`campanile://main/*/gateway`), and needs no comma in any of them. Other names mean nothing here.

use std::collections::BTreeMap;

use super::stream::Identity;
use crate::ids::{NodeId, Role, Roles, is_word};
use crate::limits::RING_IDS_MAX;

/// Who the bearer of one certificate may say that it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warrant {
    pub cell: String,
    pub name: String,
    pub roles: Roles,
    /// Of a node that owns nothing, from [`RING_IDS_MAX`] on.
    pub number: Option<NodeId>,
}

/// What operators call the nodes of the newest ring, by number. One for a whole node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names(pub BTreeMap<u16, String>);

/// Why a certificate, or who shows it, is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unwarranted {
    /// No alternative name of a node is in it.
    Nobody,
    /// One that begins like ours and goes on in another way.
    Shape(String),
    /// Two nodes, or a node of two cells: whose is it?
    Several,
    Cell(String),
    Name {
        said: String,
        warranted: String,
    },
    Number(NodeId),
    Roles(Roles),
}

impl std::fmt::Display for Unwarranted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nobody => {
                write!(f, "the certificate is no node's: it has no name {SCHEME}CELL/NAME/ROLE")
            }
            Self::Shape(uri) => write!(f, "the certificate says {uri:?}, which is no {SHAPE}"),
            Self::Several => f.write_str("the certificate is of more than one node"),
            Self::Cell(cell) => write!(f, "the certificate is of cell {cell:?}"),
            Self::Name { said, warranted } => {
                write!(f, "it says that it is {said:?}, and its certificate is of {warranted:?}")
            }
            Self::Number(number) => {
                write!(f, "its certificate does not give it the number {}", number.0)
            }
            Self::Roles(roles) => {
                let words: Vec<&str> = roles.iter().map(Role::as_str).collect();
                write!(f, "its certificate does not give it the role {}", words.join(", "))
            }
        }
    }
}

impl std::error::Error for Unwarranted {}

/// What a certificate calls the roles of a node. Who may hold seats may have slots of channels and of users, whichever of their words it was
/// given: certificates are older than nodes with one of these roles alone, and what such a node does is a matter of the ring.
pub const ROLE_WORDS: [(&str, Roles); 6] = [
    ("gateway", Roles::of(&[Role::Gateway])),
    ("channel", Roles::SEATED),
    ("presence", Roles::SEATED),
    ("webapp", Roles::of(&[Role::Webapp, Role::Admin])),
    ("admin", Roles::of(&[Role::Admin])),
    ("ring", Roles::of(&[Role::Ring])),
];
/// What every node does, without anybody's leave.
const EVERYBODY: Roles = Roles::of(&[Role::Health]);
const SCHEME: &str = "campanile://";
const SHAPE: &str = "campanile://CELL/NAME/ROLE, nor campanile://CELL/NAME/number/N";
const NUMBER: &str = "number";

impl Warrant {
    /// Of a certificate's alternative names that are URIs.
    ///
    /// # Errors
    /// It is not one node's.
    pub fn read<'a>(uris: impl IntoIterator<Item = &'a str>) -> Result<Self, Unwarranted> {
        let mut read: Option<Self> = None;
        for uri in uris {
            let Some(path) = uri.strip_prefix(SCHEME) else { continue };
            let parts: Vec<&str> = path.split('/').collect();
            let shape = || Unwarranted::Shape(uri.into());
            let [cell, name, right @ ..] = parts.as_slice() else { return Err(shape()) };
            if !is_word(cell) || !is_word(name) {
                return Err(shape());
            }
            let warrant = read.get_or_insert_with(|| Self {
                cell: (*cell).into(),
                name: (*name).into(),
                roles: EVERYBODY,
                number: None,
            });
            if (warrant.cell.as_str(), warrant.name.as_str()) != (*cell, *name) {
                return Err(Unwarranted::Several);
            }
            match right {
                [NUMBER, number] => {
                    let number = NodeId(number.parse().map_err(|_| shape())?);
                    if warrant.number.replace(number).is_some_and(|other| other != number) {
                        return Err(Unwarranted::Several);
                    }
                }
                // A role that a later version knows gives nothing here.
                [word] => warrant.roles.0 |= roles_of(word).unwrap_or_default().0,
                _ => return Err(shape()),
            }
        }
        read.ok_or(Unwarranted::Nobody)
    }

    /// What is written into a certificate.
    pub fn uris(&self) -> Vec<String> {
        let Self { cell, name, roles, number } = self;
        let right = |right: &str| format!("{SCHEME}{cell}/{name}/{right}");
        let has = |of: Roles| roles.both(of) == of;
        // A webapp is admin as well: one word says it.
        let is_said = |of: Roles| {
            ROLE_WORDS.iter().any(|(_, more)| has(*more) && *more != of && more.both(of) == of)
        };
        let granted = ROLE_WORDS.iter().filter(|(_, of)| has(*of) && !is_said(*of));
        let number = number.map(|number| right(&format!("{NUMBER}/{}", number.0)));
        granted.map(|(word, _)| right(word)).chain(number).collect()
    }

    /// Whether its bearer may say that it is `other`. A number of the ring is the name's that the ring gives it; one that `names` does not
    /// know takes nothing from anybody.
    ///
    /// # Errors
    /// What it says and may not.
    pub fn allows(&self, other: &Identity, names: &Names) -> Result<(), Unwarranted> {
        if self.cell != other.cell {
            return Err(Unwarranted::Cell(self.cell.clone()));
        }
        let more = Roles(other.roles.0 & !(self.roles.0 | EVERYBODY.0));
        if !more.is_empty() {
            return Err(Unwarranted::Roles(more));
        }
        if other.node.0 >= RING_IDS_MAX {
            let is_its = self.number == Some(other.node);
            return if is_its { Ok(()) } else { Err(Unwarranted::Number(other.node)) };
        }
        match names.0.get(&other.node.0) {
            Some(name) if *name != self.name => {
                Err(Unwarranted::Name { said: name.clone(), warranted: self.name.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// The roles that a word of a certificate grants.
pub fn roles_of(word: &str) -> Option<Roles> {
    ROLE_WORDS.iter().find(|(known, _)| *known == word).map(|(_, roles)| *roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(node: u16, roles: &[Role]) -> Identity {
        Identity {
            cell: "main".into(),
            node: NodeId(node),
            incarnation: 1,
            roles: Roles(Roles::of(roles).0 | EVERYBODY.0),
            core: 0,
            cores: 1,
            ring_epoch: 1,
        }
    }

    fn read(uris: &[&str]) -> Result<Warrant, Unwarranted> {
        Warrant::read(uris.iter().copied())
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (word, roles) in ROLE_WORDS {
            let roles = Roles(roles.0 | EVERYBODY.0);
            let (cell, name) = ("main".to_string(), "n-1.a".to_string());
            let warrant = Warrant { cell, name, roles, number: Some(NodeId(10_001)) };
            let uris = warrant.uris();
            // Each word that means them, so that an older version takes them all, and the number.
            let words = ROLE_WORDS.iter().filter(|(_, of)| of.0 | EVERYBODY.0 == roles.0).count();
            assert_eq!(uris.len(), words + 1, "{word} and its number: {uris:?}");
            assert_eq!(Warrant::read(uris.iter().map(String::as_str)), Ok(warrant));
        }
    }

    #[test]
    fn a_certificate_with_one_of_the_words_of_a_seat_grants_both_roles() {
        for word in ["channel", "presence"] {
            let warrant = read(&[&format!("campanile://main/cs1/{word}")]).expect("a node's");
            assert_eq!(warrant.roles.without(EVERYBODY), Roles::SEATED);
        }
    }

    #[test]
    fn one_certificate_is_one_node() {
        let both = ["campanile://main/cs1/channel", "campanile://main/cs1/presence"];
        let warrant = read(&both).expect("one node");
        assert_eq!(warrant.uris(), both);
        assert_eq!(read(&[]), Err(Unwarranted::Nobody));
        assert_eq!(read(&["https://campanile/main/cs1/channel"]), Err(Unwarranted::Nobody));
        for other in ["campanile://main/cs2/channel", "campanile://two/cs1/channel"] {
            assert_eq!(read(&[both[0], other]), Err(Unwarranted::Several));
        }
        let numbers = ["campanile://main/gw/number/10001", "campanile://main/gw/number/10002"];
        assert_eq!(read(&numbers), Err(Unwarranted::Several));
        for broken in ["", "main", "main/cs1", "main/cs1/number/x", "main/cs1/a/b/c", "/cs1/ring"] {
            let uri = format!("campanile://{broken}");
            assert_eq!(read(&[&uri]), Err(Unwarranted::Shape(uri.clone())));
        }
        let later = read(&["campanile://main/cs1/oracle"]).expect("a role of a later version");
        assert_eq!(later.roles, EVERYBODY);
    }

    #[test]
    fn nobody_is_more_than_its_certificate_says() {
        let names = Names(BTreeMap::from([(1, "cs1".into()), (2, "cs2".into())]));
        let owner = read(&["campanile://main/cs1/channel", "campanile://main/cs1/presence"]);
        let owner = owner.expect("a channel server");
        assert_eq!(owner.allows(&who(1, &[Role::Channel, Role::Presence]), &names), Ok(()));
        assert_eq!(owner.allows(&who(1, &[Role::Presence]), &names), Ok(()));
        assert_eq!(owner.allows(&who(3, &[Role::Channel]), &names), Ok(()), "not in our ring yet");
        assert_eq!(
            owner.allows(&who(2, &[Role::Channel]), &names),
            Err(Unwarranted::Name { said: "cs2".into(), warranted: "cs1".into() })
        );
        let cell = Identity { cell: "two".into(), ..who(1, &[Role::Channel]) };
        assert_eq!(owner.allows(&cell, &names), Err(Unwarranted::Cell("main".into())));
        let gateway = read(&["campanile://main/gw1/gateway", "campanile://main/gw1/number/10001"]);
        let gateway = gateway.expect("a gateway");
        assert_eq!(gateway.allows(&who(10_001, &[Role::Gateway]), &names), Ok(()));
        for role in [Role::Channel, Role::Ring, Role::Webapp, Role::Admin, Role::Presence] {
            assert_eq!(
                gateway.allows(&who(10_001, &[Role::Gateway, role]), &names),
                Err(Unwarranted::Roles(Roles::of(&[role])))
            );
        }
        for number in [10_010, 10_000] {
            assert_eq!(
                gateway.allows(&who(number, &[Role::Gateway]), &names),
                Err(Unwarranted::Number(NodeId(number)))
            );
        }
        assert_eq!(
            owner.allows(&who(10_001, &[Role::Channel]), &names),
            Err(Unwarranted::Number(NodeId(10_001))),
            "no number, no node outside of the ring"
        );
    }
}

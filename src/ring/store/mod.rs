//! Where a cell's ring is kept: Consul, etcd, or memory. All that is asked of a store: a linearizable read, one compare-and-set of all that
//! changed, and to be told soon that something may have changed.
//!
//! Three keys: `rt/<cell>/ring/seats` (JSON), `.../channels` and `.../users` (binary). No lock, no session: an advisory lock protects
//! nothing (`reliability.md` 2.1), and nobody's health is judged here.

mod consul;
mod etcd;
pub mod file;
mod follow;
mod hosts;
mod memory;

pub use follow::follow;

use std::fmt;
use std::time::Duration;

use super::assign::{Assign, Kind};
use super::change::Cell;
use super::document::{Document, Unusable};
use crate::ids::is_word;

/// A whole answer: three values, with room for a ring of the largest size.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A store that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a store may keep a watch open without news.
const WATCH: Duration = Duration::from_secs(55);

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failed {
    /// Nothing was done: nobody answered, or whoever did has no leader.
    Unreachable(String),
    /// It may have been done: read again before anything else.
    Unknown(String),
    /// What is there is no ring of ours.
    Unusable(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the ring store is not there: {why}"),
            Self::Unknown(why) => write!(f, "nobody knows whether the ring was written: {why}"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl From<Unusable> for Failed {
    fn from(why: Unusable) -> Self {
        Self::Unusable(why.0)
    }
}

/// What a store calls this state of one key: Consul's ModifyIndex, etcd's mod_revision. Says only "the same" or "another".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark(u64);

/// A ring as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    pub cell: Cell,
    /// Of the seats document: what a watch begins at.
    pub seats: Mark,
    channels: Mark,
    users: Mark,
}

/// Where the ring is, as the operator says it: `memory:`, `consul://host:port`, `etcd://host:port[,host:port ..]`.
#[derive(Clone, Debug)]
pub struct Store {
    cell: String,
    back: Back,
}

#[derive(Clone, Debug)]
enum Back {
    Memory(memory::Memory),
    Consul(consul::Consul),
    Etcd(etcd::Etcd),
}

/// Names of the three values.
const SEATS: &str = "seats";
const PARTS: [&str; 3] = [SEATS, "channels", "users"];

/// What is read of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Seats,
    Ring,
}

/// One of the three values, with its mark.
type Value = (Mark, Vec<u8>);

/// What is written if it is still as it was: `None` as a mark means that there must be nothing.
struct Write<'a> {
    part: &'a str,
    was: Option<Mark>,
    /// `None`: it only must be as it was.
    bytes: Option<Vec<u8>>,
}

impl Store {
    /// # Errors
    /// A sentence: the address is none of a store.
    pub fn new(address: &str, cell: &str) -> Result<Self, String> {
        if cell.len() > 64 || !is_word(cell) {
            return Err(format!(
                "{cell:?} is no name of a cell: letters, digits, - _ . and at most 64"
            ));
        }
        let client = || {
            reqwest::Client::builder()
                .no_proxy()
                .connect_timeout(Duration::from_secs(1))
                .build()
                .map_err(|error| format!("cannot make an HTTP client: {error}"))
        };
        let hosts = |list: &str| -> Vec<String> {
            list.split(',').map(|host| format!("http://{host}")).collect()
        };
        let back = match address.split_once(':') {
            Some(("memory", "")) => Back::Memory(memory::Memory::default()),
            Some(("consul", rest)) if rest.len() > 2 && rest.starts_with("//") => {
                Back::Consul(consul::Consul::new(client()?, hosts(&rest[2..]), cell))
            }
            Some(("etcd", rest)) if rest.len() > 2 && rest.starts_with("//") => {
                Back::Etcd(etcd::Etcd::new(client()?, hosts(&rest[2..]), cell))
            }
            _ => {
                return Err(format!(
                    "{address:?} is no ring store: memory:, consul://HOST:PORT or etcd://HOST:PORT (several with commas)"
                ));
            }
        };
        Ok(Self { cell: cell.into(), back })
    }

    /// The ring as it is now: linearizable. `None`: there is none yet. The seats are written last, so that tables without them are a ring
    /// that somebody is making.
    ///
    /// # Errors
    /// See [`Failed`]; a ring of which a part is missing is unusable.
    pub async fn read(&self) -> Result<Option<Stored>, Failed> {
        let mut parts = self.parts(Scope::Ring).await?;
        let missing: Vec<&str> = PARTS
            .iter()
            .zip(&parts)
            .filter(|(_, value)| value.is_none())
            .map(|(part, _)| *part)
            .collect();
        if parts[0].is_none() {
            return Ok(None);
        }
        let mut take = |at: usize| {
            parts[at].take().ok_or_else(|| {
                Failed::Unusable(format!(
                    "the ring of cell {} has no {}",
                    self.cell,
                    missing.join(", ")
                ))
            })
        };
        let ((seats, document), (channels, of_channels), (users, of_users)) =
            (take(0)?, take(1)?, take(2)?);
        let cell = Cell {
            document: self.document_of(&document)?,
            channels: Assign::decode(&of_channels, Kind::Channels)?,
            users: Assign::decode(&of_users, Kind::Users)?,
        };
        cell.ring()?;
        Ok(Some(Stored { cell, seats, channels, users }))
    }

    /// The ring as it is now, linearizable, and what a watch begins at. `None` in place of the ring: it is `known`, and its tables were not read.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn newer(
        &self,
        known: Option<&Cell>,
    ) -> Result<Option<(Option<Cell>, Mark)>, Failed> {
        if let Some(known) = known {
            let [seats, ..] = self.parts(Scope::Seats).await?;
            if let Some((mark, bytes)) = seats
                && self.document_of(&bytes)? == known.document
            {
                return Ok(Some((None, mark)));
            }
        }
        Ok(self.read().await?.map(|stored| (Some(stored.cell), stored.seats)))
    }

    /// Only who holds which seat, under which epochs: linearizable too, and without the tables, which are most of a ring.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn seats(&self) -> Result<Option<Document>, Failed> {
        let [seats, ..] = self.parts(Scope::Seats).await?;
        seats.map(|(_, bytes)| self.document_of(&bytes)).transpose()
    }

    fn document_of(&self, bytes: &[u8]) -> Result<Document, Failed> {
        let document = Document::decode(bytes)?;
        if document.cell != self.cell {
            return Err(Failed::Unusable(format!(
                "this is the ring of cell {}, and we are of {}",
                document.cell, self.cell
            )));
        }
        Ok(document)
    }

    /// The first ring of a cell. False: there is one already.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn create(&self, cell: &Cell) -> Result<bool, Failed> {
        if self.parts(Scope::Ring).await?[0].is_some() {
            return Ok(false);
        }
        self.put(cell, None).await
    }

    /// Whatever is there, a ring or what cannot be used as one, is this ring from now on, if the seats are still what `over` marks. False: they
    /// are not, or somebody else wrote in between; what is there may be no ring then, until this is done again.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn put(&self, cell: &Cell, over: Option<Mark>) -> Result<bool, Failed> {
        // The tables first: the three are more than one write of Consul's takes. What another creator left half done is overwritten, and
        // the seats are written only where our tables stand.
        let tables =
            [(1, cell.channels.encode(Kind::Channels)), (2, cell.users.encode(Kind::Users))];
        let there = self.parts(Scope::Ring).await?;
        if there[0].as_ref().map(|(mark, _)| *mark) != over {
            return Ok(false);
        }
        for (at, bytes) in &tables {
            if there[*at].as_ref().is_some_and(|(_, found)| found == bytes) {
                continue;
            }
            let was = there[*at].as_ref().map(|(mark, _)| *mark);
            if !self
                .write(vec![Write { part: PARTS[*at], was, bytes: Some(bytes.clone()) }])
                .await?
            {
                return Ok(false);
            }
        }
        let there = self.parts(Scope::Ring).await?;
        let seats = Write { part: SEATS, was: over, bytes: Some(cell.document.encode()) };
        let mut writes = vec![seats];
        for (at, bytes) in &tables {
            match &there[*at] {
                Some((mark, found)) if found == bytes => {
                    writes.push(Write { part: PARTS[*at], was: Some(*mark), bytes: None });
                }
                _ => return Ok(false),
            }
        }
        self.write(writes).await
    }

    /// Marks the seats as they are, whether they make a ring or not. `None`: there are none.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn mark(&self) -> Result<Option<Mark>, Failed> {
        let [seats, ..] = self.parts(Scope::Seats).await?;
        Ok(seats.map(|(mark, _)| mark))
    }

    /// Writes `next` if everything is still as `was` says. False: somebody else wrote meanwhile, and nothing was done.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn swap(&self, was: &Stored, next: &Cell) -> Result<bool, Failed> {
        let mut writes =
            vec![Write { part: SEATS, was: Some(was.seats), bytes: Some(next.document.encode()) }];
        for (part, mark, kind) in
            [(PARTS[1], was.channels, Kind::Channels), (PARTS[2], was.users, Kind::Users)]
        {
            let (before, after) = (was.cell.table(kind), next.table(kind));
            let bytes = (before.version != after.version).then(|| after.encode(kind));
            writes.push(Write { part, was: Some(mark), bytes });
        }
        self.write(writes).await
    }

    /// Returns when the seats may have another state than `known`, or after a while anyway.
    ///
    /// # Errors
    /// See [`Failed`]: wait a little, then read.
    pub async fn changed(&self, known: Mark) -> Result<(), Failed> {
        match &self.back {
            Back::Memory(memory) => memory.changed(known).await,
            Back::Consul(consul) => consul.changed(known).await,
            Back::Etcd(etcd) => etcd.changed(known).await,
        }
    }

    async fn parts(&self, scope: Scope) -> Result<[Option<Value>; 3], Failed> {
        match &self.back {
            Back::Memory(memory) => Ok(memory.parts()),
            Back::Consul(consul) => consul.parts(scope).await,
            Back::Etcd(etcd) => etcd.parts(scope).await,
        }
    }

    async fn write(&self, writes: Vec<Write<'_>>) -> Result<bool, Failed> {
        match &self.back {
            Back::Memory(memory) => Ok(memory.write(writes)),
            Back::Consul(consul) => consul.write(writes).await,
            Back::Etcd(etcd) => etcd.write(writes).await,
        }
    }
}

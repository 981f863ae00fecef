//! Where a database is, and why it could not be opened, as a sentence for the operator.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use super::open::FILE;

/// Where everything is kept.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In this process, and gone with it.
    Memory,
    /// An SQLite file in a directory, which is made when there is none.
    Directory(PathBuf),
    /// A database of a PostgreSQL server.
    Server(Box<PgConnectOptions>),
}

impl Storage {
    /// As it was said on the command line: the URL of a server goes before the directory.
    ///
    /// # Errors
    /// A sentence, when the URL is none. It has no password in it.
    pub fn of(url: Option<&str>, directory: Option<&Path>) -> Result<Self, String> {
        let Some(url) = url else {
            return Ok(directory.map_or(Self::Memory, |path| Self::Directory(path.into())));
        };
        let shape = "--database: not postgres://USER:PASSWORD@HOST/DATABASE";
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(shape.into());
        }
        let options = PgConnectOptions::from_str(url).map_err(|why| format!("{shape}: {why}"))?;
        Ok(Self::Server(Box::new(options)))
    }

    /// What an operator may say instead.
    fn advice(&self) -> &'static str {
        match self {
            Self::Server(_) => "another database with --database",
            Self::Directory(_) | Self::Memory => "another directory with --data",
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Directory(path) => write!(f, "the data directory {}", path.display()),
            Self::Server(options) => {
                let name = options.get_database().unwrap_or_else(|| options.get_username());
                write!(f, "the database {name} at ")?;
                match options.get_socket() {
                    Some(socket) => write!(f, "{}", socket.display()),
                    None => write!(f, "{}:{}", options.get_host(), options.get_port()),
                }
            }
        }
    }
}

/// Why the database could not be opened.
#[derive(Debug)]
pub enum Unopened {
    Directory {
        path: PathBuf,
        error: std::io::Error,
    },
    InUse(Storage),
    /// A schema of another campanile.
    Version {
        storage: Storage,
        found: i64,
        known: i64,
    },
    Broken {
        storage: Storage,
        error: sqlx::Error,
    },
    /// The server does not let us in.
    Refused {
        storage: Storage,
        error: sqlx::Error,
    },
    /// A crowd was to come into a workspace that there is already.
    Inhabited(Storage),
    /// What was committed and published is not there any more.
    WentBack(Storage),
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, error } => write!(
                f,
                "cannot write to the data directory {}: {error}; choose another one with --data, or --ephemeral for none",
                path.display()
            ),
            Self::InUse(storage) => write!(
                f,
                "{storage} is in use by another campanile; stop that one, or choose {}",
                storage.advice()
            ),
            Self::Version { storage, found, known } => write!(
                f,
                "{storage} has schema {found}, this campanile knows schemas up to {known}; choose {}, or run the campanile that made it",
                storage.advice()
            ),
            Self::Inhabited(storage) => write!(
                f,
                "there is a workspace in {storage} already, and --users makes a new one; choose {}, or --ephemeral",
                storage.advice()
            ),
            Self::WentBack(storage) => write!(
                f,
                "{storage} lost what was committed and published, when a server took over that was behind: end every node of the cell, which have it, say DELETE FROM meta WHERE name = 'went_back' there, and start them"
            ),
            Self::Broken { storage: Storage::Server(server), error } => write!(
                f,
                "{} cannot be used: {error}; choose {}",
                Storage::Server(server.clone()),
                Storage::Server(server.clone()).advice()
            ),
            Self::Broken { storage, error } => {
                let file = match storage {
                    Storage::Directory(path) => path.join(FILE).display().to_string(),
                    other => other.to_string(),
                };
                write!(
                    f,
                    "{file} is damaged, or no database of campanile: {error}; put back a copy, or choose {}",
                    storage.advice()
                )
            }
            Self::Refused { storage, error } => write!(
                f,
                "{storage} does not let us in: {error}; say who we are and where with --database postgres://USER:PASSWORD@HOST/DATABASE"
            ),
        }
    }
}

impl std::error::Error for Unopened {}
